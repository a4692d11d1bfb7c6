//! NAT: addresses and ports rewritten in place, checksums updated by what changed (RFC 1624).
//!
//! Full NAT is the same rewrite with both ends changed.

use crate::frame::Frame;
use crate::packet_path::parse::{Fragment, Packet};
use crate::table::Address;
use crate::wire::checksum::{Delta, crc32c_difference, update};
use crate::wire::ip::{self, v4, v6};
use crate::wire::transport::{DESTINATION_PORT, SOURCE_PORT, sctp, tcp, udp};
use crate::wire::{be16, be32, put, put16, put32};

/// The new ends of a packet. `None` leaves an end as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rewrite {
    /// New source.
    pub source: Option<(Address, u16)>,
    /// New destination.
    pub destination: Option<(Address, u16)>,
    /// What is taken off the hop limit; the caller has checked that more is left.
    pub hops: u8,
}

/// Whether a packet's checksum can follow its new ends. That of SCTP covers the whole datagram, and
/// what a new port does to it depends on the datagram's length, which a first part does not tell.
pub fn can_rewrite(packet: &Packet, new: &Rewrite) -> bool {
    let same = |end: Option<(Address, u16)>, had| end.is_none_or(|(_, port)| port == had);
    packet.protocol != ip::SCTP
        || packet.fragment == Fragment::Whole
        || same(new.source, packet.source_port) && same(new.destination, packet.destination_port)
}

/// Rewrites a packet's addresses and, where it has them, ports. The packet description is brought
/// up to date with it. Addresses must be of the packet's family.
pub fn rewrite(frame: &mut Frame<'_>, packet: &mut Packet, new: Rewrite) {
    let partial = frame.offload.partial_checksum;
    rewrite_bytes(frame.bytes_mut(), partial, packet, new);
}

/// As [`rewrite`], of a frame's bytes. `partial`: its transport checksum is left to the network card.
#[inline(always)]
pub fn rewrite_bytes(bytes: &mut [u8], partial: bool, packet: &mut Packet, new: Rewrite) {
    let Some(header) = bytes.get_mut(packet.l3..) else { return };
    let mut addresses = Delta::default();
    if packet.is_v4() {
        let Some(header) = header.first_chunk_mut::<{ v4::LENGTH }>() else { return };
        if let Some((source, _)) = new.source {
            addresses = addresses.long(packet.source.low(), source.low());
            put32(header, v4::SOURCE, source.low());
        }
        if let Some((destination, _)) = new.destination {
            addresses = addresses.long(packet.destination.low(), destination.low());
            put32(header, v4::DESTINATION, destination.low());
        }
        addresses = addresses.folded();
        header[v4::TTL] = header[v4::TTL].wrapping_sub(new.hops);
        update(header, v4::CHECKSUM, addresses.word(u16::from(new.hops) << 8, 0));
    } else {
        let Some(header) = header.first_chunk_mut::<{ v6::LENGTH }>() else { return };
        if let Some((source, _)) = new.source {
            addresses = addresses.wide(packet.source.0, source.0);
            put(header, v6::SOURCE, &source.0.to_be_bytes());
        }
        if let Some((destination, _)) = new.destination {
            addresses = addresses.wide(packet.destination.0, destination.0);
            put(header, v6::DESTINATION, &destination.0.to_be_bytes());
        }
        header[v6::HOP_LIMIT] = header[v6::HOP_LIMIT].saturating_sub(new.hops);
    }
    let had = (packet.source_port, packet.destination_port);
    let mut ports = Delta::default();
    let mut transport = bytes.get_mut(packet.l4..).filter(|_| packet.has_ports());
    if let Some((address, port)) = new.source {
        packet.source = address;
        if let Some(header) = &mut transport {
            ports = ports.word(packet.source_port, port);
            put16(header, SOURCE_PORT, port);
            packet.source_port = port;
        }
    }
    if let Some((address, port)) = new.destination {
        packet.destination = address;
        if let Some(header) = &mut transport {
            ports = ports.word(packet.destination_port, port);
            put16(header, DESTINATION_PORT, port);
            packet.destination_port = port;
        }
    }
    if !packet.has_ports() {
        return;
    }
    match packet.protocol {
        ip::TCP if !partial => {
            update(bytes, packet.l4 + tcp::CHECKSUM, addresses.plus(ports));
        }
        ip::TCP => update_partial(bytes, packet.l4 + tcp::CHECKSUM, addresses),
        ip::UDP if !partial => update_udp(bytes, packet.l4, addresses.plus(ports)),
        ip::UDP => update_partial(bytes, packet.l4 + udp::CHECKSUM, addresses),
        // SCTP's checksum has no pseudo-header; a partial one is finished by whoever sends.
        ip::SCTP if !partial && had != (packet.source_port, packet.destination_port) => {
            update_sctp(bytes, packet, had);
        }
        _ => {}
    }
}

