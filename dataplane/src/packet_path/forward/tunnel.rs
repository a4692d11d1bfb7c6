//! Tunnelling: the client's packet inside another one to the real server, as IPIP (RFC 2003, 2473),
//! GRE (RFC 2784) or GUE (generic UDP encapsulation, version 0).
//!
//! The outer hop limit and class of service are the inner ones; the outer "don't fragment" follows
//! the inner, so that path-MTU discovery sees the whole path.

use crate::packet_path::parse::Packet;
use crate::table::Address;
use crate::table::{GueChecksum, Tunnel};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ip::{self, v4, v6};
use crate::wire::transport::udp;
use crate::wire::{be16, byte, ethernet, put, put16, put32};
use arrayvec::ArrayVec;

/// GRE without checksum.
const GRE_LENGTH: usize = 4;
/// GUE's own header.
const GUE_LENGTH: usize = 4;
/// GRE's "checksum present".
const GRE_CHECKSUM: u16 = 0x8000;
/// UDP source ports of GUE: one per flow, from the dynamic range, so that routers spread flows.
const FIRST_SOURCE_PORT: u16 = 0xc000;

/// Headers to put before an inner packet.
pub type Headers = ArrayVec<u8, 64>;

/// Bytes between the outer IP header and the inner packet.
pub const fn shim_length(tunnel: Tunnel) -> usize {
    match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gre { checksum: false } => GRE_LENGTH,
        Tunnel::Gre { checksum: true } => GRE_LENGTH + 4,
        Tunnel::Gue { .. } => udp::LENGTH + GUE_LENGTH,
    }
}

/// Bytes of the headers that go before a packet for a real server of this family.
pub const fn length(tunnel: Tunnel, outer_is_v4: bool) -> usize {
    shim_length(tunnel) + if outer_is_v4 { v4::LENGTH } else { v6::LENGTH }
}

/// The largest inner packet on a path that carries `mtu` bytes.
pub fn inner_mtu(tunnel: Tunnel, outer_is_v4: bool, mtu: u16) -> u16 {
    let added = u16::try_from(length(tunnel, outer_is_v4)).unwrap_or(u16::MAX);
    mtu.saturating_sub(added)
}

/// The smallest limit that is believed for a path: what every IPv4 host takes as Linux sees it
/// (`ip_rt_min_pmtu`) or every IPv6 link carries (RFC 8201 section 4), and as much as carries the
/// smallest largest packet of IPv6 clients, which cannot be told of less.
pub fn least_path(tunnel: Tunnel, outer_is_v4: bool, inner_is_v4: bool) -> u16 {
    let inside = if inner_is_v4 { 0 } else { v6::LEAST_MTU };
    let added = u16::try_from(length(tunnel, outer_is_v4)).unwrap_or(u16::MAX);
    ip::least_path(outer_is_v4).max(inside.saturating_add(added))
}

/// Whether a packet is one that this tunnel makes: for errors that come back about it.
pub fn is_carrier(tunnel: Tunnel, outer: &Packet) -> bool {
    match tunnel {
        Tunnel::Ipip => matches!(outer.protocol, ip::IPIP | ip::IPV6_IN_IP),
        Tunnel::Gre { .. } => outer.protocol == ip::GRE,
        Tunnel::Gue { port, .. } => outer.protocol == ip::UDP && outer.destination_port == port,
    }
}

/// What the outer header takes from its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// The director's address on that side.
    pub source: Address,
    /// The real server.
    pub destination: Address,
    /// Identification for IPv4.
    pub id: u16,
    /// Hash of the inner flow.
    pub flow: u32,
    /// Whether the inner "don't fragment" is copied.
    pub discover_mtu: bool,
}

/// The headers that go before `inner`, a whole IP packet whose checksums are finished.
pub fn headers(tunnel: Tunnel, inner: &[u8], outer: &Outer) -> Headers {
    let mut bytes = [0; 64];
    // The longest header, IPv6 with UDP and GUE, is 52 bytes.
    let head = &mut bytes[..length(tunnel, outer.destination.is_v4())];
    write(tunnel, head, inner, outer);
    let mut headers = Headers::new();
    let _ = headers.try_extend_from_slice(head);
    headers
}

