//! Frames and rules for the steering tests: hand-made ones, and generated ones that meet often.

use super::super::{Endpoint, Ports, SteeringRules, TunnelEnd};
use crate::table::{Mac, Prefix, Protocol};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;

pub const OWN: Mac = [2, 0, 0, 0, 0, 1];
pub const OTHER: Mac = [2, 0, 0, 0, 0, 2];
pub const VIRTUAL: Mac = [0, 0, 0x5e, 0, 1, 50];

const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "192.0.2.1",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8:1::1",
    "::ffff:10.0.0.1",
];
const PORTS: [u16; 8] = [0, 20, 21, 80, 1023, 1024, 8080, 65535];

fn ethernet(kind: u16) -> Vec<u8> {
    [&OWN[..], &[2, 9, 9, 9, 9, 9], &kind.to_be_bytes()].concat()
}

/// An IP packet of the family of `to` in a frame.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let kind = if to.is_ipv4() { 0x0800 } else { 0x86dd };
    [ethernet(kind), bare(from, to, protocol, payload)].concat()
}

/// An IP packet of the family of `to`; a source of the other family is taken as :: or 0.0.0.0.
fn bare(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
            bytes[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            [bytes.as_slice(), &from.octets(), &to.octets(), payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            [bytes.as_slice(), &from.octets(), &to.octets(), payload].concat()
        }
        (_, IpAddr::V4(_)) => bare("0.0.0.0".parse().unwrap(), to, protocol, payload),
        (_, IpAddr::V6(_)) => bare("::".parse().unwrap(), to, protocol, payload),
    }
}

pub fn arp(operation: u8, target: &str) -> Vec<u8> {
    let mut bytes = [ethernet(0x0806), vec![0, 1, 8, 0, 6, 4, 0, operation], vec![0; 20]].concat();
    if let IpAddr::V4(target) = target.parse().unwrap() {
        bytes[38..42].copy_from_slice(&target.octets());
    }
    bytes
}

pub fn solicitation(kind: u8, target: &str) -> Vec<u8> {
    let IpAddr::V6(address) = target.parse().unwrap() else { panic!("IPv6 only") };
    let body = [&[kind, 0, 0, 0, 0, 0, 0, 0], &address.octets()[..]].concat();
    packet("fe80::1".parse().unwrap(), "ff02::1:ff00:10".parse().unwrap(), 58, &body)
}

pub fn echo(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let (protocol, kind) = if to.is_ipv4() { (1, 8) } else { (58, 128) };
    packet(from, to, protocol, &[kind, 0, 0, 0, 0, 0, 0, 0])
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().unwrap())
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let ports = prop_oneof![
        4 => select(&PORTS[..]).prop_map(Ports::One),
        1 => Just(Ports::All),
        1 => Just(Ports::FtpData),
    ];
    (protocol, address(), ports).prop_map(|(protocol, address, ports)| Endpoint {
        protocol,
        address,
        ports,
    })
}

fn tunnel_end() -> impl Strategy<Value = TunnelEnd> {
    let wrapping = prop_oneof![
        select(vec![4u8, 41, 47]).prop_map(|protocol| (protocol, 0)),
        select(&PORTS[..]).prop_map(|port| (17, port)),
    ];
    let end = (address(), wrapping);
    end.prop_map(|(address, (protocol, port))| TunnelEnd { address, protocol, port })
}

/// Rules over few addresses and ports, so that frames meet them.
pub fn rules(interface: u32) -> impl Strategy<Value = SteeringRules> {
    let prefix = (address(), select(vec![0, 8, 24, 31, 32, 64, 128]));
    let prefix = prefix.prop_map(|(address, length)| Prefix { address, length });
    let pool = (select(&PORTS[..]), select(&PORTS[..])).prop_map(|(a, b)| a.min(b)..=a.max(b));
    (
        btree_set(address(), 0..4),
        btree_set(endpoint(), 0..10),
        btree_set(prefix, 0..2),
        btree_set(endpoint(), 0..10),
        btree_map(address(), pool, 0..2),
        btree_set(address(), 0..4),
        any::<bool>(),
        btree_set(tunnel_end(), 0..4),
    )
        .prop_map(
            move |(owned, services, prefixes, reals, pools, local, with_mac, tunnels)| {
                let macs = with_mac.then_some((interface, VIRTUAL)).into_iter().collect();
                SteeringRules { owned, services, prefixes, reals, tunnels, pools, local, macs }
            },
        )
}

