//! ICMP: errors about connections are translated and delivered in both directions (RFC 5508), and
//! senders of packets that cannot go on are told why.

use super::answer::reply_with;
use super::connections::{Direction, Slot, Tuple, Via};
use super::forward::nat::{self, Rewrite};
use super::forward::{self, Refusal};
use super::outbox::Outbox;
use super::parse::{self, Fragment, Packet};
use super::{Address, DropReason, Frame, PacketPath, Verdict, View, tuple};
use crate::table::{Family, Hop, Method, Real, Service};
use crate::tick::{PER_SECOND, Tick};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::icmp;
use crate::wire::ip::{self, v4, v6};
use crate::wire::transport::{sctp, tcp, udp};
use crate::wire::{be16, be32, byte, ethernet, put, put16, put32};
use std::sync::Arc;

/// Bytes of the offending packet quoted over IPv4, so that the error fits 576 (RFC 1812 section
/// 4.3.2.3), and over IPv6, so that it fits 1280 (RFC 4443 section 2.4).
const QUOTE_V4: usize = 576 - v4::LENGTH - icmp::LENGTH;
const QUOTE_V6: usize = 1280 - v6::LENGTH - icmp::LENGTH;
/// Errors sent per second at most by one worker (RFC 1812 section 4.3.2.8 asks for a limit).
const ERRORS_PER_SECOND: u32 = 1000;

/// Counts what was done in the current second of the clock.
#[derive(Debug, Default)]
pub(super) struct PerSecond {
    /// Told from others by its number alone: a comparison would take one of long ago for the future.
    second: u32,
    spent: u32,
}

impl PerSecond {
    /// Whether there is room for one more of `limit`.
    pub(super) fn spend(&mut self, now: Tick, limit: u32) -> bool {
        let second = now.0 / PER_SECOND;
        if self.second != second {
            *self = Self { second, spent: 0 };
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= limit
    }
}

impl PacketPath {
    /// An ICMP packet of either family.
    pub(super) fn icmp(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: Packet,
    ) -> Result<Verdict, DropReason> {
        let kind = byte(frame.bytes(), packet.l4 + icmp::TYPE);
        if packet.is_v4() != (packet.protocol == ip::ICMP) {
            return Ok(Verdict::Host);
        }
        if !packet.is_v4() && matches!(kind, icmp::v6::SOLICITATION | icmp::v6::ADVERTISEMENT) {
            return Ok(self.answer_discovery(view, frame, &packet));
        }
        if view.table.is_silent(&packet.destination.ip()) {
            return Err(DropReason::NotMaster);
        }
        let echo = if packet.is_v4() { icmp::v4::ECHO } else { icmp::v6::ECHO };
        if kind == echo && packet.fragment == Fragment::Whole {
            return Ok(self.answer_ping(view, frame, &packet).unwrap_or(Verdict::Host));
        }
        if !is_error(packet.is_v4(), kind) {
            return Ok(Verdict::Host);
        }
        let end = packet.end.min(frame.len());
        let quoted = frame.bytes().get(..end).unwrap_or_default();
        let Some(inner) = parse::embedded(quoted, packet.l4 + icmp::LENGTH, packet.is_v4()) else {
            return Ok(Verdict::Host);
        };
        if self.is_about_tunnel(view, frame, &packet, &inner) {
            return Ok(Verdict::Host);
        }
        let reversed = tuple(&inner).reversed();
        match self.lookup(view, &reversed) {
            // No error is sent about an error.
            Some(_) if !forward::may_hop(frame.bytes(), &packet) => Err(DropReason::TtlExceeded),
            Some((slot, Direction::Forward)) => {
                self.error_to_real(view, frame, packet, inner, slot)
            }
            Some((slot, Direction::Reply)) => {
                self.error_to_client(view, frame, packet, inner, slot)
            }
            None if view.table.owned(&packet.destination.ip()).is_some() => {
                Err(DropReason::UnrelatedIcmp)
            }
            None => Ok(Verdict::Host),
        }
    }

