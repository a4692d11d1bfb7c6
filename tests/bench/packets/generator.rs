//! A packet source in the kernel: a BPF program makes each frame anew, and test runs send them.

use super::wires::{Wires, pin};
use anyhow::{Result, anyhow};
use dataplane::io::bpf::{
    Assembler, Condition, Label, Operation, Program, ProgramKind, Register, Width,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Frames of one system call.
const PORTION: u32 = 1 << 18;
/// `bpf_get_prandom_u32`.
const RANDOM: i32 = 7;

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
            let (program, frame) = (program()?, frame());
            while !stopped.load(Ordering::Relaxed) {
                program.send_frames(&frame, index, PORTION)?;
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

/// Writes the headers of [`frame`] again, as recycled pages keep what the receiver changed, and leaves the
/// frame's address in R1; frames that are too short go to `drop`. Wants the context in R6.
pub fn write_headers(asm: &mut Assembler, drop: Label) {
    use Register::{R1, R2, R3, R6};
    asm.load(Width::Word, R1, R6, 0);
    asm.load(Width::Word, R2, R6, 4);
    asm.address(R3, R1, 60);
    asm.jump_if_register(R3, Condition::Greater, R2, drop);
    for (index, part) in frame()[..40].chunks(4).enumerate() {
        let word = i32::from_ne_bytes([part[0], part[1], part[2], part[3]]);
        asm.store_value(Width::Word, R1, index as i16 * 4, word);
    }
    asm.store_value(Width::Half, R1, 40, 0);
}

/// The checksum of an IPv4 header whose own is zero.
pub fn header_checksum(header: &[u8]) -> [u8; 2] {
    let sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// Writes the headers with one of 256 source ports.
fn program() -> Result<Program> {
    use Register::{R0, R1, R6};
    let mut asm = Assembler::new();
    let drop = asm.label();
    asm.copy(R6, R1);
    asm.call(RANDOM);
    write_headers(&mut asm, drop);
    asm.with(Operation::And, R0, 0xff);
    asm.store(Width::Byte, R1, 35, R0);
    // XDP_TX: out of the interface that the frame is said to come from.
    asm.set(R0, 3);
    asm.exit();
    asm.place(drop);
    asm.set(R0, 1);
    asm.exit();
    Ok(Program::load(ProgramKind::Xdp, "bench_source", &asm.finish()?)?)
}
