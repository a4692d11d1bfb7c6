//! Packets made by hand: for protocols that this kernel does not speak, and for floods.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// IP protocol numbers (IANA).
pub mod protocol {
    /// IPv4 in IP (RFC 2003).
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP (RFC 4213).
    pub const IPV6: u8 = 41;
    /// GRE (RFC 2784).
    pub const GRE: u8 = 47;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
}

/// The Internet checksum (RFC 1071) over `parts`, each but the last of even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Puts an IP header of the addresses' family in front of `payload`.
///
/// # Errors
/// When the families differ or the packet would be too long.
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, protocol, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, protocol, payload),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            bail!("{from} and {to} are of two families")
        }
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(20 + payload.len()).context("IPv4 packet too long")?;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    Ok(packet)
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(payload.len()).context("IPv6 packet too long")?;
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(payload);
    Ok(packet)
}

/// The checksum of a TCP or UDP segment with its pseudo header (RFC 9293 3.1, RFC 8200 8.1).
fn segment_checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (segment.len() as u32).to_be_bytes();
    checksum(&[&octets(from), &octets(to), &length, &[0, protocol], segment])
}

/// A whole UDP packet.
///
/// # Errors
/// When the families differ or the packet would be too long.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).context("UDP datagram too long")?;
    let mut segment = Vec::with_capacity(8 + payload.len());
    for field in [from.port(), to.port(), length, 0] {
        segment.extend_from_slice(&field.to_be_bytes());
    }
    segment.extend_from_slice(payload);
    // Zero means that there is none (RFC 768), so a sum of zero is sent as its equal.
    let sum = match segment_checksum(from.ip(), to.ip(), protocol::UDP, &segment) {
        0 => 0xffff,
        sum => sum,
    };
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), protocol::UDP, &segment)
}

/// A whole TCP SYN without options.
///
/// # Errors
/// When the families differ.
pub fn tcp_syn(from: SocketAddr, to: SocketAddr, sequence: u32) -> Result<Vec<u8>> {
    let mut segment = Vec::with_capacity(20);
    segment.extend_from_slice(&from.port().to_be_bytes());
    segment.extend_from_slice(&to.port().to_be_bytes());
    segment.extend_from_slice(&sequence.to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = segment_checksum(from.ip(), to.ip(), protocol::TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), protocol::TCP, &segment)
}

/// SCTP packets with one chunk (RFC 9260 section 3).
pub mod sctp {
    use anyhow::{Result, bail};

    /// Chunk type of INIT.
    pub const INIT: u8 = 1;
    /// Chunk type of INIT ACK.
    pub const INIT_ACK: u8 = 2;

    /// What the lab looks at in a packet.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Packet {
        /// Source port.
        pub from: u16,
        /// Destination port.
        pub to: u16,
        /// Verification tag.
        pub tag: u32,
        /// Type of the first chunk.
        pub kind: u8,
        /// The first chunk's value.
        pub value: Vec<u8>,
    }

    impl Packet {
        /// Bytes on the wire, with the checksum.
        pub fn encode(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&self.from.to_be_bytes());
            bytes.extend_from_slice(&self.to.to_be_bytes());
            bytes.extend_from_slice(&self.tag.to_be_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&[self.kind, 0]);
            bytes.extend_from_slice(&(self.value.len() as u16 + 4).to_be_bytes());
            bytes.extend_from_slice(&self.value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let sum = crc32c(&bytes);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            bytes
        }

        /// Reads a packet.
        ///
        /// # Errors
        /// When it is too short or its checksum is wrong.
        pub fn decode(bytes: &[u8]) -> Result<Self> {
            if bytes.len() < 16 {
                bail!("{} bytes are no SCTP packet", bytes.len());
            }
            let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let mut blank = bytes.to_vec();
            blank[8..12].fill(0);
            let sum = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            if sum != crc32c(&blank) {
                bail!("SCTP checksum {sum:#010x} should be {:#010x}", crc32c(&blank));
            }
            let end = (12 + usize::from(half(14))).clamp(16, bytes.len());
            let tag = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let value = bytes[16..end].to_vec();
            Ok(Self { from: half(0), to: half(2), tag, kind: bytes[12], value })
        }
    }

    /// CRC32c (RFC 9260 appendix A), bit by bit.
    pub fn crc32c(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }
}

/// Sends whole IP packets of one family from the calling thread's namespace.
#[derive(Debug)]
pub struct RawSender(Socket);

impl RawSender {
    /// A sender for IPv4 packets.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn ipv4() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.set_header_included_v4(true)?;
        Ok(Self(socket))
    }

    /// A sender for IPv6 packets.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn ipv6() -> Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255)))?;
        socket.set_header_included_v6(true)?;
        Ok(Self(socket))
    }

    /// Sends a packet to the destination that its header names.
    ///
    /// # Errors
    /// When it is too short or the kernel has no route or no memory for it.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let (_, to) = addresses(packet).context("not an IP packet")?;
        self.0.send_to(packet, &SocketAddr::new(to, 0).into())?;
        Ok(())
    }
}

/// Source and destination of an IP packet, or nothing when it is none.
pub fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let (from, to) = (packet.get(12..16)?, packet.get(16..20)?);
            let address = |bytes: &[u8]| Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
            Some((address(from)?, address(to)?))
        }
        6 => {
            let (from, to) = (packet.get(8..24)?, packet.get(24..40)?);
            let address = |bytes: &[u8]| Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?));
            Some((address(from)?, address(to)?))
        }
        _ => None,
    }
}

/// Receives packets of one IP protocol that are for the calling thread's namespace.
#[derive(Debug)]
pub struct RawReceiver(Socket, Domain);

impl RawReceiver {
    /// Receives IPv4 or IPv6 packets of `protocol`; each wait lasts at most `limit`.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn new(domain: Domain, protocol: u8, limit: Duration) -> Result<Self> {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.set_read_timeout(Some(limit))?;
        Ok(Self(socket, domain))
    }

    /// The next packet's payload (what follows the IP header), or nothing within the limit.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn payload(&self, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.resize(65_536, 0);
        match (&self.0).read(buffer) {
            Ok(length) => buffer.truncate(length),
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.1 == Domain::IPV4 {
            // IPv4 raw sockets give the header too, IPv6 ones do not (raw(7), ipv6(7)).
            let header = usize::from(buffer.first().copied().unwrap_or(0) & 0x0f) * 4;
            buffer.drain(..header.min(buffer.len()));
        }
        Ok(true)
    }
}

/// Whether an error only says that nothing came in time.
pub(crate) fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_published_check_value() {
        assert_eq!(sctp::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn checksums_of_crafted_packets_verify() {
        let packet =
            udp("192.0.2.1:53".parse().unwrap(), "192.0.2.2:99".parse().unwrap(), b"odd").unwrap();
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let pseudo: [u8; 4] = [0, 17, 0, 11];
        assert_eq!(checksum(&[&packet[12..20], &pseudo, &packet[20..]]), 0);
    }

    #[test]
    fn an_sctp_packet_survives_the_wire_and_a_flipped_bit_does_not() {
        let packet = sctp::Packet { from: 1, to: 2, tag: 3, kind: sctp::INIT, value: vec![9; 5] };
        let mut bytes = packet.encode();
        assert_eq!(sctp::Packet::decode(&bytes).unwrap(), packet);
        bytes[2] ^= 1;
        assert!(sctp::Packet::decode(&bytes).is_err());
    }
}
