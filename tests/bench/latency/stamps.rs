//! Frames that carry the time at which they left, sent at a fixed rate, and the sink that reads it.
//! Both are BPF programs: nothing is between them and the wire, and one clock serves both.

use crate::packets::generator::{frame, header_checksum, write_headers};
use crate::packets::wires::{Wires, pin};
use anyhow::{Result, anyhow};
use dataplane::io::bpf::{
    AssembleError, Assembler, AttachPoint, Condition, Label, Link, Map, MapKind, Operation,
    Program, ProgramKind, Register, Width,
};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use Register::{R0, R1, R2, R3, R6, R7, R8, R10};

// Helper functions, include/uapi/linux/bpf.h.
const MAP_LOOKUP: i32 = 1;
const TIME: i32 = 5;
const RANDOM: i32 = 7;

const DROP: i32 = 1;
/// Out of the interface that the frame is said to come from.
const SEND_BACK: i32 = 3;

/// Where the stamp is: behind Ethernet, IPv4 and UDP.
const STAMP: i16 = 42;
/// Delays are counted in steps of 256 ns.
const STEP_BITS: i32 = 8;
const STEPS: u32 = 1 << 17;
/// Nanoseconds that the source may be late and still catch up. Beyond, another program had the
/// processor, and what was not sent then is not sent at all.
const MOST_BEHIND: i32 = 200_000;
/// Turns of the source's program in one system call.
const TURNS: u32 = 1 << 20;

/// What the source does, shared with its program.
#[derive(Clone, Copy, Debug)]
struct Orders {
    next: u64,
    interval: u64,
    sent: u64,
    /// Two million flows without a stamp, instead of 256 with one.
    spread: u64,
}

impl Orders {
    const BYTES: usize = 32;

    fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.next, self.interval, self.sent, self.spread];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// A source that sends at the rate that it is told.
pub struct Source {
    orders: Arc<Map>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Source {
    pub fn start(wires: &Wires) -> Result<Self> {
        let orders = Arc::new(Map::new(MapKind::Array, "orders", 4, Orders::BYTES, 1)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&orders));
        let thread = wires.generator.thread("source", move || {
            pin(0, 0)?;
            let program = Program::load(ProgramKind::Xdp, "bench_source", &{ source(&shared)? })?;
            let (index, frame) = (nix::net::if_::if_nametoindex("g0")?, frame());
            while !stopped.load(Ordering::Relaxed) {
                // One frame at a time, so that none waits for the next.
                program.send_frames_by(1, &frame, index, TURNS)?;
            }
            Ok(())
        })?;
        let source = Self { orders, stop, thread };
        source.pause()?;
        Ok(source)
    }

    /// So many packets a second from now on.
    pub fn pace(&self, rate: f64, spread: bool) -> Result<()> {
        let interval = (1e9 / rate) as u64;
        self.order(Orders { next: 0, interval, sent: 0, spread: u64::from(spread) })
    }

    pub fn pause(&self) -> Result<()> {
        self.order(Orders { next: u64::MAX, interval: 0, sent: 0, spread: 0 })
    }

    fn order(&self, orders: Orders) -> Result<()> {
        Ok(self.orders.insert(&0u32.to_ne_bytes(), &orders.bytes())?)
    }

    /// Packets sent since the last order.
    pub fn sent(&self) -> Result<u64> {
        let mut bytes = [0; Orders::BYTES];
        self.orders.read(&0u32.to_ne_bytes(), &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes[16..24].try_into()?))
    }

    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the source panicked"))?
    }
}

/// How long packets took, so far.
pub struct Delays(Map);

/// How often each delay occurred, by steps.
pub type Histogram = Vec<u64>;

impl Delays {
    pub fn new() -> Result<Self> {
        Ok(Self(Map::new(MapKind::Array, "delays", 4, 8, STEPS)?))
    }

    /// Puts the sink's program on s0. To be called in its namespace.
    pub fn attach(&self) -> Result<Link> {
        let program = Program::load(ProgramKind::Xdp, "bench_sink", &sink(&self.0)?)?;
        let index = nix::net::if_::if_nametoindex("s0")?;
        Ok(Link::new(&program, index, AttachPoint::XdpNative)?)
    }

    pub fn read(&self) -> Result<Histogram> {
        let mut histogram = Vec::with_capacity(STEPS as usize);
        for step in 0..STEPS {
            let mut value = [0; 8];
            self.0.read(&step.to_ne_bytes(), &mut value)?;
            histogram.push(u64::from_ne_bytes(value));
        }
        Ok(histogram)
    }
}

/// Microseconds within which this share of the packets arrived.
pub fn within(histogram: &[u64], share: f64) -> f64 {
    let all: u64 = histogram.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    let step = histogram.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    let step = step.unwrap_or(histogram.len());
    (step as f64 + 0.5) * f64::from(1 << STEP_BITS) / 1e3
}

