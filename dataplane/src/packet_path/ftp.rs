//! FTP under NAT (RFC 959, RFC 2428): the control connection names addresses and ports of data
//! connections in its text. They are read, rewritten where they are the real server's, and the data
//! connection is prepared before its first packet comes (IPVS's `ip_vs_ftp`).

use super::connections::{Flags, Meta, NewConnection, Slot, Tuple, Via};
use super::forward::split;
use super::parse::Packet;
use super::sequence::{self, Shifts};
use super::states::tcp as state;
use super::{Address, Direction, Frame, PacketPath, View};
use crate::tick::Ticks;
use crate::wire::transport::tcp;
use crate::wire::{be32, byte, ip, put16};
use std::net::IpAddr;

/// The control port; the only one that is read.
pub const CONTROL: u16 = 21;
/// How long a data connection is waited for (IPVS: LISTEN).
const LISTEN_FOR: Ticks = Ticks::from_secs(120);
/// Longest reply or command that is looked at, in bytes; RFC 959's are far shorter.
const LONGEST: usize = 1024;

/// What is kept about one control connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    /// The client has asked for a passive data connection; only then is an answer believed.
    asked: bool,
    /// What the real server sends is shifted by what was written into its replies; what the client
    /// sends is only by what another director wrote before this one took over.
    shifts: Shifts,
}

impl Session {
    /// A session that goes on with these shifts.
    pub(super) const fn resumed(shifts: Shifts) -> Self {
        Self { asked: false, shifts }
    }

    pub(super) const fn shifts(&self) -> Shifts {
        self.shifts
    }
}

/// A data connection that a command or reply announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announced {
    /// The client connects to this port of the server; `long` when the text names an address.
    Passive { port: u16, long: bool },
    /// The server connects to this address and port of the client.
    Active { address: IpAddr, port: u16 },
}

impl PacketPath {
    /// Whether a connection is an FTP control connection that needs reading.
    #[inline]
    pub(super) fn is_ftp(meta: Meta, virtual_port: u16) -> bool {
        virtual_port == CONTROL && meta.protocol == ip::TCP && meta.via == Via::Nat
    }

    /// Reads and shifts a client's segment of a control connection, before it is rewritten.
    pub(super) fn ftp_from_client(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        slot: Slot,
    ) {
        let entry = view.director.connections().entry(slot);
        let partial = frame.offload.partial_checksum;
        if let Some(session) = view.director.ftp().get(&slot)
            && let Some(segment) = frame.bytes_mut().get_mut(packet.l4..packet.end)
        {
            let Shifts { inbound, outbound } = &session.shifts;
            sequence::apply(segment, inbound, outbound, partial);
        }
        if entry.meta().state != state::ESTABLISHED {
            return;
        }
        let Some((_, text)) = text(frame, packet) else { return };
        if asks_passive(text) {
            let mut sessions = view.director.ftp();
            sessions.entry(slot).or_default().asked = true;
            drop(sessions);
            view.director.mark_shifted(slot);
        } else if let Some(Announced::Active { address, port }) = announced_by_client(text) {
            self.expect_active(view, slot, address, port);
        }
    }

    /// Reads, rewrites and shifts a real server's segment of a control connection.
    pub(super) fn ftp_from_real(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &mut Packet,
        slot: Slot,
    ) {
        let Some(session) = view.director.ftp().get(&slot).copied() else { return };
        let sequence_number = be32(frame.bytes(), packet.l4 + tcp::SEQUENCE);
        let mut grown = 0;
        if session.asked
            && let Some((at, text)) = text(frame, packet)
            && let Some(Announced::Passive { port, long }) = announced_by_server(text)
            && self.expect_passive(view, slot, port)
            && long
        {
            let vip = view.director.connections().entry(slot).virtual_address();
            grown = rewrite_passive(frame, packet, at, vip, port).unwrap_or(0);
        }
        let mut sessions = view.director.ftp();
        // It may have ended meanwhile.
        let Some(session) = sessions.get_mut(&slot) else { return };
        // The segment itself keeps its place: only what follows it is shifted by its growth.
        session.shifts.outbound.grow(sequence_number, grown);
        let Shifts { inbound, outbound } = session.shifts;
        if grown != 0 {
            session.asked = false;
            // The peer must know, too.
            view.director.connections().changed(slot);
        }
        let partial = frame.offload.partial_checksum;
        if let Some(segment) = frame.bytes_mut().get_mut(packet.l4..packet.end) {
            sequence::apply(segment, &outbound, &inbound, partial);
        }
    }

