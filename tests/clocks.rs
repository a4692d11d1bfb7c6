//! Clocks are compared and never set: this node's with time servers, real servers' and the other
//! director's with this node's.
//! A drift of three seconds is warned about, and said to be over when it is repaired.

use crate::prelude::{BINARY, director_on};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::peers::{TimeServer, chronyd};
use harness::{Director, Pair, Site, wait};
use serde_json::Value;

/// Real servers' clocks are read every ten seconds and believed at the second reading.
const LIMIT: Duration = Duration::from_secs(60);

fn config(servers: &str) -> String {
    format!(
        r#"
[time]
servers = [{servers}]
interval = "2s"
warn = "1s"
critical = "10s"

[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
  [service.check]
  type = "http"
  interval = "1s"
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
"#
    )
}

fn clocks(director: &Director) -> Result<Value> {
    Ok(serde_json::from_str(&director.viaduct(&["show", "time", "--json"])?)?)
}

/// The events about clocks so far.
fn said(director: &Director) -> Result<Vec<(String, String)>> {
    let events: Value = serde_json::from_str(&director.viaduct(&["show", "events", "--json"])?)?;
    let events = events.as_array().context("a list")?;
    let of_clocks = events.iter().filter(|event| event["kind"] == "clock");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(of_clocks.map(|event| (text(&event["severity"]), text(&event["text"]))).collect())
}

fn until_said(director: &Director, severity: &str, words: &[&str]) -> Result<()> {
    wait::until_ok(&format!("{words:?} as {severity}"), LIMIT, || {
        let said = said(director)?;
        let right = |(how, text): &(String, String)| {
            how == severity && words.iter().all(|word| text.contains(word))
        };
        ensure!(said.iter().any(right), "{said:?}");
        Ok(())
    })
}

#[test]
fn a_real_server_three_seconds_off_is_warned_about_until_it_is_repaired() -> Result<()> {
    let site = Site::new("clockreal", 2, 0)?;
    let servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let director = director_on(&site.director, &config(""))?;
    servers[1].set_clock_ahead(3);
    until_said(&director, "warning", &["10.0.0.12:80", "ahead"])?;
    let view = clocks(&director)?;
    let drifts: Vec<(&str, &str)> = view["reals"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|real| (real["real"].as_str().unwrap_or(""), real["drift"].as_str().unwrap_or("")))
        .collect();
    ensure!(drifts.contains(&("10.0.0.12:80", "warn")), "{drifts:?}");
    ensure!(!said(&director)?.iter().any(|(_, text)| text.contains("10.0.0.11")));
    servers[1].set_clock_ahead(0);
    until_said(&director, "info", &["10.0.0.12:80", "within limits again"])
}

#[test]
fn this_node_is_compared_with_chrony_and_warned_about_a_server_that_drifts() -> Result<()> {
    let site = Site::new("clocknode", 2, 0)?;
    let _servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let _chrony = chronyd(&site.reals[0])?;
    let drifting = TimeServer::start(&site.reals[1], "10.0.0.12:123")?;
    let config = config("\"10.0.0.11\", \"10.0.0.12\"");
    let director = director_on(&site.director, &config)?;
    wait::until_ok("both servers to be believed", LIMIT, || {
        let view = clocks(&director)?;
        let states: Vec<_> = [0, 1].map(|n| view["servers"][n]["state"].clone()).into();
        ensure!(states == ["believed", "believed"], "{view}");
        ensure!(view["opinion"] == "known" && view["servers"][0]["stratum"] == 8, "{view}");
        ensure!(view["ahead"].as_f64().context("an offset")?.abs() < 0.5, "{view}");
        Ok(())
    })?;
    let text = director.viaduct(&["show", "time"])?;
    ensure!(text.contains("believed") && text.contains("+/-"), "{text}");

    // Two that contradict each other: none is believed, and that is said.
    drifting.set_clock_ahead(3000);
    until_said(&director, "warning", &["disagree without a majority"])?;
    drifting.set_clock_ahead(0);
    until_said(&director, "info", &["agree on the time again"])
}

#[test]
fn a_drift_of_three_seconds_against_the_only_time_server_is_said_and_its_end_too() -> Result<()> {
    let site = Site::new("clockdrift", 2, 0)?;
    let server = TimeServer::start(&site.reals[0], "10.0.0.11:123")?;
    let director = director_on(&site.director, &config("\"10.0.0.11:123\""))?;
    server.set_clock_ahead(3000);
    until_said(&director, "warning", &["this node's clock is 3.0", "behind"])?;
    ensure!(clocks(&director)?["drift"] == "warn");
    server.set_clock_ahead(20_000);
    until_said(&director, "error", &["this node's clock is 20.0", "behind"])?;
    server.set_clock_ahead(0);
    until_said(&director, "info", &["within limits again"])?;
    drop(server);
    until_said(&director, "warning", &["10.0.0.11:123", "gives no usable time"])
}

/// A program that runs `viaduct` with a clock that is as far ahead as `ahead` says, in seconds.
fn with_another_clock(directory: &Path, ahead: &str) -> Result<PathBuf> {
    let (program, offset) = (directory.join("viaduct-elsewhen"), directory.join("ahead"));
    fs::write(&offset, ahead)?;
    let library = "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1";
    let text = format!(
        "#!/bin/sh\ntest -e {library} || exit 99\nexport LD_PRELOAD={library}\n\
         export FAKETIME_TIMESTAMP_FILE={} FAKETIME_CACHE_DURATION=1\n\
         export FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {BINARY} \"$@\"\n",
        offset.display()
    );
    fs::write(&program, text)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

#[test]
fn the_other_director_s_clock_is_shown_beside_vrrp_and_warned_about_until_it_is_repaired()
-> Result<()> {
    let pair = Pair::new("clockpeer", 0)?;
    let config = |which| pair.config(which, &Pair::peer(which));
    let one = director_on(&pair.directors[0], &config(0))?;
    let directory = pair.directors[1].directory();
    let program = with_another_clock(directory, "+3.0")?;
    let two = Director::start(&pair.directors[1], &program, Some(&config(1)))?;
    let code = one.viaduct(&["pair"])?;
    two.viaduct(&["join", code.trim()])?;

    until_said(&one, "warning", &["the peer's clock is", "ahead"])?;
    until_said(&two, "warning", &["the peer's clock is", "behind"])?;
    for topic in ["vrrp", "time"] {
        let text = one.viaduct(&["show", topic])?;
        let line = text.lines().find(|line| line.starts_with("peer")).context(text.clone())?;
        ensure!(line.contains("ahead") && line.contains("WARNING"), "{text}");
    }
    let ahead = clocks(&one)?["peer"]["ahead"].as_f64().context("an offset")?;
    ensure!((2.5..3.5).contains(&ahead), "{ahead}");

    fs::write(directory.join("ahead"), "+0.0")?;
    until_said(&one, "info", &["the peer's clock is within limits again"])
}
