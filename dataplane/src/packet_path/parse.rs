//! Reads a frame's headers once and checks every length on the way.
//!
//! What comes out is offsets and numbers, not borrowed views, so that the rewriting stages can hold
//! the frame mutably. No input makes it panic.

use super::verdict::DropReason;
use crate::table::Address;
use crate::table::Vlan;
use crate::wire::ip::{v4, v6};
use crate::wire::transport::{DESTINATION_PORT, SOURCE_PORT, sctp, tcp, udp};
use crate::wire::{be16, be32, be128, byte, ethernet, icmp, ip};

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// An IP packet.
    Ip(Packet),
    /// ARP for IPv4 over Ethernet, complete; the payload starts at this offset.
    Arp(usize),
    /// Something that a director has no business with.
    Other,
}

/// Where in its datagram a packet stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// It is whole.
    Whole,
    /// The first part: it has the transport header.
    First {
        /// Identification.
        id: u32,
    },
    /// A later part: it has no ports.
    Later {
        /// Identification.
        id: u32,
    },
}

/// An IP packet: where its headers are and what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Offset of the IP header in the frame.
    pub l3: usize,
    /// Offset of what follows the IP header and its extensions.
    pub l4: usize,
    /// Offset of the first byte after the IP packet; padding may follow.
    pub end: usize,
    /// The tag it came with.
    pub vlan: Option<Vlan>,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Upper-layer protocol number.
    pub protocol: u8,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// TCP flags, or the type of the first SCTP chunk; 0 otherwise.
    pub flags: u8,
    /// Its place in a fragmented datagram.
    pub fragment: Fragment,
}

impl Packet {
    /// Whether it is IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.source.is_v4()
    }

    /// Length of the IP packet in bytes.
    #[inline]
    pub const fn ip_length(&self) -> usize {
        self.end - self.l3
    }

    /// Whether ports are known: the protocol has them and this part carries them.
    #[inline]
    pub const fn has_ports(&self) -> bool {
        matches!(self.protocol, ip::TCP | ip::UDP | ip::SCTP)
            && !matches!(self.fragment, Fragment::Later { .. })
    }
}

/// Reads a frame.
///
/// # Errors
/// The reason for which no director could handle the packet.
#[inline(always)]
pub fn frame(bytes: &[u8]) -> Result<Parsed, DropReason> {
    if bytes.len() < ethernet::LENGTH {
        return Err(DropReason::Truncated);
    }
    let mut kind = be16(bytes, ethernet::TYPE);
    let mut l3 = ethernet::LENGTH;
    let mut vlan = None;
    if kind == ethernet::VLAN {
        if bytes.len() < ethernet::LENGTH + ethernet::TAG_LENGTH {
            return Err(DropReason::Truncated);
        }
        vlan = Some(Vlan(be16(bytes, ethernet::LENGTH) & 0x0fff));
        kind = be16(bytes, ethernet::LENGTH + 2);
        l3 += ethernet::TAG_LENGTH;
    }
    match kind {
        ethernet::IPV4 => packet_v4(bytes, l3, vlan).map(Parsed::Ip),
        ethernet::IPV6 => packet_v6(bytes, l3, vlan).map(Parsed::Ip),
        ethernet::ARP => Ok(arp(bytes, l3)),
        _ => Ok(Parsed::Other),
    }
}

fn arp(bytes: &[u8], at: usize) -> Parsed {
    match bytes.get(at..at + ethernet::arp::LENGTH) {
        Some(packet) if packet.starts_with(&ethernet::arp::PREAMBLE) => Parsed::Arp(at),
        Some(_) | None => Parsed::Other,
    }
}

