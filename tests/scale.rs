//! A large document: a thousand services with twenty real servers each are applied for little CPU,
//! a change of one server costs next to nothing, and all of them may die and return at once without a late
//! VRRP advertisement.

use crate::prelude::{BINARY, director_on};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Host, Site, wait};
use nix::sys::signal::Signal;

const SERVICES: usize = 1000;
const REALS: usize = 20;

const LIMIT: Duration = Duration::from_secs(120);

/// What the daemon may spend on the whole document.
const APPLY: Duration = Duration::from_secs(2);

fn document() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let (high, low) = (service / 250, service % 250 + 1);
        let _ = write!(
            text,
            "[[service]]\nname = \"service-{service}\"\naddress = \"203.0.{high}.{low}:80\"\n\
             scheduler = \"wlc\"\npersistence = {{ timeout = \"300s\" }}\n"
        );
        for real in 1..=REALS {
            let _ = write!(
                text,
                "[[service.real]]\naddress = \"10.{}.{low}.{real}:80\"\nweight = {real}\n",
                high + 1
            );
        }
    }
    text
}

/// CPU time that the daemon has used, all threads together.
fn cpu(director: &Director) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", director.daemon().id()))?;
    // The program's name, in parentheses, may hold blanks; user and system time are the 12th and
    // 13th field after it, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let hundredths = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(hundredths * 10))
}

fn spent(director: &Director, arguments: &[&str]) -> Result<Duration> {
    let before = cpu(director)?;
    director.viaduct(arguments)?;
    Ok(cpu(director)?.saturating_sub(before))
}

#[test]
fn a_thousand_services_with_twenty_real_servers_each_are_applied_for_two_seconds_of_cpu()
-> Result<()> {
    let _alone = harness::alone()?;
    let site = Site::new("scale", 0, 0)?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    let file = director.host().directory().join("large.toml");
    fs::write(&file, document())?;
    let file = file.to_string_lossy().into_owned();
    let all = spent(&director, &["apply", &file])?;
    let status = director.viaduct(&["show", "status"])?;
    ensure!(status.contains("1000") && status.contains("20000"), "{status}");
    let same = spent(&director, &["apply", &file])?;
    let one = ["ipvsadm", "-e", "-t", "203.0.1.7:80", "-r", "10.2.7.9:80", "-m", "-w", "77"];
    let mut changes = Duration::ZERO;
    for _ in 0..5 {
        changes += spent(&director, &one)?;
    }
    println!(
        "CPU of the daemon: {:.2} s for {SERVICES} services x {REALS} real servers, {:.2} s to find \
         that nothing differs, {:.3} s for one server",
        all.as_secs_f64(),
        same.as_secs_f64(),
        changes.as_secs_f64() / 5.0
    );
    // Without optimisation nothing is promised.
    ensure!(cfg!(debug_assertions) || all < APPLY, "{all:?} is more than {APPLY:?}");
    Ok(())
}

/// All real servers are ports of one host, so that one rule refuses them all.
fn flapping() -> String {
    let mut text = String::from(
        "[[vrrp]]\nname = \"front\"\ninterface = \"eth0\"\nid = 7\npriority = 150\n\
         advert_interval = \"200ms\"\naddresses = [\"192.0.2.10\"]\n",
    );
    for service in 0..SERVICES {
        let port = 1000 + service;
        let _ = write!(
            text,
            "[[service]]\nname = \"service-{service}\"\naddress = \"192.0.2.10:{port}\"\n\
             [service.check]\ntype = \"tcp\"\ninterval = \"4s\"\nrise = 1\nfall = 1\n"
        );
        for real in 0..REALS {
            let port = 10_000 + service * REALS + real;
            let _ = write!(text, "[[service.real]]\naddress = \"10.0.0.11:{port}\"\n");
        }
    }
    text
}

/// Accepts on every checked port, or answers all of them with a reset.
fn let_live(host: &Host, alive: bool) -> Result<()> {
    let verdict = if alive { "accept" } else { "reject with tcp reset" };
    let rules = format!(
        "table ip rack\ndelete table ip rack\ntable ip rack {{\n\
         chain ports {{ type nat hook prerouting priority dstnat; tcp dport 10000-29999 redirect to :80; }}\n\
         chain fate {{ type filter hook input priority 0; meta l4proto tcp ct original proto-dst 10000-29999 {verdict}; }}\n}}\n"
    );
    host.run_with_input(harness::host::command(&["nft", "-f", "-"])?, &rules)?.ok()?;
    Ok(())
}

fn until_down(director: &Director, services: usize) -> Result<()> {
    wait::until_ok(&format!("{services} services to be down"), LIMIT, || {
        let status = director.json("status")?;
        ensure!(status["down"] == services, "{status:#}");
        Ok(())
    })
}

/// The longest time between two advertisements that tcpdump printed, in seconds, and how many there were.
fn longest_gap(printed: &str) -> (f64, usize) {
    let times: Vec<f64> =
        printed.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    (gaps.fold(0.0, f64::max), times.len())
}

#[test]
fn twenty_thousand_real_servers_flap_and_every_advertisement_is_on_time() -> Result<()> {
    let _alone = harness::alone()?;
    let site = Site::new("flapping", 1, 0)?;
    let _backend = Backend::http(&site.reals[0], "[::]:80")?;
    let_live(&site.reals[0], true)?;
    let director = director_on(&site.director, &flapping())?;
    until_down(&director, 0)?;
    wait::until_ok("mastership", LIMIT, || {
        let vrrp = director.json("vrrp")?;
        ensure!(vrrp[0]["state"] == "master", "{vrrp:#}");
        Ok(())
    })?;
    let dump = ["tcpdump", "-n", "-l", "-tt", "-i", "eth0", "ip proto 112"];
    let mut tcpdump = site.client.spawn(harness::host::command(&dump)?)?;
    tcpdump.wait_for_output("listening on", LIMIT)?;
    for _ in 0..2 {
        let_live(&site.reals[0], false)?;
        until_down(&director, SERVICES)?;
        let_live(&site.reals[0], true)?;
        until_down(&director, 0)?;
    }
    tcpdump.signal(Signal::SIGINT)?;
    let (gap, adverts) = longest_gap(&tcpdump.finish(LIMIT)?.stdout);
    let turn = director.json("status")?["longest_turn"].as_f64().context("no number")?;
    println!(
        "{} real servers went down and came back twice: {adverts} advertisements every 200 ms, at most {:.0} ms \
         apart; the control loop's longest turn took {:.0} ms",
        SERVICES * REALS,
        gap * 1e3,
        turn * 1e3
    );
    let vrrp = director.json("vrrp")?;
    ensure!(vrrp[0]["became_master"] == 1, "{vrrp:#}");
    ensure!(adverts > 20, "{adverts}");
    // A backup waits for three intervals and its skew.
    ensure!(gap < 0.6, "a backup would have taken over after {gap} s");
    Ok(())
}
