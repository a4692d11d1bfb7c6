//! A writer is killed (SIGKILL) at random moments, more than two hundred times. Each time the store
//! opens without complaint and holds exactly the last acknowledged change or the one in flight.
//!
//! The program is both: called with `--writer DIRECTORY` it commits, appends and settles as fast as
//! it can and prints the number of every acknowledged change.

#![allow(clippy::expect_used)] // A program that stops at the first surprise.

use control::model::{Document, Method, Protocol, Real, Service, VirtualAddress};
use control::store::{Draft, Patch, Store};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How often the writer is killed.
const KILLS: u64 = 220;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("--writer") => {
            write(Path::new(&words[2]), words[3].parse().expect("a seed"));
            return ExitCode::SUCCESS;
        }
        // What test runners ask before they run anything.
        Some("--list") => {
            println!("killed_at_any_moment: test");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match kill_many() {
        Ok(summary) => {
            println!("{summary}\ntest result: ok. 1 passed; 0 failed");
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{what}\ntest result: FAILED. 0 passed; 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// A document that says which change it is.
fn numbered(number: u64) -> Arc<Document> {
    let address = VirtualAddress::Socket {
        protocol: Protocol::Tcp,
        address: SocketAddr::from(([192, 0, 2, 1], 80)),
    };
    let mut service = Service::new(address, Method::Nat);
    service.reals = (1..=20)
        .map(|last| {
            let weight = u32::try_from(number).expect("a small number");
            Real { weight, ..Real::new(SocketAddr::from(([10, 0, 0, last], 80))) }
        })
        .collect();
    Arc::new(Document { services: vec![Arc::new(service)], ..Document::default() })
}

/// Which change a document is; `Err` when it is a mixture of two.
fn number_of(document: Option<&Arc<Document>>) -> Result<u64, String> {
    let Some(document) = document else { return Ok(0) };
    let reals = document.services.iter().flat_map(|service| &service.reals);
    let numbers: Vec<u32> = reals.map(|real| real.weight).collect();
    let first = *numbers.first().ok_or("a document without real servers")?;
    if **document == *numbered(u64::from(first)) {
        Ok(u64::from(first))
    } else {
        Err(format!("a document that nobody wrote: {numbers:?}"))
    }
}

/// xorshift64: what happens next, from a seed, so that a failure can be had again.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn write(directory: &Path, seed: u64) {
    let (mut store, found) = Store::open(directory, 0).expect("opens");
    let mut number = number_of(found.document.as_ref()).expect("whole");
    let mut random = seed | 1;
    let mut out = std::io::stdout().lock();
    loop {
        let draft =
            Draft { author: "writer".into(), comment: number.to_string(), confirm_within: None };
        number += 1;
        match next(&mut random) % 8 {
            0 => {
                store.commit(&numbered(number), &draft, number).expect("commits");
            }
            1 => {
                let trial = Draft { confirm_within: Some(60), ..draft };
                store.commit(&numbered(number), &trial, number).expect("commits");
                store.confirm().expect("confirms");
            }
            2 => {
                // A settled journal is the same document.
                number -= 1;
                store.settle(number).expect("settles");
                store.export().expect("exports");
                continue;
            }
            _ => {
                let patch = Patch::between(&numbered(number - 1), &numbered(number));
                store.append(&[patch], "writer", "edit").expect("appends");
            }
        }
        writeln!(out, "{number}").and_then(|()| out.flush()).expect("the killer listens");
    }
}

fn kill_many() -> Result<String, String> {
    let place = std::env::temp_dir().join(format!("viaduct-killed-{}", std::process::id()));
    let result = kill_in(&place);
    let _ = std::fs::remove_dir_all(&place);
    result
}

fn kill_in(place: &Path) -> Result<String, String> {
    let mut random = 0x5eed_1234_9876_abcd;
    let (mut acknowledged, mut in_flight_won, mut before_first) = (0, 0, 0);
    for round in 1..=KILLS {
        let seed = next(&mut random);
        let (last, any) = one_life(place, seed, next(&mut random) % 60_000, acknowledged)?;
        let (_store, found) = Store::open(place, 0).map_err(|error| {
            format!("round {round}, seed {seed:#x}: the store does not open: {error}")
        })?;
        let held = number_of(found.document.as_ref())?;
        if !found.warnings.is_empty() {
            return Err(format!("round {round}, seed {seed:#x}: {:?}", found.warnings));
        }
        if held != last && held != last + 1 {
            return Err(format!(
                "round {round}, seed {seed:#x}: acknowledged {last}, but the store holds {held}"
            ));
        }
        in_flight_won += u64::from(held == last + 1);
        before_first += u64::from(!any);
        acknowledged = held;
    }
    if before_first > KILLS / 2 {
        return Err(format!("{before_first} of {KILLS} lives were too short to prove anything"));
    }
    Ok(format!(
        "{KILLS} kills, {acknowledged} changes acknowledged, none lost; {in_flight_won} times the \
         one in flight was stored, too; {before_first} times none was acknowledged in that life"
    ))
}

/// Starts a writer and kills it after `micros` of writing, or while it still opens the store. The
/// last change that it acknowledged, and whether it acknowledged any.
fn one_life(place: &Path, seed: u64, micros: u64, before: u64) -> Result<(u64, bool), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut writer = Command::new(program)
        .arg("--writer")
        .arg(place)
        .arg(seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let pipe = writer.stdout.take().ok_or("no pipe")?;
    let mut lines = BufReader::new(pipe).lines();
    let mut last = before;
    // One life in eight ends at a random moment of opening, the others after the first change.
    let waits = !seed.is_multiple_of(8);
    let mut any = false;
    if waits && let Some(Ok(line)) = lines.next() {
        last = line.parse().map_err(|_| line)?;
        any = true;
    }
    pause(micros);
    writer.kill().map_err(|error| error.to_string())?;
    for line in lines {
        let line = line.map_err(|error| error.to_string())?;
        last = line.parse().map_err(|_| line)?;
        any = true;
    }
    let _ = writer.wait();
    Ok((last, any))
}

/// The moment of the kill is random on purpose; nothing depends on it being exact.
#[allow(clippy::disallowed_methods)]
fn pause(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}