/// As [`headers`], into `head`, which is [`length`] bytes long and may contain anything.
#[inline(always)]
pub fn write(tunnel: Tunnel, head: &mut [u8], inner: &[u8], outer: &Outer) {
    let body = head.len() + inner.len();
    let inner_is_v4 = byte(inner, 0) >> 4 == 4;
    let carried = if inner_is_v4 { ip::IPIP } else { ip::IPV6_IN_IP };
    let start = if outer.destination.is_v4() { v4::LENGTH } else { v6::LENGTH };
    let Some((head, shim)) = head.split_at_mut_checked(start) else { return };
    let protocol = match tunnel {
        Tunnel::Ipip => carried,
        Tunnel::Gre { checksum } => {
            gre(shim, inner, inner_is_v4, checksum);
            ip::GRE
        }
        Tunnel::Gue { port, checksum } => {
            gue(shim, inner, carried, (port, checksum), outer);
            ip::UDP
        }
    };
    if outer.destination.is_v4() {
        let Some(head) = head.first_chunk_mut() else { return };
        outer_v4(head, inner, inner_is_v4, protocol, body, outer);
    } else {
        outer_v6(head, inner, inner_is_v4, protocol, body - v6::LENGTH, outer);
    }
}

fn gre(shim: &mut [u8], inner: &[u8], inner_is_v4: bool, checksum: bool) {
    let kind = if inner_is_v4 { ethernet::IPV4 } else { ethernet::IPV6 };
    put16(shim, 0, if checksum { GRE_CHECKSUM } else { 0 });
    put16(shim, 2, kind);
    if checksum {
        put32(shim, 4, 0);
        let sum = Sum::default().bytes(&shim[..GRE_LENGTH + 4]).bytes(inner);
        put16(shim, 4, sum.checksum());
    }
}

fn gue(
    shim: &mut [u8],
    inner: &[u8],
    carried: u8,
    (port, checksum): (u16, GueChecksum),
    outer: &Outer,
) {
    let length = udp::LENGTH + GUE_LENGTH + inner.len();
    let spread = u16::try_from(outer.flow & 0x3fff).unwrap_or(0);
    put16(shim, 0, FIRST_SOURCE_PORT | spread);
    put16(shim, 2, port);
    put16(shim, udp::LENGTH_FIELD, u16::try_from(length).unwrap_or(0));
    put16(shim, udp::CHECKSUM, 0);
    // Version 0, no control, no options; then the protocol carried.
    put(shim, udp::LENGTH, &[0, carried, 0, 0]);
    let is_v4 = outer.destination.is_v4();
    // Remote checksum offload is for inner checksums that are still partial; they are finished here.
    // Over IPv6 hosts drop UDP without a checksum (RFC 8200 section 8.1), so there it is never left
    // out.
    match checksum {
        GueChecksum::None if is_v4 => {}
        GueChecksum::None | GueChecksum::Full | GueChecksum::Remote => {
            let (from, to) = (outer.source.0, outer.destination.0);
            let length = u32::try_from(length).unwrap_or(0);
            let sum = pseudo_header(is_v4, from, to, ip::UDP, length)
                .bytes(&shim[..udp::LENGTH + GUE_LENGTH])
                .bytes(inner)
                .checksum();
            put16(shim, udp::CHECKSUM, if sum == 0 { 0xffff } else { sum });
        }
    }
}

/// The inner class of service with ECN for the outer header. "Congestion experienced" becomes
/// "capable", as in IPVS: the full-functionality option of RFC 3168 section 9.1.1. (The normal mode
/// of RFC 6040 would copy it.) The mark inside stays, so nothing is lost at the other end.
fn class(inner: &[u8], inner_is_v4: bool) -> u8 {
    let class =
        if inner_is_v4 { byte(inner, v4::TOS) } else { byte(inner, 0) << 4 | byte(inner, 1) >> 4 };
    if class & 3 == 3 { class & !1 } else { class }
}

fn hop_limit(inner: &[u8], inner_is_v4: bool) -> u8 {
    byte(inner, if inner_is_v4 { v4::TTL } else { v6::HOP_LIMIT })
}

/// `total`: bytes of the whole outer packet.
#[inline(always)]
fn outer_v4(
    header: &mut [u8; v4::LENGTH],
    inner: &[u8],
    inner_is_v4: bool,
    protocol: u8,
    total: usize,
    outer: &Outer,
) {
    let total = u16::try_from(total).unwrap_or(u16::MAX);
    let keep = inner_is_v4 && outer.discover_mtu;
    let dont_fragment = if keep { be16(inner, v4::FRAGMENT) & v4::DF } else { 0 };
    let first = u16::from_be_bytes([0x45, class(inner, inner_is_v4)]);
    let life = u16::from_be_bytes([hop_limit(inner, inner_is_v4), protocol]);
    let (source, destination) = (outer.source.low(), outer.destination.low());
    let sum = Sum::default().word(first).word(total).word(outer.id).word(dont_fragment);
    let sum = sum.word(life).long(source).long(destination);
    put16(header, 0, first);
    put16(header, v4::TOTAL_LENGTH, total);
    put16(header, v4::ID, outer.id);
    put16(header, v4::FRAGMENT, dont_fragment);
    put16(header, v4::TTL, life);
    put16(header, v4::CHECKSUM, sum.checksum());
    put32(header, v4::SOURCE, source);
    put32(header, v4::DESTINATION, destination);
}

