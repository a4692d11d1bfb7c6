//! Two directors: how long a fresh one takes to learn a million connections, what telling new ones
//! costs, and how punctual adverts are under load.

#[path = "../session_sync/load.rs"]
mod load;

mod adverts;
mod source;

use crate::Plan;
use crate::packets::forwarder::tasks;
use crate::packets::wires::cpu_seconds;
use crate::report::{Measure, Report};
use anyhow::{Context, Result, ensure};
use harness::{Director, Host, Pair, wait};
use load::{BINARY, Load, Scene, shown, until};
use source::Source;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const WAY: &str = "viaduct";
/// Connections that a fresh director has to learn.
const KNOWN: u64 = 1_000_000;
/// Connections opened in each second of the steady state.
const RATE: u32 = 50_000;
/// Packets of known connections in each second, while a fresh director learns.
const PASSING: u32 = 20_000;
/// Until a load has settled.
const WARM_UP: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(120);

/// Direct routing to a server that drops what comes: only the director is measured.
const SERVICES: &str = r#"
[[service]]
name = "sink-tcp"
address = "192.0.2.10:9000"
method = "dr"
  [[service.real]]
  address = "10.0.0.12:9000"
[[service]]
name = "sink-udp"
address = "192.0.2.10:9001"
protocol = "udp"
method = "dr"
  [[service.real]]
  address = "10.0.0.12:9001"
  weight = 1
"#;

const LEARNING: Measure = Measure { name: "a fresh peer learns 1,000,000 connections", unit: "s" };
const LOST: Measure = Measure { name: "packets lost meanwhile, of a million", unit: "packets" };
const WAIT: Measure = Measure { name: "longest wait of a stream meanwhile", unit: "ms" };

/// What a load of new connections costs.
struct Cost {
    title: &'static str,
    /// Each connection ends after a second.
    closing: bool,
    rate: Measure,
    alone: Measure,
    paired: Measure,
    share: Measure,
    bytes: Measure,
}

const COSTS: [Cost; 2] = [
    Cost {
        title: "opened",
        closing: false,
        rate: Measure { name: "opened: connections", unit: "thousand/s" },
        alone: Measure { name: "opened: director alone", unit: "CPUs" },
        paired: Measure { name: "opened: director with a peer", unit: "CPUs" },
        share: Measure { name: "opened: cost of the peer", unit: "%" },
        bytes: Measure { name: "opened: on the link, each", unit: "bytes" },
    },
    Cost {
        title: "opened and closed",
        closing: true,
        rate: Measure { name: "opened and closed: connections", unit: "thousand/s" },
        alone: Measure { name: "opened and closed: director alone", unit: "CPUs" },
        paired: Measure { name: "opened and closed: director with a peer", unit: "CPUs" },
        share: Measure { name: "opened and closed: cost of the peer", unit: "%" },
        bytes: Measure { name: "opened and closed: on the link, each", unit: "bytes" },
    },
];

const MEASURES: &[Measure] = &[
    LEARNING,
    LOST,
    WAIT,
    COSTS[0].rate,
    COSTS[0].alone,
    COSTS[0].paired,
    COSTS[0].share,
    COSTS[0].bytes,
    COSTS[1].rate,
    COSTS[1].alone,
    COSTS[1].paired,
    COSTS[1].share,
    COSTS[1].bytes,
    adverts::SLOW.median,
    adverts::SLOW.most,
    adverts::SLOW.longest,
    adverts::FAST.median,
    adverts::FAST.most,
    adverts::FAST.longest,
    adverts::FLOOD,
];

pub fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("Two directors", MEASURES, WAY);
    let seconds = Duration::from_secs(plan.seconds.max(5));
    for _ in 0..plan.rounds {
        learning(&mut report)?;
        for cost in &COSTS {
            steady(&mut report, cost, seconds)?;
        }
        adverts::measure(&mut report, seconds * 3)?;
    }
    Ok(report)
}

fn large(config: String) -> String {
    config.replacen("[node]\n", "[node]\nconnections = 2000000\n", 1)
}

