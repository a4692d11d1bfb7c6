//! Sequence numbers of a connection whose payload was made longer or shorter on the way.
//!
//! What one side sends after the change is shifted, and what the other side acknowledges is shifted
//! back (the rule of IPVS's and netfilter's helpers).

use crate::wire::checksum::{Delta, update};
use crate::wire::transport::tcp;
use crate::wire::{be32, byte, put32};

/// By how much one direction is shifted. After the latest change, `delta`; before it, `previous`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shift {
    /// Sequence number, as its sender counts, of the latest change.
    pub start: u32,
    /// Bytes by which what came before it is shifted.
    pub previous: i32,
    /// Bytes by which what comes after it is shifted.
    pub delta: i32,
}

/// Both directions of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shifts {
    /// What the client sends.
    pub inbound: Shift,
    /// What the real server sends.
    pub outbound: Shift,
}

impl Shifts {
    /// Whether nothing is shifted.
    pub const fn is_none(&self) -> bool {
        self.inbound.is_none() && self.outbound.is_none()
    }
}

/// Whether `a` comes after `b` in sequence space (RFC 9293 section 3.4).
const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

impl Shift {
    /// The payload of the segment at `sequence` grew by `by` bytes. A retransmission of a segment
    /// that was changed before changes nothing.
    pub fn grow(&mut self, sequence: u32, by: i32) {
        if by != 0 && (self.delta == self.previous || after(sequence, self.start)) {
            self.previous = self.delta;
            self.delta = self.delta.wrapping_add(by);
            self.start = sequence;
        }
    }

    /// What the receiver sees of a sequence number.
    pub fn forward(&self, sequence: u32) -> u32 {
        let delta = if after(sequence, self.start) { self.delta } else { self.previous };
        sequence.wrapping_add_signed(delta)
    }

    /// What the sender must see of an acknowledgement.
    pub fn back(&self, acknowledged: u32) -> u32 {
        let moved = self.start.wrapping_add_signed(self.delta);
        let delta = if after(acknowledged, moved) { self.delta } else { self.previous };
        acknowledged.wrapping_add_signed(delta.wrapping_neg())
    }

    /// Whether nothing is shifted.
    pub const fn is_none(&self) -> bool {
        self.delta == 0 && self.previous == 0
    }
}

/// Shifts a TCP segment: `own` is the shift of its sender's direction, `other` of the opposite one.
/// `segment` starts at the TCP header; a partial checksum does not cover these fields and stays.
pub fn apply(segment: &mut [u8], own: &Shift, other: &Shift, partial: bool) {
    let mut delta = Delta::default();
    let sequence = be32(segment, tcp::SEQUENCE);
    if !own.is_none() {
        delta = replace(segment, tcp::SEQUENCE, own.forward(sequence), delta);
    }
    if !other.is_none() && byte(segment, tcp::FLAGS) & tcp::ACK != 0 {
        let acknowledged = be32(segment, tcp::ACKNOWLEDGEMENT);
        delta = replace(segment, tcp::ACKNOWLEDGEMENT, other.back(acknowledged), delta);
        delta = selective(segment, other, delta);
    }
    if !partial {
        update(segment, tcp::CHECKSUM, delta);
    }
}

fn replace(segment: &mut [u8], at: usize, new: u32, delta: Delta) -> Delta {
    let old = be32(segment, at);
    put32(segment, at, new);
    // An odd position swaps the halves of every word that the checksum sees.
    if at.is_multiple_of(2) {
        delta.long(old, new)
    } else {
        delta.long(old.rotate_left(8), new.rotate_left(8))
    }
}

/// Shifts the edges of selective acknowledgements (RFC 2018).
fn selective(segment: &mut [u8], other: &Shift, mut delta: Delta) -> Delta {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SACK: u8 = 5;
    let end = (usize::from(byte(segment, tcp::DATA_OFFSET) >> 4) * 4).min(segment.len());
    let mut at = tcp::LENGTH;
    while at + 1 < end {
        let (kind, length) = (byte(segment, at), usize::from(byte(segment, at + 1)));
        match kind {
            END => break,
            NOTHING => {
                at += 1;
                continue;
            }
            _ if length < 2 || at + length > end => break,
            SACK => {
                for edge in (at + 2..at + length).step_by(4).filter(|e| e + 4 <= at + length) {
                    let old = be32(segment, edge);
                    delta = replace(segment, edge, other.back(old), delta);
                }
            }
            _ => {}
        }
        at += length;
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_follows_the_change_is_shifted() {
        let mut shift = Shift::default();
        shift.grow(1000, 5);
        assert_eq!((shift.forward(1000), shift.forward(1001)), (1000, 1006));
        assert_eq!((shift.back(1000), shift.back(1006)), (1000, 1001));
        shift.grow(1000, 5);
        assert_eq!(shift.forward(1001), 1006, "a retransmission is the same change");
        shift.grow(2000, -2);
        assert_eq!((shift.forward(1500), shift.forward(2001)), (1505, 2004));
    }

    proptest! {
        #[test]
        fn acknowledgements_come_back_as_they_were_sent(
            start: u32, by in -100i32..100, ahead in 1u32..1_000_000,
        ) {
            let mut shift = Shift::default();
            shift.grow(start, by);
            let sent = start.wrapping_add(ahead).wrapping_add(200);
            prop_assert_eq!(shift.back(shift.forward(sent)), sent);
        }

        #[test]
        fn shifted_segments_keep_right_checksums(
            sequence: u32, acknowledged: u32, own in 1i32..99, other in -99i32..99,
            edges in proptest::array::uniform4(any::<u32>()), pad in 0usize..3,
        ) {
            use etherparse::TcpOptionElement::*;
            let ip = etherparse::Ipv4Header::new(60, 64, etherparse::IpNumber::TCP, [1; 4], [2; 4]).unwrap();
            let mut header = etherparse::TcpHeader::new(1, 2, sequence, 99);
            header.ack = true;
            header.acknowledgment_number = acknowledged;
            let mut options = vec![Noop; pad];
            options.push(SelectiveAcknowledgement((edges[0], edges[1]), [Some((edges[2], edges[3])), None, None]));
            header.set_options(&options).unwrap();
            header.checksum = header.calc_checksum_ipv4(&ip, b"abc").unwrap();
            let mut bytes = header.to_bytes().to_vec();
            bytes.extend_from_slice(b"abc");
            let (mut mine, mut theirs) = (Shift::default(), Shift::default());
            mine.grow(sequence.wrapping_sub(1), own);
            theirs.grow(acknowledged.wrapping_sub(500), other);
            apply(&mut bytes, &mine, &theirs, false);
            let (read, rest) = etherparse::TcpHeader::from_slice(&bytes).unwrap();
            prop_assert_eq!(read.checksum, read.calc_checksum_ipv4(&ip, rest).unwrap());
            prop_assert_eq!(read.sequence_number, mine.forward(sequence));
            prop_assert_eq!(read.acknowledgment_number, theirs.back(acknowledged));
        }
    }
}
