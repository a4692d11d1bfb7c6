//! A program running inside a host. Its output goes to files, so it never blocks on a full pipe.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait;

/// A running program; it and its process group are killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    title: String,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

/// A program that has ended, with all that it wrote.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line, for messages.
    pub title: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output, when the program ended with 0.
    ///
    /// # Errors
    /// With both outputs in the message, when it did not.
    pub fn ok(self) -> Result<String> {
        if !self.status.success() {
            bail!("{self}");
        }
        Ok(self.stdout)
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}", self.title, self.status)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n{name}: {}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

impl Process {
    /// Starts `command` with its output in `directory`, in the namespaces of the calling thread.
    pub(crate) fn start(
        mut command: Command,
        directory: &Path,
        input: Option<&str>,
    ) -> Result<Self> {
        let title = title(&command);
        let program = command.get_program().to_string_lossy().into_owned();
        let stem =
            Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (stdout, stdout_file) = fresh_file(directory, &stem, "out")?;
        let stderr = stdout.with_extension("err");
        let stderr_file = appending(&stderr)?;
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(stdout_file).stderr(stderr_file).process_group(0);
        let mut child = command.spawn().with_context(|| format!("starting `{title}`"))?;
        if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
            // A program that ends without reading all of it says why through its exit status.
            let _ = pipe.write_all(text.as_bytes());
        }
        Ok(Self { child, title, stdout, stderr, ended: None })
    }

    /// Process id, which is also the id of its process group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it has not after `limit`; it is killed then.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let what = format!("`{}` to end", self.title);
        let ended = wait::until(&what, limit, || self.status().transpose());
        match ended {
            Ok(status) => {
                let status = status?;
                let (stdout, stderr) = (self.stdout(), self.stderr());
                Ok(Finished { title: self.title.clone(), status, stdout, stderr })
            }
            Err(late) => {
                let said = format!("stdout: {}\nstderr: {}", self.stdout(), self.stderr());
                Err(late.context(said))
            }
        }
    }

    /// Waits until `needle` stands in standard output or standard error.
    ///
    /// # Errors
    /// When it does not within `limit`, or the program ends before.
    pub fn wait_for_output(&mut self, needle: &str, limit: Duration) -> Result<()> {
        let what = format!("`{}` to say {needle:?}", self.title);
        let seen = wait::until(&what, limit, || {
            let ended = self.status().ok().flatten();
            if self.stdout().contains(needle) || self.stderr().contains(needle) {
                return Some(Ok(()));
            }
            ended.map(|status| Err(anyhow::anyhow!("`{}` ended with {status}", self.title)))
        });
        seen.and_then(|result| result)
            .with_context(|| format!("stdout: {}\nstderr: {}", self.stdout(), self.stderr()))
    }

    /// Sends a signal to the program and its children.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        killpg(self.group()?, signal).with_context(|| format!("{signal} to `{}`", self.title))
    }

    fn group(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Kills it with its children and waits until it is gone.
    pub fn kill(&mut self) {
        if let Ok(group) = self.group() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn title(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The first `STEM-N.EXTENSION` that does not exist yet.
fn fresh_file(directory: &Path, stem: &str, extension: &str) -> Result<(PathBuf, File)> {
    for number in 0..100_000 {
        let path = directory.join(format!("{stem}-{number}.{extension}"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    bail!("100,000 outputs of {stem} in {}", directory.display())
}

fn appending(path: &Path) -> Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| path.display().to_string())
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
