//! Instructions per packet, counted by callgrind: this program again, under valgrind, twice with
//! different numbers of batches. The difference is free of whatever comes before the measured part.

use super::director::{self, Bench};
use super::{Case, Work};
use dataplane::frame::BATCH;
use std::process::Command;

/// The argument that makes this program its own subject.
pub const FLAG: &str = "--count";
const FEW: u32 = 50;
const MANY: u32 = 150;

/// The subject: judges batches and ends.
pub fn run(case: Case, batches: u32) {
    let few = Case { connections: case.connections.min(1_000), ..case };
    if case.work == Work::Bare {
        let (mut bare, mut feed) = director::bare(few);
        (0..batches).for_each(|_| {
            feed(&mut bare);
        });
        return;
    }
    let mut bench = Bench::new(few);
    if case.work != Work::New {
        bench.open();
    }
    bench.batches(few, 0..few.connections as u32, batches);
}

/// `None` where there is no valgrind, which is said once.
pub fn per_packet(case: Case) -> Option<f64> {
    let (few, many) = (collected(case, FEW)?, collected(case, MANY)?);
    // A mixed batch has four packets fewer and three times two of short connections.
    let batch = if case.work == Work::Mixed { 66 } else { BATCH };
    Some((many - few) as f64 / (f64::from(MANY - FEW) * batch as f64))
}

fn collected(case: Case, batches: u32) -> Option<u64> {
    let what = if case.work == Work::Bare { "*Bare*pass*" } else { "*PacketPath*process*" };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={what}"))
        .arg(std::env::current_exe().unwrap())
        .args([FLAG, &case.name(), &batches.to_string()])
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| eprintln!("instructions are not counted: valgrind: {error}"));
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}
