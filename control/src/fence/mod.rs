//! Switching the other director off by a fence agent of ClusterLabs (Debian's `fence-agents`).
//!
//! An agent reads its options from standard input, one `name=value` a line, and says by its exit status
//! whether it has done it (the Fence Agent API, section "Agent operations and return values").

use crate::model::Fence;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Most of an agent's words that is kept, in bytes.
const SAID: usize = 512;

/// Why the other director was not switched off for sure.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The agent could not be run.
    #[error("{agent}: {source}")]
    Run {
        /// Path of the agent.
        agent: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// It did not finish.
    #[error("{0} timed out")]
    Late(String),
    /// It says that it failed.
    #[error("{agent} failed ({status}): {said}")]
    Failed {
        /// Path of the agent.
        agent: String,
        /// The agent's exit status.
        status: std::process::ExitStatus,
        /// The beginning of its output.
        said: String,
    },
}

/// What an agent reads: the action, then its options.
pub fn request(fence: &Fence) -> String {
    let options = fence.options.iter().map(|option| format!("{option}\n"));
    format!("action={}\n{}", fence.action, options.collect::<String>())
}

/// Has the agent do it, and waits until it has.
///
/// # Errors
/// When it is not certain that it was done.
pub async fn run(fence: &Fence) -> Result<(), FenceError> {
    let agent = || fence.agent.clone();
    let failed = |source| FenceError::Run { agent: agent(), source };
    let mut command = Command::new(&fence.agent);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir("/").kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let request = request(fence);
    let work = async {
        if let Some(mut input) = child.stdin.take() {
            // An agent that does not read what it needs will say so itself.
            let _ = input.write_all(request.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let done = timeout(fence.timeout, work).await.map_err(|_| FenceError::Late(agent()))?;
    let output = done.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let mut said = output.stdout;
    said.extend(output.stderr);
    said.truncate(SAID);
    let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
    Err(FenceError::Failed { agent: agent(), status: output.status, said })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn fence(agent: &str, timeout: Duration) -> Fence {
        let options = vec!["plug=lb1".to_owned(), "ip=192.0.2.9".to_owned()];
        Fence { agent: agent.to_owned(), action: "off".to_owned(), options, timeout }
    }

    #[tokio::test]
    async fn the_agent_reads_its_options_and_its_exit_status_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (agent, heard) = (folder.path().join("agent"), folder.path().join("heard"));
        let script =
            format!("#!/bin/sh\ncat > {}\necho no power\nexit $(cat {0}.exit)\n", heard.display());
        std::fs::write(&agent, script).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let fence = fence(agent.to_str().unwrap(), Duration::from_secs(20));
        std::fs::write(heard.with_extension("exit"), "0").unwrap();
        run(&fence).await.unwrap();
        let text = std::fs::read_to_string(&heard).unwrap();
        assert_eq!(text, "action=off\nplug=lb1\nip=192.0.2.9\n");
        std::fs::write(heard.with_extension("exit"), "1").unwrap();
        let error = run(&fence).await.unwrap_err().to_string();
        assert!(error.contains("no power"), "{error}");
    }

    #[tokio::test]
    async fn an_agent_that_hangs_or_is_missing_has_not_done_it() {
        assert!(matches!(
            run(&fence("/no/such/agent", Duration::from_secs(5))).await,
            Err(FenceError::Run { .. })
        ));
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        std::fs::write(&agent, "#!/bin/sh\nexec sleep 60\n").unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let slow = fence(agent.to_str().unwrap(), Duration::from_millis(100));
        assert!(matches!(run(&slow).await, Err(FenceError::Late(_))));
    }

    /// ClusterLabs' own dummy, whose power switch is a file.
    #[tokio::test]
    async fn the_clusterlabs_dummy_switches_off() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("power");
        std::fs::write(&file, "on").unwrap();
        let mut fence = fence("/usr/sbin/fence_dummy", Duration::from_secs(60));
        fence.options = vec![format!("status_file={}", file.display())];
        run(&fence).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "off");
    }
}
