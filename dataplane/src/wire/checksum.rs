//! The Internet checksum (RFC 1071), its incremental update (RFC 1624) and SCTP's CRC32c.
//!
//! Sums are kept unfolded in a `u64` of ones' complement arithmetic: adding is plain addition, and
//! folding once at the end is enough. Two words added as one 32-bit number fold to the same, since
//! 65536 counts as 1 there.

use super::{be16, put16};

/// An unfolded ones' complement sum of 16-bit words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds one 16-bit word.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds a 32-bit number as two words.
    #[inline]
    #[must_use]
    pub const fn long(self, long: u32) -> Self {
        Self(self.0 + long as u64)
    }

    /// Adds a 128-bit number as eight words.
    #[inline]
    #[must_use]
    pub const fn wide(self, wide: u128) -> Self {
        self.long((wide >> 96) as u32)
            .long((wide >> 64) as u32)
            .long((wide >> 32) as u32)
            .long(wide as u32)
    }

    /// Adds bytes; an odd last byte counts as the upper half of a word.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let mut chunks = bytes.chunks_exact(4);
        for chunk in &mut chunks {
            if let &[a, b, c, d] = chunk {
                sum += u64::from(u32::from_be_bytes([a, b, c, d]));
            }
        }
        let rest = chunks.remainder();
        let mut index = 0;
        while index < rest.len() {
            let low = if index + 1 < rest.len() { rest[index + 1] } else { 0 };
            sum += u64::from(u16::from_be_bytes([rest[index], low]));
            index += 2;
        }
        Self(sum)
    }

    /// Adds another sum.
    #[inline]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Folded to 16 bits, not complemented.
    #[inline]
    pub const fn fold(self) -> u16 {
        let (sum, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let sum = sum + carry as u32;
        // Both halves added to each other: the upper one gets the carry of the lower one.
        (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
    }

    /// The checksum: folded and complemented.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// What a rewrite changes in a checksum: the sum of new words and complemented old words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delta(Sum);

impl Delta {
    /// A 16-bit field changed.
    #[inline]
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0.word(!old).word(new))
    }

    /// A 32-bit field changed.
    #[inline]
    #[must_use]
    pub const fn long(self, old: u32, new: u32) -> Self {
        Self(self.0.long(!old).long(new))
    }

    /// A 128-bit field changed.
    #[inline]
    #[must_use]
    pub const fn wide(self, old: u128, new: u128) -> Self {
        Self(self.0.wide(!old).wide(new))
    }

    /// Everything that `other` changed too.
    #[inline]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.plus(other.0))
    }

    /// The same in 16 bits, for what goes into several checksums.
    #[inline(always)]
    #[must_use]
    pub const fn folded(self) -> Self {
        Self(Sum(self.0.fold() as u64))
    }

    /// The new value of a finished checksum (RFC 1624, equation 3).
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !self.0.word(!checksum).fold()
    }

    /// The new value of a field that holds the uncomplemented pseudo-header sum, as senders leave
    /// it for checksum offload.
    #[inline]
    pub const fn apply_partial(self, sum: u16) -> u16 {
        self.0.word(sum).fold()
    }
}

/// Updates the finished checksum at `at`.
#[inline(always)]
pub fn update(bytes: &mut [u8], at: usize, delta: Delta) {
    let old = be16(bytes, at);
    put16(bytes, at, delta.apply(old));
}

/// The pseudo-header's sum (RFC 9293 section 3.1, RFC 8200 section 8.1). IPv4 addresses are given
/// as IPv4-mapped IPv6 ones and counted as four bytes.
pub fn pseudo_header(v4: bool, source: u128, destination: u128, protocol: u8, length: u32) -> Sum {
    let sum = Sum::default().word(u16::from(protocol)).long(length);
    if v4 {
        sum.long(source as u32).long(destination as u32)
    } else {
        sum.wide(source).wide(destination)
    }
}

/// What a change of four bytes does to a CRC32c that covers `behind` more bytes after them: the
/// difference to apply by exclusive or. A CRC is linear, so nothing else of what it covers counts.
pub fn crc32c_difference(old: [u8; 4], new: [u8; 4], behind: usize) -> u32 {
    const ZEROES: [u8; 256] = [0; 256];
    let mut difference = crc32c::crc32c(&old) ^ crc32c::crc32c(&new);
    let mut left = behind;
    while left > 0 {
        let step = left.min(ZEROES.len());
        // The crate complements before and after, which a difference is not.
        difference = !crc32c::crc32c_append(!difference, &ZEROES[..step]);
        left -= step;
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook loop.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).fold(), 0xddf2);
    }

    #[test]
    fn crc32c_check_value() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn sum_equals_the_textbook_loop(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).checksum(), slow(&bytes));
        }

        #[test]
        fn a_crc32c_is_updated_as_if_computed_anew(
            mut bytes in proptest::collection::vec(any::<u8>(), 4..1500), at: u16, new: [u8; 4],
        ) {
            let at = usize::from(at) % (bytes.len() - 3);
            let before = crc32c::crc32c(&bytes);
            let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            bytes[at..at + 4].copy_from_slice(&new);
            let difference = crc32c_difference(old, new, bytes.len() - at - 4);
            prop_assert_eq!(before ^ difference, crc32c::crc32c(&bytes));
        }

        #[test]
        fn incremental_update_equals_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 64..200),
            at in 1usize..14, new16: u16, new32: u32, new128: u128,
        ) {
            bytes[0] = 0x45; // An all-zero packet has two representations of zero; real ones have none.
            let before = slow(&bytes);
            let (a, b, c) = (at * 2, at * 2 + 2, at * 2 + 6);
            let delta = Delta::default()
                .word(be16(&bytes, a), new16)
                .long(super::super::be32(&bytes, b), new32)
                .wide(super::super::be128(&bytes, c), new128);
            put16(&mut bytes, a, new16);
            super::super::put32(&mut bytes, b, new32);
            super::super::put(&mut bytes, c, &new128.to_be_bytes());
            prop_assert_eq!(delta.apply(before), slow(&bytes));
        }
    }
}