    fn lookup(&self, view: View<'_>, tuple: &Tuple) -> Option<(Slot, Direction)> {
        let connections = view.director.connections();
        connections.find(tuple, connections.hash(tuple), view.director.reals())
    }

    /// An error about a packet that went to the client: the real server must learn of it.
    fn error_to_real(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        mut packet: Packet,
        mut inner: Packet,
        slot: Slot,
    ) -> Result<Verdict, DropReason> {
        let entry = view.director.connections().entry(slot);
        let (_, real) = view.table.real(entry.real()).ok_or(DropReason::RealServerRemoved)?;
        let Some(hop) = self.hop_to_real(view, real, frame)? else {
            return Ok(Verdict::Consumed);
        };
        self.counters.count_in(real.id, packet.ip_length());
        let meta = entry.meta();
        match meta.via {
            Via::DirectRouting => return forward::direct_routing::forward(frame, &packet, &hop),
            Via::Tunnel => return self.error_into_tunnel(view, frame, &packet, real, &hop),
            Via::Nat | Via::FullNat | Via::Local => {}
        }
        let [_, _, real_port, local_port] = entry.ports();
        let address = Address::from(real.address);
        let local = (meta.via == Via::FullNat)
            .then(|| (view.director.reals().local_address(meta.local), local_port));
        let inner_new = Rewrite { source: Some((address, real_port)), destination: local, hops: 0 };
        rewrite_quoted(frame, &mut inner, inner_new);
        if local.is_some() {
            raise_mtu(frame.bytes_mut(), &packet);
        }
        let source = local.map(|(address, _)| (address, 0));
        let outer = Rewrite { source, destination: Some((address, 0)), hops: 1 };
        nat::rewrite(frame, &mut packet, outer);
        self.finish_error(frame, &packet, &hop)
    }

    /// An error about a packet that went to the real server: the client must learn of it.
    fn error_to_client(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        mut packet: Packet,
        mut inner: Packet,
        slot: Slot,
    ) -> Result<Verdict, DropReason> {
        let entry = view.director.connections().entry(slot);
        let meta = entry.meta();
        if !meta.via.rewrites_replies() {
            return Ok(Verdict::Host);
        }
        let Some(hop) =
            self.hop_to_client(view, meta.peer, (entry.client(), entry.virtual_address()), frame)?
        else {
            return Ok(Verdict::Consumed);
        };
        self.counters.count_out(entry.real(), packet.ip_length());
        let [client_port, virtual_port, ..] = entry.ports();
        let client = (meta.via == Via::FullNat).then(|| (entry.client(), client_port));
        let virtual_end = Some((entry.virtual_address(), virtual_port));
        let inner_new = Rewrite { source: client, destination: virtual_end, hops: 0 };
        rewrite_quoted(frame, &mut inner, inner_new);
        let outer = Rewrite {
            source: Some((entry.virtual_address(), 0)),
            destination: client.map(|(address, _)| (address, 0)),
            hops: 1,
        };
        nat::rewrite(frame, &mut packet, outer);
        self.finish_error(frame, &packet, &hop)
    }

    fn finish_error(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hop: &Hop,
    ) -> Result<Verdict, DropReason> {
        icmp_checksum(frame.bytes_mut(), packet);
        frame.offload.partial_checksum = false;
        forward::send(frame, packet.l3, hop)
    }

    /// Tells the sender why its packet cannot go on, and counts the packet as dropped.
    pub(super) fn refuse(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        refusal: Refusal,
    ) -> Result<Verdict, DropReason> {
        let (kind, code, rest) = match (refusal, packet.is_v4()) {
            (Refusal::TtlExceeded, true) => (icmp::v4::TIME_EXCEEDED, 0, 0),
            (Refusal::TtlExceeded, false) => (icmp::v6::TIME_EXCEEDED, 0, 0),
            (Refusal::TooBig { mtu }, true) => {
                (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED, u32::from(mtu))
            }
            (Refusal::TooBig { mtu }, false) => (icmp::v6::TOO_BIG, 0, u32::from(mtu.max(1280))),
        };
        self.send_error(view, frame, packet, (kind, code, rest), refusal.reason())
    }

