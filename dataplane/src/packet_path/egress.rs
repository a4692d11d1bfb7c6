//! The last step: a judged packet leaves whole, in fragments, or inside a tunnel.

use super::forward::{self, Fit, split, tunnel};
use super::known::Course;
use super::outbox::Outbox;
use super::parse::Packet;
use super::{Address, DropReason, Frame, PacketPath, Verdict, View};
use crate::frame::{Offload, Segmentation};
use crate::table::{Hop, Method, Real, Tunnel};
use crate::wire::{ethernet, put, put16};

impl PacketPath {
    /// Sends a rewritten packet, in fragments if it must be.
    #[inline]
    pub(super) fn send_fitting(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hop: &Hop,
        fit: Fit,
    ) -> Result<Verdict, DropReason> {
        match fit {
            Fit::Whole => forward::send(frame, packet.l3, hop),
            Fit::Fragments(mtu) => self.send_fragments(frame, packet, hop, mtu),
        }
    }

    fn send_fragments(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hop: &Hop,
        mtu: u16,
    ) -> Result<Verdict, DropReason> {
        split::finish_checksum(frame, packet);
        let whole = frame.bytes().get(packet.l3..packet.end).unwrap_or_default();
        let (outbox, mut complete) = (&mut self.outbox, true);
        split::fragments(whole, mtu, &mut self.piece, |piece| {
            complete &= push_ip(outbox, hop, &[], piece);
        });
        if complete { Ok(Verdict::Consumed) } else { Err(DropReason::TransmitQueueFull) }
    }

    /// Wraps a packet for a tunnel's real server and sends it. Super-frames are cut first: what the
    /// network card would make of them inside a tunnel cannot be told it.
    pub(super) fn send_through_tunnel(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        course: Course<'_>,
        (hop, fit): (&Hop, Fit),
    ) -> Result<Verdict, DropReason> {
        let Method::Tunnel(kind) = course.real.method else {
            return Err(DropReason::UnsupportedByMethod);
        };
        forward::decrement_hop_limit(frame.bytes_mut(), packet);
        let outer = self.outer(view, packet, course.real)?;
        if frame.offload.segmentation != Segmentation::None {
            let (outbox, mut complete) = (&mut self.outbox, true);
            split::segments(frame, packet, &mut self.piece, |piece| {
                complete &= push_ip(outbox, hop, &tunnel::headers(kind, piece, &outer), piece);
            });
            return if complete {
                Ok(Verdict::Consumed)
            } else {
                Err(DropReason::TransmitQueueFull)
            };
        }
        split::finish_checksum(frame, packet);
        match fit {
            Fit::Whole => wrap(frame, packet, (kind, &outer), hop),
            Fit::Fragments(mtu) => {
                let whole = frame.bytes().get(packet.l3..packet.end).unwrap_or_default();
                let (outbox, mut complete) = (&mut self.outbox, true);
                split::fragments(whole, mtu, &mut self.piece, |piece| {
                    complete &= push_ip(outbox, hop, &tunnel::headers(kind, piece, &outer), piece);
                });
                if complete { Ok(Verdict::Consumed) } else { Err(DropReason::TransmitQueueFull) }
            }
        }
    }

    /// An ICMP error for a real server behind a tunnel goes the way of its connection's packets.
    pub(super) fn error_into_tunnel(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        real: &Real,
        hop: &Hop,
    ) -> Result<Verdict, DropReason> {
        let Method::Tunnel(kind) = real.method else {
            return Err(DropReason::UnsupportedByMethod);
        };
        forward::decrement_hop_limit(frame.bytes_mut(), packet);
        let outer = self.outer(view, packet, real)?;
        split::finish_checksum(frame, packet);
        wrap(frame, packet, (kind, &outer), hop)
    }

    fn outer(
        &mut self,
        view: View<'_>,
        packet: &Packet,
        real: &Real,
    ) -> Result<tunnel::Outer, DropReason> {
        let source = view.hops.source_for(&real.address).ok_or(DropReason::NoRoute)?;
        self.tunnel_id = self.tunnel_id.wrapping_add(1);
        Ok(tunnel::Outer {
            source: source.into(),
            destination: Address::from(real.address),
            id: self.tunnel_id,
            flow: flow_hash(packet),
            discover_mtu: view.table.tunables.pmtu_disc,
        })
    }
}

/// Puts the tunnel's headers before the packet, in its own buffer.
fn wrap(
    frame: &mut Frame<'_>,
    packet: &Packet,
    (kind, outer): (Tunnel, &tunnel::Outer),
    hop: &Hop,
) -> Result<Verdict, DropReason> {
    let length = tunnel::length(kind, outer.destination.is_v4());
    // Ethernet padding must not end up behind the inner packet.
    frame.set_len(packet.end).ok_or(DropReason::NoHeadroom)?;
    frame.pull_front(packet.l3).ok_or(DropReason::NoHeadroom)?;
    frame.push_front(length + ethernet::LENGTH).ok_or(DropReason::NoHeadroom)?;
    let bytes = frame.bytes_mut().get_mut(ethernet::LENGTH..).unwrap_or_default();
    let (head, inner) = bytes.split_at_mut_checked(length).ok_or(DropReason::NoHeadroom)?;
    tunnel::write(kind, head, inner, outer);
    forward::send(frame, ethernet::LENGTH, hop)
}

/// Puts an IP packet in the outbox. `false` when it is full.
fn push_ip(outbox: &mut Outbox, hop: &Hop, headers: &[u8], packet: &[u8]) -> bool {
    let first = headers.first().or(packet.first()).copied().unwrap_or(0);
    let mut head = [0; ethernet::LENGTH];
    put(&mut head, ethernet::DESTINATION, &hop.macs);
    let kind = if first >> 4 == 6 { ethernet::IPV6 } else { ethernet::IPV4 };
    put16(&mut head, ethernet::TYPE, kind);
    outbox.push(&[&head, headers, packet], Offload::default(), Verdict::Send(hop.port))
}

/// Spreads flows over a tunnel's source ports; the same for all packets of a flow.
#[inline(always)]
pub(super) fn flow_hash(packet: &Packet) -> u32 {
    let ports = u64::from(packet.source_port) << 16 | u64::from(packet.destination_port);
    let mixed = (packet.source.0 as u64 ^ ports).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u32
}
