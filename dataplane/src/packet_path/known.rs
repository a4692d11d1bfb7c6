//! Packets of known connections: state, timer, counters, and on their way.

use super::client_address::MARKED_PACKETS;
use super::connections::{Direction, Entry, Flags, Meta, Slot, Via};
use super::forward::{
    self,
    nat::{self, Rewrite},
};
use super::ftp;
use super::parse::Packet;
use super::states::{self, Side, tcp};
use super::{Address, DropReason, Frame, PacketPath, Verdict, View, tuple};
use crate::table::{Method, Real};
use crate::wire::ip;

/// Where a client's packet goes: the part of a connection that forwarding needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'a> {
    pub real: &'a Real,
    pub real_port: u16,
    pub via: Via,
    /// Full NAT: the source to send from.
    pub local: Option<(Address, u16)>,
}

impl PacketPath {
    /// The live connection that a packet belongs to. One whose time is up is ended here, before the
    /// sweep gets to it, so that no packet revives it.
    pub(super) fn find(
        &mut self,
        packet: &Packet,
        hash: Option<u64>,
        view: View<'_>,
    ) -> Option<(Slot, super::Direction)> {
        let connections = view.director.connections();
        let reals = view.director.reals();
        let tuple = tuple(packet);
        let hash = hash.unwrap_or_else(|| connections.hash(&tuple));
        let found = connections.find(&tuple, hash, reals);
        let (slot, direction) = match found {
            Some(found) => found,
            None if connections.any_without_client_port() => self.find_expected(view, packet)?,
            None => return None,
        };
        let entry = view.director.connections().entry(slot);
        if entry.expires().is_due(view.now) && entry.controls() == 0 {
            view.director.end(slot, view.now);
            return None;
        }
        Some((slot, direction))
    }

    /// A packet from the client of a known connection.
    pub(super) fn client_packet(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &mut Packet,
        slot: Slot,
    ) -> Result<Verdict, DropReason> {
        let director = view.director;
        let entry = director.connections().entry(slot);
        let meta = entry.meta();
        if meta.flags.has(Flags::DOOMED) {
            if states::is_new_request(packet.protocol, packet.flags) {
                director.end(slot, view.now);
                return self.open(view, frame, *packet);
            }
            return self.last_packet(view, frame, packet, (slot, Direction::Forward));
        }
        let real = view.table.real(entry.real());
        if states::is_new_request(packet.protocol, packet.flags)
            && self.gives_way(view, entry, meta, real.map(|(_, real)| real))
        {
            director.end(slot, view.now);
            return self.open(view, frame, *packet);
        }
        let Some((_, real)) = real else {
            if view.table.is_silent(&packet.destination.ip()) {
                return Err(DropReason::NotMaster);
            }
            if !view.table.tunables.expire_nodest_conn {
                return Err(DropReason::RealServerRemoved);
            }
            director.end(slot, view.now);
            return self.open(view, frame, *packet);
        };
        let [_, _, real_port, local_port] = entry.ports();
        let local = (meta.via == Via::FullNat)
            .then(|| (director.reals().local_address(meta.local), local_port));
        let course = Course { real, real_port, via: meta.via, local };
        self.send_to_real(view, frame, packet, course, Some(slot))
    }

    /// Whether a connection makes room for a new one from the same client port.
    fn gives_way(&self, view: View<'_>, entry: &Entry, meta: Meta, real: Option<&Real>) -> bool {
        let tunables = &view.table.tunables;
        if tunables.expire_nodest_conn && real.is_none_or(|real| real.weight == 0) {
            return true;
        }
        let mode = tunables.conn_reuse_mode;
        mode != 0
            && entry.control().is_none()
            && states::is_reusable(
                meta.protocol,
                meta.state,
                mode,
                meta.flags.has(Flags::NO_OUTPUT),
            )
    }

