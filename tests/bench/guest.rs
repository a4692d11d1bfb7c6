//! Kernel IPVS and Viaduct in the same emulated machine with one of Debian's kernels: instructions of
//! the guest, kernel and programs together, for each forwarded packet and each TCP connection.
//!
//! The emulator counts them. Emulation knows no caches and no pipeline: this compares work, not speed.

mod talk;

use crate::report::{Measure, Report};
use crate::{BINARY, Plan};
use anyhow::{Context, Result};
use harness::guest::{Guest, IPVS, Line, Options, VIADUCT, Wire};
use std::path::Path;
use std::time::{Duration, Instant};
use talk::{Talk, TcpConnections, UdpPackets};

const MEASURES: &[Measure] = &[
    Measure { name: "a packet", unit: "instructions" },
    Measure { name: "a connection", unit: "instructions" },
];

/// Packets of one round; in bursts of [`talk::BURST`].
const PACKETS: usize = 8192;
/// Connections of one round: eight packets each.
const CONNECTIONS: usize = 1024;
/// Fewer scatter too much.
const FEWEST_ROUNDS: usize = 7;

#[derive(Clone, Copy)]
enum Way {
    Route,
    Ipvs,
    /// Viaduct with this backend, and what its interfaces then say of themselves.
    Viaduct(&'static str, &'static [&'static str]),
}

/// One machine of a comparison.
#[derive(Clone, Copy)]
struct Setup {
    name: &'static str,
    kernel: Line,
    /// As [`Options::dma`].
    dma: bool,
    way: Way,
}

impl Setup {
    const fn installed(name: &'static str, way: Way) -> Self {
        Self { name, kernel: Line::Installed, dma: false, way }
    }

    const fn newest(name: &'static str, way: Way) -> Self {
        Self { name, kernel: Line::Backports, dma: true, way }
    }
}

const COPIED: Way = Way::Viaduct("xdp", &["XDP sockets", "copied by the kernel"]);
const NOT_COPIED: Way = Way::Viaduct("xdp", &["XDP sockets", "without copying"]);
const RING: Way = Way::Viaduct("ring", &["packet ring"]);

const INSTALLED: [Setup; 4] = [
    Setup::installed("kernel IPVS", Way::Ipvs),
    Setup::installed("kernel routing", Way::Route),
    Setup::installed("viaduct, XDP sockets", COPIED),
    Setup::installed("viaduct, packet ring", RING),
];

/// Copies are only made where the driver has no other choice, without [`Options::dma`], so IPVS is
/// there in both kinds of machine.
const NEWEST: [Setup; 6] = [
    Setup::newest("kernel IPVS", Way::Ipvs),
    Setup::newest("kernel routing", Way::Route),
    Setup::newest("viaduct, XDP, without copies", NOT_COPIED),
    Setup::newest("viaduct, packet ring", RING),
    Setup { dma: false, ..Setup::newest("kernel IPVS, other cards", Way::Ipvs) },
    Setup { dma: false, ..Setup::newest("viaduct, XDP, copied, other cards", COPIED) },
];

/// In the kernel of the release that this machine runs.
pub fn measure(plan: &Plan) -> Result<Report> {
    compare(plan, "Instructions of an emulated guest, NAT (less is better)", &INSTALLED)
}

/// In a kernel whose driver has XDP sockets without copies. Ratios to another kernel say nothing.
pub fn measure_zero_copy(plan: &Plan) -> Result<Report> {
    let title =
        "Instructions of an emulated guest with Debian's newest kernel, NAT (less is better)";
    compare(plan, title, &NEWEST)
}

fn compare(plan: &Plan, title: &'static str, setups: &[Setup]) -> Result<Report> {
    let base = setups.first().context("nothing to compare")?.name;
    let mut report = Report::new(title, MEASURES, base);
    let mut machines = Vec::new();
    for setup in setups {
        let mut machine = Machine::boot(*setup).context(setup.name)?;
        // The first round is for caches of routes, neighbours and slabs.
        machine.run::<UdpPackets>(PACKETS / 4)?;
        machines.push((setup, machine));
    }
    // In turn, because how many frames the emulator hands over at once depends on what else this
    // machine does.
    for _ in 0..plan.rounds.max(FEWEST_ROUNDS) {
        for (Setup { name, way, .. }, machine) in &mut machines {
            report.add(name, "a packet", machine.run::<UdpPackets>(PACKETS)?);
            if !matches!(way, Way::Route) {
                report.add(name, "a connection", machine.run::<TcpConnections>(CONNECTIONS)?);
            }
        }
    }
    Ok(report)
}

struct Machine {
    guest: Guest,
    talk: Talk,
}

impl Machine {
    fn boot(Setup { kernel, dma, way, .. }: Setup) -> Result<Self> {
        let (outside, inside) = (Wire::new()?, Wire::new()?);
        let options = Options {
            name: "traffic".into(),
            nics: vec![outside.nic(), inside.nic()],
            kernel,
            dma,
            modules: [IPVS, VIADUCT].concat(),
            memory: 1024,
            counts_instructions: true,
            ..Options::default()
        };
        let mut guest = Guest::boot(&options)?;
        for command in [
            "ip link set eth0 up",
            "ip link set eth1 up",
            "ip addr add 10.1.0.254/24 dev eth0",
            "ip addr add 10.2.0.254/24 dev eth1",
            "ip neigh add 10.1.0.1 lladdr 02:00:00:00:01:01 dev eth0",
            "ip neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth1",
        ] {
            guest.sh(command)?;
        }
        let talk = Talk::new(outside, inside, [guest.mac(0), guest.mac(1)]);
        match way {
            Way::Route => {
                guest.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")?;
                guest.sh("ip route add 192.0.2.0/24 via 10.2.0.1")?;
            }
            Way::Ipvs => {
                guest.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")?;
                guest.sh("ip addr add 192.0.2.10/32 dev eth0")?;
                for (kind, port) in [('u', 53), ('t', 80)] {
                    guest.sh(&format!("ipvsadm -A -{kind} 192.0.2.10:{port} -s rr"))?;
                    let real = format!("-r 10.2.0.1:{port} -m");
                    guest.sh(&format!("ipvsadm -a -{kind} 192.0.2.10:{port} {real}"))?;
                }
            }
            Way::Viaduct(backend, shown) => {
                guest.install_viaduct(Path::new(BINARY))?;
                guest.start_viaduct(&config(backend), &["eth0", "eth1"], shown)?;
            }
        }
        Ok(Self { guest, talk })
    }

    /// Instructions for each of so many things. What the guest does by itself in as much time is
    /// not counted.
    fn run<W: talk::Work>(&mut self, count: usize) -> Result<f64> {
        let before = self.guest.instructions()?;
        let started = Instant::now();
        self.talk.run::<W>(count)?;
        let took = started.elapsed();
        let middle = self.guest.instructions()?;
        std::thread::sleep(took.min(Duration::from_secs(2)));
        let idle = (self.guest.instructions()? - middle) as f64;
        let share = took.as_secs_f64() / took.min(Duration::from_secs(2)).as_secs_f64();
        Ok(((middle - before) as f64 - idle * share) / count as f64)
    }
}

fn config(backend: &str) -> String {
    let mut config = String::new();
    for interface in ["eth0", "eth1"] {
        config += &format!("[[interface]]\nname = \"{interface}\"\nbackend = \"{backend}\"\n");
    }
    for (name, port, protocol) in [("dns", 53, "udp"), ("web", 80, "tcp")] {
        config += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.10:{port}\"\n\
             protocol = \"{protocol}\"\nscheduler = \"rr\"\nmethod = \"nat\"\n\
             [[service.real]]\naddress = \"10.2.0.1:{port}\"\n"
        );
    }
    config
}
