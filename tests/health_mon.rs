//! The job of mon with LVS's alert scripts: a monitor that fails removes the real server, one that
//! succeeds adds it back, and alert and upalert programs run with the arguments that mon gives them.

use crate::prelude::director_on;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::process::Process;
use harness::{Director, Host, Site, peers, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// As mon's http.monitor: asks every host that it is given, and names the failed ones.
const MONITOR: &str = "#!/bin/sh
failed=
for host; do curl -sf --max-time 2 -o /dev/null http://$host/ || failed=\"$failed $host\"; done
[ -z \"$failed\" ] && exit 0
echo $failed
exit 1
";

/// As an alert program: notes how it was called and what it was told.
const ALERT: &str = "#!/bin/sh
log=$1; for word; do log=$word; done
{ printf '%s' \"$MON_ALERTTYPE\"; for word; do printf ' [%s]' \"$word\"; done; echo; cat; } >> \"$log\"
";

fn program(host: &Host, name: &str, text: &str) -> Result<PathBuf> {
    let path = host.directory().join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn config(monitor: &Path, alert: &Path, log: &Path) -> String {
    format!(
        r#"
[[alert]]
name = "virtualserver"
type = "script"
command = ["{}", "-P", "tcp", "-V", "192.0.2.10:80", "-R", "10.0.0.12", "-W", "1", "-F", "nat", "{}"]
events = ["real_down", "real_up"]
services = ["http"]

[[service]]
name = "http"
address = "192.0.2.10:80"
scheduler = "rr"
  [service.check]
  type = "script"
  command = ["{}", "{{rip}}"]
  interval = "500ms"
  timeout = "5s"
  rise = 1
  fall = 1
  on_down = "remove"
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
"#,
        alert.display(),
        log.display(),
        monitor.display(),
    )
}

fn listed(director: &Director) -> Result<Vec<String>> {
    let services = director.states()?;
    let service = services.into_iter().next().context("no service")?;
    Ok(service.reals.into_iter().map(|real| real.address).collect())
}

fn until_listed(director: &Director, wanted: &[&str]) -> Result<()> {
    wait::until_ok(&format!("{wanted:?} to be listed"), LIMIT, || {
        let mut found = listed(director)?;
        found.sort();
        ensure!(found == wanted, "{found:?} are");
        Ok(())
    })
}

/// Waits until the alerts' log has so many lines.
fn until_noted(log: &Path, lines: usize) -> Result<Vec<String>> {
    wait::until_ok("the alert program to run", LIMIT, || {
        let text = fs::read_to_string(log)?;
        let noted: Vec<String> = text.lines().map(str::to_owned).collect();
        ensure!(noted.len() >= lines, "{text}");
        Ok(noted)
    })
}

#[test]
fn a_failing_monitor_removes_the_server_and_alerts_run_as_mon_runs_them() -> Result<()> {
    let site = Site::new("mon", 2, 0)?;
    let mut servers: Vec<Option<Process>> = Vec::new();
    for real in &site.reals {
        servers.push(Some(peers::nginx(real, "80")?));
    }
    let monitor = program(&site.director, "http.monitor", MONITOR)?;
    let alert = program(&site.director, "virtualserver.alert", ALERT)?;
    let log = site.director.directory().join("alerts.log");
    let config = config(&monitor, &alert, &log);
    let director = director_on(&site.director, &config)?;
    until_listed(&director, &["10.0.0.11:80", "10.0.0.12:80"])?;

    servers[1] = None;
    until_listed(&director, &["10.0.0.11:80"])?;
    let down = until_noted(&log, 2)?;
    servers[1] = Some(peers::nginx(&site.reals[1], "80")?);
    until_listed(&director, &["10.0.0.11:80", "10.0.0.12:80"])?;
    let up = until_noted(&log, 4)?;

    let program = alert.display();
    for (call, kind, flag) in [(&down[0], "failure", ""), (&up[2], "up", " [-u]")] {
        let (time, rest) = moment_of(call).with_context(|| format!("{program}: {call}"))?;
        ensure!(time > 1_600_000_000, "{call}");
        let wanted = format!(
            "{kind} [-s] [http] [-g] [http] [-h] [10.0.0.12] [-t]{flag} [-P] [tcp] [-V] \
             [192.0.2.10:80] [-R] [10.0.0.12] [-W] [1] [-F] [nat] [{}]",
            log.display()
        );
        ensure!(rest == wanted, "{rest}\ninstead of\n{wanted}");
    }
    ensure!(down[1].starts_with("10.0.0.12:80 is down: exit 1"), "{down:?}");
    ensure!(up[3].starts_with("10.0.0.12:80 is up: "), "{up:?}");
    ensure!(fs::read_to_string(&log)?.lines().count() == 4, "an alert ran twice");
    Ok(())
}

#[test]
fn alerts_are_quiet_about_a_server_in_maintenance() -> Result<()> {
    let site = Site::new("monquiet", 2, 0)?;
    let mut servers: Vec<Option<Process>> = Vec::new();
    for real in &site.reals {
        servers.push(Some(peers::nginx(real, "80")?));
    }
    let monitor = program(&site.director, "http.monitor", MONITOR)?;
    let alert = program(&site.director, "virtualserver.alert", ALERT)?;
    let log = site.director.directory().join("alerts.log");
    let config = config(&monitor, &alert, &log);
    let director = director_on(&site.director, &config)?;
    until_listed(&director, &["10.0.0.11:80", "10.0.0.12:80"])?;
    director.viaduct(&["drain", "http", "10.0.0.12", "--reason", "new disk"])?;
    servers[1] = None;
    wait::until_ok("the server to be down", LIMIT, || {
        let health = director.viaduct(&["show", "events"])?;
        ensure!(health.contains("10.0.0.12:80 is down"), "{health}");
        Ok(())
    })?;
    servers[0] = None;
    let noted = until_noted(&log, 2)?;
    ensure!(noted[0].contains("[-h] [10.0.0.11]"), "{noted:?}");
    ensure!(noted.len() == 2, "{noted:?}");
    Ok(())
}

/// The time that an alert was given, and the call without it.
fn moment_of(call: &str) -> Option<(u64, String)> {
    let (before, after) = call.split_once("[-t] [")?;
    let (time, after) = after.split_once(']')?;
    Some((time.parse().ok()?, format!("{before}[-t]{after}")))
}