/// A partial checksum covers only the pseudo-header so far, so only the addresses count there.
#[inline(always)]
fn update_partial(bytes: &mut [u8], at: usize, addresses: Delta) {
    let old = be16(bytes, at);
    put16(bytes, at, addresses.apply_partial(old));
}

/// Zero means "none" and stays; a sum that becomes zero is sent as all ones (RFC 768).
#[inline(always)]
fn update_udp(bytes: &mut [u8], l4: usize, delta: Delta) {
    let old = be16(bytes, l4 + udp::CHECKSUM);
    if old != 0 {
        let new = delta.apply(old);
        put16(bytes, l4 + udp::CHECKSUM, if new == 0 { 0xffff } else { new });
    }
}

/// SCTP's checksum after new ports; one that was wrong stays so.
fn update_sctp(bytes: &mut [u8], packet: &Packet, (source, destination): (u16, u16)) {
    let ports = |source: u16, destination: u16| {
        (u32::from(source) << 16 | u32::from(destination)).to_be_bytes()
    };
    let old = ports(source, destination);
    let new = ports(packet.source_port, packet.destination_port);
    let behind = (packet.end - packet.l4).saturating_sub(old.len());
    let at = packet.l4 + sctp::CHECKSUM;
    // The field is in the other byte order than the rest of the header.
    let difference = crc32c_difference(old, new, behind).swap_bytes();
    let had = be32(bytes, at);
    put32(bytes, at, had ^ difference);
}

/// Computes SCTP's checksum over the whole packet with the field zeroed (RFC 9260 appendix A).
pub fn sctp_checksum(bytes: &mut [u8], l4: usize, end: usize) {
    let at = l4 + sctp::CHECKSUM;
    put32(bytes, at, 0);
    let crc = crc32c::crc32c(bytes.get(l4..end).unwrap_or_default());
    put(bytes, at, &crc.to_le_bytes());
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)] // Another crate's enums.
mod tests {
    use super::*;
    use crate::packet_path::parse::{self, Parsed};
    use crate::table::PortId;
    use proptest::prelude::*;

