//! Cutting packets: super-frames into segments where no network card will do it, and packets into
//! fragments where the path carries less (RFC 791 section 3.2).
//!
//! Pieces are whole IP packets with finished checksums, written one after the other to a buffer
//! that the caller reuses.

use crate::frame::{Frame, Segmentation};
use crate::packet_path::parse::Packet;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ip::{self, v4, v6};
use crate::wire::transport::{tcp, udp};
use crate::wire::{be16, be32, byte, put, put16, put32};

/// Finishes a checksum that the sender left to its network card, in place.
pub fn finish_checksum(frame: &mut Frame<'_>, packet: &Packet) {
    if !frame.offload.partial_checksum {
        return;
    }
    frame.offload.partial_checksum = false;
    let bytes = frame.bytes_mut();
    if packet.protocol == ip::SCTP {
        super::nat::sctp_checksum(bytes, packet.l4, packet.end);
    } else {
        transport_checksum(bytes, packet.l4, packet.end, packet);
    }
}

fn transport_checksum(bytes: &mut [u8], l4: usize, end: usize, packet: &Packet) {
    let at = match packet.protocol {
        ip::TCP => l4 + tcp::CHECKSUM,
        ip::UDP => l4 + udp::CHECKSUM,
        _ => return,
    };
    put16(bytes, at, 0);
    let length = u32::try_from(end - l4).unwrap_or(0);
    let (from, to) = (packet.source.0, packet.destination.0);
    let sum = pseudo_header(packet.is_v4(), from, to, packet.protocol, length)
        .bytes(bytes.get(l4..end).unwrap_or_default())
        .checksum();
    let sum = if sum == 0 && packet.protocol == ip::UDP { 0xffff } else { sum };
    put16(bytes, at, sum);
}

/// Cuts a super-frame and gives each segment to `each`.
pub fn segments(
    frame: &Frame<'_>,
    packet: &Packet,
    piece: &mut Vec<u8>,
    mut each: impl FnMut(&mut Vec<u8>),
) {
    let bytes = frame.bytes();
    let l4 = packet.l4 - packet.l3;
    let is_tcp = frame.offload.segmentation != Segmentation::Udp;
    let header = if is_tcp {
        l4 + usize::from(byte(bytes, packet.l4 + tcp::DATA_OFFSET) >> 4) * 4
    } else {
        l4 + udp::LENGTH
    };
    let Some(whole) = bytes.get(packet.l3..packet.end) else { return };
    let (Some(head), Some(payload)) = (whole.get(..header), whole.get(header..)) else { return };
    let size = usize::from(frame.offload.segment_size).max(1);
    let count = payload.len().div_ceil(size).max(1);
    for (number, part) in payload.chunks(size).enumerate() {
        piece.clear();
        piece.extend_from_slice(head);
        piece.extend_from_slice(part);
        set_length(piece, packet.is_v4(), number);
        if is_tcp {
            segment_header(piece, l4, number, count, size);
        } else {
            let length = u16::try_from(piece.len() - l4).unwrap_or(0);
            put16(piece, l4 + udp::LENGTH_FIELD, length);
        }
        let end = piece.len();
        transport_checksum(piece, l4, end, packet);
        each(piece);
    }
}

fn segment_header(piece: &mut [u8], l4: usize, number: usize, count: usize, size: usize) {
    const CWR: u8 = 0x80;
    const PSH: u8 = 0x08;
    let sequence = be32(piece, l4 + tcp::SEQUENCE);
    let offset = u32::try_from(number * size).unwrap_or(0);
    put32(piece, l4 + tcp::SEQUENCE, sequence.wrapping_add(offset));
    let mut flags = byte(piece, l4 + tcp::FLAGS);
    if number > 0 {
        flags &= !CWR;
    }
    if number + 1 < count {
        flags &= !(tcp::FIN | PSH);
    }
    put(piece, l4 + tcp::FLAGS, &[flags]);
}

/// Sets the IP length to that of the piece, and gives every IPv4 piece an identification.
fn set_length(piece: &mut [u8], is_v4: bool, number: usize) {
    let length = piece.len();
    if is_v4 {
        let id = be16(piece, v4::ID).wrapping_add(u16::try_from(number).unwrap_or(0));
        put16(piece, v4::TOTAL_LENGTH, u16::try_from(length).unwrap_or(u16::MAX));
        put16(piece, v4::ID, id);
        header_checksum(piece);
    } else {
        let length = u16::try_from(length.saturating_sub(v6::LENGTH)).unwrap_or(u16::MAX);
        put16(piece, v6::PAYLOAD_LENGTH, length);
    }
}

/// Computes an IPv4 header's checksum anew.
pub fn header_checksum(piece: &mut [u8]) {
    let length = usize::from(byte(piece, 0) & 0x0f) * 4;
    put16(piece, v4::CHECKSUM, 0);
    let sum = Sum::default().bytes(piece.get(..length).unwrap_or_default()).checksum();
    put16(piece, v4::CHECKSUM, sum);
}

