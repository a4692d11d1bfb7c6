//! Scripts that VRRP instances track: run again and again, judged by their exit status.

use crate::model::TrackScript;
use std::process::Stdio;
use tokio::process::Command;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A script changed its mind.
pub(crate) struct Verdict {
    pub script: String,
    pub good: bool,
    pub why: String,
}

/// Runs every script until `tasks` is dropped.
pub(crate) fn watch(scripts: &[TrackScript], verdicts: &Sender<Verdict>, tasks: &mut JoinSet<()>) {
    for script in scripts {
        tasks.spawn(repeat(script.clone(), verdicts.clone()));
    }
}

/// Counts consecutive results. Good until proven otherwise.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    good: bool,
    against: u32,
}

impl Count {
    /// Whether this result changes the verdict.
    fn judge(&mut self, success: bool, rise: u32, fall: u32) -> bool {
        if success == self.good {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if success { rise } else { fall };
        if self.against < needed {
            return false;
        }
        *self = Self { good: success, against: 0 };
        true
    }
}

async fn repeat(script: TrackScript, verdicts: Sender<Verdict>) {
    let mut count = Count { good: true, against: 0 };
    let mut ticks = interval(script.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ran = once(&script).await;
        if count.judge(ran.is_ok(), script.rise, script.fall) {
            let (Ok(why) | Err(why)) = ran;
            let verdict = Verdict { script: script.name.clone(), good: count.good, why };
            if verdicts.send(verdict).await.is_err() {
                return;
            }
        }
    }
}

/// Runs the program once, without a shell and without input.
async fn once(script: &TrackScript) -> Result<String, String> {
    let Some((program, arguments)) = script.command.split_first() else {
        return Err("no command".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match timeout(script.timeout, command.status()).await {
        Err(_) => Err(format!("takes longer than {:?}", script.timeout)),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Ok(Ok(status)) if status.success() => Ok("exit status 0".to_owned()),
        Ok(Ok(status)) => Err(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn consecutive_results_change_the_verdict() {
        let mut count = Count { good: true, against: 0 };
        let results = [false, true, false, false, true, false, true, true, true, true];
        let told: Vec<_> = results.map(|success| count.judge(success, 3, 2)).into();
        let changed: Vec<_> = (0..results.len()).filter(|at| told[*at]).collect();
        assert_eq!((changed, count.good), (vec![3, 8], true));
    }

    #[tokio::test]
    async fn exit_status_and_time_decide() {
        let script = |words: &[&str], timeout| TrackScript {
            name: "test".into(),
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            interval: Duration::from_secs(1),
            timeout,
            rise: 1,
            fall: 1,
        };
        let long = Duration::from_secs(20);
        assert!(once(&script(&["true"], long)).await.is_ok());
        assert!(once(&script(&["false"], long)).await.unwrap_err().contains("exit status: 1"));
        assert!(once(&script(&["/no/such/program"], long)).await.is_err());
        let slow = once(&script(&["sleep", "60"], Duration::from_millis(50))).await;
        assert!(slow.unwrap_err().contains("longer"));
    }
}
