//! Real servers that are set up wrongly are found by the director itself: one that answers ARP for
//! the VIP, one whose replies take another way, one that does not take what is forwarded to it.

use crate::prelude::{BINARY, director_on};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Host, Site, wait};

const URL: &str = "http://192.0.2.10/";
const LIMIT: Duration = Duration::from_secs(90);

fn config(method: &str, reals: &[&str]) -> String {
    let mut text = format!(
        "[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\nscheduler = \"rr\"\n\
         method = \"{method}\"\n[service.check]\ntype = \"tcp\"\ninterval = \"500ms\"\n"
    );
    for real in reals {
        text.push_str(&format!("[[service.real]]\naddress = \"{real}:80\"\n"));
    }
    text
}

/// Waits until an event says all of these words.
fn until_said(director: &Director, words: &[&str]) -> Result<String> {
    wait::until_ok(&format!("{words:?}"), LIMIT, || {
        let events = director.viaduct(&["show", "events"])?;
        let says = |line: &&str| words.iter().all(|word| line.contains(word));
        let line = events.lines().find(says).with_context(|| events.clone())?;
        Ok(line.to_owned())
    })
}

fn mac(host: &Host) -> Result<String> {
    let text = host.run_ok(&["cat", "/sys/class/net/eth0/address"])?;
    Ok(text.trim().to_owned())
}

/// Asks some more; whether anybody answers is not the question.
fn ask(site: &Site, times: u32) -> Result<()> {
    for _ in 0..times {
        site.client.run(&["curl", "-s", "-o", "/dev/null", "--max-time", "1", URL])?;
    }
    Ok(())
}

#[test]
fn a_real_server_that_answers_arp_for_the_vip_is_named() -> Result<()> {
    let site = Site::new("arpproblem", 0, 0)?;
    let mut servers = Vec::new();
    let mut reals = Vec::new();
    for last in [21, 22] {
        let real = site.lab().host(&format!("real{last}"))?;
        real.attach(site.outside(), &[&format!("192.0.2.{last}/24")])?;
        let up = [BINARY, "real-server", "up", "--vip", "192.0.2.10", "--method", "dr"];
        real.run_ok(&up)?;
        servers.push(Backend::http(&real, "[::]:80")?);
        reals.push(real);
    }
    reals[1].sysctl("net.ipv4.conf.all.arp_ignore", "0")?;
    let config = config("dr", &["192.0.2.21", "192.0.2.22"]);
    let director = director_on(&site.director, &config)?;
    let mac = mac(&reals[1])?;
    let said = until_said(&director, &["192.0.2.22", &mac, "answers ARP for the VIP 192.0.2.10"])?;
    ensure!(said.contains("warning") && said.contains("setup"), "{said}");
    let health = director.viaduct(&["show", "health"])?;
    ensure!(health.contains("WARNING") && health.contains(&mac), "{health}");
    let events = director.viaduct(&["show", "events"])?;
    ensure!(!events.contains("192.0.2.21 answers ARP"), "{events}");

    reals[1].sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    until_said(&director, &[&mac, "answers for the VIP 192.0.2.10 no longer"])?;
    let health = director.viaduct(&["show", "health"])?;
    ensure!(!health.contains("WARNING"), "{health}");
    Ok(())
}

#[test]
fn a_real_server_whose_default_gateway_is_not_the_director_is_found() -> Result<()> {
    let site = Site::new("gateway", 2, 0)?;
    let _servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let config = config("nat", &["10.0.0.11", "10.0.0.12"]);
    let director = director_on(&site.director, &config)?;
    // Replaces the way by the director: replies take the router, with an address nobody asked.
    site.reals[1].run_ok(&["ip", "route", "replace", "default", "via", "10.0.0.1"])?;
    let said = wait::until_ok("the suspicion", LIMIT, || {
        ask(&site, 4)?;
        let events = director.viaduct(&["show", "events"])?;
        let wanted = "is this director its default gateway?";
        let line = events.lines().find(|line| line.contains(wanted));
        Ok(line.with_context(|| events.clone())?.to_owned())
    })?;
    ensure!(said.contains("10.0.0.12:80: none of its last"), "{said}");
    let health = director.viaduct(&["show", "health"])?;
    ensure!(health.matches("WARNING").count() == 1, "{health}");

    site.reals[1].run_ok(&["ip", "route", "replace", "default", "via", "10.0.0.254"])?;
    ask(&site, 4)?;
    until_said(&director, &["10.0.0.12:80 answers its clients again"])?;
    Ok(())
}

#[test]
fn a_real_server_that_does_not_take_what_is_forwarded_is_found() -> Result<()> {
    let site = Site::new("novip", 2, 0)?;
    let _servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    site.answer_directly(&site.reals[0], "192.0.2.10")?;
    let config = config("dr", &["10.0.0.11", "10.0.0.12"]);
    let director = director_on(&site.director, &config)?;
    wait::until_ok("the suspicion", LIMIT, || {
        ask(&site, 4)?;
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.contains("10.0.0.12:80: none of its last"), "{events}");
        Ok(())
    })?;
    let events = director.viaduct(&["show", "events"])?;
    ensure!(events.contains("does it have the VIP on loopback"), "{events}");
    ensure!(!events.contains("10.0.0.11:80: none"), "{events}");
    Ok(())
}

#[test]
fn a_check_through_the_vip_finds_a_server_without_it_before_any_client_does() -> Result<()> {
    let site = Site::new("throughvip", 2, 0)?;
    let _servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    for vip in ["192.0.2.10", "2001:db8::10"] {
        site.answer_directly(&site.reals[0], vip)?;
    }
    let web = config("dr", &["10.0.0.11", "10.0.0.12"]);
    let through = |text: &str| {
        text.replace(
            "interval = \"500ms\"",
            "interval = \"500ms\"\ntimeout = \"500ms\"\nthrough = \"vip\"",
        )
    };
    let web6 = web
        .replace("\"web\"", "\"web6\"")
        .replace("192.0.2.10", "[2001:db8::10]")
        .replace("10.0.0.11", "[2001:db8:a::11]")
        .replace("10.0.0.12", "[2001:db8:a::12]");
    let config = format!("{}{}", through(&web), through(&web6));
    let director = director_on(&site.director, &config)?;
    until_said(&director, &["10.0.0.12:80 is down"])?;
    until_said(&director, &["[2001:db8:a::12]:80 is down"])?;
    for vip in ["192.0.2.10", "2001:db8::10"] {
        site.answer_directly(&site.reals[1], vip)?;
    }
    until_said(&director, &["10.0.0.12:80 is up"])?;
    until_said(&director, &["[2001:db8:a::12]:80 is up"])?;
    let events = director.viaduct(&["show", "events"])?;
    ensure!(!events.contains(".11:80 is down") && !events.contains("::11]:80 is down"), "{events}");
    for _ in 0..4 {
        site.client.run_ok(&["curl", "-sS", "--max-time", "5", URL])?;
    }
    Ok(())
}

#[test]
fn a_tunnel_server_that_drops_what_is_tunnelled_is_found() -> Result<()> {
    let site = Site::new("notunnel", 0, 1)?;
    let _server = Backend::http(&site.remotes[0], "[::]:80")?;
    let config = config("tun", &["10.9.0.11"]);
    let director = director_on(&site.director, &config)?;
    wait::until_ok("the suspicion", LIMIT, || {
        ask(&site, 2)?;
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.contains("does it unwrap tunnelled packets"), "{events}");
        Ok(())
    })
}
