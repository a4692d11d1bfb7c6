//! Claim: nobody is up for want of evidence. Services that refuse datagrams stay down however many there are
//! on one host, a host that is silent altogether is down, and so is a server that this director has no way
//! to, with the local cause.

use crate::prelude::director_on;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Director, Site, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);

const PORTS: [u16; 5] = [514, 1812, 1813, 5060, 123];

fn service(address: &str, protocol: &str, real: &str, check: &str) -> String {
    format!(
        "[[service]]\nname = \"{address}\"\naddress = \"192.0.2.10:{address}\"\n\
         protocol = \"{protocol}\"\n[service.check]\ntype = \"{protocol}\"\n{check}\
         [[service.real]]\naddress = \"{real}\"\n"
    )
}

/// State and reason of each service's real server, by name.
fn states(director: &Director) -> Result<Vec<(String, String, String)>> {
    let services: Vec<Value> =
        serde_json::from_str(&director.viaduct(&["show", "health", "--json"])?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |service: &Value| {
        let real = &service["reals"][0];
        (text(&service["name"]), text(&real["state"]), text(&real["reason"]))
    };
    Ok(services.iter().map(of).collect())
}

fn until(director: &Director, name: &str, state: &str) -> Result<String> {
    wait::until_ok(&format!("{name} to be {state}"), LIMIT, || {
        let states = states(director)?;
        let found = states.iter().find(|(named, is, _)| named == name && is == state);
        Ok(found.with_context(|| format!("{states:?}"))?.2.clone())
    })
}

#[test]
fn closed_ports_of_one_host_stay_down_for_checks_that_ask_for_no_reply() -> Result<()> {
    let site = Site::new("silentudp", 1, 0)?;
    let config: String = PORTS
        .iter()
        .map(|port| service(&port.to_string(), "udp", &format!("10.0.0.11:{port}"), ""))
        .collect();
    let director = director_on(&site.director, &config)?;
    for port in PORTS {
        until(&director, &port.to_string(), "down")?;
    }
    // Long enough for a host's burst of ICMP errors to be used up several times over.
    for _ in 0..40 {
        wait::pause(Duration::from_millis(500));
        let states = states(&director)?;
        ensure!(states.iter().all(|(_, state, _)| state == "down"), "{states:?}");
    }
    Ok(())
}

#[test]
fn a_host_that_is_silent_altogether_is_down() -> Result<()> {
    let site = Site::new("silenthost", 1, 0)?;
    site.reals[0].run_ok(&["nft", "add table inet f; add chain inet f in { type filter hook input priority 0; policy drop; }; add rule inet f in meta nfproto ipv6 accept"])?;
    let config = service("514", "udp", "10.0.0.11:514", "");
    let director = director_on(&site.director, &config)?;
    let reason = until(&director, "514", "down")?;
    ensure!(reason.contains("echo reply") || reason.contains("no route to host"), "{reason}");
    Ok(())
}

#[test]
fn a_server_that_this_director_has_no_way_to_is_down_and_the_cause_is_named() -> Result<()> {
    let site = Site::new("nowaythere", 1, 1)?;
    let route = |words: &[&str]| site.director.run_ok(&[&["ip", "route"], words].concat());
    for net in ["10.9.0.0/24", "10.77.1.0/24", "10.77.2.0/24"] {
        site.director.run(&["ip", "route", "del", net])?;
    }
    route(&["add", "blackhole", "10.77.1.0/24"])?;
    route(&["add", "prohibit", "10.77.2.0/24"])?;
    let config = [
        service("1", "tcp", "10.77.1.1:80", ""),
        service("2", "tcp", "10.77.2.1:80", ""),
        service("3", "udp", "10.77.1.1:80", ""),
        service("4", "tcp", "10.0.0.11:80", "source = \"10.0.0.99\"\n"),
        service("5", "tcp", "10.77.1.1:80", "on_unsent = \"keep\"\n"),
    ]
    .concat();
    let director = director_on(&site.director, &config)?;
    for (name, cause) in [
        ("1", "could not check: no route, or a blackhole route"),
        ("2", "could not check: no route, or a prohibit route"),
        ("3", "could not check: no route, or a blackhole route"),
        ("4", "could not check: no source address"),
    ] {
        let reason = until(&director, name, "down")?;
        ensure!(reason.starts_with(cause), "{name}: {reason}");
    }
    let states = states(&director)?;
    ensure!(states.iter().any(|(name, state, _)| name == "5" && state == "untested"), "{states:?}");
    let events = director.viaduct(&["show", "events"])?;
    ensure!(events.contains("cannot be checked by this node: no route"), "{events}");
    Ok(())
}