    /// Prepares for a connection from any port of the client to `port` of the VIP.
    fn expect_passive(&mut self, view: View<'_>, control: Slot, port: u16) -> bool {
        let entry = view.director.connections().entry(control);
        let flags = Flags::INACTIVE.with(Flags::NO_CLIENT_PORT);
        let new = NewConnection {
            client_port: 0,
            virtual_port: port,
            real_port: port,
            flags,
            ..self.data_connection(view, control)
        };
        let known = view.director.connections();
        let tuple = Tuple {
            protocol: ip::TCP,
            source: entry.client(),
            source_port: 0,
            destination: entry.virtual_address(),
            destination_port: port,
            template: false,
        };
        let exists = known.find(&tuple, known.hash(&tuple), view.director.reals()).is_some();
        exists || self.insert(view, &new).is_ok()
    }

    /// Prepares for a connection from the real server's data port to the client's `port`.
    fn expect_active(&mut self, view: View<'_>, control: Slot, address: IpAddr, port: u16) {
        let new = self.data_connection(view, control);
        let new = NewConnection {
            client: address.into(),
            client_port: port,
            virtual_port: new.virtual_port.wrapping_sub(1),
            real_port: new.real_port.wrapping_sub(1),
            ..new
        };
        if new.client.is_v4() == new.virtual_address.is_v4() {
            let _ = self.insert(view, &new);
        }
    }

    fn data_connection(&self, view: View<'_>, control: Slot) -> NewConnection {
        let entry = view.director.connections().entry(control);
        let [client_port, virtual_port, real_port, _] = entry.ports();
        NewConnection {
            protocol: ip::TCP,
            client: entry.client(),
            client_port,
            virtual_address: entry.virtual_address(),
            virtual_port,
            real: entry.real(),
            real_address: view.director.reals().address(entry.real()),
            real_port,
            via: Via::Nat,
            local: 0,
            local_address: Address(0),
            local_port: 0,
            state: state::LISTEN,
            flags: Flags::INACTIVE,
            control: Some(control),
            peer: entry.meta().peer,
            timeout: LISTEN_FOR,
        }
    }

    /// The first packet of an expected passive connection: its client port is known now.
    pub(super) fn find_expected(
        &mut self,
        view: View<'_>,
        packet: &Packet,
    ) -> Option<(Slot, Direction)> {
        let connections = view.director.connections();
        let key = Tuple { source_port: 0, ..super::tuple(packet) };
        let (slot, _) = connections.find(&key, connections.hash(&key), view.director.reals())?;
        let entry = connections.entry(slot);
        if !entry.meta().flags.has(Flags::NO_CLIENT_PORT) {
            return None;
        }
        let control = entry.control()?;
        let [_, virtual_port, real_port, _] = entry.ports();
        let new = NewConnection {
            client_port: packet.source_port,
            virtual_port,
            real_port,
            ..self.data_connection(view, control)
        };
        view.director.end(slot, view.now);
        self.insert(view, &new).ok()?;
        let tuple = super::tuple(packet);
        connections.find(&tuple, connections.hash(&tuple), view.director.reals())
    }
}

/// The text of a segment, and where in the frame it starts.
fn text<'f>(frame: &'f Frame<'_>, packet: &Packet) -> Option<(usize, &'f [u8])> {
    let start = packet.l4 + usize::from(byte(frame.bytes(), packet.l4 + tcp::DATA_OFFSET) >> 4) * 4;
    let text = frame.bytes().get(start..packet.end)?;
    (!text.is_empty() && text.len() <= LONGEST).then_some((start, text))
}

fn asks_passive(text: &[u8]) -> bool {
    let word = text.get(..4).unwrap_or_default();
    let all = text.get(5..8).is_some_and(|rest| rest.eq_ignore_ascii_case(b"ALL"));
    word.eq_ignore_ascii_case(b"PASV") || word.eq_ignore_ascii_case(b"EPSV") && !all
}

