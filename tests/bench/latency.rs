//! How long a packet takes through the director: 64-byte UDP in 256 flows, at a tenth, a half and
//! nine tenths of what the director can forward, while nothing else happens and while something does.
//!
//! The source keeps its rate whatever becomes of its packets. The kernel's ways are measured at the
//! same rates. Processors are shared out as in `packets`: all that is not packets keeps off the
//! director's, so that what is seen is what packets wait for, not who else the kernel let run.

mod stamps;

use crate::Plan;
use crate::packets::Way;
use crate::packets::forwarder::{Forwarder, config, viaduct_with};
use crate::packets::wires::{Wires, pin};
use crate::report::{Measure, Report};
use anyhow::{Context, Result, ensure};
use harness::Director;
use stamps::{Delays, Source, within};
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MEASURES: &[Measure] = &[
    Measure { name: "saturation", unit: "kpackets/s" },
    Measure { name: "10 %, p50", unit: "us" },
    Measure { name: "10 %, p99", unit: "us" },
    Measure { name: "10 %, p99.9", unit: "us" },
    Measure { name: "10 %, lost", unit: "%" },
    Measure { name: "50 %, p50", unit: "us" },
    Measure { name: "50 %, p99", unit: "us" },
    Measure { name: "50 %, p99.9", unit: "us" },
    Measure { name: "50 %, lost", unit: "%" },
    Measure { name: "90 %, p50", unit: "us" },
    Measure { name: "90 %, p99", unit: "us" },
    Measure { name: "90 %, p99.9", unit: "us" },
    Measure { name: "90 %, lost", unit: "%" },
];
/// Where each share's four measures begin.
const SHARES: [(f64, usize); 3] = [(0.1, 1), (0.5, 5), (0.9, 9)];

const WARM_UP: Duration = Duration::from_millis(300);
const SERVICES: usize = 1000;
const REALS: usize = 20;
/// Connections that the sweep ends, nearly all of different flows.
const FLOOD: f64 = 1_300_000.0;
const FEWEST_ENDED: f64 = 500_000.0;
const UDP_TIMEOUT: Duration = Duration::from_secs(4);

/// What happens meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Load {
    Nothing,
    /// A commit of 1,000 services with 20 servers each, one after the other.
    Commits,
    /// All services and connections asked for, one request after the other.
    Requests,
    /// About a million connections come to their end.
    Sweep,
}

const LOADS: [(&str, Load); 4] = [
    ("", Load::Nothing),
    (", commits", Load::Commits),
    (", requests", Load::Requests),
    (", sweep", Load::Sweep),
];

const BACKENDS: [(&str, &str); 2] = [("XDP sockets", "xdp"), ("packet ring", "ring")];
const PEERS: [(&str, Way); 2] =
    [("nftables DNAT", Way::KernelDnat), ("kernel routing", Way::KernelRoute)];

pub fn measure(plan: &Plan) -> Result<Report> {
    let base = "nftables DNAT, rates of XDP sockets";
    let mut report = Report::new("Delay through the director", MEASURES, base);
    for _ in 0..plan.rounds {
        let mut saturations = Vec::new();
        for (name, backend) in BACKENDS {
            let way = format!("viaduct, {name}");
            saturations.push((name, through_viaduct(plan, &mut report, &way, backend)?));
        }
        for (peer, way) in PEERS {
            let bench = Bench::new(way, |wires| Forwarder::start(way, wires))?;
            report.add(peer, "saturation", bench.saturation()? / 1e3);
            for (name, saturation) in &saturations {
                for (share, column) in SHARES {
                    let point = bench.point(saturation * share, plan)?;
                    point.note(&mut report, &format!("{peer}, rates of {name}"), column);
                }
            }
            bench.stop()?;
        }
    }
    Ok(report)
}

/// Packets a second that it forwards at most.
fn through_viaduct(plan: &Plan, report: &mut Report, way: &str, backend: &str) -> Result<f64> {
    let more = more_config(1);
    let bench = Bench::new(Way::Viaduct("latency"), |wires| viaduct_with(backend, wires, &more))?;
    let director = bench.forwarder.director().context("viaduct")?;
    let saturation = bench.saturation()?;
    report.add(way, "saturation", saturation / 1e3);
    for (share, column) in SHARES {
        for (words, load) in LOADS {
            let rate = saturation * share;
            let point = match load {
                Load::Nothing => bench.point(rate, plan)?,
                Load::Commits => {
                    let files = [2, 3].map(|weight| -> Result<_> {
                        let file = director.host().directory().join(format!("next-{weight}.toml"));
                        fs::write(&file, config(backend) + &more_config(weight))?;
                        Ok(file.to_string_lossy().into_owned())
                    });
                    let [one, other] = files;
                    let (one, other) = (one?, other?);
                    let orders: [&[&str]; 2] = [&["apply", &one], &["apply", &other]];
                    during(director, &orders, || bench.point(rate, plan))?
                }
                Load::Requests => {
                    let orders: [&[&str]; 2] =
                        [&["show", "services", "--json"], &["show", "connections", "--json"]];
                    during(director, &orders, || bench.point(rate, plan))?
                }
                Load::Sweep => {
                    let began = bench.flood(director, saturation * 0.6)?;
                    std::thread::sleep(UDP_TIMEOUT.saturating_sub(began.elapsed() + WARM_UP));
                    bench.point(rate, plan)?
                }
            };
            point.note(report, &format!("{way}{words}"), column);
        }
    }
    bench.stop()?;
    Ok(saturation)
}

