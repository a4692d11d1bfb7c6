//! A program decides: exit status 0 is up.
//!
//! It runs without a shell, in a process group of its own, with `/` as directory, nothing on
//! standard input, and this environment and no other:
//!
//! | variable | value |
//! |---|---|
//! | `PATH`, `LANG` | `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`, `C` |
//! | `VIADUCT_NODE` | this director's name |
//! | `VIADUCT_SERVICE` | name of the virtual service |
//! | `VIADUCT_VIP`, `VIADUCT_VPORT` | its address and port; empty and 0 for a mark service |
//! | `VIADUCT_RIP`, `VIADUCT_RPORT` | address and port to check |
//! | `VIADUCT_TIMEOUT` | seconds it may take |
//!
//! `{vip}`, `{vport}`, `{rip}` and `{rport}` in its arguments stand for the same. What it prints, on
//! standard output or standard error, is kept up to 16 KiB. When its time is over the whole group
//! is killed.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, User};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

use super::{Attempt, Exchange, Fault, PrepareError, Target, errno_text, excerpt};
use crate::health::outcome::Failure;
use crate::model::ScriptProbe;

/// Most output kept.
const OUTPUT_LIMIT: usize = 16 * 1024;

/// How long output is still read after the program has ended: a child that it left behind may hold
/// the pipe open for ever.
const AFTERMATH: Duration = Duration::from_millis(100);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments.
pub(super) struct Script {
    command: Vec<String>,
    account: Option<(Uid, Gid)>,
    node: String,
}

/// Kills a process group unless told that it is over.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Script {
    pub fn prepare(wanted: &ScriptProbe, node: &str) -> Result<Self, PrepareError> {
        let account = match &wanted.user {
            None => None,
            Some(name) => match User::from_name(name) {
                Ok(Some(user)) => Some((user.uid, user.gid)),
                Ok(None) | Err(_) => {
                    return Err(PrepareError::Request(format!("no account named {name}")));
                }
            },
        };
        Ok(Self { command: wanted.command.clone(), account, node: node.to_owned() })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        attempt.waiting_for = "script";
        let (output, writer) = std::io::pipe().map_err(Fault::local)?;
        let mut output = Receiver::from_owned_fd(output.into()).map_err(Fault::local)?;
        let mut command = self.command(attempt.target, attempt.timeout)?;
        command.stdout(writer.try_clone().map_err(Fault::local)?).stderr(writer);
        let mut child = command.spawn().map_err(|error| self.spawn_fault(&error))?;
        // Our own ends of the pipe go with it; else it would never end.
        drop(command);
        // Dropped before the child is: until then the number cannot belong to anybody else.
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        let kept = &mut attempt.output;
        let mut more = true;
        let status = loop {
            tokio::select! {
                biased;
                status = child.wait() => break status,
                read = read(&mut output, kept), if more => more = read,
            }
        };
        group.0 = None;
        let rest = async { while more && read(&mut output, kept).await {} };
        let _ = tokio::time::timeout(AFTERMATH, rest).await;
        let status = status.map_err(Fault::local)?;
        let said = excerpt(kept);
        let with_said =
            |what: String| if said.is_empty() { what } else { format!("{what}: {said}") };
        match status.code() {
            Some(0) => Ok(with_said("exit 0".into())),
            Some(code) => Err(Fault::unexpected(with_said(format!("exit {code}")), "exit 0")),
            None => Err(Fault::unexpected(with_said(status.to_string()), "exit 0")),
        }
    }

    fn command(&self, target: &Target, timeout: Duration) -> Result<Command, Fault> {
        let (vip, vport) = match target.vip {
            Some(vip) => (vip.ip().to_string(), vip.port().to_string()),
            None => (String::new(), "0".into()),
        };
        let (rip, rport) = (target.address.ip().to_string(), target.address.port().to_string());
        let mut words = self.command.iter().map(|word| {
            word.replace("{vip}", &vip)
                .replace("{vport}", &vport)
                .replace("{rip}", &rip)
                .replace("{rport}", &rport)
        });
        let program = words.next().ok_or_else(|| Fault::Unable("no command given".into()))?;
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C")
            .env("VIADUCT_NODE", &self.node)
            .env("VIADUCT_SERVICE", &target.service)
            .env("VIADUCT_VIP", vip)
            .env("VIADUCT_VPORT", vport)
            .env("VIADUCT_RIP", rip)
            .env("VIADUCT_RPORT", rport)
            .env("VIADUCT_TIMEOUT", timeout.as_secs().max(1).to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        if let Some((uid, gid)) = self.account {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        Ok(command)
    }

    /// A program that is not there is the check's failure; no room for a process is ours.
    fn spawn_fault(&self, error: &std::io::Error) -> Fault {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        let program = self.command.first().map_or("", String::as_str);
        let text = format!("{program}: {}", errno_text(error));
        if matches!(error.kind(), NotFound | PermissionDenied) {
            Fault::Failed(Failure::Malformed(text))
        } else {
            Fault::Unable(text)
        }
    }
}

/// Reads some output; `false` when it has ended. What does not fit is read and dropped, so that
/// the program never waits for a full pipe.
async fn read(pipe: &mut Receiver, kept: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 1024];
    match pipe.read(&mut chunk).await {
        Ok(n) if n > 0 => {
            let room = OUTPUT_LIMIT.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..n.min(room)]);
            true
        }
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