/// Looks up entry number R0 or 0, whose number is on the stack already; leaves when there is none.
fn look_up(asm: &mut Assembler, map: &Map, missing: Label) {
    asm.map(R1, map.as_fd().as_raw_fd());
    asm.copy(R2, R10);
    asm.with(Operation::Add, R2, -4);
    asm.call(MAP_LOOKUP);
    asm.jump_if(R0, Condition::Equal, 0, missing);
}

/// Runs over and over: sends a frame when one is due.
fn source(orders: &Map) -> Result<Vec<dataplane::io::bpf::Instruction>, AssembleError> {
    let mut asm = Assembler::new();
    let (drop, in_time, spread, send) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.copy(R6, R1);
    asm.call(TIME);
    asm.copy(R7, R0);
    asm.store_value(Width::Word, R10, -4, 0);
    look_up(&mut asm, orders, drop);
    asm.load(Width::Double, R1, R0, 0);
    asm.jump_if_register(R1, Condition::Greater, R7, drop);
    asm.copy(R2, R1);
    asm.with(Operation::Add, R2, MOST_BEHIND);
    asm.jump_if_register(R2, Condition::GreaterOrEqual, R7, in_time);
    asm.copy(R1, R7);
    asm.place(in_time);
    asm.load(Width::Double, R2, R0, 8);
    asm.with_register(Operation::Add, R1, R2);
    asm.store(Width::Double, R0, 0, R1);
    asm.load(Width::Double, R1, R0, 16);
    asm.with(Operation::Add, R1, 1);
    asm.store(Width::Double, R0, 16, R1);
    asm.load(Width::Double, R8, R0, 24);
    asm.call(RANDOM);
    write_headers(&mut asm, drop);
    asm.jump_if(R8, Condition::NotEqual, 0, spread);
    asm.store(Width::Double, R1, STAMP, R7);
    asm.store(Width::Byte, R1, 35, R0);
    asm.jump(send);
    asm.place(spread);
    asm.store_value(Width::Word, R1, STAMP, 0);
    asm.store_value(Width::Word, R1, STAMP + 4, 0);
    // The source address ends in 16 random bits; the identification is their complement, so that the
    // header's checksum stays that of an address which ends in zeroes.
    asm.store_value(Width::Half, R1, 24, i32::from(checksum_of_network()));
    asm.store(Width::Half, R1, 28, R0);
    asm.set(R2, 0xffff);
    asm.copy(R3, R0);
    asm.with(Operation::And, R3, 0xffff);
    asm.with_register(Operation::Subtract, R2, R3);
    asm.store(Width::Half, R1, 18, R2);
    asm.with(Operation::ShiftRight, R0, 16);
    asm.with(Operation::And, R0, 0x1f);
    asm.store(Width::Byte, R1, 35, R0);
    asm.place(send);
    asm.set(R0, SEND_BACK);
    asm.exit();
    asm.place(drop);
    asm.set(R0, DROP);
    asm.exit();
    asm.finish()
}

/// The header's checksum, as the machine stores it, for source 10.1.0.0.
fn checksum_of_network() -> i16 {
    let mut header = frame()[14..34].to_vec();
    header[10..12].fill(0);
    header[14..16].fill(0);
    i16::from_ne_bytes(header_checksum(&header))
}

/// Counts how long a frame with a stamp took, and drops it.
fn sink(delays: &Map) -> Result<Vec<dataplane::io::bpf::Instruction>, AssembleError> {
    let mut asm = Assembler::new();
    let (drop, measured) = (asm.label(), asm.label());
    asm.copy(R6, R1);
    asm.call(TIME);
    asm.copy(R7, R0);
    asm.load(Width::Word, R1, R6, 0);
    asm.load(Width::Word, R2, R6, 4);
    asm.address(R3, R1, STAMP + 8);
    asm.jump_if_register(R3, Condition::Greater, R2, drop);
    asm.load(Width::Double, R8, R1, STAMP);
    asm.jump_if(R8, Condition::Equal, 0, drop);
    asm.with_register(Operation::Subtract, R7, R8);
    asm.with(Operation::ShiftRight, R7, STEP_BITS);
    asm.jump_if(R7, Condition::Less, STEPS as i32, measured);
    asm.set(R7, STEPS as i32 - 1);
    asm.place(measured);
    asm.store(Width::Word, R10, -4, R7);
    look_up(&mut asm, delays, drop);
    asm.load(Width::Double, R1, R0, 0);
    asm.with(Operation::Add, R1, 1);
    asm.store(Width::Double, R0, 0, R1);
    asm.place(drop);
    asm.set(R0, DROP);
    asm.exit();
    asm.finish()
}
