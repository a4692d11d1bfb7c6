//! Three hosts in a row, and which thread runs where.

use super::Way;
use super::forwarder::Forwarder;
use crate::programs::{Attached, Programs};
use anyhow::{Context, Result};
use harness::{Host, Lab};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;
use std::process::Command;

/// generator g0 - d0 director d1 - s0 sink
pub struct Wires {
    pub generator: Host,
    pub director: Host,
    sink: Host,
    _drop: Attached,
    _lab: Lab,
}

impl Wires {
    pub fn new(way: Way) -> Result<Self> {
        Self::with_sink(way, drop_everything)
    }

    /// `attach` puts on interface s0 what takes the frames in.
    pub fn with_sink(way: Way, attach: impl FnOnce() -> Result<Attached> + Send) -> Result<Self> {
        let lab = Lab::new("packets")?;
        let (generator, director, sink) =
            (lab.host("generator")?, lab.host("director")?, lab.host("sink")?);
        join(&director, "d0", "02:00:00:00:01:02", &generator, "g0", "02:00:00:00:01:01")?;
        join(&director, "d1", "02:00:00:00:02:02", &sink, "s0", "02:00:00:00:02:01")?;
        director.add_address("d0", "10.1.0.254/24")?;
        director.add_address("d1", "10.2.0.254/24")?;
        ip(&director, "neigh add 10.1.0.1 lladdr 02:00:00:00:01:01 dev d0")?;
        ip(&director, "neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev d1")?;
        match way {
            Way::KernelRoute => {
                director.forward()?;
                director.route("192.0.2.0/24", "10.2.0.1")?;
            }
            Way::KernelDnat => {
                director.forward()?;
                director.run_ok(&["nft", "table ip nat { chain pre { type nat hook prerouting priority -100; ip daddr 192.0.2.10 dnat to 10.2.0.1; }; }"])?;
            }
            Way::Bare(_) | Way::Viaduct(_) => {}
        }
        // Makes the receiving end poll, as network cards do; XDP does that by itself.
        director.run_ok(&["ethtool", "-K", "d0", "gro", "on"])?;
        let drop = sink.enter(attach)??;
        Ok(Self { generator, director, sink, _drop: drop, _lab: lab })
    }

    /// Puts every thread where it belongs. Returns those whose time is the director's.
    pub fn arrange(&self, forwarder: &Forwarder) -> Result<Vec<i32>> {
        for (host, interface) in [(&self.director, "d0"), (&self.sink, "s0")] {
            let path = format!("/sys/class/net/{interface}/threaded");
            host.enter(|| fs::write(&path, "1"))?.context(path)?;
        }
        for thread in threads_named("napi/s0") {
            pin(thread, 0)?;
            run(&["chrt", "-f", "-p", "20", &thread.to_string()]);
        }
        let polling = threads_named("napi/d0");
        for thread in &polling {
            pin(*thread, 1)?;
            run(&["renice", "-n", "-20", "-p", &thread.to_string()]);
        }
        for thread in &forwarder.working {
            pin(*thread, 1)?;
        }
        Ok([polling, forwarder.threads()].concat())
    }

    /// Frames that reached the sink so far.
    pub fn arrived(&self) -> Result<u64> {
        let path = "/sys/class/net/s0/statistics/rx_packets";
        Ok(self.sink.enter(|| fs::read_to_string(path))??.trim().parse()?)
    }
}

fn drop_everything() -> Result<Attached> {
    Programs::load()?.attach("drop", "s0")
}

fn ip(host: &Host, arguments: &str) -> Result<String> {
    let words: Vec<&str> = std::iter::once("ip").chain(arguments.split(' ')).collect();
    host.run_ok(&words)
}

fn join(a: &Host, end: &str, mac: &str, b: &Host, far: &str, far_mac: &str) -> Result<()> {
    let netns = b.namespace();
    ip(
        a,
        &format!(
            "link add {end} address {mac} type veth peer name {far} address {far_mac} netns {netns}"
        ),
    )?;
    for (host, end) in [(a, end), (b, far)] {
        // Nothing but the measured packets.
        host.sysctl(&format!("net.ipv6.conf.{end}.disable_ipv6"), "1")?;
        ip(host, &format!("link set dev {end} up"))?;
    }
    Ok(())
}

pub fn pin(thread: i32, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    // A thread that has ended needs no place.
    let _ = sched_setaffinity(Pid::from_raw(thread), &set);
    Ok(())
}

pub fn run(words: &[&str]) {
    let _ = Command::new(words[0]).args(&words[1..]).output();
}

fn threads_named(start: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = |id: &i32| {
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with(start))
    };
    ids.filter(named).collect()
}

/// How long these threads have been running.
pub fn cpu_seconds(threads: &[i32]) -> f64 {
    let time = |id: &i32| {
        let text = fs::read_to_string(format!("/proc/{id}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.iter().filter_map(time).sum::<f64>() / 1e9
}
