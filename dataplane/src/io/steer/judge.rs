//! The steering rule as one pure function. The BPF programs (`dataplane/bpf/judge.h`) decide the same;
//! a test holds them together.

use super::rules::{Address, AddressEntry, EndpointKey, Side, Tables, flag, ports};
use crate::table::Mac;

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// The host's; the dataplane does not see it.
    Host,
    /// The host's, and the dataplane sees a copy: answers to neighbour resolution.
    Both,
    /// The dataplane's; the host does not see it.
    Claim,
}

/// IPv6 extension headers that are looked behind; more make a packet the host's. The programs have the
/// same number.
const EXTENSION_HEADERS: usize = 6;

/// Says whose a frame is. `addressed` tells whether its Ethernet destination is one of the
/// interface's, or a group.
pub fn judge(tables: &Tables, frame: &[u8], addressed: bool) -> Judgement {
    if !addressed {
        return Judgement::Host;
    }
    decide(tables, frame).unwrap_or(Judgement::Host)
}

/// Whether a frame with this Ethernet destination is for an interface with this address.
pub fn addressed(tables: &Tables, interface: u32, own: Mac, destination: Mac) -> bool {
    destination[0] & 1 == 1 || destination == own || tables.macs.contains(&(interface, destination))
}

/// Whether a frame that the dataplane received is a copy, which the host has got as well: an answer
/// to neighbour resolution. Such answers for owned addresses are the dataplane's alone, but of no use
/// to the host.
pub fn is_copy(frame: &[u8]) -> bool {
    judge(&Tables::default(), frame, true) == Judgement::Both
}

/// `None` when the frame is too short for its headers.
fn decide(tables: &Tables, frame: &[u8]) -> Option<Judgement> {
    let (kind, at) = match half(frame, 12)? {
        0x8100 | 0x88a8 => (half(frame, 16)?, 18),
        kind => (kind, 14),
    };
    match kind {
        0x0806 => arp(tables, frame.get(at..at + 28)?),
        0x0800 => packet4(tables, frame, at),
        0x86dd => packet6(tables, frame, at),
        _ => None,
    }
}

fn arp(tables: &Tables, arp: &[u8]) -> Option<Judgement> {
    if arp[..7] != [0, 1, 8, 0, 6, 4, 0] {
        return None;
    }
    match arp[7] {
        1 if entry(tables, &mapped(&arp[24..])?).flags & flag::OWNED != 0 => Some(Judgement::Claim),
        2 => Some(Judgement::Both),
        _ => None,
    }
}

/// A packet down to its transport header.
struct Packet {
    source: Address,
    destination: Address,
    protocol: u8,
    fragment: bool,
    /// Where the transport header is.
    transport: usize,
}

fn packet4(tables: &Tables, frame: &[u8], at: usize) -> Option<Judgement> {
    let ip = frame.get(at..at + 20)?;
    let header = usize::from(ip[0] & 15) * 4;
    if ip[0] >> 4 != 4 || header < 20 {
        return None;
    }
    let packet = Packet {
        source: mapped(&ip[12..])?,
        destination: mapped(&ip[16..])?,
        // Nothing in IPv4 is ICMPv6.
        protocol: if ip[9] == 58 { 255 } else { ip[9] },
        fragment: half(ip, 6)? & 0x3fff != 0,
        transport: at + header,
    };
    flow(tables, frame, &packet)
}

fn packet6(tables: &Tables, frame: &[u8], at: usize) -> Option<Judgement> {
    let ip = frame.get(at..at + 40)?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    let mut packet = Packet {
        source: *ip[8..].first_chunk()?,
        destination: *ip[24..].first_chunk()?,
        protocol: ip[6],
        fragment: false,
        transport: at + 40,
    };
    for _ in 0..EXTENSION_HEADERS {
        let unit = match packet.protocol {
            0 | 43 | 60 => 8,
            51 => 4,
            44 => {
                packet.fragment = true;
                break;
            }
            _ => break,
        };
        let [next, length] = *frame.get(packet.transport..)?.first_chunk()?;
        let fixed = if unit == 8 { 1 } else { 2 };
        packet.protocol = next;
        packet.transport += (usize::from(length) + fixed) * unit;
    }
    if packet.protocol == 58 && !packet.fragment && *frame.get(packet.transport)? == 135 {
        let solicited = frame.get(packet.transport..packet.transport + 24)?;
        if entry(tables, solicited[8..].first_chunk()?).flags & flag::OWNED != 0 {
            return Some(Judgement::Claim);
        }
    }
    // Nothing in IPv6 is ICMP.
    packet.protocol = if packet.protocol == 1 { 255 } else { packet.protocol };
    flow(tables, frame, &packet)
}