/// Reads an IPv4 packet that starts at `l3`.
///
/// # Errors
/// When lengths or the version contradict each other.
#[inline(always)]
pub fn packet_v4(bytes: &[u8], l3: usize, vlan: Option<Vlan>) -> Result<Packet, DropReason> {
    let from_l3 = bytes.get(l3..).unwrap_or_default();
    // The fixed part as an array: every access below needs no further check.
    let Some(header) = from_l3.first_chunk::<{ v4::LENGTH }>() else {
        return Err(DropReason::Truncated);
    };
    let header_length = usize::from(byte(header, 0) & 0x0f) * 4;
    let total = usize::from(be16(header, v4::TOTAL_LENGTH));
    if byte(header, 0) >> 4 != 4 || header_length < v4::LENGTH || total < header_length {
        return Err(DropReason::BadIpHeader);
    }
    if from_l3.len() < total {
        return Err(DropReason::Truncated);
    }
    let fragmentation = be16(header, v4::FRAGMENT);
    let id = u32::from(be16(header, v4::ID));
    let fragment = if fragmentation & v4::OFFSET != 0 {
        Fragment::Later { id }
    } else if fragmentation & v4::MF != 0 {
        Fragment::First { id }
    } else {
        Fragment::Whole
    };
    let mut packet = Packet {
        l3,
        l4: l3 + header_length,
        end: l3 + total,
        vlan,
        source: Address::v4(be32(header, v4::SOURCE)),
        destination: Address::v4(be32(header, v4::DESTINATION)),
        protocol: byte(header, v4::PROTOCOL),
        source_port: 0,
        destination_port: 0,
        flags: 0,
        fragment,
    };
    transport(bytes, &mut packet)?;
    Ok(packet)
}

/// Extension headers that a packet may chain; more than any real one does.
const MOST_EXTENSIONS: usize = 8;

/// Reads an IPv6 packet that starts at `l3`.
///
/// # Errors
/// When lengths, the version or the extension headers contradict each other.
pub fn packet_v6(bytes: &[u8], l3: usize, vlan: Option<Vlan>) -> Result<Packet, DropReason> {
    let header = bytes.get(l3..).unwrap_or_default();
    if header.len() < v6::LENGTH {
        return Err(DropReason::Truncated);
    }
    if byte(header, 0) >> 4 != 6 {
        return Err(DropReason::BadIpHeader);
    }
    let total = v6::LENGTH + usize::from(be16(header, v6::PAYLOAD_LENGTH));
    let header = header.get(..total).ok_or(DropReason::Truncated)?;
    let (protocol, length, fragment) = extensions(header)?;
    let mut packet = Packet {
        l3,
        l4: l3 + length,
        end: l3 + total,
        vlan,
        source: Address::v6(be128(header, v6::SOURCE)),
        destination: Address::v6(be128(header, v6::DESTINATION)),
        protocol,
        source_port: 0,
        destination_port: 0,
        flags: 0,
        fragment,
    };
    if packet.source.is_v4() || packet.destination.is_v4() {
        return Err(DropReason::BadIpHeader);
    }
    transport(bytes, &mut packet)?;
    Ok(packet)
}

/// Walks the extension headers: upper protocol, length of all headers, place in the datagram.
#[inline]
fn extensions(packet: &[u8]) -> Result<(u8, usize, Fragment), DropReason> {
    let mut next = byte(packet, v6::NEXT_HEADER);
    let mut at = v6::LENGTH;
    let mut fragment = Fragment::Whole;
    for _ in 0..MOST_EXTENSIONS {
        let length = match next {
            v6::HOP_BY_HOP | v6::ROUTING | v6::DESTINATION_OPTIONS | v6::MOBILITY => {
                usize::from(byte(packet, at + 1)) * 8 + 8
            }
            v6::FRAGMENT => 8,
            _ => return Ok((next, at, fragment)),
        };
        if packet.len() < at + length {
            return Err(DropReason::BadExtensionHeader);
        }
        if next == v6::FRAGMENT {
            let offset_and_more = be16(packet, at + 2);
            let id = be32(packet, at + 4);
            if offset_and_more & 0xfff8 != 0 {
                // What follows is payload, not headers.
                return Ok((byte(packet, at), at + length, Fragment::Later { id }));
            }
            if offset_and_more & 1 != 0 {
                fragment = Fragment::First { id };
            }
        }
        next = byte(packet, at);
        at += length;
    }
    Err(DropReason::BadExtensionHeader)
}