/// A director without memory starts beside one that has a million connections and goes on forwarding.
fn learning(report: &mut Report) -> Result<()> {
    let mut scene = Scene::with("learning", |_| SERVICES.to_owned(), large)?;
    scene.second.kill();
    let (client, sink) = (scene.pair.client.clone(), scene.pair.reals[1].clone());
    drop_all(&sink)?;
    let load = Load::start(&client)?;
    let mut next = 0;
    wait::until_ok("a million connections", LIMIT, || {
        let missing = KNOWN.saturating_sub(active(&scene.first)?);
        if missing > 0 {
            let source = Source::connections(&client, next, 200_000, false)?;
            next += missing as u32;
            source.finish_after(missing)?;
        }
        let known = active(&scene.first)?;
        ensure!(known >= KNOWN, "{known}");
        Ok(())
    })?;
    load.all_alive()?;
    load.gap();
    let (before, began) = (arrived(&sink)?, Instant::now());
    let passing = Source::known(&client, PASSING)?;
    scene.second.restart()?;
    until(&scene.second, "sync", |sync| sync["caught_up"] == true)?;
    let took = began.elapsed();
    let sent = passing.stop()?;
    wait::pause(Duration::from_millis(200));
    let lost = sent.saturating_sub(arrived(&sink)? - before);
    let there = shown(&scene.second, "sync")?["adopted"].as_u64().context("adopted")?;
    ensure!(there >= KNOWN, "{there} connections on the fresh director");
    report.add(WAY, LEARNING.name, took.as_secs_f64());
    report.add(WAY, LOST.name, lost as f64 * 1e6 / sent as f64);
    report.add(WAY, WAIT.name, load.gap() as f64);
    let (_, broken) = load.finish();
    ensure!(broken.is_empty(), "{broken:?}");
    Ok(())
}

/// New connections at a fixed rate: the director's processor time with and without a peer to tell.
fn steady(report: &mut Report, cost: &Cost, seconds: Duration) -> Result<()> {
    let pair = Pair::new("alone", 2)?;
    let config = large(pair.config(0, SERVICES));
    let director = Director::start(&pair.directors[0], Path::new(BINARY), Some(&config))?;
    until(&director, "vrrp", |vrrp| load::all(vrrp, "master"))?;
    let alone = spend(&director, &pair, cost.closing, seconds)?;
    drop((director, pair));
    let scene = Scene::with("steady", |_| SERVICES.to_owned(), large)?;
    let paired = spend(&scene.first, &scene.pair, cost.closing, seconds)?;
    let sync = shown(&scene.first, "sync")?;
    ensure!(sync["resyncs"] == 0, "{}: the peer could not follow: {sync}", cost.title);
    report.add(WAY, cost.rate.name, paired.rate / 1e3);
    report.add(WAY, cost.alone.name, alone.cpus);
    report.add(WAY, cost.paired.name, paired.cpus);
    // By connection, as the two rates differ a little.
    let extra = (paired.cpus / paired.rate) / (alone.cpus / alone.rate) - 1.0;
    report.add(WAY, cost.share.name, extra * 100.0);
    report.add(WAY, cost.bytes.name, paired.link / paired.rate);
    Ok(())
}

/// In each second: processors, connections opened, bytes sent to the peer.
struct Spent {
    cpus: f64,
    rate: f64,
    link: f64,
}

fn spend(director: &Director, pair: &Pair, closing: bool, seconds: Duration) -> Result<Spent> {
    drop_all(&pair.reals[1])?;
    let source = Source::connections(&pair.client, 0, RATE, closing)?;
    wait::pause(WARM_UP);
    let threads = tasks(director.daemon().id(), "");
    let look = || -> Result<(Instant, f64, f64, f64)> {
        let link = counter(director.host(), "eth2", "tx_bytes")? as f64;
        Ok((Instant::now(), cpu_seconds(&threads), opened(director)? as f64, link))
    };
    let before = look()?;
    wait::pause(seconds);
    let after = look()?;
    source.stop()?;
    let took = (after.0 - before.0).as_secs_f64();
    Ok(Spent {
        cpus: (after.1 - before.1) / took,
        rate: (after.2 - before.2) / took,
        link: (after.3 - before.3) / took,
    })
}

fn active(director: &Director) -> Result<u64> {
    let services = director.states()?;
    Ok(services.iter().flat_map(|service| &service.reals).map(|real| real.columns.active).sum())
}

fn opened(director: &Director) -> Result<u64> {
    let services = director.statistics()?;
    Ok(services.iter().filter_map(|service| service.columns).map(|c| c.connections).sum())
}

/// Counts and drops what is sent to the services.
fn drop_all(host: &Host) -> Result<()> {
    host.run_ok(&["nft", SINK]).map(drop)
}

const SINK: &str = "table ip bench { counter sink { }; chain early { \
     type filter hook prerouting priority -300; \
     tcp dport 9000 counter name sink drop; udp dport 9001 counter name sink drop; }; }";

/// Packets that reached the server which drops them.
fn arrived(host: &Host) -> Result<u64> {
    let text = host.run_ok(&["nft", "list", "counter", "ip", "bench", "sink"])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    Ok(words.nth(1).with_context(|| text.clone())?.parse()?)
}

fn counter(host: &Host, interface: &str, name: &str) -> Result<u64> {
    let path = format!("/sys/class/net/{interface}/statistics/{name}");
    Ok(host.enter(|| fs::read_to_string(&path))?.context(path)?.trim().parse()?)
}
