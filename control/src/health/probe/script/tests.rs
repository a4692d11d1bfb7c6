use std::time::Instant;

use super::super::testing::*;
use super::*;
use crate::health::fsm::Depth;
use crate::health::outcome::Verdict;
use crate::health::probe::Probe;
use crate::model;

fn shell(text: &str) -> Probe {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    prepare(model::Probe::Script(ScriptProbe { command, user: None }))
}

fn target() -> Target {
    let mut target = Target::new("10.0.0.11:8080".parse().unwrap());
    target.vip = Some("192.0.2.10:80".parse().unwrap());
    target.service = "web".into();
    target
}

#[tokio::test]
async fn the_exit_status_decides_and_the_output_is_kept() {
    let outcome = run_at(&shell("echo fine; echo details >&2"), &target()).await;
    assert!(matches!(outcome.verdict, Verdict::Passed(_)));
    let output = outcome.measured.output.unwrap();
    assert!(output.contains("fine\n") && output.contains("details\n"), "{output:?}");

    let outcome = run_at(&shell("echo no disk; exit 3"), &target()).await;
    let wanted = Failure::unexpected("exit 3: no disk", "exit 0");
    assert_eq!(outcome.verdict, Verdict::Failed(wanted));
    let outcome = run_at(&shell("kill -9 $$"), &target()).await;
    assert!(outcome.reason().contains("signal: 9"), "{}", outcome.reason());
}

#[tokio::test]
async fn arguments_and_environment_are_as_documented() {
    let command = ["/bin/echo", "{vip}", "{vport}", "{rip}:{rport}"].map(str::to_owned).to_vec();
    let probe = prepare(model::Probe::Script(ScriptProbe { command, user: None }));
    let output = run_at(&probe, &target()).await.measured.output.unwrap();
    assert_eq!(output, "192.0.2.10 80 10.0.0.11:8080\n");

    let output = run_at(&shell("env | sort; pwd"), &target()).await.measured.output.unwrap();
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("PWD=")).collect();
    let lines: Vec<_> =
        lines.into_iter().filter(|l| !l.starts_with("_=") && !l.starts_with("SHLVL=")).collect();
    assert_eq!(
        lines,
        [
            "LANG=C",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "VIADUCT_NODE=lb1",
            "VIADUCT_RIP=10.0.0.11",
            "VIADUCT_RPORT=8080",
            "VIADUCT_SERVICE=web",
            "VIADUCT_TIMEOUT=60",
            "VIADUCT_VIP=192.0.2.10",
            "VIADUCT_VPORT=80",
            "/",
        ]
    );
}

/// Whether a process with this number is alive (a zombie is not).
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // waits for processes of its own to die
async fn a_timeout_kills_the_whole_group_and_keeps_the_output() {
    let script = shell("sleep 1000 & echo $!; sleep 1000 & echo $!; wait");
    let mut timeout = Duration::from_millis(300);
    let children = loop {
        let outcome = script.run(&target(), Depth::Full, timeout).await;
        assert_eq!(outcome.verdict, Verdict::Failed(Failure::Timeout("script")));
        let output = outcome.measured.output.unwrap_or_default();
        let children: Vec<String> = output.lines().map(str::to_owned).collect();
        if children.len() == 2 {
            break children;
        }
        timeout *= 2;
    };
    let begun = Instant::now();
    while children.iter().any(|pid| alive(pid)) {
        assert!(begun.elapsed() < Duration::from_secs(30), "children outlive the timeout");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_child_left_behind_does_not_hold_the_check_up() {
    let outcome = run_at(&shell("echo started; sleep 5 &"), &target()).await;
    assert!(matches!(outcome.verdict, Verdict::Passed(_)));
    assert!(outcome.took < Duration::from_secs(4), "{:?}", outcome.took);
}

#[tokio::test]
async fn output_is_capped_and_a_full_pipe_does_not_block_the_script() {
    let outcome = run_at(&shell("head -c 1000000 /dev/zero | tr '\\0' x"), &target()).await;
    assert!(matches!(outcome.verdict, Verdict::Passed(_)), "{}", outcome.reason());
    assert_eq!(outcome.measured.output.unwrap().len(), OUTPUT_LIMIT);
}

#[tokio::test]
async fn a_missing_program_and_account_are_named() {
    let command = vec!["/nonexistent/check".to_owned()];
    let probe = prepare(model::Probe::Script(ScriptProbe { command, user: None }));
    let outcome = run_at(&probe, &target()).await;
    let text = "/nonexistent/check: no such file or directory".to_owned();
    assert_eq!(outcome.verdict, Verdict::Failed(Failure::Malformed(text)));
    let user = Some("no-such-account".to_owned());
    let wanted = ScriptProbe { command: vec!["/bin/true".into()], user };
    assert!(Script::prepare(&wanted, "lb1").is_err());
}

#[tokio::test]
async fn a_script_runs_as_the_account_asked_for() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let wanted = ScriptProbe {
        command: vec!["/usr/bin/id".into(), "-un".into()],
        user: Some("nobody".into()),
    };
    let probe = prepare(model::Probe::Script(wanted));
    let outcome = run_at(&probe, &target()).await;
    assert_eq!(outcome.measured.output.as_deref(), Some("nobody\n"));
}