#[inline(always)]
fn transport(bytes: &[u8], packet: &mut Packet) -> Result<(), DropReason> {
    if matches!(packet.fragment, Fragment::Later { .. }) {
        return Ok(());
    }
    let body = bytes.get(packet.l4..packet.end).unwrap_or_default();
    match packet.protocol {
        ip::TCP => {
            let header = body.first_chunk::<{ tcp::LENGTH }>().ok_or(SHORT)?;
            packet.source_port = be16(header, SOURCE_PORT);
            packet.destination_port = be16(header, DESTINATION_PORT);
            packet.flags = byte(header, tcp::FLAGS);
            let length = usize::from(byte(header, tcp::DATA_OFFSET) >> 4) * 4;
            let cut = length > body.len() && packet.fragment == Fragment::Whole;
            if length < tcp::LENGTH || cut {
                return Err(SHORT);
            }
        }
        ip::UDP => {
            let header = body.first_chunk::<{ udp::LENGTH }>().ok_or(SHORT)?;
            packet.source_port = be16(header, SOURCE_PORT);
            packet.destination_port = be16(header, DESTINATION_PORT);
        }
        ip::SCTP => {
            let header = body.first_chunk::<{ sctp::LENGTH }>().ok_or(SHORT)?;
            packet.source_port = be16(header, SOURCE_PORT);
            packet.destination_port = be16(header, DESTINATION_PORT);
            packet.flags = body.get(sctp::LENGTH).copied().unwrap_or(u8::MAX);
        }
        ip::ICMP | ip::ICMPV6 if body.len() < icmp::LENGTH => return Err(SHORT),
        _ => {}
    }
    Ok(())
}

const SHORT: DropReason = DropReason::BadTransportHeader;

/// Reads the packet embedded in an ICMP error: as much of it as the sender quoted. Only the IP
/// header and the first eight bytes of the transport header are owed (RFC 792, RFC 4443).
pub fn embedded(bytes: &[u8], l3: usize, v4: bool) -> Option<Packet> {
    let header = bytes.get(l3..)?;
    let (l4, source, destination, protocol, fragment) = if v4 {
        let length = usize::from(byte(header, 0) & 0x0f) * 4;
        if byte(header, 0) >> 4 != 4 || length < v4::LENGTH || header.len() < length {
            return None;
        }
        let later = be16(header, v4::FRAGMENT) & v4::OFFSET != 0;
        let id = u32::from(be16(header, v4::ID));
        (
            l3 + length,
            Address::v4(be32(header, v4::SOURCE)),
            Address::v4(be32(header, v4::DESTINATION)),
            byte(header, v4::PROTOCOL),
            if later { Fragment::Later { id } } else { Fragment::Whole },
        )
    } else {
        if header.len() < v6::LENGTH || byte(header, 0) >> 4 != 6 {
            return None;
        }
        let (protocol, length, fragment) = extensions(header).ok()?;
        (
            l3 + length,
            Address::v6(be128(header, v6::SOURCE)),
            Address::v6(be128(header, v6::DESTINATION)),
            protocol,
            fragment,
        )
    };
    let ports = bytes.get(l4..).unwrap_or_default();
    let has_ports = matches!(protocol, ip::TCP | ip::UDP | ip::SCTP)
        && !matches!(fragment, Fragment::Later { .. });
    if has_ports && ports.len() < 8 {
        return None;
    }
    let port = |at| if has_ports { be16(ports, at) } else { 0 };
    Some(Packet {
        l3,
        l4,
        end: bytes.len(),
        vlan: None,
        source,
        destination,
        protocol,
        source_port: port(SOURCE_PORT),
        destination_port: port(DESTINATION_PORT),
        flags: 0,
        fragment,
    })
}

#[cfg(test)]
mod tests;
