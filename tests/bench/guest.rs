//! Kernel IPVS and Viaduct in the same emulated machine with Debian's kernel: instructions of the
//! guest, kernel and programs together, for each forwarded packet and each TCP connection.
//!
//! The guest's clock counts instructions, so the time in which it was not idle is their number.
//! Emulation knows no caches and no pipeline: this compares work, not speed.

mod talk;

use crate::report::{Measure, Report};
use crate::{BINARY, Plan};
use anyhow::{Context, Result, ensure};
use harness::guest::{Guest, IPVS, Options, VIADUCT, Wire};
use std::fs;
use std::process::Command;
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
    Viaduct(&'static str),
}

const WAYS: [(&str, Way); 4] = [
    ("kernel IPVS", Way::Ipvs),
    ("kernel routing", Way::Route),
    ("viaduct, XDP sockets", Way::Viaduct("xdp")),
    ("viaduct, packet ring", Way::Viaduct("ring")),
];

pub fn measure(plan: &Plan) -> Result<Report> {
    let mut report =
        Report::new("Instructions of an emulated guest, NAT (less is better)", MEASURES, WAYS[0].0);
    let mut machines = Vec::new();
    for (name, way) in WAYS {
        let mut machine = Machine::boot(way)?;
        // The first round is for caches of routes, neighbours and slabs.
        machine.run::<UdpPackets>(PACKETS / 4)?;
        machines.push((name, way, machine));
    }
    // In turn, because how many frames the emulator hands over at once depends on what else this
    // machine does.
    for _ in 0..plan.rounds.max(FEWEST_ROUNDS) {
        for (name, way, machine) in &mut machines {
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
    fn boot(way: Way) -> Result<Self> {
        let (outside, inside) = (Wire::new()?, Wire::new()?);
        let options = Options {
            name: "traffic".into(),
            nics: vec![outside.nic(), inside.nic()],
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
            Way::Viaduct(backend) => start_viaduct(&mut guest, backend)?,
        }
        Ok(Self { guest, talk })
    }

    /// Instructions for each of so many things. What the guest does by itself in as much time is
    /// not counted.
    fn run<W: talk::Work>(&mut self, count: usize) -> Result<f64> {
        let before = self.busy()?;
        let started = Instant::now();
        self.talk.run::<W>(count)?;
        let took = started.elapsed();
        let working = self.busy()? - before;
        let before = self.busy()?;
        std::thread::sleep(took.min(Duration::from_secs(2)));
        let idle = self.busy()? - before;
        let share = took.as_secs_f64() / took.min(Duration::from_secs(2)).as_secs_f64();
        Ok((working - idle * share) / count as f64)
    }

    /// Nanoseconds, that is instructions, that the guest has not been idle for.
    fn busy(&mut self) -> Result<f64> {
        let timers = String::from_utf8(self.guest.get_file("/proc/timer_list")?)?;
        let number = |name: &str| -> Result<f64> {
            let line = timers.lines().find_map(|line| line.trim().strip_prefix(name));
            let words = line.with_context(|| format!("{name} in timer_list"))?;
            let number = words.split_whitespace().find_map(|word| word.parse().ok());
            number.with_context(|| format!("{name} {words}"))
        };
        Ok(number("now at")? - number(".idle_sleeptime")?)
    }
}

fn start_viaduct(guest: &mut Guest, backend: &str) -> Result<()> {
    let stripped = std::env::temp_dir().join(format!("viaduct-stripped-{}", std::process::id()));
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(BINARY).status()?;
    ensure!(status.success(), "strip (package binutils) ended with {status}");
    let program = fs::read(&stripped)?;
    fs::remove_file(&stripped)?;
    guest.put_file("/bin/viaduct", &program)?;
    for library in ["libgcc_s.so.1", "libm.so.6"] {
        let path = format!("/lib/x86_64-linux-gnu/{library}");
        if guest.run(&format!("test -e {path}"))?.code != 0 {
            guest.put_file(&path, &fs::read(&path)?)?;
        }
    }
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
    guest.put_file("/run/viaduct.toml", config.as_bytes())?;
    guest.sh("chmod 755 /bin/viaduct; mkdir -p /dev/net /var/lib; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200")?;
    guest.sh(
        "viaduct run --config /run/viaduct.toml --console off >/run/viaduct.log 2>&1 </dev/null &",
    )?;
    let mut shown = String::new();
    for _ in 0..120 {
        let output = guest.run("viaduct show interfaces")?;
        shown = output.stdout + &output.stderr;
        let wanted = if backend == "xdp" { "XDP sockets" } else { "packet ring" };
        if shown.lines().filter(|line| line.starts_with("eth") && line.contains(wanted)).count()
            == 2
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let log = String::from_utf8_lossy(&guest.get_file("/run/viaduct.log")?).into_owned();
    anyhow::bail!("viaduct did not start in the guest:\n{shown}\n{log}")
}
