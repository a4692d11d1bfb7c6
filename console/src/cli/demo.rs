//! `viaduct demo`: a whole site on this machine, with traffic, and a real server that dies and
//! comes back.

mod report;
mod screen;
mod site;
mod story;
mod traffic;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::wait;

use report::Report;
use site::DemoSite;
use story::Story;
use traffic::Traffic;

/// Options of `viaduct demo`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DemoArguments {
    /// End by itself after this many seconds; without it, Ctrl-C ends the demonstration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(6..))]
    pub seconds: Option<u64>,
    /// Print lines instead of a screen, as when standard output is not a terminal.
    #[arg(long)]
    pub plain: bool,
}

/// Between two looks at the site.
const TICK: Duration = Duration::from_secs(1);

/// Builds the site, runs it until it is over, and removes it.
///
/// Has to be called while the process has one thread: without root, it moves into a user namespace
/// of its own, which the kernel allows to no others.
///
/// # Errors
/// When the machine does not allow a lab (the message says what is missing) or the director fails.
pub fn run(arguments: &DemoArguments) -> Result<ExitCode> {
    harness::privilege::acquire().context("the demonstration cannot run here")?;
    let stop = stop_on_signal()?;
    let draws = std::io::stdout().is_terminal() && !arguments.plain;
    eprintln!("building the site: a client, a director, a router, three real servers");
    let mut site = DemoSite::build().context("building the site")?;
    let traffic = Traffic::start(&site)?;
    let mut story = Story::new(arguments.seconds);
    let mut view = View::open(draws, &site)?;
    let begin = wait::clock();
    let mut report = Report::default();
    while !stop.load(Ordering::Relaxed) {
        wait::pause(TICK);
        let elapsed = begin.elapsed();
        story.advance(elapsed, &mut site)?;
        report.update(elapsed, traffic.tallies(), &site.states()?, &mut story);
        view.show(&report, &story)?;
        if arguments.seconds.is_some_and(|limit| elapsed.as_secs() >= limit) {
            break;
        }
    }
    drop(view);
    traffic.stop();
    // A short run by Ctrl-C proves nothing; a bounded one is a test of the whole.
    let complaints = if arguments.seconds.is_some() { report.complaints() } else { Vec::new() };
    println!("{}", report.summary());
    eprintln!("removing the site");
    drop(site);
    for complaint in &complaints {
        eprintln!("viaduct demo: {complaint}");
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A flag that SIGINT, SIGTERM and SIGHUP set.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).context("listening for signals");
        (
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        )
    };
    // It ends with the process: nothing waits for a signal that never comes.
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// Where the report goes: a screen that is drawn again and again, or lines.
struct View {
    draws: bool,
    hints: Vec<String>,
}

impl View {
    fn open(draws: bool, site: &DemoSite) -> Result<Self> {
        let hints = site.hints();
        if draws {
            print!("{}", screen::ENTER);
        } else {
            println!("{}", hints.join("\n"));
        }
        std::io::stdout().flush()?;
        Ok(Self { draws, hints })
    }

    fn show(&mut self, report: &Report, story: &Story) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.draws {
            let text = screen::draw(report, story.events(), &self.hints);
            write!(out, "{text}")?;
        } else {
            for event in story.new_events() {
                writeln!(out, "{event}")?;
            }
            writeln!(out, "{}", report.line())?;
        }
        out.flush()?;
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.draws {
            print!("{}", screen::LEAVE);
            let _ = std::io::stdout().flush();
        }
    }
}
