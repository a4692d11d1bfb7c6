//! Fragments follow their first part: it has the ports, they have only an identification.
//!
//! The table of datagrams under way is shared by all workers, since a network card may hand the
//! parts of one datagram to different queues. Fragments are rare, so a lock is good enough.

use super::connections::{Meta, Slot, Via};
use super::forward;
use super::forward::nat::{self, Rewrite};
use super::known::Course;
use super::outbox::OwnFrame;
use super::parse::{Fragment, Packet};
use super::{Address, DropReason, Frame, PacketPath, Verdict, View};
use crate::table::RealId;
use crate::tick::{Tick, Ticks};
use std::collections::{BTreeMap, VecDeque};

/// How long the rest of a datagram is waited for (Linux's `ipfrag_time`).
const LIFETIME: Ticks = Ticks::from_secs(30);
/// How long a part waits for the first one.
const PATIENCE: Ticks = Ticks::from_secs(2);
/// Datagrams under way at most; when there are more, the oldest is forgotten.
const MOST_DATAGRAMS: usize = 4096;
/// Parts kept back at most by one worker; further ones are dropped.
const MOST_HELD: usize = 128;

/// What the parts of one datagram have in common (RFC 791 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Datagram {
    source: Address,
    destination: Address,
    id: u32,
    protocol: u8,
}

/// Where the first part went.
#[derive(Clone, Copy, Debug)]
enum Trail {
    /// To the host's own stack: no service and no connection wanted it.
    Host,
    /// To a real server, or back to a client.
    Forward(Forward),
}

/// A way through the director.
#[derive(Clone, Copy, Debug)]
struct Forward {
    real: RealId,
    via: Via,
    /// New addresses of the following parts.
    source: Option<Address>,
    destination: Option<Address>,
    /// The client and its return MAC's number, when the datagram is a reply. The connection itself may
    /// end before its last fragment comes.
    client: Option<(Address, u16)>,
}

/// Datagrams under way.
#[derive(Debug, Default)]
pub(super) struct Trails {
    known: BTreeMap<Datagram, (Tick, Trail)>,
    /// The same in the order in which they expire, so that a flood of first parts costs little.
    order: VecDeque<(Tick, Datagram)>,
}

impl Trails {
    /// Forgets what has expired. An entry that stayed much longer would look new again.
    pub fn expire(&mut self, now: Tick) {
        self.forget(|expires, _| expires.is_due(now));
    }

    fn remember(&mut self, datagram: Datagram, trail: Trail, now: Tick) {
        self.expire(now);
        if let Some((_, known)) = self.known.get_mut(&datagram) {
            // The first part came once more.
            *known = trail;
            return;
        }
        self.forget(|_, many| many >= MOST_DATAGRAMS);
        let expires = now.after(LIFETIME);
        self.known.insert(datagram, (expires, trail));
        self.order.push_back((expires, datagram));
    }

    /// Forgets the oldest as long as `when`, given when it expires and how many there are, says so.
    fn forget(&mut self, when: impl Fn(Tick, usize) -> bool) {
        while let Some((expires, oldest)) = self.order.front()
            && when(*expires, self.order.len())
        {
            self.known.remove(oldest);
            self.order.pop_front();
        }
    }

    fn get(&self, datagram: &Datagram, now: Tick) -> Option<Trail> {
        let (expires, trail) = self.known.get(datagram)?;
        (!expires.is_due(now)).then_some(*trail)
    }
}

/// Parts that came before the first one.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<(Tick, Datagram, OwnFrame)>);

fn datagram(packet: &Packet, id: u32) -> Datagram {
    Datagram {
        source: packet.source,
        destination: packet.destination,
        id,
        protocol: packet.protocol,
    }
}

impl PacketPath {
    /// Notes where the first part of a datagram to a real server goes.
    #[inline]
    pub(super) fn remember_fragment(
        &mut self,
        view: View<'_>,
        packet: &Packet,
        course: Course<'_>,
    ) {
        if let Fragment::First { id } = packet.fragment {
            let rewrites = course.via.rewrites_replies();
            let trail = Forward {
                real: course.real.id,
                via: course.via,
                source: course.local.map(|(address, _)| address),
                destination: rewrites.then(|| course.real.address.into()),
                client: None,
            };
            self.leave_trail(view, datagram(packet, id), Trail::Forward(trail));
        }
    }

