//! The only clock of the dataplane, and its only source of randomness.

use crate::tick::{PER_SECOND, Tick, Ticks};
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::OnceLock;

#[cfg(not(test))]
const fn start() -> Tick {
    Tick::START
}
#[cfg(test)]
use crate::tick::tests::start;

/// The current tick: [`Tick::START`] at the first call. It comes from the kernel's coarse monotonic
/// clock, which costs no system call and ignores jumps of the wall clock.
pub fn now() -> Tick {
    static FIRST: OnceLock<u64> = OnceLock::new();
    let up = uptime();
    start().after(Ticks(up.wrapping_sub(*FIRST.get_or_init(|| up)) as u32))
}

/// Ticks since the machine started.
fn uptime() -> u64 {
    // The clock cannot fail on Linux; a zero would only make everything look young.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    let (seconds, nanos) = time.map_or((0, 0), |t| (t.tv_sec() as u64, t.tv_nsec() as u64));
    seconds * u64::from(PER_SECOND) + nanos * u64::from(PER_SECOND) / 1_000_000_000
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
