//! What the director itself says: it answers ARP, neighbour discovery and ping for the addresses
//! that it owns, asks for neighbours, and resets stray TCP segments.
//!
//! Answers reuse the frame that asked.

use super::forward::nat::{self, Rewrite};
use super::outbox::Outbox;
use super::parse::{Fragment, Packet};
use super::{Address, DropReason, Frame, Notice, PacketPath, Verdict, View};
use crate::frame::Offload;
use crate::table::{Mac, OwnedAddress, PortId};
use crate::wire::checksum::{Delta, Sum, pseudo_header, update};
use crate::wire::ethernet::{self, arp};
use crate::wire::icmp::{self, nd};
use crate::wire::transport::tcp;
use crate::wire::{be16, be32, be128, byte, ip, put, put16, put32};
use std::net::{IpAddr, Ipv4Addr};

/// Claims of owned addresses that one worker tells of in a second.
const CLAIMS_PER_SECOND: u32 = 16;

impl PacketPath {
    /// ARP: requests for owned addresses are answered, answers that were asked for are noted. All
    /// else is the host's.
    pub(super) fn answer_arp(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        at: usize,
    ) -> Verdict {
        let packet = frame.bytes().get(at..).unwrap_or_default();
        let sender_mac: Mac = mac_at(packet, arp::SENDER_MAC);
        let sender = be32(packet, arp::SENDER_ADDRESS);
        let target = be32(packet, arp::TARGET_ADDRESS);
        self.note_claim(view, frame.ingress, Address::v4(sender), sender_mac);
        if be16(packet, arp::OPERATION) != arp::REQUEST {
            self.heard(view, frame.ingress, Address::v4(sender), sender_mac);
            return Verdict::Host;
        }
        let Some(mac) = self.answering_mac(view, frame.ingress, Address::v4(target)) else {
            return not_answered(view, Address::v4(target));
        };
        let (ingress, bytes) = (frame.ingress, frame.bytes_mut());
        put(bytes, ethernet::DESTINATION, &sender_mac);
        put(bytes, ethernet::SOURCE, &mac);
        let Some(packet) = bytes.get_mut(at..) else { return Verdict::Host };
        put16(packet, arp::OPERATION, arp::REPLY);
        put(packet, arp::SENDER_MAC, &mac);
        put32(packet, arp::SENDER_ADDRESS, target);
        put(packet, arp::TARGET_MAC, &sender_mac);
        put32(packet, arp::TARGET_ADDRESS, sender);
        Verdict::Send(ingress)
    }

    /// The MAC to answer with for an address, if it is owned.
    fn answering_mac(&self, view: View<'_>, port: PortId, address: Address) -> Option<Mac> {
        let owned: &OwnedAddress = view.table.owned(&address.ip())?;
        owned.mac.or_else(|| view.hops.port(port).map(|info| info.mac))
    }

    fn heard(&self, view: View<'_>, port: PortId, address: Address, mac: Mac) {
        let address = address.ip();
        if self.was_asked(port, address) {
            view.director.notify(Notice::NeighbourSeen { port, address, mac });
        }
    }

    /// Tells control of somebody who answers for an address that is owned here, at most so many times
    /// a second: who keeps doing it is heard again.
    fn note_claim(&mut self, view: View<'_>, port: PortId, address: Address, mac: Mac) {
        let Some(own) = self.answering_mac(view, port, address) else { return };
        let is_ours = own == mac || view.hops.port(port).is_some_and(|info| info.mac == mac);
        if !is_ours && self.claims.spend(view.now, CLAIMS_PER_SECOND) {
            let address = address.ip();
            view.director.notify(Notice::AddressClaimed { port, address, mac });
        }
    }

