//! Headers as bytes: where the fields are, and checksums.
//!
//! Offsets are from the start of each header. The parser checks every length once
//! ([`crate::packet_path`]); these accessors then index what is known to be there, and answer zero
//! for what is not, so no input can make them panic.

pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ip;
pub mod transport;

/// The big-endian 16-bit number at `at`, or 0 past the end.
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => u16::from_be_bytes([a, b]),
        Some(_) | None => 0,
    }
}

/// The big-endian 32-bit number at `at`, or 0 past the end.
#[inline]
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        Some(_) | None => 0,
    }
}

/// The big-endian 64-bit number at `at`, or 0 past the end.
#[inline]
pub fn be64(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok()) {
        Some(b) => u64::from_be_bytes(b),
        None => 0,
    }
}

/// The big-endian 128-bit number at `at`, or 0 past the end.
#[inline]
pub fn be128(bytes: &[u8], at: usize) -> u128 {
    match bytes.get(at..at + 16).and_then(|b| <[u8; 16]>::try_from(b).ok()) {
        Some(b) => u128::from_be_bytes(b),
        None => 0,
    }
}

/// Writes a big-endian 16-bit number at `at`; past the end it writes nothing.
#[inline]
pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_be_bytes());
}

/// Writes a big-endian 32-bit number at `at`; past the end it writes nothing.
#[inline]
pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_be_bytes());
}

/// Copies `value` to `at`; where it would not fit it writes nothing.
#[inline]
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(target) = bytes.get_mut(at..at + value.len()) {
        target.copy_from_slice(value);
    }
}

/// The byte at `at`, or 0 past the end.
#[inline]
pub fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}