/// `body`: bytes after the outer header.
fn outer_v6(
    bytes: &mut [u8],
    inner: &[u8],
    inner_is_v4: bool,
    protocol: u8,
    body: usize,
    outer: &Outer,
) {
    put32(bytes, 0, 6 << 28 | u32::from(class(inner, inner_is_v4)) << 20);
    put16(bytes, v6::PAYLOAD_LENGTH, u16::try_from(body).unwrap_or(u16::MAX));
    put(bytes, v6::NEXT_HEADER, &[protocol, hop_limit(inner, inner_is_v4)]);
    put(bytes, v6::SOURCE, &outer.source.0.to_be_bytes());
    put(bytes, v6::DESTINATION, &outer.destination.0.to_be_bytes());
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)] // Another crate's enums.
mod tests {
    use super::*;

    fn inner(v6: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = if v6 {
            etherparse::PacketBuilder::ipv6([0x20; 16], [0x30; 16], 17)
        } else {
            etherparse::PacketBuilder::ipv4([10, 1, 2, 3], [192, 0, 2, 10], 17)
        };
        builder.udp(1, 2).write(&mut bytes, b"hello").unwrap();
        bytes
    }

    fn outer(v6: bool) -> Outer {
        let address = |n: u32| {
            if v6 { Address::v6(0x20 << 120 | u128::from(n)) } else { Address::v4(n) }
        };
        Outer {
            source: address(0x0a00_0001),
            destination: address(0x0a00_0002),
            id: 7,
            flow: 0x1234_5678,
            discover_mtu: true,
        }
    }

    #[test]
    fn every_tunnel_in_every_family_is_read_back_by_an_independent_parser() {
        let tunnels = [
            Tunnel::Ipip,
            Tunnel::Gre { checksum: false },
            Tunnel::Gre { checksum: true },
            Tunnel::Gue { port: 6080, checksum: GueChecksum::None },
            Tunnel::Gue { port: 6080, checksum: GueChecksum::Full },
        ];
        for tunnel in tunnels {
            for (inside, outside) in [(false, false), (false, true), (true, false), (true, true)] {
                let inner = inner(inside);
                let headers = headers(tunnel, &inner, &outer(outside));
                let whole: Vec<u8> = headers.iter().copied().chain(inner.clone()).collect();
                let parsed = etherparse::PacketHeaders::from_ip_slice(&whole).unwrap();
                let start = if outside { 40 } else { 20 };
                assert_eq!(headers.len(), start + shim_length(tunnel));
                if let Some(etherparse::NetHeaders::Ipv4(ip, _)) = &parsed.net {
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    assert_eq!((ip.time_to_live, usize::from(ip.total_len)), (17, whole.len()));
                    assert_eq!(ip.dont_fragment, !inside);
                }
                if let Tunnel::Gue { checksum, .. } = tunnel {
                    let Some(etherparse::TransportHeader::Udp(udp)) = parsed.transport else {
                        panic!("no UDP in {whole:x?}")
                    };
                    assert_eq!(udp.destination_port, 6080);
                    let payload = &whole[start + 8..];
                    let right = match &parsed.net {
                        Some(etherparse::NetHeaders::Ipv4(ip, _)) => {
                            udp.calc_checksum_ipv4(ip, payload).unwrap()
                        }
                        Some(etherparse::NetHeaders::Ipv6(ip, _)) => {
                            udp.calc_checksum_ipv6(ip, payload).unwrap()
                        }
                        _ => panic!("no IP"),
                    };
                    let expected =
                        if checksum == GueChecksum::None && !outside { 0 } else { right };
                    assert_eq!(udp.checksum, expected);
                }
                if let Tunnel::Gre { checksum: true } = tunnel {
                    let sum = Sum::default().bytes(&whole[start..]).checksum();
                    assert_eq!(sum, 0, "GRE checksum over header and payload");
                }
            }
        }
    }

    #[test]
    fn congestion_experienced_becomes_capable_outside() {
        let mut packet = inner(false);
        packet[1] = 0xb8 | 3;
        assert_eq!(headers(Tunnel::Ipip, &packet, &outer(false))[1], 0xb8 | 2);
    }

    #[test]
    fn the_inner_mtu_leaves_room_for_every_header() {
        assert_eq!(inner_mtu(Tunnel::Ipip, true, 1500), 1480);
        assert_eq!(inner_mtu(Tunnel::Gre { checksum: true }, true, 1500), 1472);
        let gue = Tunnel::Gue { port: 1, checksum: GueChecksum::Full };
        assert_eq!(inner_mtu(gue, false, 1500), 1448);
    }
}
