//! A packet source in the kernel: a BPF program makes each frame anew, and test runs send them.

use super::wires::{Wires, pin};
use crate::programs::{Programs, send_frames};
use anyhow::{Result, anyhow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Frames of one system call.
const PORTION: u32 = 1 << 18;

/// A flood from processor 0.
pub struct Generator {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Generator {
    pub fn start(wires: &Wires) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = wires.generator.thread("generator", move || {
            pin(0, 0)?;
            let index = nix::net::if_::if_nametoindex("g0")?;
            let mut programs = Programs::load()?;
            let flood = programs.get("flood")?;
            while !stopped.load(Ordering::Relaxed) {
                // The kernel's own number of frames before those that go out leave.
                send_frames(flood, index, PORTION, 0)?;
            }
            Ok(())
        })?;
        Ok(Self { stop, thread })
    }

    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the generator panicked"))?
    }
}

/// From 10.1.0.1 to 192.0.2.10, UDP port 53, 18 bytes of payload, no checksum.
pub fn frame() -> Vec<u8> {
    let mut bytes = vec![0; 60];
    bytes[..6].copy_from_slice(&[2, 0, 0, 0, 1, 2]);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
    bytes[12..34].copy_from_slice(&[
        8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 192, 0, 2, 10,
    ]);
    let checksum = header_checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&checksum);
    bytes[34..42].copy_from_slice(&[0x27, 0x10, 0, 53, 0, 26, 0, 0]);
    bytes
}

/// The checksum of an IPv4 header whose own is zero.
pub fn header_checksum(header: &[u8]) -> [u8; 2] {
    let sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}