    /// Sends a client's packet to its real server. `slot` is its connection, unless each packet is
    /// scheduled on its own.
    pub(super) fn send_to_real(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &mut Packet,
        course: Course<'_>,
        slot: Option<Slot>,
    ) -> Result<Verdict, DropReason> {
        let hop = match self.hop_to_real(view, course.real, frame)? {
            Some(hop) => hop,
            None => return Ok(Verdict::Consumed),
        };
        let mtu = match course.real.method {
            Method::Tunnel(tunnel) if course.via == Via::Tunnel => {
                let path = view.director.reals().path_limit(course.real.id, hop.mtu);
                forward::tunnel::inner_mtu(tunnel, course.real.address.is_ipv4(), path)
            }
            Method::Tunnel(_)
            | Method::Nat
            | Method::DirectRouting
            | Method::FullNat
            | Method::Local => hop.mtu,
        };
        let fit = match forward::check(frame, packet, mtu) {
            Ok(fit) => fit,
            Err(refusal) => return self.refuse(view, frame, packet, refusal),
        };
        let new = Rewrite {
            source: course.local,
            destination: Some((Address::from(course.real.address), course.real_port)),
            hops: 1,
        };
        if course.via.rewrites_replies() && !nat::can_rewrite(packet, &new) {
            return Err(DropReason::UnsupportedByMethod);
        }
        if let Some(slot) = slot {
            self.track(view, slot, packet, true);
        }
        self.counters.count_in(course.real.id, packet.ip_length());
        self.remember_fragment(view, packet, course);
        match course.via {
            Via::DirectRouting => {
                forward::decrement_hop_limit(frame.bytes_mut(), packet);
                self.send_fitting(frame, packet, &hop, fit)
            }
            Via::Tunnel => self.send_through_tunnel(view, frame, packet, course, (&hop, fit)),
            Via::Nat | Via::FullNat | Via::Local => {
                if let Some(slot) = slot
                    && packet.protocol == ip::TCP
                {
                    if course.via == Via::FullNat {
                        self.announce_client(view, frame, packet, slot, &hop);
                    } else if packet.destination_port == ftp::CONTROL {
                        self.ftp_from_client(view, frame, packet, slot);
                    }
                }
                nat::rewrite(frame, packet, new);
                self.send_fitting(frame, packet, &hop, fit)
            }
        }
    }

    /// A packet from the real server of a known connection.
    pub(super) fn reply_packet(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &mut Packet,
        slot: Slot,
    ) -> Result<Verdict, DropReason> {
        let director = view.director;
        let entry = director.connections().entry(slot);
        let meta = entry.meta();
        if meta.flags.has(Flags::DOOMED) {
            return self.last_packet(view, frame, packet, (slot, Direction::Reply));
        }
        if !meta.via.rewrites_replies() {
            // A direct-routing reply that happens to pass here is the host's to route.
            self.track(view, slot, packet, false);
            return Ok(Verdict::Host);
        }
        let hop = match self.hop_to_client(
            view,
            meta.peer,
            (entry.client(), entry.virtual_address()),
            frame,
        )? {
            Some(hop) => hop,
            None => return Ok(Verdict::Consumed),
        };
        let fit = match forward::check(frame, packet, hop.mtu) {
            Ok(fit) => fit,
            Err(refusal) => return self.refuse(view, frame, packet, refusal),
        };
        let [client_port, virtual_port, ..] = entry.ports();
        let new = Rewrite {
            source: Some((entry.virtual_address(), virtual_port)),
            destination: (meta.via == Via::FullNat).then(|| (entry.client(), client_port)),
            hops: 1,
        };
        if !nat::can_rewrite(packet, &new) {
            return Err(DropReason::UnsupportedByMethod);
        }
        self.track(view, slot, packet, false);
        self.counters.count_out(entry.real(), packet.ip_length());
        self.remember_reply_fragment(view, packet, slot);
        if Self::is_ftp(meta, virtual_port) {
            self.ftp_from_real(view, frame, packet, slot);
        } else if meta.flags.has(Flags::SHIFTED) {
            self.undo_announcement(view, frame, packet, slot);
        }
        nat::rewrite(frame, packet, new);
        self.send_fitting(frame, packet, &hop, fit)
    }

