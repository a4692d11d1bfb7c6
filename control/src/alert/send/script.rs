//! A program for each happening, called as mon calls its alerts, so that scripts written for mon
//! work as they are: `PROGRAM -s SERVICE -g SERVICE -h HOST -t TIME [-u] ARGUMENTS...`, with the
//! sentence on standard input; `-u` when it is good news.
//!
//! The environment is `PATH`, `LANG=C` and:
//!
//! | variable | value |
//! |---|---|
//! | `VIADUCT_NODE` | this director's name |
//! | `VIADUCT_EVENT` | `real_down`, `real_up`, `service_down`, ... |
//! | `VIADUCT_GOOD`, `VIADUCT_REPEATED` | `1` or `0` |
//! | `VIADUCT_SERVICE` | name of the virtual service; may be empty |
//! | `VIADUCT_RIP`, `VIADUCT_RPORT` | the real server; may be empty |
//! | `VIADUCT_TIME` | when it happened, in seconds since 1970 |
//! | `VIADUCT_TEXT` | what happened |
//! | `MON_GROUP`, `MON_SERVICE` | as `VIADUCT_SERVICE` |
//! | `MON_ALERTTYPE` | `failure` or `up` |
//! | `MON_LAST_SUMMARY` | as `VIADUCT_TEXT` |

use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::text::one_line;
use crate::alert::policy::{Item, Message};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kills a process group unless told that it is over.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// Runs the program for every item. When one fails, the message is tried again from its beginning.
pub(super) async fn run(node: &str, command: &[String], message: &Message) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("no command given")?;
    for item in &message.items {
        call(node, program, arguments, item).await?;
    }
    Ok(())
}

async fn call(node: &str, program: &str, arguments: &[String], item: &Item) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{program}: {error}");
    let mut child = prepare(node, program, arguments, item).spawn().map_err(named)?;
    // Dropped before the child is: until then the number cannot belong to anybody else.
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut group = Group(leader);
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read its input is none the worse for it.
        let _ = input.write_all(format!("{}\n", one_line(&item.text)).as_bytes()).await;
    }
    let status = child.wait().await.map_err(named)?;
    group.0 = None;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}

fn prepare(node: &str, program: &str, arguments: &[String], item: &Item) -> Command {
    let service = item.service.as_deref().unwrap_or("");
    let (rip, rport) = match item.real {
        Some(real) => (real.ip().to_string(), real.port().to_string()),
        None => (String::new(), String::new()),
    };
    let seconds = (item.time / 1000).to_string();
    let flag = |on: bool| if on { "1" } else { "0" };
    let mut command = Command::new(program);
    command.args(["-s", service, "-g", service, "-h", &rip, "-t", &seconds]);
    if item.good {
        command.arg("-u");
    }
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C")
        .env("VIADUCT_NODE", node)
        .env("VIADUCT_EVENT", item.event)
        .env("VIADUCT_GOOD", flag(item.good))
        .env("VIADUCT_REPEATED", flag(item.repeated))
        .env("VIADUCT_SERVICE", service)
        .env("VIADUCT_RIP", rip)
        .env("VIADUCT_RPORT", rport)
        .env("VIADUCT_TIME", seconds)
        .env("VIADUCT_TEXT", one_line(&item.text))
        .env("MON_GROUP", service)
        .env("MON_SERVICE", service)
        .env("MON_ALERTTYPE", if item.good { "up" } else { "failure" })
        .env("MON_LAST_SUMMARY", one_line(&item.text))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(good: bool) -> Item {
        Item {
            event: if good { "real_up" } else { "real_down" },
            good,
            repeated: false,
            service: Some("web".into()),
            real: Some("10.0.0.11:80".parse().unwrap()),
            text: "10.0.0.11:80 changed".into(),
            time: 929_286_507_000,
        }
    }

    fn message(items: Vec<Item>) -> Message {
        Message { receiver: "script".into(), items, omitted: 0 }
    }

    /// A program that notes its arguments and input in a file.
    fn noting(folder: &std::path::Path) -> Vec<String> {
        use std::os::unix::fs::PermissionsExt;
        let program = folder.join("note.alert");
        std::fs::write(
            &program,
            "#!/bin/sh\nf=$1; for w; do f=$w; done\necho \"$@\" >> $f\ncat >> $f\n",
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let words = [program, "-V".into(), "192.0.2.10:80".into(), folder.join("log")];
        words.iter().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn scripts_are_called_as_mon_calls_them() {
        let folder = tempfile::tempdir().unwrap();
        let command = noting(folder.path());
        run("lb1", &command, &message(vec![item(false), item(true)])).await.unwrap();
        let log = folder.path().join("log");
        let noted = std::fs::read_to_string(&log).unwrap();
        let path = log.to_str().unwrap();
        assert_eq!(
            noted,
            format!(
                "-s web -g web -h 10.0.0.11 -t 929286507 -V 192.0.2.10:80 {path}\n\
                 10.0.0.11:80 changed\n\
                 -s web -g web -h 10.0.0.11 -t 929286507 -u -V 192.0.2.10:80 {path}\n\
                 10.0.0.11:80 changed\n"
            )
        );
    }

    #[tokio::test]
    async fn a_failing_or_missing_program_is_an_error() {
        let failing = run("lb1", &["/bin/false".to_owned()], &message(vec![item(false)])).await;
        assert_eq!(failing.unwrap_err(), "/bin/false: exit status: 1");
        let missing = run("lb1", &["/nonexistent".to_owned()], &message(vec![item(false)])).await;
        assert!(missing.unwrap_err().starts_with("/nonexistent: No such file"));
        assert!(run("lb1", &[], &message(vec![])).await.is_err());
    }
}
