//! Traffic through Viaduct beside its peers, on this machine, in network namespaces and in an
//! emulated guest.
//!
//! `cargo bench -p viaduct --bench traffic`, as root, takes a few minutes. Words choose sections:
//!
//! ```text
//! cargo bench -p viaduct --bench traffic -- [packets] [tcp] [latency] [start] [guest]
//!                                           [zero-copy] [pair] [--rounds N] [--seconds N] [--record]
//! ```
//!
//! Peers are measured in turn, round by round, and medians are printed with the lowest and highest
//! round. Numbers are to be compared within one run only. `--record` writes them to
//! `tests/bench/results` and draws the chart beside them again.

#![allow(clippy::disallowed_methods, reason = "a measuring program reads clocks and waits")]
#![allow(missing_docs)]

mod bare;
mod chart;
mod guest;
mod latency;
mod packets;
mod pair;
mod programs;
mod report;
mod start;
mod tcp;

use anyhow::{Context, Result, bail};
use report::Report;
use std::path::Path;

/// The program that is measured.
const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");

/// What one run measures.
#[derive(Clone, Debug)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: u64,
}

/// Measures one section.
type Section = fn(&Plan) -> Result<Report>;

const SECTIONS: &[(&str, Section)] = &[
    ("packets", packets::measure),
    ("tcp", tcp::measure),
    ("latency", latency::measure),
    ("start", start::measure),
    ("guest", guest::measure),
    ("zero-copy", guest::measure_zero_copy),
    ("pair", pair::measure),
];

fn main() -> Result<()> {
    let mut plan = Plan { rounds: 3, seconds: 2 };
    let (mut chosen, mut record) = (Vec::new(), false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).context("a number");
        match word.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--rounds" => plan.rounds = number()?,
            "--seconds" => plan.seconds = number()? as u64,
            "--record" => record = true,
            name if SECTIONS.iter().any(|(known, _)| *known == name) => chosen.push(word),
            other => bail!(
                "{other:?} is none of {:?}",
                SECTIONS.iter().map(|(name, _)| name).collect::<Vec<_>>()
            ),
        }
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab is made of network namespaces, so this has to run as root");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bench/results");
    for (name, measure) in SECTIONS {
        if !chosen.is_empty() && !chosen.iter().any(|word| word == name) {
            continue;
        }
        let report = measure(&plan).with_context(|| format!("measuring {name}"))?;
        print!("{report}");
        if record {
            report.write(&folder.join(format!("{name}.tsv")))?;
        }
    }
    if record {
        chart::draw(&folder)?;
    }
    Ok(())
}