    /// Notes where the first part of a reply goes.
    #[inline]
    pub(super) fn remember_reply_fragment(&mut self, view: View<'_>, packet: &Packet, slot: Slot) {
        if let Fragment::First { id } = packet.fragment {
            let entry = view.director.connections().entry(slot);
            let Meta { via, peer, .. } = entry.meta();
            let trail = Forward {
                real: entry.real(),
                via,
                source: Some(entry.virtual_address()),
                destination: (via == Via::FullNat).then(|| entry.client()),
                client: Some((entry.client(), peer)),
            };
            self.leave_trail(view, datagram(packet, id), Trail::Forward(trail));
        }
    }

    /// Notes that a first part is the host's. It has to get the others, too: what is owned, and what
    /// real servers send, is taken from it as long as there are no ports to tell by.
    pub(super) fn remember_host_fragment(&mut self, view: View<'_>, packet: &Packet) {
        if let Fragment::First { id } = packet.fragment {
            self.leave_trail(view, datagram(packet, id), Trail::Host);
        }
    }

    fn leave_trail(&mut self, view: View<'_>, datagram: Datagram, trail: Trail) {
        view.director.trails().remember(datagram, trail, view.now);
        self.first_parts_seen |= !self.held.0.is_empty();
    }

    /// A later part of a datagram.
    pub(super) fn follow_fragment(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: Packet,
    ) -> Result<Verdict, DropReason> {
        let (Fragment::Later { id } | Fragment::First { id }) = packet.fragment else {
            return Ok(Verdict::Host);
        };
        let datagram = datagram(&packet, id);
        let trail = view.director.trails().get(&datagram, view.now);
        match trail {
            Some(Trail::Host) => Ok(Verdict::Host),
            Some(Trail::Forward(trail)) => self.follow(view, frame, packet, trail),
            None => self.hold(view, frame, &packet, datagram),
        }
    }

    fn follow(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        mut packet: Packet,
        trail: Forward,
    ) -> Result<Verdict, DropReason> {
        let (_, real) = view.table.real(trail.real).ok_or(DropReason::RealServerRemoved)?;
        let hop = match trail.client {
            Some((client, peer)) => {
                let from = trail.source.unwrap_or(packet.source);
                self.hop_to_client(view, peer, (client, from), frame)?
            }
            None => self.hop_to_real(view, real, frame)?,
        };
        let Some(hop) = hop else { return Ok(Verdict::Consumed) };
        let fit = match forward::check(frame, &packet, hop.mtu) {
            Ok(fit) => fit,
            Err(refusal) => return self.refuse(view, frame, &packet, refusal),
        };
        let length = packet.ip_length();
        match trail.client {
            Some(_) => self.counters.count_out(trail.real, length),
            None => self.counters.count_in(trail.real, length),
        }
        if trail.client.is_none() && trail.via == Via::Tunnel {
            let course = Course { real, real_port: 0, via: Via::Tunnel, local: None };
            return self.send_through_tunnel(view, frame, &packet, course, (&hop, fit));
        }
        let new = Rewrite {
            source: trail.source.map(|address| (address, 0)),
            destination: trail.destination.map(|address| (address, 0)),
            hops: 1,
        };
        nat::rewrite(frame, &mut packet, new);
        self.send_fitting(frame, &packet, &hop, fit)
    }

    /// Keeps a part until the first one comes, if it can be ours at all.
    fn hold(
        &mut self,
        view: View<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        datagram: Datagram,
    ) -> Result<Verdict, DropReason> {
        let ours = view.table.owned(&packet.destination.ip()).is_some()
            || view.table.is_real_address(&packet.source.ip());
        if !ours {
            return Ok(Verdict::Host);
        }
        if self.held.0.len() >= MOST_HELD {
            return Err(DropReason::FragmentQueueFull);
        }
        let copy = self.outbox.copy_of(frame).ok_or(DropReason::FragmentQueueFull)?;
        self.held.0.push((view.now.after(PATIENCE), datagram, copy));
        Ok(Verdict::Consumed)
    }

    /// Takes up parts whose first one has come, and drops those that have waited too long.
    pub(super) fn retry_held(&mut self, view: View<'_>) {
        if self.held.0.is_empty() {
            return;
        }
        self.first_parts_seen = false;
        for (until, datagram, own) in std::mem::take(&mut self.held.0) {
            let known = view.director.trails().get(&datagram, view.now).is_some();
            if known {
                self.judge_again(view, own);
            } else if until.is_due(view.now) {
                self.outbox.discard(own);
                self.count_drop(DropReason::OrphanFragment);
            } else {
                self.held.0.push((until, datagram, own));
            }
        }
    }
}
