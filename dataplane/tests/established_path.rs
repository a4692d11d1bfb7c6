//! What a packet of a known connection costs: few instructions, and nothing that waits.
//!
//! Callgrind runs this program again with some batches and with more of them. What the second run
//! executes beyond the first is the established path, instruction by instruction.

#![allow(unsafe_code)] // The allocator that counts.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../benches/packet_path/network.rs"]
mod network;
#[path = "../benches/packet_path/traffic.rs"]
mod traffic;

use dataplane::frame::{BATCH, Batch, Frame, HEADROOM};
use dataplane::packet_path::connections::HashKeys;
use dataplane::packet_path::{Capacity, Director, PacketPath, Verdict, Verdicts, View};
use dataplane::table::{GueChecksum, Method, Tunnel};
use dataplane::tick::Tick;
use network::{INSIDE, OUTSIDE, hops, table};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use traffic::{From, Traffic};

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: u32 = 1_000;
const STRIDE: usize = 2048;

struct Subject {
    director: Arc<Director>,
    path: PacketPath,
    v6: bool,
    buffers: Vec<u8>,
}

impl Subject {
    fn new(method: Method, v6: bool) -> Self {
        let (sender, _) = sync_channel(1);
        let capacity = Capacity { connections: 70_000, services: 16, reals: 16, workers: 1 };
        let director = Arc::new(Director::new(capacity, HashKeys([5, 6, 7, 8]), sender));
        director.publish_hops(hops());
        director.publish(table(method, v6), Tick(1));
        let path = PacketPath::new(Arc::clone(&director), 0, 1);
        let mut subject = Self { director, path, v6, buffers: vec![0; BATCH * STRIDE] };
        for flags in [0x02, 0x10, 0x10] {
            subject.all(From::Client, flags);
        }
        subject
    }

    /// One packet of every connection.
    fn all(&mut self, from: From, flags: u8) {
        let traffic = Traffic::new(self.v6, from, 64, flags);
        let port = if traffic.is_from_client() { OUTSIDE } else { INSIDE };
        let (table, hops) = (self.director.table(), self.director.hops());
        let view = View { director: &self.director, table: &table, hops: &hops, now: Tick(300) };
        for first in (0..CONNECTIONS).step_by(BATCH) {
            let mut batch = Batch::new();
            for (buffer, number) in self.buffers.chunks_exact_mut(STRIDE).zip(first..CONNECTIONS) {
                traffic.write(number, &mut buffer[HEADROOM..]);
                batch.push(Frame::new(buffer, HEADROOM, HEADROOM + 64, port));
            }
            let mut verdicts = Verdicts::new();
            self.path.process(view, &mut batch, &mut verdicts);
            assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Send(_))));
        }
    }
}

#[test]
fn packets_of_known_connections_allocate_nothing() {
    let tunnels = [Tunnel::Ipip, Tunnel::Gre { checksum: true }, GUE].map(Method::Tunnel);
    let methods = [Method::Nat, Method::DirectRouting, Method::FullNat];
    for method in methods.into_iter().chain(tunnels) {
        for v6 in [false, true] {
            let mut subject = Subject::new(method, v6);
            if method == Method::Nat {
                subject.all(From::Real, 0x10);
            }
            let before = ASKED.get();
            for _ in 0..10 {
                subject.all(From::Client, 0x10);
                if method == Method::Nat {
                    subject.all(From::Real, 0x10);
                }
            }
            assert_eq!(ASKED.get(), before, "{method:?}, IPv6 {v6}");
        }
    }
    let before = ASKED.get();
    drop(Box::new(1));
    assert!(ASKED.get() > before, "the allocator counts");
}

/// Not a test: what callgrind looks at.
#[test]
#[ignore = "run by the tests below"]
fn subject() {
    let rounds: u32 = std::env::var("ROUNDS").unwrap().parse().unwrap();
    let case = CASES.iter().find(|case| case.name == std::env::var("CASE").unwrap()).unwrap();
    let mut subject = Subject::new(case.method, case.v6);
    if case.method == Method::Nat {
        subject.all(From::Real, 0x12);
    }
    for _ in 0..rounds {
        subject.all(if case.reply { From::Real } else { From::Client }, 0x10);
    }
}

/// What callgrind is shown.
struct Case {
    name: &'static str,
    method: Method,
    v6: bool,
    reply: bool,
    /// Instructions for a packet.
    most: f64,
}

