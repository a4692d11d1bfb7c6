//! The packet path in memory, one core: packets a second, nanoseconds and instructions per packet.
//!
//! `cargo bench -p dataplane --bench packet_path [-- FILTER]` prints one line per case. Without a
//! filter the table is also written to `tests/bench/results/packet_path.tsv`.
//!
//! Every packet is written to a receive buffer first, as a driver would, and belongs to a random
//! known connection, so that large tables miss the caches as they do in life. Time is the thread's
//! own CPU time: other programs on the machine take nothing from it but cache and memory bandwidth.
//! Instructions are counted by callgrind in a second run with 1,000 connections.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)] // A measuring program.

mod bare;
mod count;
mod director;
mod network;
mod report;
mod traffic;
mod workers;

use director::Bench;
use report::{Report, Row};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// The yardstick.
    Bare,
    /// Client packets of known connections.
    Known(Forwarding),
    /// Real servers' packets of known connections, under NAT.
    Replies,
    /// Requests for new connections, under NAT.
    New,
    /// Packets both ways, beside connections that open and close.
    Mixed,
}

/// How packets are forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarding {
    Nat,
    Dr,
    Tun,
    FullNat,
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    pub work: Work,
    pub v6: bool,
    pub connections: usize,
    pub size: usize,
}

impl Case {
    fn name(&self) -> String {
        let work = match self.work {
            Work::Bare => "bare loop",
            Work::Known(Forwarding::Nat) => "nat",
            Work::Known(Forwarding::Dr) => "dr",
            Work::Known(Forwarding::Tun) => "tun",
            Work::Known(Forwarding::FullNat) => "fullnat",
            Work::Replies => "nat replies",
            Work::New => "new connections",
            Work::Mixed => "mixed",
        };
        let family = if self.v6 { "ipv6" } else { "ipv4" };
        format!("{work} {family} {} connections {} B", self.connections, self.size)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let scales = [1_000, 100_000, 1_000_000, 10_000_000];
    for connections in scales {
        cases.push(Case { work: Work::Bare, v6: false, connections, size: 64 });
    }
    let known = [Forwarding::Nat, Forwarding::Dr, Forwarding::Tun, Forwarding::FullNat];
    for forwarding in known {
        for v6 in [false, true] {
            for connections in scales {
                // Full NAT has as many source ports as its address.
                if forwarding == Forwarding::FullNat && connections != 1_000 {
                    continue;
                }
                for size in [64, 1500] {
                    cases.push(Case { work: Work::Known(forwarding), v6, connections, size });
                }
                if forwarding == Forwarding::Nat {
                    cases.push(Case { work: Work::Replies, v6, connections, size: 64 });
                }
            }
        }
    }
    for v6 in [false, true] {
        cases.push(Case { work: Work::New, v6, connections: 1_000_000, size: 64 });
    }
    // Short connections end by RST, so TCP it is.
    cases.push(Case { work: Work::Mixed, v6: false, connections: 100_000, size: 64 });
    cases
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [_, name, batches] = arguments.as_slice()
        && arguments[0] == count::FLAG
    {
        let case = cases().into_iter().find(|case| case.name() == *name).unwrap();
        count::run(case, batches.parse().unwrap());
        return;
    }
    let filter = arguments.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let mut report = Report::new();
    let mut bench: Option<Bench> = None;
    for case in cases().into_iter().filter(|case| case.name().contains(&filter)) {
        let rate = match case.work {
            Work::Bare => director::bare_rate(case),
            Work::New => (0..3).map(|_| Bench::new(case).new_rate()).fold(0.0, f64::max),
            Work::Known(_) | Work::Replies | Work::Mixed => {
                let mut ready =
                    bench.take().filter(|bench| bench.serves(case)).unwrap_or_else(|| {
                        let mut bench = Bench::new(case);
                        bench.open();
                        bench
                    });
                let rate = ready.rate(case);
                bench = Some(ready);
                rate
            }
        };
        report.add(Row { name: case.name(), rate, instructions: count::per_packet(case) });
    }
    drop(bench);
    if "workers memory".contains(&filter) {
        report.note(workers::ratio());
        report.note(director::memory());
    }
    if filter.is_empty() {
        report.write();
    }
}