/// Does a piece of work while commands are given, one after the other.
fn during<T>(
    director: &Director,
    orders: &[&[&str]],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ordering = scope.spawn(|| -> Result<()> {
            // So do the commands that it starts.
            pin(0, 0)?;
            for order in orders.iter().cycle() {
                director.viaduct(order)?;
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok(())
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        ordering.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        done
    })
}

/// Services beside the one that is measured; `weight` is that of one server of each.
fn more_config(weight: u32) -> String {
    let mut text = format!(
        "[node]\nconnections = 1200000\n[timeouts]\nudp = \"{}s\"\n",
        UDP_TIMEOUT.as_secs()
    );
    for number in 0..SERVICES {
        let port = 1000 + number;
        let _ = write!(
            text,
            "[[service]]\nname = \"s{number}\"\naddress = \"192.0.2.10:{port}\"\n\
             protocol = \"tcp\"\nscheduler = \"mh\"\nmethod = \"nat\"\n"
        );
        for real in 0..REALS {
            let (last, weight) = (11 + real, if real == 0 { weight } else { 1 });
            let _ = write!(
                text,
                "[[service.real]]\naddress = \"10.2.0.{last}:80\"\nweight = {weight}\n"
            );
        }
    }
    text
}

/// One way of forwarding, between a source and a sink.
struct Bench {
    delays: Delays,
    source: Source,
    forwarder: Forwarder,
    wires: Wires,
}

impl Bench {
    fn new(way: Way, start: impl FnOnce(&Wires) -> Result<Forwarder>) -> Result<Self> {
        let delays = Delays::new()?;
        let wires = Wires::with_sink(way, || delays.attach())?;
        let forwarder = start(&wires)?;
        let source = Source::start(&wires)?;
        wires.arrange(&forwarder)?;
        for thread in forwarder.threads() {
            if !forwarder.working.contains(&thread) {
                pin(thread, 0)?;
            }
        }
        Ok(Self { delays, source, forwarder, wires })
    }

    /// Packets a second that arrive when more are sent than can be forwarded.
    fn saturation(&self) -> Result<f64> {
        self.source.pace(1e9, false)?;
        std::thread::sleep(2 * WARM_UP);
        let (started, before) = (Instant::now(), self.wires.arrived()?);
        std::thread::sleep(Duration::from_secs(1));
        let rate = (self.wires.arrived()? - before) as f64 / started.elapsed().as_secs_f64();
        self.source.pause()?;
        ensure!(rate > 0.0, "nothing arrives");
        std::thread::sleep(WARM_UP);
        Ok(rate)
    }

    fn point(&self, rate: f64, plan: &Plan) -> Result<Point> {
        self.source.pace(rate, false)?;
        std::thread::sleep(WARM_UP);
        let before = self.delays.read()?;
        let sent = self.source.sent()?;
        std::thread::sleep(Duration::from_secs(plan.seconds));
        let sent = self.source.sent()? - sent;
        let after = self.delays.read()?;
        self.source.pause()?;
        std::thread::sleep(WARM_UP);
        let histogram: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        let arrived: u64 = histogram.iter().sum();
        ensure!(arrived > 100, "{arrived} of {sent} packets arrived");
        let delays = [0.5, 0.99, 0.999].map(|share| within(&histogram, share));
        Ok(Point { delays, lost: (1.0 - arrived as f64 / sent as f64).max(0.0) * 100.0 })
    }

    /// Opens about a million connections. When the first of them was opened.
    fn flood(&self, director: &Director, rate: f64) -> Result<Instant> {
        let opened = || -> Result<f64> {
            let columns = director.statistics()?.into_iter().filter_map(|service| service.columns);
            Ok(columns.map(|columns| columns.connections as f64).sum())
        };
        let before = opened()?;
        let began = Instant::now();
        self.source.pace(rate, true)?;
        std::thread::sleep(Duration::from_secs_f64(FLOOD / rate));
        self.source.pause()?;
        let opened = opened()? - before;
        ensure!(opened > FEWEST_ENDED, "only {opened} connections");
        Ok(began)
    }

    fn stop(self) -> Result<()> {
        self.source.stop()?;
        self.forwarder.stop()
    }
}

/// What one rate gave.
struct Point {
    /// Microseconds: half of the packets, 99 %, 99.9 %.
    delays: [f64; 3],
    /// In percent.
    lost: f64,
}

impl Point {
    fn note(&self, report: &mut Report, way: &str, column: usize) {
        for (at, value) in self.delays.into_iter().chain([self.lost]).enumerate() {
            report.add(way, MEASURES[column + at].name, value);
        }
    }
}