    /// Answers neighbour solicitations for owned addresses and notes advertisements, if they are
    /// valid (RFC 4861 sections 7.1.1 to 7.2.5, RFC 6980).
    pub(super) fn answer_discovery(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
    ) -> Verdict {
        let body = frame.bytes().get(packet.l4..packet.end).unwrap_or_default();
        let hop_limit = byte(frame.bytes(), packet.l3 + ip::v6::HOP_LIMIT);
        let asks = byte(body, icmp::TYPE) == icmp::v6::SOLICITATION;
        let option = if asks { nd::SOURCE_LINK_LAYER } else { nd::TARGET_LINK_LAYER };
        // The host discards what is not valid.
        let Some(options) = body.get(nd::OPTIONS..) else { return Verdict::Host };
        let Ok(told) = link_layer_address(options, option) else { return Verdict::Host };
        let is_whole = packet.fragment == Fragment::Whole;
        let sum_is_right = frame.offload.partial_checksum || has_right_sum(body, packet);
        if hop_limit != 255 || byte(body, icmp::CODE) != 0 || !is_whole || !sum_is_right {
            return Verdict::Host;
        }
        let target = Address::v6(be128(body, nd::TARGET));
        if !asks {
            let mac = told.unwrap_or_else(|| mac_at(frame.bytes(), ethernet::SOURCE));
            self.note_claim(view, frame.ingress, target, mac);
            self.heard(view, frame.ingress, target, mac);
            return Verdict::Host;
        }
        // A question from the unspecified address is duplicate detection; it is answered to all
        // nodes, which claims the address.
        let asker = packet.source;
        let Some(mac) = self.answering_mac(view, frame.ingress, target) else {
            return not_answered(view, target);
        };
        let reply_mac = told.unwrap_or_else(|| mac_at(frame.bytes(), ethernet::SOURCE));
        let l3 = packet.l3;
        if frame.set_len(l3 + ip::v6::LENGTH + nd::LENGTH).is_none() {
            return Verdict::Host;
        }
        let (to, to_mac) = if asker.0 == 0 {
            (Address::v6(ALL_NODES), [0x33, 0x33, 0, 0, 0, 1])
        } else {
            (asker, reply_mac)
        };
        let (ingress, bytes) = (frame.ingress, frame.bytes_mut());
        put(bytes, ethernet::DESTINATION, &to_mac);
        put(bytes, ethernet::SOURCE, &mac);
        let advert = advertisement(
            target,
            to,
            mac,
            if asker.0 == 0 { 0x20 } else { nd::SOLICITED_OVERRIDE },
        );
        put(bytes, l3, &advert);
        Verdict::Send(ingress)
    }

    /// Ping of an owned address, answered in place (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2).
    pub(super) fn answer_ping(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
    ) -> Option<Verdict> {
        let owned = view.table.owned(&packet.destination.ip())?;
        if !owned.answers_ping {
            return None;
        }
        let mac = self.answering_mac(view, frame.ingress, packet.destination)?;
        let mut reply = *packet;
        let swapped = Rewrite {
            source: Some((packet.destination, 0)),
            destination: Some((packet.source, 0)),
            hops: 0,
        };
        // Swapping the addresses leaves every sum as it is; only the type changes.
        nat::rewrite(frame, &mut reply, swapped);
        let (ingress, bytes) = (frame.ingress, frame.bytes_mut());
        let icmp_header = bytes.get_mut(packet.l4..)?;
        let kind = if packet.is_v4() { icmp::v4::ECHO_REPLY } else { icmp::v6::ECHO_REPLY };
        let old = be16(icmp_header, icmp::TYPE);
        let new = u16::from(kind) << 8 | old & 0xff;
        put16(icmp_header, icmp::TYPE, new);
        update(icmp_header, icmp::CHECKSUM, Delta::default().word(old, new));
        set_hop_limit(bytes, packet, 64);
        turn_around(bytes, mac);
        Some(Verdict::Send(ingress))
    }

    /// A TCP segment of no connection is reset, as a host without a listener does (RFC 9293
    /// section 3.10.7.1), so that a client does not wait; anything else is dropped.
    pub(super) fn refuse_segment(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
    ) -> Result<Verdict, DropReason> {
        if packet.protocol != ip::TCP || packet.flags & tcp::RST != 0 {
            return Err(DropReason::NoConnection);
        }
        let info = view.hops.port(frame.ingress).ok_or(DropReason::NoConnection)?;
        self.count_drop(DropReason::NoConnection);
        let header = frame.bytes().get(packet.l4..).unwrap_or_default();
        let sequence = be32(header, tcp::SEQUENCE);
        let acknowledged = be32(header, tcp::ACKNOWLEDGEMENT);
        let data_offset = usize::from(byte(header, tcp::DATA_OFFSET) >> 4) * 4;
        let payload = (packet.end - packet.l4).saturating_sub(data_offset) as u32;
        let closing =
            u32::from(packet.flags & tcp::SYN != 0) + u32::from(packet.flags & tcp::FIN != 0);
        let (sequence, acknowledge, flags) = if packet.flags & tcp::ACK != 0 {
            (acknowledged, 0, tcp::RST)
        } else {
            let next = sequence.wrapping_add(payload).wrapping_add(closing);
            (0, next, tcp::RST | tcp::ACK)
        };
        let mut segment = [0; tcp::LENGTH];
        put16(&mut segment, 0, packet.destination_port);
        put16(&mut segment, 2, packet.source_port);
        put32(&mut segment, tcp::SEQUENCE, sequence);
        put32(&mut segment, tcp::ACKNOWLEDGEMENT, acknowledge);
        segment[tcp::DATA_OFFSET] = 5 << 4;
        segment[tcp::FLAGS] = flags;
        let length = u32::try_from(segment.len()).unwrap_or(0);
        let (from, to) = (packet.destination, packet.source);
        let sum = pseudo_header(packet.is_v4(), from.0, to.0, ip::TCP, length).bytes(&segment);
        put16(&mut segment, tcp::CHECKSUM, sum.checksum());
        let mac = info.mac;
        reply_with(frame, packet, (from, to, ip::TCP), &[&segment], mac)
    }
}