    /// No real server takes the packet: port unreachable (IPVS), unless it may be for the host.
    pub(super) fn without_real(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        service: &Arc<Service>,
    ) -> Result<Verdict, DropReason> {
        if service.key.port() == 21 && packet.destination_port != 21 {
            return Ok(Verdict::Host);
        }
        self.port_unreachable(view, frame, packet, DropReason::NoRealServer)
    }

    /// Answers a packet with "port unreachable".
    pub(super) fn port_unreachable(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        reason: DropReason,
    ) -> Result<Verdict, DropReason> {
        let error = if packet.is_v4() {
            (icmp::v4::UNREACHABLE, icmp::v4::PORT, 0)
        } else {
            (icmp::v6::UNREACHABLE, icmp::v6::PORT, 0)
        };
        self.send_error(view, frame, packet, error, reason)
    }

    /// Replaces the packet by an ICMP error to its sender. None is sent about later fragments, about
    /// errors, to addresses that are not one host's, or beyond the budget (RFC 1122 section 3.2.2).
    fn send_error(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        (kind, code, rest): (u8, u8, u32),
        reason: DropReason,
    ) -> Result<Verdict, DropReason> {
        let later = matches!(packet.fragment, Fragment::Later { .. });
        if later
            || !is_one_host(packet.source)
            || !self.error_budget.spend(view.now, ERRORS_PER_SECOND)
        {
            return Err(reason);
        }
        let info = view.hops.port(frame.ingress).ok_or(reason)?;
        let from = error_source(view, frame, packet).ok_or(reason)?;
        self.count_drop(reason);
        let (most, protocol) =
            if packet.is_v4() { (QUOTE_V4, ip::ICMP) } else { (QUOTE_V6, ip::ICMPV6) };
        let end = packet.end.min(packet.l3 + most);
        let quoted = frame.bytes().get(packet.l3..end).unwrap_or_default();
        let mut copy = [0; QUOTE_V6];
        let quoted_length = quoted.len();
        put(&mut copy, 0, quoted);
        let quoted = copy.get(..quoted_length).unwrap_or_default();
        let header = error_header((kind, code, rest), (from, packet.source), quoted);
        reply_with(frame, packet, (from, packet.source, protocol), &[&header, quoted], info.mac)
    }

    /// An error about an encapsulated packet that the director sent, which its source address must
    /// show: the tunnel's path carries less than was thought. The limit is kept for every tunnel to
    /// the address, and when enough of the client's packet is quoted the client is told at once.
    fn is_about_tunnel(
        &mut self,
        view: View<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        outer: &Packet,
    ) -> bool {
        if !view.hops.is_local(&packet.destination.ip()) {
            return false;
        }
        let target = outer.destination.ip();
        let tunnels = || {
            view.table.reals_at(&target).filter_map(|(service, real)| match real.method {
                Method::Tunnel(tunnel) => Some((service, real, tunnel)),
                Method::Nat | Method::DirectRouting | Method::FullNat | Method::Local => None,
            })
        };
        let carries = |tunnel| forward::tunnel::is_carrier(tunnel, outer);
        let Some((_, real, tunnel)) = tunnels().find(|(.., tunnel)| carries(*tunnel)) else {
            return false;
        };
        if view.hops.source_for(&target) != Some(outer.source.ip()) {
            return false;
        }
        let header = frame.bytes().get(packet.l4..).unwrap_or_default();
        let mtu = match (packet.is_v4(), byte(header, icmp::TYPE), byte(header, icmp::CODE)) {
            (true, icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED) => {
                u32::from(be16(header, icmp::MTU_V4))
            }
            (false, icmp::v6::TOO_BIG, _) => be32(header, icmp::MTU_V6),
            _ => return true,
        };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let (reals, outer_is_v4) = (view.director.reals(), target.is_ipv4());
        for (service, real, tunnel) in tunnels() {
            let inner_is_v4 = service.key.family() == Family::V4;
            let least = forward::tunnel::least_path(tunnel, outer_is_v4, inner_is_v4);
            reals.limit_path(real.id, mtu.max(least), view.now);
        }
        let limit = reals.path_limit(real.id, mtu.max(ip::least_path(outer_is_v4)));
        let inner_mtu = forward::tunnel::inner_mtu(tunnel, outer_is_v4, limit);
        self.tell_client(view, frame, packet, outer, (real, inner_mtu));
        true
    }

