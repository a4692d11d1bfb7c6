//! The headers in front of an advert: IPv4 or IPv6, and Ethernet when it leaves from the virtual MAC.

use super::packet::{PROTOCOL, Path};
use dataplane::table::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Internetwork control: precedence 6, as RFC-following routers and keepalived send.
const CONTROL: u8 = 0xc0;
const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];

/// An IP packet around `message`; `None` when the addresses are of two families. The IPv4 checksum is
/// filled in; `id` is the IPv4 identification.
pub fn ip_packet(path: &Path, ttl: u8, id: u16, message: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(message.len()).ok()?;
    let mut packet = match (path.source, path.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4_header(source, destination, ttl, id, len.checked_add(20)?).to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6_header(source, destination, ttl, len).to_vec()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    packet.extend_from_slice(message);
    Some(packet)
}

fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, id: u16, total: u16) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[1] = CONTROL;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[8] = ttl;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum: u32 =
        header.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    header
}

fn ipv6_header(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, len: u16) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60 | CONTROL >> 4;
    header[4..6].copy_from_slice(&len.to_be_bytes());
    header[6] = PROTOCOL;
    header[7] = hop_limit;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

/// The Ethernet address of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7).
pub fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

/// An Ethernet frame around an IP packet.
pub fn ethernet(source: Mac, destination: Mac, packet: &[u8]) -> Vec<u8> {
    let kind = match packet.first().map(|byte| byte >> 4) {
        Some(6) => ETHERTYPE_V6,
        Some(_) | None => ETHERTYPE_V4,
    };
    let mut frame = Vec::with_capacity(14 + packet.len());
    frame.extend(destination);
    frame.extend(source);
    frame.extend(kind);
    frame.extend_from_slice(packet);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::packet::{Datagram, GROUP_V4, GROUP_V6, Rejected};

    #[test]
    fn an_ipv4_packet_survives_the_raw_socket_parser() {
        let path = Path { source: [192, 0, 2, 1].into(), destination: GROUP_V4.into() };
        let packet = ip_packet(&path, 255, 7, &[1, 2, 3, 4]).unwrap();
        let datagram = Datagram::from_ipv4(&packet).unwrap();
        assert_eq!(datagram, Datagram { path, ttl: 255, bytes: &[1, 2, 3, 4] });
        let sum: u32 =
            packet[..20].as_chunks::<2>().0.iter().map(|p| u32::from(u16::from_be_bytes(*p))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(packet[1], 0xc0);
    }

    #[test]
    fn a_truncated_ipv4_packet_is_refused_at_every_length() {
        let path = Path { source: [192, 0, 2, 1].into(), destination: GROUP_V4.into() };
        let packet = ip_packet(&path, 255, 7, &[1, 2, 3, 4]).unwrap();
        for len in 0..packet.len() {
            assert_eq!(Datagram::from_ipv4(&packet[..len]), Err(Rejected::Ip), "{len} bytes");
        }
    }

    #[test]
    fn groups_map_to_their_ethernet_addresses() {
        assert_eq!(group_mac(GROUP_V4.into()), [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
        assert_eq!(group_mac(GROUP_V6.into()), [0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);
        assert_eq!(group_mac([239, 255, 1, 2].into()), [0x01, 0x00, 0x5e, 0x7f, 1, 2]);
    }

    #[test]
    fn families_do_not_mix() {
        let path = Path { source: [192, 0, 2, 1].into(), destination: GROUP_V6.into() };
        assert_eq!(ip_packet(&path, 255, 1, &[]), None);
    }

    #[test]
    fn ipv6_frames_say_so() {
        let source: Ipv6Addr = "fe80::1".parse().unwrap();
        let path = Path { source: source.into(), destination: GROUP_V6.into() };
        let packet = ip_packet(&path, 255, 1, &[9; 24]).unwrap();
        assert_eq!(&packet[..8], &[0x6c, 0, 0, 0, 0, 24, 112, 255]);
        let frame = ethernet([2; 6], group_mac(path.destination), &packet);
        assert_eq!(&frame[..14], &[0x33, 0x33, 0, 0, 0, 0x12, 2, 2, 2, 2, 2, 2, 0x86, 0xdd]);
    }
}