    fn build(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]);
        let builder = if v6 {
            builder.ipv6([0x20; 16], [0x30; 16], 64)
        } else {
            builder.ipv4([10, 1, 2, 3], [192, 0, 2, 10], 64)
        };
        let mut bytes = Vec::new();
        if protocol == ip::TCP {
            builder.tcp(4242, 80, 7, 512).write(&mut bytes, payload).unwrap();
        } else {
            builder.udp(4242, 80).write(&mut bytes, payload).unwrap();
        }
        bytes
    }

    /// Whether all checksums of a frame are what an independent library computes.
    fn is_sound(bytes: &[u8]) -> bool {
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(bytes).unwrap();
        let payload = parsed.payload.slice();
        match (parsed.net.unwrap(), parsed.transport.unwrap()) {
            (etherparse::NetHeaders::Ipv4(ip, _), transport) => {
                let sum = match transport {
                    etherparse::TransportHeader::Tcp(tcp) => {
                        tcp.calc_checksum_ipv4(&ip, payload).unwrap() == tcp.checksum
                    }
                    etherparse::TransportHeader::Udp(udp) => {
                        udp.calc_checksum_ipv4(&ip, payload).unwrap() == udp.checksum
                    }
                    _ => false,
                };
                sum && ip.calc_header_checksum() == ip.header_checksum
            }
            (etherparse::NetHeaders::Ipv6(ip, _), transport) => match transport {
                etherparse::TransportHeader::Tcp(tcp) => {
                    tcp.calc_checksum_ipv6(&ip, payload).unwrap() == tcp.checksum
                }
                etherparse::TransportHeader::Udp(udp) => {
                    udp.calc_checksum_ipv6(&ip, payload).unwrap() == udp.checksum
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn address(v6: bool, bits: u128) -> Address {
        if v6 { Address::v6(bits | 1 << 127) } else { Address::v4(bits as u32) }
    }

    proptest! {
        #[test]
        fn rewritten_packets_have_the_checksums_of_recomputation(
            v6: bool, tcp: bool, source: (u128, u16), destination: (u128, u16), which in 1u8..4,
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = build(v6, if tcp { ip::TCP } else { ip::UDP }, &payload);
            prop_assert!(is_sound(&bytes));
            let Ok(Parsed::Ip(mut packet)) = parse::frame(&bytes) else { panic!() };
            let new = Rewrite {
                source: (which & 1 != 0).then(|| (address(v6, source.0), source.1)),
                destination: (which & 2 != 0).then(|| (address(v6, destination.0), destination.1)),
                hops: which & 1,
            };
            let length = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, length, PortId(0));
            rewrite(&mut frame, &mut packet, new);
            prop_assert!(is_sound(&bytes));
            prop_assert_eq!(parse::frame(&bytes), Ok(Parsed::Ip(packet)));
        }

        #[test]
        fn an_sctp_checksum_is_as_right_after_new_ports_as_before(
            v6: bool, source: u16, destination: u16, error: [u8; 4],
            payload in proptest::collection::vec(any::<u8>(), 12..1400),
        ) {
            let mut bytes = build(v6, ip::UDP, &payload);
            bytes[14 + if v6 { v6::NEXT_HEADER } else { v4::PROTOCOL }] = ip::SCTP;
            let Ok(Parsed::Ip(mut packet)) = parse::frame(&bytes) else { panic!() };
            let at = packet.l4 + sctp::CHECKSUM;
            let spoil = |bytes: &mut [u8]| {
                bytes[at..at + 4].iter_mut().zip(error).for_each(|(byte, error)| *byte ^= error);
            };
            sctp_checksum(&mut bytes, packet.l4, packet.end);
            spoil(&mut bytes);
            let new = Rewrite {
                source: Some((address(v6, 7), source)),
                destination: Some((address(v6, 8), destination)),
                hops: 1,
            };
            rewrite_bytes(&mut bytes, false, &mut packet, new);
            spoil(&mut bytes);
            let found = bytes.clone();
            sctp_checksum(&mut bytes, packet.l4, packet.end);
            prop_assert_eq!(found, bytes);
        }

        #[test]
        fn partial_checksums_stay_partial_sums_of_the_pseudo_header(
            v6: bool, tcp: bool, source: (u128, u16), destination: (u128, u16),
        ) {
            use crate::wire::checksum::pseudo_header;
            let protocol = if tcp { ip::TCP } else { ip::UDP };
            let mut bytes = build(v6, protocol, b"payload");
            let Ok(Parsed::Ip(mut packet)) = parse::frame(&bytes) else { panic!() };
            let at = packet.l4 + if tcp { tcp::CHECKSUM } else { udp::CHECKSUM };
            let sum = |p: &Packet| pseudo_header(
                p.is_v4(), p.source.0, p.destination.0, protocol, (p.end - p.l4) as u32).fold();
            put16(&mut bytes, at, sum(&packet));
            let length = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, length, PortId(0));
            frame.offload.partial_checksum = true;
            rewrite(&mut frame, &mut packet, Rewrite {
                source: Some((address(v6, source.0), source.1)),
                destination: Some((address(v6, destination.0), destination.1)),
                hops: 1,
            });
            prop_assert_eq!(be16(&bytes, at), sum(&packet));
        }
    }

    #[test]
    fn a_udp_packet_without_checksum_stays_without() {
        let mut bytes = build(false, ip::UDP, b"x");
        let Ok(Parsed::Ip(mut packet)) = parse::frame(&bytes) else { panic!() };
        put16(&mut bytes, packet.l4 + udp::CHECKSUM, 0);
        let length = bytes.len();
        let mut frame = Frame::new(&mut bytes, 0, length, PortId(0));
        let new = Rewrite { source: Some((Address::v4(5), 6)), ..Rewrite::default() };
        rewrite(&mut frame, &mut packet, new);
        assert_eq!(be16(&bytes, packet.l4 + udp::CHECKSUM), 0);
    }
}
