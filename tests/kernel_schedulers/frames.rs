//! Frames to and from the kernel: TCP segments of clients, and what they became.

use super::scenario::{Corner, SERVICE_PORT};
use anyhow::{Context, Result, bail};
use etherparse::{
    EtherType, Icmpv4Type, InternetSlice, LinkSlice, PacketBuilder, SlicedPacket, TransportSlice,
    icmpv4, icmpv6,
};
use std::net::{IpAddr, Ipv4Addr};

/// The router that all clients live behind.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 254);
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 1);

pub const fn server_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, number]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    Syn,
    Ack,
    Fin,
}

/// A client's segment to the service, addressed to the director.
pub fn segment(director: [u8; 6], corner: &Corner, segment: Segment) -> Result<Vec<u8>> {
    let link = PacketBuilder::ethernet2(ROUTER_MAC, director);
    let network = match (corner.client, corner.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            bail!("{corner:?} mixes families")
        }
    };
    let tcp = network.tcp(corner.port, SERVICE_PORT, 1000, 65_535);
    let tcp = match segment {
        Segment::Syn => tcp.syn(),
        Segment::Ack => tcp.ack(1),
        Segment::Fin => tcp.ack(1).fin(),
    };
    let mut frame = Vec::new();
    tcp.write(&mut frame, &[])?;
    Ok(frame)
}

/// A ping to the director; its answer says that everything sent before was handled.
pub fn barrier(director: [u8; 6], number: u16) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ROUTER_MAC, director)
        .ipv4(ROUTER.octets(), DIRECTOR.octets(), 64)
        .icmpv4_echo_request(7, number)
        .write(&mut frame, &[])?;
    Ok(frame)
}

/// What a frame from the guest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A SYN went to a server.
    Forwarded(Corner, u8),
    /// The client is told that nobody listens: no server took the connection.
    Refused(Corner),
    /// Everything sent before this barrier was handled.
    Barrier(u16),
    /// Nothing that matters here.
    Other,
}

pub fn read(frame: &[u8]) -> Result<Seen> {
    let packet = SlicedPacket::from_ethernet(frame).context("a broken frame from the kernel")?;
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return Ok(Seen::Other) };
    let destination = link.destination();
    match (&packet.net, &packet.transport) {
        (Some(net), Some(TransportSlice::Tcp(tcp))) if tcp.syn() => {
            let Some((client, to)) = ends(net) else { return Ok(Seen::Other) };
            let corner = Corner { client, port: tcp.source_port(), destination: to };
            let number = destination[5];
            let is_server = destination == server_mac(number);
            Ok(if is_server { Seen::Forwarded(corner, number) } else { Seen::Other })
        }
        (_, Some(TransportSlice::Icmpv4(icmp))) => {
            if let Icmpv4Type::EchoReply(echo) = icmp.icmp_type() {
                return Ok(Seen::Barrier(echo.seq));
            }
            let unreachable = icmp.type_u8() == icmpv4::TYPE_DEST_UNREACH;
            if unreachable { refused(EtherType::IPV4, icmp.payload()) } else { Ok(Seen::Other) }
        }
        (_, Some(TransportSlice::Icmpv6(icmp))) if icmp.type_u8() == icmpv6::TYPE_DST_UNREACH => {
            refused(EtherType::IPV6, icmp.payload())
        }
        _ => Ok(Seen::Other),
    }
}

/// The connection whose packet an ICMP error quotes.
fn refused(kind: EtherType, quoted: &[u8]) -> Result<Seen> {
    let (client, destination, segment) = if kind == EtherType::IPV4 {
        let [from, to] = [12, 16].map(|at| quoted.get(at..at + 4));
        let address = |bytes: Option<&[u8]>| <[u8; 4]>::try_from(bytes?).ok().map(IpAddr::from);
        (address(from), address(to), quoted.get(20..24))
    } else {
        let [from, to] = [8, 24].map(|at| quoted.get(at..at + 16));
        let address = |bytes: Option<&[u8]>| <[u8; 16]>::try_from(bytes?).ok().map(IpAddr::from);
        (address(from), address(to), quoted.get(40..44))
    };
    let (Some(client), Some(destination), Some(segment)) = (client, destination, segment) else {
        bail!("an ICMP error quotes {quoted:02x?}");
    };
    let port = u16::from_be_bytes([segment[0], segment[1]]);
    Ok(Seen::Refused(Corner { client, port, destination }))
}

fn ends(net: &etherparse::NetSlice<'_>) -> Option<(IpAddr, IpAddr)> {
    match net {
        InternetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        InternetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        InternetSlice::Arp(_) => None,
    }
}
