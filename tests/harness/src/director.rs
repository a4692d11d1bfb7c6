//! The program under test: `viaduct run` inside a host, with state and socket of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::host::{Host, command};
use crate::listing::{self, Service, State, Statistics};
use crate::process::{Finished, Process};
use crate::wait;

/// How long the daemon may take until it answers.
const READY: Duration = Duration::from_secs(30);
/// How long something may take until it is shown.
const SHOWN: Duration = Duration::from_secs(30);
/// How long an orderly shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// A director: the host it runs on and the daemon.
#[derive(Debug)]
pub struct Director {
    host: Host,
    binary: PathBuf,
    directory: PathBuf,
    arguments: Vec<String>,
    daemon: Process,
}

impl Director {
    /// Starts `viaduct run` on `host`, with this configuration file's text if there is one, and
    /// waits until it answers.
    ///
    /// # Errors
    /// When it does not start or does not answer in time; what it said is in the message.
    pub fn start(host: &Host, binary: &Path, config: Option<&str>) -> Result<Self> {
        Self::start_with(host, binary, config, &[])
    }

    /// Like [`Director::start`], with further arguments for `viaduct run`.
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn start_with(
        host: &Host,
        binary: &Path,
        config: Option<&str>,
        more: &[&str],
    ) -> Result<Self> {
        let directory = host.directory().join("viaduct");
        fs::create_dir_all(&directory)?;
        let mut arguments: Vec<String> = Vec::new();
        if let Some(text) = config {
            let file = directory.join("viaduct.toml");
            fs::write(&file, text)?;
            arguments.extend(["--config".to_owned(), file.to_string_lossy().into_owned()]);
        }
        if !more.contains(&"--console") {
            arguments.extend(["--console".to_owned(), "off".to_owned()]);
        }
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let binary = binary.to_owned();
        let daemon = launch(host, &binary, &directory, &arguments)?;
        let mut director = Self { host: host.clone(), binary, directory, arguments, daemon };
        director.wait_until_ready()?;
        Ok(director)
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The daemon's process.
    pub fn daemon(&self) -> &Process {
        &self.daemon
    }

    /// The path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("viaduct.sock")
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let answered = wait::until("the director to answer", READY, || {
            if let Ok(Some(status)) = self.daemon.status() {
                return Some(Err(anyhow::anyhow!("the director ended with {status}")));
            }
            let list = self.command(&["show", "services"]).ok()?;
            let answer = self.host.spawn(list).ok()?.finish(READY).ok()?;
            answer.status.success().then_some(Ok(()))
        });
        answered.and_then(|result| result).with_context(|| {
            format!("stdout: {}\nstderr: {}", self.daemon.stdout(), self.daemon.stderr())
        })
    }

    /// A `viaduct` command that talks to this director.
    ///
    /// # Errors
    /// Never for non-empty arguments.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let binary = self.binary.to_string_lossy();
        let mut command = command(&[&[binary.as_ref()], arguments].concat())?;
        with_environment(&mut command, &self.directory);
        Ok(command)
    }

    /// Runs a `viaduct` command against this director, whatever its exit status.
    ///
    /// # Errors
    /// When it does not end.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        self.host.spawn(self.command(arguments)?)?.finish(crate::host::RUN_LIMIT)
    }

    /// Runs a `viaduct` command and gives its standard output.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn viaduct(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments)?.ok()
    }

    /// What `viaduct show WHAT --json` prints.
    ///
    /// # Errors
    /// When the command fails or prints no JSON.
    pub fn json(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.viaduct(&["show", what, "--json"])?)?)
    }

    /// Waits until what `viaduct show WHAT --json` prints is as wanted.
    ///
    /// # Errors
    /// When it is not so in time; what was shown last is in the message.
    pub fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until_ok(what, SHOWN, || {
            let shown = self.json(what)?;
            if wanted(&shown) { Ok(shown) } else { bail!("{shown:#}") }
        })
    }

    /// Runs `viaduct ipvsadm` and gives its standard output.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn ipvsadm(&self, arguments: &[&str]) -> Result<String> {
        self.viaduct(&[&["ipvsadm"], arguments].concat())
    }

    /// Runs `viaduct ipvsadm` for each line, words split at blanks: a script without a shell.
    ///
    /// # Errors
    /// At the first line that fails.
    pub fn ipvsadm_script(&self, script: &str) -> Result<()> {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            self.ipvsadm(&words).with_context(|| format!("ipvsadm {line}"))?;
        }
        Ok(())
    }

    /// Runs `viaduct ipvsadm` with text on its standard input, as for `-R`.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn ipvsadm_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let command = self.command(&[&["ipvsadm"], arguments].concat())?;
        self.host.run_with_input(command, input)?.ok()
    }

    /// All counters, as `ipvsadm -L -n --stats --exact` prints them.
    ///
    /// # Errors
    /// When the director does not answer or the listing is not of the known form.
    pub fn statistics(&self) -> Result<Vec<Service<Statistics>>> {
        listing::statistics(&self.ipvsadm(&["-L", "-n", "--stats", "--exact"])?)
    }

    /// Weights and connection counts, as `ipvsadm -L -n` prints them.
    ///
    /// # Errors
    /// When the director does not answer or the listing is not of the known form.
    pub fn states(&self) -> Result<Vec<Service<State>>> {
        listing::states(&self.ipvsadm(&["-L", "-n"])?)
    }

    /// Kills the daemon as a crash would.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Ends the daemon in order.
    ///
    /// # Errors
    /// When it does not end in time or ends with another status than 0.
    pub fn shut_down(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGTERM)?;
        let ended = wait::until("the director to shut down", SHUTDOWN, || {
            self.daemon.status().transpose()
        })??;
        if !ended.success() {
            bail!("the director shut down with {ended}: {}", self.daemon.stderr());
        }
        Ok(())
    }

    /// Starts the daemon again with the state that it left, and waits until it answers.
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.kill();
        self.daemon = launch(&self.host, &self.binary, &self.directory, &self.arguments)?;
        self.wait_until_ready()
    }
}

fn with_environment(command: &mut Command, directory: &Path) {
    command
        .env("VIADUCT_SOCKET", directory.join("viaduct.sock"))
        .env("VIADUCT_STATE", directory.join("state"));
}

fn launch(host: &Host, binary: &Path, directory: &Path, arguments: &[String]) -> Result<Process> {
    let mut command = Command::new(binary);
    command.arg("run").args(arguments);
    with_environment(&mut command, directory);
    host.spawn(command)
}
