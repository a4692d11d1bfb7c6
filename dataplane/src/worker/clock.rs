//! The only clock of the dataplane, and its only source of randomness.

use crate::tick::{PER_SECOND, Tick};
use nix::time::{ClockId, clock_gettime};
use std::io;

/// The current tick, from the kernel's coarse monotonic clock: it costs no system call, and jumps
/// of the wall clock do not touch it.
pub fn now() -> Tick {
    // The clock cannot fail on Linux; a zero would only make everything look young.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    let (seconds, nanos) = time.map_or((0, 0), |t| (t.tv_sec() as u64, t.tv_nsec() as u64));
    let ticks = seconds * u64::from(PER_SECOND) + nanos * u64::from(PER_SECOND) / 1_000_000_000;
    Tick(ticks as u32)
}

/// Five random numbers from the kernel.
///
/// # Errors
/// When it has none to give.
pub(super) fn random() -> io::Result<[u64; 5]> {
    let mut bytes = [0; 40];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    let mut numbers = [0; 5];
    for (number, chunk) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = chunk.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    }
    Ok(numbers)
}
