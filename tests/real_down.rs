//! A real server dies: within two checks new requests miss it; when all are dead the sorry server
//! answers; one that comes back serves again. Nothing hangs meanwhile.

use crate::prelude::director_on;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Site, wait};

const CONFIG: &str = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
sorry = { address = "10.0.0.13:80", method = "nat" }
  [service.check]
  type = "http"
  path = "/"
  expect_body = "^real"
  interval = "200ms"
  timeout = "1s"
  rise = 1
  fall = 2
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
"#;

/// Who answers a request. A server that has just died may refuse it, but it must not hang.
fn ask(site: &Site) -> Result<String> {
    let curl = ["curl", "-sS", "--max-time", "5", "http://192.0.2.10/"];
    let answer = site.client.run(&curl)?;
    ensure!(answer.status.code() != Some(28), "a request hung");
    Ok(if answer.status.success() { answer.stdout.trim().to_owned() } else { "refused".into() })
}

/// Waits until the last so many answers are all by these servers, each at least once.
fn until_only(site: &Site, servers: &[&str]) -> Result<()> {
    let answered = wait::until("the right servers to answer", Duration::from_secs(20), || {
        let answers: Result<Vec<String>> = (0..6).map(|_| ask(site)).collect();
        match answers {
            Err(error) => Some(Err(error)),
            Ok(answers) => {
                let right = answers.iter().all(|answer| servers.contains(&answer.as_str()))
                    && servers.iter().all(|server| answers.iter().any(|a| a == server));
                right.then_some(Ok(()))
            }
        }
    });
    answered?
}

fn events(director: &Director, kind: &str) -> Result<usize> {
    let json: serde_json::Value =
        serde_json::from_str(&director.viaduct(&["show", "events", "--json"])?)?;
    let events = json.as_array().context("a list")?;
    Ok(events.iter().filter(|event| event["kind"] == kind).count())
}

#[test]
fn a_dead_server_gets_nothing_new_and_the_sorry_server_covers_for_all() -> Result<()> {
    let site = Site::new("realdown", 3, 0)?;
    let mut servers: Vec<Option<Backend>> = Vec::new();
    for real in &site.reals {
        servers.push(Some(Backend::http(real, "[::]:80")?));
    }
    let director = director_on(&site.director, CONFIG)?;
    until_only(&site, &["real1", "real2"])?;

    servers[1] = None;
    until_only(&site, &["real1"])?;
    let weights: Vec<i64> =
        director.states()?[0].reals.iter().map(|real| i64::from(real.columns.weight)).collect();
    ensure!(weights.contains(&0) && weights.contains(&1), "{weights:?}");
    ensure!(events(&director, "real_down")? == 1);

    servers[0] = None;
    until_only(&site, &["real3"])?;
    ensure!(events(&director, "service_down")? == 1);

    servers[1] = Some(Backend::http(&site.reals[1], "[::]:80")?);
    until_only(&site, &["real2"])?;
    ensure!(events(&director, "service_up")? == 1);
    let health = director.viaduct(&["show", "health"])?;
    ensure!(
        health.contains("10.0.0.11:80  down") && health.contains("10.0.0.12:80  up"),
        "{health}"
    );
    Ok(())
}

#[test]
fn a_drained_server_finishes_what_it_has_and_stays_out_over_a_restart() -> Result<()> {
    let site = Site::new("drained", 2, 0)?;
    let _servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let config = CONFIG.replace("10.0.0.13:80", "10.0.0.12:80");
    let mut director = director_on(&site.director, &config)?;
    until_only(&site, &["real1", "real2"])?;
    director.viaduct(&["drain", "web", "10.0.0.11", "--reason", "new disk"])?;
    until_only(&site, &["real2"])?;
    director.kill();
    director.restart()?;
    until_only(&site, &["real2"])?;
    let health = director.viaduct(&["show", "health"])?;
    ensure!(health.contains("drained") && health.contains("new disk"), "{health}");
    director.viaduct(&["undrain", "web", "10.0.0.11"])?;
    until_only(&site, &["real1", "real2"])
}

#[test]
fn a_passive_check_takes_out_a_server_that_refuses_its_clients() -> Result<()> {
    let site = Site::new("passive", 2, 0)?;
    let mut servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let config = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
  [service.check]
  type = "passive"
  max_failed_percent = 50
  min_connections = 3
  interval = "500ms"
  interval_down = "2s"
  rise = 1
  fall = 1
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
"#;
    let director = director_on(&site.director, config)?;
    until_only(&site, &["real1", "real2"])?;
    servers[1].stop();
    wait::until_ok("the server to be taken out", Duration::from_secs(20), || {
        ask(&site)?;
        let health = director.viaduct(&["show", "events"])?;
        ensure!(health.contains("10.0.0.12:80 is down") && health.contains("connections failed"));
        Ok(())
    })?;
    // It is given another chance now and then.
    servers[1].start()?;
    until_only(&site, &["real1", "real2"])
}

#[test]
fn connections_of_a_dead_server_are_reset_at_both_ends_where_the_check_says_so() -> Result<()> {
    let site = Site::new("resets", 1, 0)?;
    let server = Backend::http(&site.reals[0], "[::]:80")?;
    let alive = site.director.directory().join("alive");
    std::fs::write(&alive, "")?;
    let config = format!(
        r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
  [service.check]
  type = "script"
  command = ["/usr/bin/test", "-e", "{}"]
  interval = "500ms"
  rise = 1
  fall = 1
  connections = "reset"
  [[service.real]]
  address = "10.0.0.11:80"
"#,
        alive.display()
    );
    let director = director_on(&site.director, &config)?;
    until_only(&site, &["real1"])?;
    let url = "http://192.0.2.10/bytes/60000000";
    let slow = ["curl", "-sS", "-o", "/dev/null", "--limit-rate", "100k", "--max-time", "90", url];
    let download = site.client.spawn(harness::host::command(&slow)?)?;
    let established =
        || site.reals[0].run_ok(&["ss", "-Htn", "state", "established", "sport", "80"]);
    wait::until_ok("the download to begin", Duration::from_secs(20), || {
        ensure!(!established()?.is_empty(), "nothing yet");
        Ok(())
    })?;
    std::fs::remove_file(&alive)?;
    let ended = download.finish(Duration::from_secs(60))?;
    ensure!(ended.status.code() == Some(56), "not a reset: {ended}");
    wait::until_ok("the server to be told", Duration::from_secs(20), || {
        let left = established()?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    ensure!(server.is_up() && events(&director, "real_down")? == 1);
    Ok(())
}
