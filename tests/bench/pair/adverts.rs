//! How punctual the master's adverts are on the wire while everything else is busy: a flood fills the
//! packet path, the API is asked without pause, and commits make the store flush.

use super::load::{Scene, all, until};
use super::source::Source;
use super::{SERVICES, WAY, arrived, drop_all};
use crate::report::{Measure, Report};
use anyhow::{Context, Result, ensure};
use harness::host::command;
use harness::{Director, wait};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The distribution of the intervals between two adverts.
pub struct Intervals {
    /// The configured interval.
    configured: &'static str,
    pub median: Measure,
    pub most: Measure,
    pub longest: Measure,
}

pub const SLOW: Intervals = Intervals {
    configured: "100ms",
    median: Measure { name: "adverts each 100 ms: median interval", unit: "ms" },
    most: Measure { name: "adverts each 100 ms: 99 of 100 within", unit: "ms" },
    longest: Measure { name: "adverts each 100 ms: longest", unit: "ms" },
};

pub const FAST: Intervals = Intervals {
    configured: "10ms",
    median: Measure { name: "adverts each 10 ms: median interval", unit: "ms" },
    most: Measure { name: "adverts each 10 ms: 99 of 100 within", unit: "ms" },
    longest: Measure { name: "adverts each 10 ms: longest", unit: "ms" },
};

pub const FLOOD: Measure = Measure { name: "forwarded meanwhile", unit: "kpackets/s" };

const ASKED: [&str; 4] = ["services", "connections", "vrrp", "events"];

pub fn measure(report: &mut Report, seconds: Duration) -> Result<()> {
    for intervals in [SLOW, FAST] {
        let configured = format!("advert_interval = \"{}\"", intervals.configured);
        let edit = |config: String| config.replace("advert_interval = \"100ms\"", &configured);
        let scene = Scene::with("adverts", |_| SERVICES.to_owned(), edit)?;
        drop_all(&scene.pair.reals[1])?;
        let before = arrived(&scene.pair.reals[1])?;
        let mut seen = busy(&scene, seconds)?;
        let forwarded = arrived(&scene.pair.reals[1])? - before;
        until(&scene.first, "vrrp", |vrrp| all(vrrp, "master"))?;
        seen.sort_by(f64::total_cmp);
        ensure!(seen.len() > 50, "only {} adverts", seen.len());
        let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize];
        report.add(WAY, intervals.median.name, at(0.5));
        report.add(WAY, intervals.most.name, at(0.99));
        report.add(WAY, intervals.longest.name, at(1.0));
        report.add(WAY, FLOOD.name, forwarded as f64 / seconds.as_secs_f64() / 1e3);
    }
    Ok(())
}

/// The intervals that the backup's cable sees, in milliseconds.
fn busy(scene: &Scene, seconds: Duration) -> Result<Vec<f64>> {
    let filter = "ip proto 112 and src host 192.0.2.251";
    let tcpdump = ["tcpdump", "-n", "-tt", "-l", "--immediate-mode", "-i", "eth0", filter];
    let mut watching = scene.pair.directors[1].spawn(command(&tcpdump)?)?;
    watching.wait_for_output("listening on", Duration::from_secs(10))?;
    let flood = Source::flood(&scene.pair.client)?;
    let (end, stop) = (wait::clock() + seconds, AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&scene.first, &stop));
        let committed = commit(&scene.first, end);
        stop.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| anyhow::anyhow!("panicked"))?;
        Ok::<_, anyhow::Error>((committed?, asked?))
    });
    let (commits, asked) = result?;
    flood.stop()?;
    watching.signal(Signal::SIGINT)?;
    let report = watching.finish(Duration::from_secs(10))?.stdout;
    println!("{commits} commits, {asked} questions");
    ensure!(commits > 2 && asked > 10, "{commits} commits, {asked} questions");
    let stamps = report.lines().filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
    let stamps: Vec<f64> = stamps.collect();
    Ok(stamps.windows(2).map(|two| (two[1] - two[0]) * 1e3).collect())
}

/// Changes a weight to and fro until the end; how often.
fn commit(director: &Director, end: Instant) -> Result<usize> {
    let config = fs::read_to_string(director.host().directory().join("viaduct/viaduct.toml"))?;
    let files = ["weight = 1", "weight = 2"].map(|weight| {
        let file = director.host().directory().join(weight.replace(' ', ""));
        fs::write(&file, config.replace("weight = 1", weight)).map(|()| file)
    });
    let mut commits = 0;
    for file in files.iter().cycle() {
        if wait::clock() >= end {
            break;
        }
        let file = file.as_ref().ok().context("a file")?;
        director.viaduct(&["apply", &file.to_string_lossy()])?;
        commits += 1;
    }
    Ok(commits)
}

/// Asks the API until it shall stop; how often.
fn ask(director: &Director, stop: &AtomicBool) -> Result<usize> {
    let mut asked = 0;
    for what in ASKED.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut stream = UnixStream::connect(director.socket())?;
        let request =
            format!("GET /v1/{what} HTTP/1.1\r\nHost: viaduct\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        asked += 1;
    }
    Ok(asked)
}
