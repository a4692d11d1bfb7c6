//! Frames that carry the time at which they left, sent at a fixed rate, and the sink that reads it.
//! Both are BPF programs: nothing is between them and the wire, and one clock serves both.

use crate::packets::wires::{Wires, pin};
use crate::programs::{Attached, Programs, send_frames};
use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, MapData};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Delays are counted in steps of 256 ns, as `bpf/traffic.c` does.
const STEP_BITS: i32 = 8;
/// Turns of the source's program in one system call.
const TURNS: u32 = 1 << 20;

/// `struct orders`: when the next frame is due, the interval, frames sent, and whether to spread them.
type Orders = [u64; 4];

/// A source that sends at the rate that it is told.
pub struct Source {
    orders: Mutex<Array<MapData, Orders>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Source {
    pub fn start(wires: &Wires) -> Result<Self> {
        let mut programs = Programs::load()?;
        // Loaded here, as it needs the map's descriptor.
        programs.get("paced")?;
        let orders = programs.0.take_map("orders").context("no orders")?.try_into()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = wires.generator.thread("source", move || {
            pin(0, 0)?;
            let paced = programs.get("paced")?;
            let index = nix::net::if_::if_nametoindex("g0")?;
            while !stopped.load(Ordering::Relaxed) {
                // One frame at a time, so that none waits for the next.
                send_frames(paced, index, TURNS, 1)?;
            }
            Ok(())
        })?;
        let source = Self { orders: Mutex::new(orders), stop, thread };
        source.pause()?;
        Ok(source)
    }

    /// So many packets a second from now on.
    pub fn pace(&self, rate: f64, spread: bool) -> Result<()> {
        self.order([0, (1e9 / rate) as u64, 0, u64::from(spread)])
    }

    pub fn pause(&self) -> Result<()> {
        self.order([u64::MAX, 0, 0, 0])
    }

    fn order(&self, orders: Orders) -> Result<()> {
        Ok(self.orders.lock().unwrap_or_else(PoisonError::into_inner).set(0, orders, 0)?)
    }

    /// Packets sent since the last order.
    pub fn sent(&self) -> Result<u64> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let [_, _, sent, _] = orders.get(&0, 0)?;
        Ok(sent)
    }

    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the source panicked"))?
    }
}

/// How long packets took, so far.
pub struct Delays(Mutex<Programs>);

/// How often each delay occurred, by steps.
pub type Histogram = Vec<u64>;

impl Delays {
    pub fn new() -> Result<Self> {
        Ok(Self(Mutex::new(Programs::load()?)))
    }

    /// Puts the sink's program on s0. To be called in its namespace.
    pub fn attach(&self) -> Result<Attached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).attach("sink", "s0")
    }

    pub fn read(&self) -> Result<Histogram> {
        let programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let delays: Array<_, u64> = programs.0.map("delays").context("no delays")?.try_into()?;
        Ok(delays.iter().collect::<Result<_, _>>()?)
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