/// Replaces the packet in the frame by one from `from` to `to`, back where it came from.
///
/// # Errors
/// When the buffer is too short.
pub(super) fn reply_with(
    frame: &mut Frame<'_>,
    packet: &Packet,
    (from, to, protocol): (Address, Address, u8),
    parts: &[&[u8]],
    mac: Mac,
) -> Result<Verdict, DropReason> {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let header = if from.is_v4() { ip::v4::LENGTH } else { ip::v6::LENGTH };
    frame.set_len(packet.l3 + header + body).ok_or(DropReason::NoHeadroom)?;
    frame.offload = Offload::default();
    let (ingress, bytes) = (frame.ingress, frame.bytes_mut());
    ip_header(bytes, packet.l3, from, to, protocol, body);
    let mut at = packet.l3 + header;
    for part in parts {
        put(bytes, at, part);
        at += part.len();
    }
    turn_around(bytes, mac);
    Ok(Verdict::Send(ingress))
}

/// Writes an IP header without options.
pub(super) fn ip_header(
    bytes: &mut [u8],
    l3: usize,
    from: Address,
    to: Address,
    protocol: u8,
    body: usize,
) {
    let Some(header) = bytes.get_mut(l3..) else { return };
    if from.is_v4() {
        let total = u16::try_from(ip::v4::LENGTH + body).unwrap_or(u16::MAX);
        put(header, 0, &[0x45, 0]);
        put16(header, ip::v4::TOTAL_LENGTH, total);
        put32(header, ip::v4::ID, 0);
        put(header, ip::v4::TTL, &[64, protocol, 0, 0]);
        put32(header, ip::v4::SOURCE, from.low());
        put32(header, ip::v4::DESTINATION, to.low());
        let sum = Sum::default().bytes(header.get(..ip::v4::LENGTH).unwrap_or_default());
        put16(header, ip::v4::CHECKSUM, sum.checksum());
    } else {
        put32(header, 0, 0x6000_0000);
        put16(header, ip::v6::PAYLOAD_LENGTH, u16::try_from(body).unwrap_or(u16::MAX));
        put(header, ip::v6::NEXT_HEADER, &[protocol, 64]);
        put(header, ip::v6::SOURCE, &from.0.to_be_bytes());
        put(header, ip::v6::DESTINATION, &to.0.to_be_bytes());
    }
}

/// A question for an address that is not owned is the host's, unless another director's.
fn not_answered(view: View<'_>, address: Address) -> Verdict {
    if view.table.is_silent(&address.ip()) {
        Verdict::Drop(DropReason::NotMaster)
    } else {
        Verdict::Host
    }
}

/// The Ethernet address in the first option of this type.
///
/// # Errors
/// When an option has no length, or ends beyond the packet (RFC 4861 section 7.1.1).
fn link_layer_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, DropReason> {
    let mut found = None;
    while let [kind, eights, ..] = options {
        let length = usize::from(*eights) * 8;
        let (option, rest) = options
            .split_at_checked(length)
            .filter(|_| length > 0)
            .ok_or(DropReason::BadTransportHeader)?;
        if *kind == wanted && found.is_none() {
            found = Some(mac_at(option, 2));
        }
        options = rest;
    }
    Ok(found)
}

/// Whether the checksum of an ICMPv6 message is right.
fn has_right_sum(body: &[u8], packet: &Packet) -> bool {
    let length = u32::try_from(body.len()).unwrap_or(0);
    let (from, to) = (packet.source.0, packet.destination.0);
    pseudo_header(false, from, to, ip::ICMPV6, length).bytes(body).checksum() == 0
}

const ALL_NODES: u128 = 0xff02 << 112 | 1;

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    bytes.get(at..at + 6).and_then(|mac| mac.try_into().ok()).unwrap_or_default()
}

