//! How a packet is changed on its way: one file per forwarding method.
//!
//! Whatever can refuse a packet (no next hop, too large, hop limit) is asked first, while the packet
//! is still what its sender sent; then it is rewritten; then it gets its Ethernet header.

pub mod direct_routing;
pub mod nat;
pub mod split;
pub mod tunnel;

use super::parse::Packet;
use super::verdict::{DropReason, Verdict};
use crate::frame::{Frame, Offload, Segmentation};
use crate::table::Hop;
use crate::wire::ip::{v4, v6};
use crate::wire::{be16, byte, checksum, ethernet, put, put16};

/// Why a packet must go back to its sender as an ICMP error instead of on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its hop limit is used up.
    TtlExceeded,
    /// Larger than what the path carries, and not to be fragmented.
    TooBig {
        /// What the path carries, in bytes of IP packet.
        mtu: u16,
    },
}

impl Refusal {
    /// Under which reason it is counted.
    pub const fn reason(self) -> DropReason {
        match self {
            Self::TtlExceeded => DropReason::TtlExceeded,
            Self::TooBig { .. } => DropReason::TooBig,
        }
    }
}

/// What fits has no need of fragments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// As it is.
    Whole,
    /// In fragments of at most this many bytes of IP packet.
    Fragments(u16),
}

/// Whether a packet may go on over a path that carries `mtu` bytes (RFC 1812 section 5.2.7).
///
/// # Errors
/// What its sender must be told.
pub fn check(frame: &Frame<'_>, packet: &Packet, mtu: u16) -> Result<Fit, Refusal> {
    let bytes = frame.bytes();
    if !may_hop(bytes, packet) {
        return Err(Refusal::TtlExceeded);
    }
    let fits = packet.ip_length() <= usize::from(mtu)
        || largest_on_wire(bytes, &frame.offload, packet) <= usize::from(mtu);
    if fits {
        return Ok(Fit::Whole);
    }
    let fragment = be16(bytes, packet.l3 + v4::FRAGMENT);
    let may_fragment = packet.is_v4() && fragment & v4::DF == 0;
    if may_fragment { Ok(Fit::Fragments(mtu)) } else { Err(Refusal::TooBig { mtu }) }
}

/// Whether the hop limit lets a packet go on.
#[inline(always)]
pub fn may_hop(bytes: &[u8], packet: &Packet) -> bool {
    byte(bytes, packet.l3 + if packet.is_v4() { v4::TTL } else { v6::HOP_LIMIT }) > 1
}

/// The size that matters to a path: of a super-frame, the segments that it will be cut into.
#[inline(always)]
pub fn largest_on_wire(bytes: &[u8], offload: &Offload, packet: &Packet) -> usize {
    let headers = match offload.segmentation {
        Segmentation::None => return packet.ip_length(),
        Segmentation::Udp => packet.l4 + 8,
        Segmentation::Tcp4 { .. } | Segmentation::Tcp6 { .. } => {
            let words = byte(bytes, packet.l4 + 12) >> 4;
            packet.l4 + usize::from(words) * 4
        }
    };
    (headers - packet.l3 + usize::from(offload.segment_size)).min(packet.ip_length())
}

/// Takes one off the hop limit. The caller has checked that more than one is left.
#[inline(always)]
pub fn decrement_hop_limit(bytes: &mut [u8], packet: &Packet) {
    let Some(header) = bytes.get_mut(packet.l3..) else { return };
    if packet.is_v4() {
        let Some(limit) = header.get_mut(v4::TTL) else { return };
        *limit = limit.wrapping_sub(1);
        checksum::update(header, v4::CHECKSUM, checksum::Delta::default().word(0x0100, 0));
    } else if let Some(limit) = header.get_mut(v6::HOP_LIMIT) {
        *limit = limit.saturating_sub(1);
    }
}

/// Writes the Ethernet header for a hop, putting a VLAN tag on or off as needed, and sends.
///
/// # Errors
/// When there is no room for a tag.
#[inline]
pub fn send(frame: &mut Frame<'_>, l3: usize, hop: &Hop) -> Result<Verdict, DropReason> {
    let kind = match byte(frame.bytes(), l3) >> 4 {
        6 => ethernet::IPV6,
        _ => ethernet::IPV4,
    };
    send_kind(frame, l3, hop, kind)
}

/// As [`send`], for any EtherType.
///
/// # Errors
/// When there is no room for a tag.
pub fn send_kind(
    frame: &mut Frame<'_>,
    l3: usize,
    hop: &Hop,
    kind: u16,
) -> Result<Verdict, DropReason> {
    let length = ethernet::LENGTH + if hop.vlan.is_some() { ethernet::TAG_LENGTH } else { 0 };
    if l3 != length {
        let moved =
            if l3 < length { frame.push_front(length - l3) } else { frame.pull_front(l3 - length) };
        moved.ok_or(DropReason::NoHeadroom)?;
        if frame.offload.partial_checksum || frame.offload.segmentation != Segmentation::None {
            let shift = |offset: u16| {
                (usize::from(offset) + length).checked_sub(l3).and_then(|o| u16::try_from(o).ok())
            };
            frame.offload.checksum_start = shift(frame.offload.checksum_start).unwrap_or(0);
            frame.offload.header_length = shift(frame.offload.header_length).unwrap_or(0);
        }
    }
    let bytes = frame.bytes_mut();
    write_macs(bytes, hop);
    if let Some(vlan) = hop.vlan {
        put16(bytes, ethernet::TYPE, ethernet::VLAN);
        put16(bytes, ethernet::LENGTH, vlan.0);
        put16(bytes, ethernet::LENGTH + 2, kind);
    } else {
        put16(bytes, ethernet::TYPE, kind);
    }
    Ok(Verdict::Send(hop.port))
}

/// Writes source and destination of the Ethernet header.
#[inline(always)]
pub fn write_macs(bytes: &mut [u8], hop: &Hop) {
    put(bytes, ethernet::DESTINATION, &hop.macs);
}