/// `PORT h1,h2,h3,h4,p1,p2` or `EPRT |protocol|address|port|`.
fn announced_by_client(text: &[u8]) -> Option<Announced> {
    let line = std::str::from_utf8(text).ok()?.lines().next()?;
    let (word, rest) = line.split_at_checked(5)?;
    if word.eq_ignore_ascii_case("PORT ") {
        let (address, port) = six_numbers(rest.trim())?;
        return Some(Announced::Active { address, port });
    }
    if !word.eq_ignore_ascii_case("EPRT ") {
        return None;
    }
    let rest = rest.trim();
    let mut fields = rest.split(rest.chars().next()?).skip(2);
    let address = fields.next()?.parse().ok()?;
    let port = fields.next()?.parse().ok()?;
    Some(Announced::Active { address, port })
}

/// `227 ... (h1,h2,h3,h4,p1,p2)` or `229 ... (|||port|)`.
fn announced_by_server(text: &[u8]) -> Option<Announced> {
    let line = std::str::from_utf8(text).ok()?.lines().next()?;
    if line.starts_with("227 ") {
        let (start, end) = six_numbers_at(line)?;
        let (_, port) = six_numbers(line.get(start..end)?)?;
        return Some(Announced::Passive { port, long: true });
    }
    let inside = line.strip_prefix("229 ")?.split_once('(')?.1.split_once(')')?.0;
    let mut fields = inside.split(inside.chars().next()?);
    let port = fields.nth(3)?.parse().ok()?;
    Some(Announced::Passive { port, long: false })
}

/// Where `h1,h2,h3,h4,p1,p2` stands in a line, whatever surrounds it (RFC 1123 section 4.1.2.6).
fn six_numbers_at(line: &str) -> Option<(usize, usize)> {
    let body = line.get(4..)?;
    let first_comma = 4 + body.find(',')?;
    let digit = |c: char| c.is_ascii_digit();
    let start = line.get(..first_comma)?.rfind(|c| !digit(c)).map_or(0, |at| at + 1);
    let length = line.get(start..)?.find(|c| !digit(c) && c != ',');
    Some((start, length.map_or(line.len(), |length| start + length)))
}

fn six_numbers(text: &str) -> Option<(IpAddr, u16)> {
    let mut numbers = [0u8; 6];
    let mut fields = text.split(',');
    for number in &mut numbers {
        *number = fields.next()?.trim().parse().ok()?;
    }
    if fields.next().is_some() {
        return None;
    }
    let [a, b, c, d, high, low] = numbers;
    Some((IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low])))
}

/// Puts the VIP in the place of the server's address. By how many bytes the segment grew; `None`,
/// and nothing changed, when there is no room.
fn rewrite_passive(
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    at: usize,
    vip: Address,
    port: u16,
) -> Option<i32> {
    let IpAddr::V4(vip) = vip.ip() else { return None };
    let line = std::str::from_utf8(frame.bytes().get(at..packet.end)?).ok()?;
    let (start, end) = six_numbers_at(line.lines().next()?)?;
    let [a, b, c, d] = vip.octets();
    let [high, low] = port.to_be_bytes();
    let new = format!("{a},{b},{c},{d},{high},{low}");
    let (start, end) = (at + start, at + end);
    let grown = i32::try_from(new.len()).ok()? - i32::try_from(end - start).ok()?;
    let length = packet.end.checked_add_signed(grown as isize)?;
    if length > frame.len() {
        frame.set_len(length)?;
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(end..packet.end, start + new.len());
    bytes.get_mut(start..start + new.len())?.copy_from_slice(new.as_bytes());
    packet.end = length;
    frame.set_len(length)?;
    let total = u16::try_from(packet.ip_length()).ok()?;
    let header = frame.bytes_mut().get_mut(packet.l3..)?;
    put16(header, ip::v4::TOTAL_LENGTH, total);
    split::header_checksum(header);
    frame.offload = super::Offload { partial_checksum: true, ..super::Offload::default() };
    split::finish_checksum(frame, packet);
    Some(grown)
}

#[cfg(test)]
mod tests;