fn flow(tables: &Tables, frame: &[u8], packet: &Packet) -> Option<Judgement> {
    let to = entry(tables, &packet.destination);
    let owned = to.flags & flag::OWNED != 0;
    let local = to.flags & flag::LOCAL != 0;
    let covered = || (owned || !local) && in_prefixes(tables, &packet.destination);
    if packet.fragment {
        if owned || covered() {
            return Some(Judgement::Claim);
        }
        let replies = !local || to.flags & flag::POOL != 0;
        let from = entry(tables, &packet.source);
        return claim_if(replies && from.flags & flag::REAL != 0);
    }
    match packet.protocol {
        1 | 58 if owned || covered() => Some(Judgement::Claim),
        1 => icmp4(tables, frame, packet.transport, to),
        58 => icmp6(tables, frame, packet.transport, to),
        6 | 17 | 132 => {
            let sent_to = half(frame, packet.transport + 2)?;
            let sent_from = half(frame, packet.transport)?;
            let wide = to.flags & flag::WIDE_SERVICE != 0;
            let service = key(packet.destination, packet.protocol, sent_to, Side::Service);
            if owned && matches(tables, service, wide) || covered() || in_pool(to, sent_to) {
                return Some(Judgement::Claim);
            }
            let from = entry(tables, &packet.source);
            let wide = from.flags & flag::WIDE_REAL != 0;
            let real = key(packet.source, packet.protocol, sent_from, Side::Real);
            claim_if(!local && from.flags & flag::REAL != 0 && matches(tables, real, wide))
        }
        _ => None,
    }
}

/// An ICMP error is claimed when it is about a packet that the dataplane sent to a real server or
/// into a tunnel.
fn icmp4(tables: &Tables, frame: &[u8], at: usize, to: AddressEntry) -> Option<Judgement> {
    if !matches!(*frame.get(at)?, 3 | 11 | 12) {
        return None;
    }
    let ip = frame.get(at + 8..at + 28)?;
    let header = usize::from(ip[0] & 15) * 4;
    if ip[0] >> 4 != 4 || header < 20 || half(ip, 6)? & 0x1fff != 0 {
        return None;
    }
    about(tables, frame, mapped(&ip[16..])?, ip[9], at + 8 + header, to)
}

fn icmp6(tables: &Tables, frame: &[u8], at: usize, to: AddressEntry) -> Option<Judgement> {
    match *frame.get(at)? {
        1..=4 => {}
        136 => return Some(Judgement::Both),
        _ => return None,
    }
    let ip = frame.get(at + 8..at + 48)?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    about(tables, frame, *ip[24..].first_chunk()?, ip[6], at + 48, to)
}

/// Judges by the packet that an ICMP error is about: its destination, protocol and ports.
fn about(
    tables: &Tables,
    frame: &[u8],
    destination: Address,
    protocol: u8,
    ports_at: usize,
    to: AddressEntry,
) -> Option<Judgement> {
    let tunnel =
        |port| tables.endpoints.contains_key(&key(destination, protocol, port, Side::Tunnel));
    match protocol {
        4 | 41 | 47 => return claim_if(tunnel(0)),
        6 | 17 | 132 => {}
        _ => return None,
    }
    let (from_port, to_port) = (half(frame, ports_at)?, half(frame, ports_at + 2)?);
    if tunnel(to_port) {
        return Some(Judgement::Claim);
    }
    if to.flags & flag::LOCAL != 0 && !in_pool(to, from_port) {
        return None;
    }
    let real = entry(tables, &destination);
    let wide = real.flags & flag::WIDE_REAL != 0;
    let known = matches(tables, key(destination, protocol, to_port, Side::Real), wide);
    claim_if(real.flags & flag::REAL != 0 && known)
}

const fn claim_if(claimed: bool) -> Option<Judgement> {
    if claimed { Some(Judgement::Claim) } else { None }
}

fn in_pool(entry: AddressEntry, port: u16) -> bool {
    entry.flags & flag::POOL != 0 && (entry.low..=entry.high).contains(&port)
}

const fn key(address: Address, protocol: u8, port: u16, side: Side) -> EndpointKey {
    EndpointKey { address, port, protocol, side }
}

/// The exact port first, then the entries for more than one, of which `wide` says whether there are
/// any.
fn matches(tables: &Tables, key: EndpointKey, wide: bool) -> bool {
    if tables.endpoints.contains_key(&key) {
        return true;
    }
    let any = EndpointKey { port: 0, ..key };
    let value = if wide { tables.endpoints.get(&any).copied().unwrap_or(0) } else { 0 };
    let ftp_data = key.port == 20 || key.port >= 1024;
    value & ports::MATCHING != 0 || value & ports::FTP_DATA != 0 && ftp_data
}

fn entry(tables: &Tables, address: &Address) -> AddressEntry {
    tables.addresses.get(address).copied().unwrap_or_default()
}

fn in_prefixes(tables: &Tables, address: &Address) -> bool {
    let bits = u128::from_be_bytes(*address);
    let covers = |length: u8, prefix: &Address| {
        let difference = bits ^ u128::from_be_bytes(*prefix);
        difference.checked_shr(128 - u32::from(length)).unwrap_or(0) == 0
    };
    // In order of length, so the last match is the longest.
    let longest = tables.prefixes.iter().rfind(|((length, prefix), _)| covers(*length, prefix));
    longest.is_some_and(|(_, covered)| *covered)
}

/// The IPv4 address at the start of `bytes`, as the tables have it.
fn mapped(bytes: &[u8]) -> Option<Address> {
    let mut address = [0; 16];
    address[10..12].fill(0xff);
    address[12..].copy_from_slice(bytes.get(..4)?);
    Some(address)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