const fn case(name: &'static str, method: Method, v6: bool, reply: bool, most: f64) -> Case {
    Case { name, method, v6, reply, most }
}

/// TCP where it is IPv4, UDP where it is IPv6.
const CASES: [Case; 11] = [
    case("nat", Method::Nat, false, false, 300.0),
    case("nat-reply", Method::Nat, false, true, 330.0),
    case("nat-v6", Method::Nat, true, false, 380.0),
    case("nat-v6-reply", Method::Nat, true, true, 420.0),
    case("dr", Method::DirectRouting, false, false, 260.0),
    case("dr-v6", Method::DirectRouting, true, false, 330.0),
    case("full-nat", Method::FullNat, false, false, 360.0),
    case("ipip", Method::Tunnel(Tunnel::Ipip), false, false, 530.0),
    case("ipip-v6", Method::Tunnel(Tunnel::Ipip), true, false, 610.0),
    case("gre", Method::Tunnel(Tunnel::Gre { checksum: false }), false, false, 570.0),
    case("gue", Method::Tunnel(GUE), false, false, 610.0),
];
const GUE: Tunnel = Tunnel::Gue { port: 6080, checksum: GueChecksum::None };

const FEW: u32 = 5;
const MANY: u32 = 15;

/// How often each instruction of the program ran inside [`PacketPath::process`], by address in the
/// program's file.
fn executed(case: &Case, rounds: u32) -> BTreeMap<u64, u64> {
    let file = std::env::temp_dir().join(format!(
        "callgrind.{}.{rounds}.{}",
        case.name,
        std::process::id()
    ));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes", "--compress-pos=no"])
        .args(["--compress-strings=no", "--toggle-collect=*PacketPath*process*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["subject", "--exact", "--ignored", "--nocapture"])
        .env("ROUNDS", rounds.to_string())
        .env("CASE", case.name)
        .output()
        .expect("valgrind is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut counts = BTreeMap::new();
    let mut of_callee = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [address, _, count] if address.starts_with("0x") => {
                let address = u64::from_str_radix(&address[2..], 16).unwrap();
                if !std::mem::take(&mut of_callee) {
                    *counts.entry(address).or_insert(0) += count.parse::<u64>().unwrap();
                }
            }
            [first, ..] if first.starts_with("calls=") => of_callee = true,
            _ => {}
        }
    }
    counts
}

/// What the established path executes: each instruction's text, and how many of it per packet.
fn established(case: &Case) -> (f64, Vec<String>) {
    let (few, many) = (executed(case, FEW), executed(case, MANY));
    let more = |address: &u64, count: u64| count - few.get(address).copied().unwrap_or(0);
    let total: u64 = many.iter().map(|(address, count)| more(address, *count)).sum();
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(std::env::current_exe().unwrap())
        .output()
        .expect("objdump is there");
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.lines().filter_map(|line| {
        let (address, text) = line.trim().split_once(":\t")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let count = *many.get(&address)?;
        (more(&address, count) > 0).then(|| text.to_owned())
    });
    let packets = u64::from(CONNECTIONS * (MANY - FEW));
    (total as f64 / packets as f64, ran.collect())
}

/// Without optimisation the count means little; that it is bounded is still worth knowing.
fn at_most(optimised: f64) -> f64 {
    if cfg!(debug_assertions) { 40.0 * optimised } else { optimised }
}

fn assert_cheap(case: &Case) {
    let (count, ran) = established(case);
    println!("{}: {count:.0} instructions a packet", case.name);
    assert!(ran.len() > 100, "{} instructions seen", ran.len());
    assert!(count <= at_most(case.most), "{}: {count:.0} instructions a packet", case.name);
    // Locks and reference counts are locked instructions; `xchg` with memory is one without saying so.
    let waits = |text: &str| {
        let name = text.split_whitespace().next().unwrap_or_default();
        let exchange = name.starts_with("xchg") && text.contains('(');
        let divides =
            !cfg!(debug_assertions) && (name.starts_with("div") || name.starts_with("idiv"));
        exchange || divides || ["lock", "syscall", "sysenter", "rdtsc", "int"].contains(&name)
    };
    let found: Vec<&String> = ran.iter().filter(|text| waits(text)).collect();
    assert!(found.is_empty(), "{}: {found:?}", case.name);
}

#[test]
fn packets_of_known_connections_cost_few_instructions_and_take_no_lock() {
    CASES.iter().for_each(assert_cheap);
}