    fn tell_client(
        &mut self,
        view: View<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        outer: &Packet,
        (real, mtu): (&Real, u16),
    ) {
        let Method::Tunnel(tunnel) = real.method else { return };
        let end = packet.end.min(frame.len());
        let quoted = frame.bytes().get(..end).unwrap_or_default();
        let inner_at = outer.l4 + forward::tunnel::shim_length(tunnel);
        let is_v4 = byte(quoted, inner_at) >> 4 == 4;
        let Some(inner) = parse::embedded(quoted, inner_at, is_v4) else { return };
        if self.lookup(view, &tuple(&inner)).is_none()
            || !self.error_budget.spend(view.now, ERRORS_PER_SECOND)
        {
            return;
        }
        let flow = view.hops.flow(inner.source, inner.destination, frame.ingress);
        let Ok(hop) = view.hops.resolve(flow) else { return };
        let (protocol, error) = if is_v4 {
            let needed = icmp::v4::FRAGMENTATION_NEEDED;
            (ip::ICMP, (icmp::v4::UNREACHABLE, needed, u32::from(mtu)))
        } else {
            (ip::ICMPV6, (icmp::v6::TOO_BIG, 0, u32::from(mtu.max(1280))))
        };
        let end = end.min(inner_at + QUOTE_V4);
        let quote = quoted.get(inner_at..end).unwrap_or_default();
        let ends = (inner.destination, inner.source);
        let header = error_header(error, ends, quote);
        push_packet(&mut self.outbox, &hop, ends, protocol, &[&header, quote]);
    }
}

/// Puts a packet made here in the outbox; when that is full it is lost, as ICMP may be.
pub(super) fn push_packet(
    outbox: &mut Outbox,
    hop: &Hop,
    (from, to): (Address, Address),
    protocol: u8,
    parts: &[&[u8]],
) {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let header = if from.is_v4() { v4::LENGTH } else { v6::LENGTH };
    let mut head = [0; ethernet::LENGTH + v6::LENGTH];
    put(&mut head, ethernet::DESTINATION, &hop.macs);
    let kind = if from.is_v4() { ethernet::IPV4 } else { ethernet::IPV6 };
    put16(&mut head, ethernet::TYPE, kind);
    super::answer::ip_header(&mut head, ethernet::LENGTH, from, to, protocol, body);
    let head = head.get(..ethernet::LENGTH + header).unwrap_or_default();
    let mut all: arrayvec::ArrayVec<&[u8], 8> = arrayvec::ArrayVec::new();
    all.push(head);
    all.extend(parts.iter().copied().take(7));
    let _ = outbox.push(&all, super::Offload::default(), Verdict::Send(hop.port));
}

fn error_header(
    (kind, code, rest): (u8, u8, u32),
    (from, to): (Address, Address),
    quoted: &[u8],
) -> [u8; icmp::LENGTH] {
    let mut header = [kind, code, 0, 0, 0, 0, 0, 0];
    put32(&mut header, 4, rest);
    let sum = if from.is_v4() {
        Sum::default()
    } else {
        let length = u32::try_from(icmp::LENGTH + quoted.len()).unwrap_or(0);
        pseudo_header(false, from.0, to.0, ip::ICMPV6, length)
    };
    let checksum = sum.bytes(&header).bytes(quoted).checksum();
    put16(&mut header, icmp::CHECKSUM, checksum);
    header
}

fn is_error(v4: bool, kind: u8) -> bool {
    if v4 {
        matches!(kind, icmp::v4::UNREACHABLE | icmp::v4::SOURCE_QUENCH | icmp::v4::TIME_EXCEEDED)
    } else {
        kind < icmp::v6::FIRST_INFORMATIONAL
    }
}

fn is_one_host(address: Address) -> bool {
    match address.ip() {
        std::net::IpAddr::V4(a) => {
            !a.is_multicast() && !a.is_broadcast() && !a.is_unspecified() && !a.is_loopback()
        }
        std::net::IpAddr::V6(a) => !a.is_multicast() && !a.is_unspecified() && !a.is_loopback(),
    }
}

/// The address that an error comes from: the one that was asked, when the director owns it, else
/// the director's own on that side.
fn error_source(view: View<'_>, frame: &Frame<'_>, packet: &Packet) -> Option<Address> {
    if view.table.owned(&packet.destination.ip()).is_some() {
        return Some(packet.destination);
    }
    let family = packet.destination.family();
    let info = view.hops.port(frame.ingress)?;
    let own = info.addresses.iter().map(|prefix| Address::from(prefix.address));
    own.into_iter().find(|address| address.family() == family).or(Some(packet.destination))
}

/// Raises the MTU that a "too big" tells of to what every path carries. Behind full NAT all clients
/// are one address of the director to a real server, which would make its packets to all of them as
/// small as whoever forges an error likes.
fn raise_mtu(bytes: &mut [u8], packet: &Packet) {
    let Some(header) = bytes.get_mut(packet.l4..) else { return };
    match (packet.is_v4(), byte(header, icmp::TYPE), byte(header, icmp::CODE)) {
        (true, icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED) => {
            let mtu = be16(header, icmp::MTU_V4).max(ip::least_path(true));
            put16(header, icmp::MTU_V4, mtu);
        }
        (false, icmp::v6::TOO_BIG, _) => {
            let mtu = be32(header, icmp::MTU_V6).max(u32::from(ip::least_path(false)));
            put32(header, icmp::MTU_V6, mtu);
        }
        _ => {}
    }
}

/// Rewrites the packet quoted in an error. Its checksums are brought up to date as far as they are
/// quoted; whoever reads the error does not verify them.
fn rewrite_quoted(frame: &mut Frame<'_>, inner: &mut Packet, new: Rewrite) {
    let at = match inner.protocol {
        ip::TCP => tcp::CHECKSUM,
        ip::UDP => udp::CHECKSUM,
        _ => sctp::LENGTH,
    };
    // What is not quoted reads as zero and is not written, so a short quote needs no special case;
    // SCTP's sum over a quote would be wrong, so it stays as the sender had it.
    let sctp_sum = be32(frame.bytes(), inner.l4 + sctp::CHECKSUM);
    let quoted_sum = inner.l4 + at + 2 <= frame.len();
    let offload = std::mem::take(&mut frame.offload);
    nat::rewrite(frame, inner, new);
    frame.offload = offload;
    if inner.protocol == ip::SCTP && quoted_sum {
        put32(frame.bytes_mut(), inner.l4 + sctp::CHECKSUM, sctp_sum);
    }
}

/// Computes an ICMP packet's checksum anew.
pub(super) fn icmp_checksum(bytes: &mut [u8], packet: &Packet) {
    put16(bytes, packet.l4 + icmp::CHECKSUM, 0);
    let body = bytes.get(packet.l4..packet.end).unwrap_or_default();
    let sum = if packet.is_v4() {
        Sum::default()
    } else {
        let length = u32::try_from(body.len()).unwrap_or(0);
        pseudo_header(false, packet.source.0, packet.destination.0, ip::ICMPV6, length)
    };
    let checksum = sum.bytes(body).checksum();
    put16(bytes, packet.l4 + icmp::CHECKSUM, checksum);
}
