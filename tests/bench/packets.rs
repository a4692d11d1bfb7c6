//! Packets a second, and per second of the director's processor time: 64-byte UDP in 256 flows from
//! a generator through a director to a sink.
//!
//! The director has processor 1 for itself; generator and sink run on processor 0.

pub mod forwarder;
pub mod generator;
pub mod wires;

use crate::Plan;
use crate::report::{Measure, Report};
use anyhow::Result;
use dataplane::io::Backend::{Pnet, Ring, Xdp};
use forwarder::Forwarder;
use generator::Generator;
use std::time::{Duration, Instant};
use wires::Wires;

const WARM_UP: Duration = Duration::from_millis(700);

/// What the director does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    KernelRoute,
    KernelDnat,
    /// A program that swaps addresses and does nothing else.
    Bare(dataplane::io::Backend),
    /// `viaduct run`, with this backend in its configuration.
    Viaduct(&'static str),
}

const WAYS: [(&str, Way); 8] = [
    ("nftables DNAT", Way::KernelDnat),
    ("kernel routing", Way::KernelRoute),
    ("bare XDP socket forwarder", Way::Bare(Xdp)),
    ("viaduct, XDP sockets", Way::Viaduct("xdp")),
    ("bare packet ring forwarder", Way::Bare(Ring)),
    ("viaduct, packet ring", Way::Viaduct("ring")),
    ("bare pnet forwarder", Way::Bare(Pnet)),
    ("viaduct, pnet", Way::Viaduct("pnet")),
];

const MEASURES: &[Measure] = &[
    Measure { name: "per CPU-second", unit: "kpackets" },
    Measure { name: "forwarded", unit: "kpackets/s" },
    Measure { name: "director", unit: "CPUs" },
];

pub fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("64-byte UDP through NAT", MEASURES, WAYS[0].0);
    for _ in 0..plan.rounds {
        for (name, way) in WAYS {
            let (kpps, cpus) = one(way, Duration::from_secs(plan.seconds))?;
            report.add(name, "forwarded", kpps);
            report.add(name, "director", cpus);
            report.add(name, "per CPU-second", kpps / cpus);
        }
    }
    Ok(report)
}

/// Thousands of packets a second, and processors used.
fn one(way: Way, measured: Duration) -> Result<(f64, f64)> {
    let wires = Wires::new(way)?;
    let forwarder = Forwarder::start(way, &wires)?;
    let generator = Generator::start(&wires)?;
    let working = wires.arrange(&forwarder)?;
    std::thread::sleep(WARM_UP);
    let (started, packets) = (Instant::now(), wires.arrived()?);
    let before = wires::cpu_seconds(&working);
    std::thread::sleep(measured);
    let (took, packets) = (started.elapsed().as_secs_f64(), wires.arrived()? - packets);
    let cpu = wires::cpu_seconds(&working) - before;
    generator.stop()?;
    forwarder.stop()?;
    Ok((packets as f64 / took / 1e3, cpu / took))
}