/// Back to the MAC that sent it, from `mac`.
fn turn_around(bytes: &mut [u8], mac: Mac) {
    let sender = mac_at(bytes, ethernet::SOURCE);
    put(bytes, ethernet::DESTINATION, &sender);
    put(bytes, ethernet::SOURCE, &mac);
}

fn set_hop_limit(bytes: &mut [u8], packet: &Packet, limit: u8) {
    let Some(header) = bytes.get_mut(packet.l3..) else { return };
    if packet.is_v4() {
        let old = be16(header, ip::v4::TTL);
        let new = u16::from(limit) << 8 | old & 0xff;
        put16(header, ip::v4::TTL, new);
        update(header, ip::v4::CHECKSUM, Delta::default().word(old, new));
    } else {
        put(header, ip::v6::HOP_LIMIT, &[limit]);
    }
}

/// An IPv6 packet with a neighbour advertisement.
pub(super) fn advertisement(target: Address, to: Address, mac: Mac, flags: u8) -> [u8; 72] {
    discovery(icmp::v6::ADVERTISEMENT, (target, to), target, (nd::TARGET_LINK_LAYER, mac), flags)
}

fn discovery(
    kind: u8,
    (from, to): (Address, Address),
    target: Address,
    (option, mac): (u8, Mac),
    flags: u8,
) -> [u8; 72] {
    let mut bytes = [0; 72];
    ip_header(&mut bytes, 0, from, to, ip::ICMPV6, nd::LENGTH);
    bytes[ip::v6::HOP_LIMIT] = 255;
    let body = &mut bytes[ip::v6::LENGTH..];
    body[icmp::TYPE] = kind;
    body[nd::FLAGS] = flags;
    put(body, nd::TARGET, &target.0.to_be_bytes());
    put(body, nd::OPTIONS, &[option, 1]);
    put(body, nd::OPTIONS + 2, &mac);
    let sum = pseudo_header(false, from.0, to.0, ip::ICMPV6, nd::LENGTH as u32).bytes(body);
    put16(body, icmp::CHECKSUM, sum.checksum());
    bytes
}

/// Puts a question for a neighbour in the outbox: ARP, or a solicitation to its solicited-node
/// group (RFC 4291 section 2.7.1). A full outbox drops it; it will be asked again.
pub(super) fn ask_neighbour(
    outbox: &mut Outbox,
    port: PortId,
    mac: Mac,
    source: IpAddr,
    neighbour: IpAddr,
) {
    let mut head = [0; ethernet::LENGTH];
    put(&mut head, ethernet::SOURCE, &mac);
    let verdict = Verdict::Send(port);
    match (source, neighbour) {
        (IpAddr::V4(source), IpAddr::V4(neighbour)) => {
            put(&mut head, ethernet::DESTINATION, &[0xff; 6]);
            put16(&mut head, ethernet::TYPE, ethernet::ARP);
            let packet = arp_packet(arp::REQUEST, (mac, source), ([0; 6], neighbour));
            let _ = outbox.push(&[&head, &packet], Offload::default(), verdict);
        }
        (IpAddr::V6(source), IpAddr::V6(neighbour)) => {
            let [.., a, b, c] = neighbour.octets();
            put(&mut head, ethernet::DESTINATION, &[0x33, 0x33, 0xff, a, b, c]);
            put16(&mut head, ethernet::TYPE, ethernet::IPV6);
            let group =
                0xff02 << 112 | 0x1_ff00_0000 | u128::from(neighbour.to_bits() as u32 & 0xff_ffff);
            let ends = (Address::from(IpAddr::V6(source)), Address::v6(group));
            let target = Address::from(IpAddr::V6(neighbour));
            let option = (nd::SOURCE_LINK_LAYER, mac);
            let packet = discovery(icmp::v6::SOLICITATION, ends, target, option, 0);
            let _ = outbox.push(&[&head, &packet], Offload::default(), verdict);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
}

fn arp_packet(
    operation: u16,
    (sender_mac, sender): (Mac, Ipv4Addr),
    (target_mac, target): (Mac, Ipv4Addr),
) -> [u8; arp::LENGTH] {
    let mut packet = [0; arp::LENGTH];
    put(&mut packet, 0, &arp::PREAMBLE);
    put16(&mut packet, arp::OPERATION, operation);
    put(&mut packet, arp::SENDER_MAC, &sender_mac);
    put(&mut packet, arp::SENDER_ADDRESS, &sender.octets());
    put(&mut packet, arp::TARGET_MAC, &target_mac);
    put(&mut packet, arp::TARGET_ADDRESS, &target.octets());
    packet
}