fn ports() -> impl Strategy<Value = Vec<u8>> {
    let pair = (select(&PORTS[..]), select(&PORTS[..]));
    pair.prop_map(|(from, to)| [from.to_be_bytes(), to.to_be_bytes()].concat())
}

fn transport() -> impl Strategy<Value = u8> {
    prop_oneof![8 => select(vec![6u8, 17, 132]), 1 => select(vec![4u8, 41, 47]), 1 => any::<u8>()]
}

/// IPv6 extension headers and the protocol behind them: the bytes, and the first protocol.
fn extensions(protocol: u8) -> impl Strategy<Value = (u8, Vec<u8>)> {
    vec((select(vec![0u8, 43, 60, 51, 44]), 0..3u8), 0..8).prop_map(move |headers| {
        let mut bytes = Vec::new();
        let mut first = protocol;
        for (kind, length) in headers.into_iter().rev() {
            let size = match kind {
                51 => (usize::from(length) + 2) * 4,
                44 => 8,
                _ => (usize::from(length) + 1) * 8,
            };
            let mut header = vec![0; size];
            header[0] = first;
            header[1] = length;
            bytes.splice(0..0, header);
            first = kind;
        }
        (first, bytes)
    })
}

fn flow() -> impl Strategy<Value = Vec<u8>> {
    let icmp = (select(vec![0u8, 1, 2, 3, 4, 5, 8, 11, 12, 128, 135, 136]), transport(), ports());
    let body = prop_oneof![
        3 => (transport(), ports()).prop_map(|(p, ports)| (p, [ports, vec![0; 8]].concat(), None)),
        2 => (icmp, address(), address(), select(vec![1u8, 58])).prop_map(
            |((kind, protocol, ports), from, to, icmp)| {
                let inner = bare(from, to, protocol, &ports);
                (icmp, [vec![kind, 0, 0, 0, 0, 0, 0, 0], inner].concat(), None)
            }
        ),
        1 => (select(vec![135u8, 136]), address()).prop_map(|(kind, target)| {
            let target = match target {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let body = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
            (58, body, Some("ff02::1:ff00:1"))
        }),
    ];
    let with = (address(), address(), body, any::<prop::sample::Index>());
    with.prop_flat_map(|(from, to, (protocol, body, group), _)| {
        let to = group.map_or(to, |group: &str| group.parse().unwrap());
        let four =
            prop_oneof![4 => Just(0u16), 1 => select(vec![0x2000u16, 0x4000, 0x00b9, 0x8000])];
        let headers = prop_oneof![2 => Just((protocol, Vec::new())), 1 => extensions(protocol)];
        (four, headers, 0..4u8).prop_map(move |(fragment, (first, extensions), options)| {
            if to.is_ipv6() {
                return packet(from, to, first, &[extensions, body.clone()].concat());
            }
            let padding = vec![1; usize::from(options) * 4];
            let mut bytes = packet(from, to, protocol, &[padding, body.clone()].concat());
            bytes[14] += options;
            bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
            bytes
        })
    })
}

/// Frames of every kind that the rule knows, some tagged, cut off, or damaged.
pub fn frame() -> impl Strategy<Value = Vec<u8>> {
    let resolution = (select(vec![1u8, 2, 3]), select(&ADDRESSES[..4]));
    let whole = prop_oneof![
        8 => flow(),
        1 => resolution.prop_map(|(operation, target)| arp(operation, target)),
    ];
    let mac =
        prop_oneof![6 => Just(OWN), 1 => Just(OTHER), 1 => Just(VIRTUAL), 1 => Just([0xff; 6])];
    let tag = prop_oneof![4 => Just(None), 1 => select(vec![0x8100u16, 0x88a8]).prop_map(Some)];
    let cut = prop_oneof![4 => Just(usize::MAX), 1 => 15..120usize];
    let damage = prop_oneof![
        4 => Just(None),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some),
    ];
    (whole, mac, tag, cut, damage).prop_map(|(mut bytes, mac, tag, cut, damage)| {
        bytes[..6].copy_from_slice(&mac);
        if let Some(kind) = tag {
            let [a, b] = kind.to_be_bytes();
            bytes.splice(12..12, [a, b, 0, 100]);
        }
        bytes.truncate(cut);
        if let Some((at, value)) = damage {
            let at = 6 + at.index(bytes.len() - 6);
            bytes[at] = value;
        }
        bytes
    })
}
