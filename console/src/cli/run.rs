//! `run`: the daemon.

use super::config_file::ConfigFile;
use super::notify::notify;
use super::print;
use crate::args::{ConsoleAddress, RunArguments};
use crate::web::{self, Socket};
use control::daemon::{Running, Settings, start};
use control::handle::Handle;
use control::model::Document;
use control::tasks::GivenFile;
use dataplane::packet_path::Capacity;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Threads for the API and the tasks of control; packets have their own.
const THREADS: usize = 2;

/// How often the configuration file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How long requests under way may take once the daemon ends.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Runs until told to stop. 0 after an orderly stop, 1 when it could not start or some part failed.
pub(super) fn run(arguments: &RunArguments, socket: &Path) -> ExitCode {
    start_log();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(async {
        match daemon(arguments, socket).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    });
    // What still hangs in a system call must not keep the process alive.
    runtime.shutdown_background();
    code
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("viaduct: {error}");
    ExitCode::FAILURE
}

fn start_log() {
    let filter = EnvFilter::try_from_env("VIADUCT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only when a log was set up before: then that one is used.
    let _ = log.with_ansi(colour).with_target(false).try_init();
}

type Failure = Box<dyn std::error::Error>;

async fn daemon(arguments: &RunArguments, socket: &Path) -> Result<(), Failure> {
    let file = arguments.config.as_deref().map(given).transpose()?;
    let bound = Socket::bind(socket)?;
    let capacity = Capacity { workers: workers(), ..Capacity::default() };
    let host = crate::web::api::host_name();
    let settings = Settings { state: arguments.state.clone(), host, capacity, file };
    let mut running = start(settings).await?;
    let handle = running.handle().clone();
    // The first question is answered when the first interfaces are attached.
    handle.query(|_, _| ()).await?;
    let stop = CancellationToken::new();
    let access = Arc::new(web::Access::open(handle.clone()).await?);
    let console = match arguments.console {
        ConsoleAddress::Off => None,
        ConsoleAddress::At(address) => {
            Some(web::Console::open(handle.clone(), Arc::clone(&access), address).await?)
        }
    };
    let mut api = tokio::spawn(serve(
        web::serve(handle.clone(), access, bound, stop.clone()),
        console,
        stop.clone(),
    ));
    tracing::info!(socket = %socket.display(), "ready");
    notify("READY=1");

    let ended = tokio::select! {
        ended = until_stopped(&handle, arguments.config.as_deref()) => ended,
        why = running.failed() => Err(why),
        served = &mut api => Err(match served {
            Ok(Ok(())) => "the API server stopped".to_owned(),
            Ok(Err(error)) => format!("the API server stopped: {error}"),
            Err(error) => format!("the API server stopped: {error}"),
        }),
    };
    notify("STOPPING=1");
    let stopped = shut_down(running, api, &stop).await;
    // Why it ended is what the operator has to hear; that it did so badly may follow from it.
    if let (Err(_), Err(also)) = (&ended, &stopped) {
        tracing::error!("{also}");
    }
    ended?;
    stopped
}

/// Serves the API and, where it is on, the console.
async fn serve(
    api: impl Future<Output = std::io::Result<()>>,
    console: Option<web::Console>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    match console {
        Some(console) => tokio::try_join!(api, console.serve(stop)).map(|_| ()),
        None => api.await,
    }
}

/// One worker for each processor but one, which is left to everything else.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().saturating_sub(1).max(1))
}

fn given(path: &Path) -> Result<GivenFile, Failure> {
    let name = print::file_name(path);
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let document = Document::parse(&text, &name).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        format!("invalid configuration file:\n{}", lines.join("\n"))
    })?;
    Ok(GivenFile { document, text, name, path: path.to_owned() })
}

/// Waits for a signal to stop; applies the file again when told to.
async fn until_stopped(handle: &Handle, config: Option<&Path>) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut look = tokio::time::interval(LOOK);
    let mut file = config.map(|path| ConfigFile::new(path, tokio::time::Instant::now()));
    let mut asked = false;
    loop {
        let now = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => {
                asked = true;
                continue;
            }
            now = look.tick() => now,
        };
        let (Some(path), Some(file)) = (config, &mut file) else {
            if std::mem::take(&mut asked) {
                tracing::warn!("SIGHUP ignored: the daemon was started without --config");
            }
            continue;
        };
        // Whoever asks while the file is being written gets the whole of it.
        let Some(changed) = file.has_changed(now) else { continue };
        let wanted = changed && handle.snapshot().document.node.autoreload;
        if std::mem::take(&mut asked) || wanted {
            apply_again(handle, path).await;
        }
    }
}

/// Certificates that checks use are read again in any case. A bad file changes nothing and is reported.
async fn apply_again(handle: &Handle, path: &Path) {
    notify("RELOADING=1");
    handle.reload_checks().await;
    let path: PathBuf = path.to_owned();
    let read = tokio::task::spawn_blocking(move || given(&path).map_err(|error| error.to_string()));
    let text = match read.await {
        Err(error) => Err(error.to_string()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(file)) => handle.apply_file(file).await.map_err(|error| error.to_string()),
    };
    if let Err(error) = text {
        let event = control::events::Event::Noticed {
            kind: control::record::Kind::System,
            severity: control::record::Severity::Error,
            text: format!("the configuration file was not applied: {error}"),
        };
        // The engine is only gone when the daemon ends anyway.
        let _ = handle.send(event).await;
    }
    notify("READY=1");
}

/// Ends in order: mastership, requests under way, the engine, packets, the store.
async fn shut_down(
    running: Running,
    api: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    stop.cancel();
    // Clients of the VIPs must not wait for a client of the API.
    running.resign().await;
    let abort = api.abort_handle();
    // What has ended by itself may not be waited for again.
    if !api.is_finished() && tokio::time::timeout(LAST_REQUESTS, api).await.is_err() {
        abort.abort();
    }
    if running.stop().await {
        tracing::info!("stopped");
        Ok(())
    } else {
        Err("a component did not stop in time".into())
    }
}