/// Cuts an IPv4 packet whose checksums are finished into fragments of at most `mtu` bytes. Options
/// are repeated in every fragment: those that a director meets are harmless twice.
pub fn fragments(whole: &[u8], mtu: u16, piece: &mut Vec<u8>, mut each: impl FnMut(&mut Vec<u8>)) {
    let header = usize::from(byte(whole, 0) & 0x0f) * 4;
    let (Some(head), Some(payload)) = (whole.get(..header), whole.get(header..)) else { return };
    let field = be16(whole, v4::FRAGMENT);
    let room = usize::from(mtu).saturating_sub(header) / 8 * 8;
    if room == 0 {
        return;
    }
    let mut offset = field & v4::OFFSET;
    let mut left = payload.len();
    for part in payload.chunks(room) {
        left -= part.len();
        piece.clear();
        piece.extend_from_slice(head);
        piece.extend_from_slice(part);
        let more = if left > 0 { v4::MF } else { field & v4::MF };
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        put16(piece, v4::TOTAL_LENGTH, length);
        put16(piece, v4::FRAGMENT, more | offset & v4::OFFSET);
        header_checksum(piece);
        each(piece);
        offset += u16::try_from(part.len() / 8).unwrap_or(0);
    }
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)] // Another crate's enums.
mod tests {
    use super::*;
    use crate::packet_path::parse::{self, Parsed};
    use crate::table::PortId;
    use proptest::prelude::*;

    fn built(tcp: bool, v6: bool, payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]);
        let builder = if v6 {
            builder.ipv6([0x20; 16], [0x30; 16], 64)
        } else {
            builder.ipv4([10, 1, 2, 3], [192, 0, 2, 10], 64)
        };
        let mut bytes = Vec::new();
        if tcp {
            builder.tcp(4242, 80, 1000, 512).ack(1).fin().write(&mut bytes, payload).unwrap();
        } else {
            builder.udp(4242, 80).write(&mut bytes, payload).unwrap();
        }
        bytes
    }

    proptest! {
        #[test]
        fn segments_carry_the_whole_payload_in_order_with_right_checksums(
            tcp: bool, v6: bool, size in 1u16..2000,
            payload in proptest::collection::vec(any::<u8>(), 1..6000),
        ) {
            let mut bytes = built(tcp, v6, &payload);
            let Ok(Parsed::Ip(packet)) = parse::frame(&bytes) else { panic!() };
            let length = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, length, PortId(0));
            frame.offload.segmentation =
                if tcp { Segmentation::Tcp4 { ecn: false } } else { Segmentation::Udp };
            frame.offload.segment_size = size;
            let (mut seen, mut piece) = (Vec::new(), Vec::new());
            let mut pieces = 0;
            segments(&frame, &packet, &mut piece, |piece| {
                let parsed = etherparse::PacketHeaders::from_ip_slice(piece).unwrap();
                let data = parsed.payload.slice();
                match (&parsed.net, parsed.transport.unwrap()) {
                    (Some(etherparse::NetHeaders::Ipv4(ip, _)), etherparse::TransportHeader::Tcp(t)) => {
                        assert_eq!(t.checksum, t.calc_checksum_ipv4(ip, data).unwrap());
                        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        assert_eq!(t.sequence_number as usize, 1000 + seen.len());
                        assert_eq!(t.fin, seen.len() + data.len() == payload.len());
                    }
                    (Some(etherparse::NetHeaders::Ipv6(ip, _)), etherparse::TransportHeader::Tcp(t)) => {
                        assert_eq!(t.checksum, t.calc_checksum_ipv6(ip, data).unwrap());
                    }
                    (Some(etherparse::NetHeaders::Ipv4(ip, _)), etherparse::TransportHeader::Udp(u)) => {
                        assert_eq!(u.checksum, u.calc_checksum_ipv4(ip, data).unwrap());
                    }
                    (Some(etherparse::NetHeaders::Ipv6(ip, _)), etherparse::TransportHeader::Udp(u)) => {
                        assert_eq!(u.checksum, u.calc_checksum_ipv6(ip, data).unwrap());
                    }
                    other => panic!("{other:?}"),
                }
                assert!(data.len() <= usize::from(size));
                seen.extend_from_slice(data);
                pieces += 1;
            });
            prop_assert_eq!(seen, payload.clone());
            prop_assert_eq!(pieces, payload.len().div_ceil(usize::from(size)));
        }

        #[test]
        fn fragments_reassemble_to_the_packet(
            mtu in 28u16..1500, payload in proptest::collection::vec(any::<u8>(), 1..4000),
        ) {
            let bytes = built(false, false, &payload);
            let whole = &bytes[14..];
            let (mut seen, mut piece, mut open) = (Vec::new(), Vec::new(), true);
            fragments(whole, mtu, &mut piece, |piece| {
                let field = be16(piece, v4::FRAGMENT);
                assert!(piece.len() <= usize::from(mtu) && open);
                assert_eq!(usize::from(field & v4::OFFSET) * 8, seen.len());
                assert_eq!(usize::from(be16(piece, v4::TOTAL_LENGTH)), piece.len());
                assert_eq!(Sum::default().bytes(&piece[..20]).checksum(), 0);
                seen.extend_from_slice(&piece[20..]);
                open = field & v4::MF != 0;
            });
            prop_assert!(!open);
            prop_assert_eq!(&seen[..], &whole[20..]);
        }
    }
}