    /// Moves the state machine, restarts the timer and keeps the counts.
    #[inline(always)]
    pub(super) fn track(&mut self, view: View<'_>, slot: Slot, packet: &Packet, input: bool) {
        let connections = view.director.connections();
        let entry = connections.entry(slot);
        let meta = entry.meta();
        let seen = Seen { input, flags: packet.flags, secure: view.table.tunables.secure_tcp };
        let next = seen.next(meta);
        let moves = next.state != meta.state
            || next.flags.has(Flags::NO_OUTPUT) != meta.flags.has(Flags::NO_OUTPUT);
        let moved = if moves { self.change_state(view, slot, seen) } else { None };
        let state = moved.unwrap_or(next.state);
        let timeout = states::timeout(meta.protocol, state, &view.table.timeouts);
        if !moves && timeout < entry.timeout() {
            connections.wake_by(slot, view.now.after(timeout));
        }
        if input {
            entry.restart(view.now, timeout);
            if meta.flags.has(Flags::YOUNG) {
                grow_up(entry, meta.protocol);
            }
        } else {
            entry.set_timer(view.now, timeout);
            if meta.protocol == ip::UDP {
                assure(view, entry);
            }
        }
    }

    /// The new state, if the connection has not ended.
    fn change_state(&self, view: View<'_>, slot: Slot, seen: Seen) -> Option<u8> {
        let connections = view.director.connections();
        let entry = connections.entry(slot);
        let (before, after) = seen.advance(entry)?;
        let state = after.state;
        connections.changed(slot);
        let was_active = !before.flags.has(Flags::INACTIVE);
        let is_active = !after.flags.has(Flags::INACTIVE);
        if was_active != is_active {
            view.director.reals().shift(entry.real(), is_active);
        }
        if before.protocol == ip::TCP && states::is_half_open(ip::TCP, before.state) {
            match (state, seen.input) {
                (tcp::ESTABLISHED, _) => self.counters.count_handshake(entry.real(), true),
                (tcp::CLOSE, false) => self.counters.count_handshake(entry.real(), false),
                (_, _) => {}
            }
        }
        let timeout = states::timeout(before.protocol, state, &view.table.timeouts);
        connections.wake_by(slot, view.now.after(timeout));
        if before.protocol != ip::UDP && states::is_open(before.protocol, state) {
            assure(view, entry);
        }
        Some(state)
    }
}

/// What moves the state of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// From the client.
    pub input: bool,
    /// Of a TCP segment, or the type of an SCTP chunk.
    pub flags: u8,
    /// Whether `secure_tcp` is on.
    pub secure: bool,
}

impl Seen {
    /// What becomes of a connection.
    #[inline(always)]
    fn next(self, meta: Meta) -> Meta {
        let (side, flags) = match (self.input, meta.flags.has(Flags::NO_OUTPUT)) {
            (true, true) => (Side::InputOnly, meta.flags),
            (true, false) => (Side::Input, meta.flags),
            (false, _) => (Side::Output, meta.flags.without(Flags::NO_OUTPUT)),
        };
        let state = states::next(meta.protocol, side, self.secure, self.flags, meta.state);
        let flags = if states::is_active(meta.protocol, state) {
            flags.without(Flags::INACTIVE)
        } else {
            flags.with(Flags::INACTIVE)
        };
        Meta { state, flags, ..meta }
    }

    /// Moves a connection on from the state that it is in now: another worker may have moved it since
    /// this one looked. What it was and what it is, unless it has ended.
    pub(super) fn advance(self, entry: &Entry) -> Option<(Meta, Meta)> {
        let alive = |meta: Meta| !meta.flags.has(Flags::DEAD);
        let before = entry.update_meta(|meta| alive(meta).then(|| self.next(meta))).ok()?;
        Some((before, self.next(before)))
    }
}

/// After so many packets a connection is not young any more: a second datagram is more than a flood
/// sends from one source, and a TCP client has been named often enough.
fn grow_up(entry: &Entry, protocol: u8) {
    let few = if protocol == ip::UDP { 1 } else { MARKED_PACKETS };
    if entry.packets() > few {
        let grown = |m: Meta| Some(Meta { flags: m.flags.without(Flags::YOUNG), ..m });
        let _ = entry.update_meta(grown);
    }
}

/// A connection that was really used vouches for its template.
pub(super) fn assure(view: View<'_>, entry: &Entry) {
    let control = entry.control();
    let template = control.and_then(|slot| view.director.controller(slot, entry.real()));
    let Some(template) = template else { return };
    let flags = template.meta().flags;
    if flags.has(Flags::TEMPLATE) && !flags.has(Flags::ASSURED) {
        let _ = template.update_meta(|m| Some(Meta { flags: m.flags.with(Flags::ASSURED), ..m }));
    }
}
