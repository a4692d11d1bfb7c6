//! How a new master tells hosts and switches where the addresses are now: gratuitous ARP (RFC 5227) and
//! unsolicited neighbour advertisements (RFC 4861 section 7.2.6), as whole Ethernet frames.

use dataplane::table::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST: Mac = [0xff; 6];
/// ff02::1 on Ethernet.
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const ROUTER: u8 = 0x80;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The two forms of gratuitous ARP. Some old hosts believe only one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ArpForm {
    /// Opcode 1, what keepalived sends and RFC 5227 recommends.
    #[default]
    Request,
    /// Opcode 2.
    Reply,
}

/// The frame that announces `address` at `mac`, in the form of its family. `router` is whether this node
/// forwards IPv6 for its neighbours; hosts drop a default router that says no.
pub fn announcement(address: IpAddr, mac: Mac, form: ArpForm, router: bool) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac, form).to_vec(),
        IpAddr::V6(address) => neighbour_advertisement(address, mac, router).to_vec(),
    }
}

/// A gratuitous ARP frame: sender and target are the same address.
pub fn gratuitous_arp(address: Ipv4Addr, mac: Mac, form: ArpForm) -> [u8; 42] {
    let mut frame = [0; 42];
    let opcode = match form {
        ArpForm::Request => 1,
        ArpForm::Reply => 2,
    };
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, opcode]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&BROADCAST);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// An unsolicited neighbour advertisement to all nodes, sent from the address itself.
pub fn neighbour_advertisement(address: Ipv6Addr, mac: Mac, router: bool) -> [u8; 86] {
    let mut frame = [0; 86];
    frame[0..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[18..22].copy_from_slice(&[0, 32, ICMPV6, 255]);
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&ALL_NODES.octets());
    frame[54] = ADVERTISEMENT;
    frame[58] = if router { OVERRIDE | ROUTER } else { OVERRIDE };
    frame[62..78].copy_from_slice(&address.octets());
    frame[78..80].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    frame[80..86].copy_from_slice(&mac);
    // Source, destination and message, then length and next header of the pseudo header.
    let words = frame[22..].as_chunks::<2>().0;
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = sum + 32 + u32::from(ICMPV6);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    frame[56..58].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::Vrid;
    use dataplane::table::Family;

    #[test]
    fn a_gratuitous_arp_is_what_keepalived_sends() {
        let mac = Vrid::new(51).unwrap().mac(Family::V4);
        let frame = announcement([192, 0, 2, 10].into(), mac, ArpForm::Request, false);
        #[rustfmt::skip]
        assert_eq!(frame, [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x5e, 0x00, 0x01, 51, 0x08, 0x06,
            0, 1, 0x08, 0x00, 6, 4, 0, 1,
            0x00, 0x00, 0x5e, 0x00, 0x01, 51, 192, 0, 2, 10,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 192, 0, 2, 10,
        ]);
        let reply = announcement([192, 0, 2, 10].into(), mac, ArpForm::Reply, false);
        assert_eq!((reply[21], &reply[22..], &reply[..20]), (2, &frame[22..], &frame[..20]));
    }

    #[test]
    fn a_neighbour_advertisement_says_override_and_checks() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let mac = Vrid::new(7).unwrap().mac(Family::V6);
        for router in [false, true] {
            let frame = announcement(address.into(), mac, ArpForm::default(), router);
            let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(etherparse::NetSlice::Ipv6(ip)) = sliced.net else { panic!("not IPv6") };
            assert_eq!(ip.header().source_addr(), address);
            assert_eq!(ip.header().hop_limit(), 255);
            let Some(etherparse::TransportSlice::Icmpv6(icmp)) = sliced.transport else {
                panic!("not ICMPv6")
            };
            assert!(icmp.is_checksum_valid(address.octets(), ALL_NODES.octets()));
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (136, 0));
            assert_eq!(frame[58], if router { 0xa0 } else { 0x20 }, "never solicited");
            assert_eq!(&frame[62..78], &address.octets());
            assert_eq!(&frame[78..], &[2, 1, 0, 0, 0x5e, 0, 2, 7]);
        }
    }
}
