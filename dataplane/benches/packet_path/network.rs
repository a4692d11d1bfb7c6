//! The network around the measured director: one service with sixteen real servers.

use dataplane::table::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub const OUTSIDE: PortId = PortId(0);
pub const INSIDE: PortId = PortId(1);
/// Real servers; round robin starts with the last.
pub const REALS: u32 = 16;

pub fn vip(v6: bool) -> u128 {
    if v6 { 0x2001_0db8 << 96 | 0x10 } else { 0xc000_020a }
}

pub fn real_address(v6: bool, number: u32) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(0x2001_0db8_0002 << 80 | u128::from(number + 1)).into()
    } else {
        Ipv4Addr::from_bits(0x0a00_0001 + number).into()
    }
}

pub fn table(method: Method, v6: bool) -> ServiceTable {
    let address = if v6 {
        IpAddr::from(Ipv6Addr::from_bits(vip(true)))
    } else {
        Ipv4Addr::from_bits(vip(false) as u32).into()
    };
    let reals = (0..REALS).rev().map(|number| Real {
        id: RealId(number),
        address: real_address(v6, number),
        port: 8080,
        method,
        weight: 1,
        availability: dataplane::table::Availability::Serving,
        last_weight: 1,
        upper: 0,
        lower: 0,
    });
    let protocol = if v6 { Protocol::Udp } else { Protocol::Tcp };
    let service = Service {
        id: ServiceId(0),
        key: ServiceKey::Address { protocol, address, port: 80 },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        return_by_mac: false,
        source_pool: [].into(),
        client_address: ClientAddress::Hidden,
        reals: reals.collect(),
    };
    let (timeouts, tunables) = (Timeouts::default(), Tunables::default());
    ServiceTable::new([Arc::new(service)], [], [].into(), timeouts, tunables)
}

pub fn hops() -> Hops {
    let port = |mac| PortInfo {
        name: "bench".into(),
        index: 1,
        mac: [2, 0, 0, 0, 0, mac],
        mtu: 1600,
        addresses: vec![
            Prefix { address: Ipv4Addr::new(10, 0, 0, 200).into(), length: 24 },
            Prefix { address: real_address(true, 200), length: 64 },
        ],
    };
    let route = |address: IpAddr, length, via, port| Route {
        prefix: Prefix { address, length },
        via,
        port: Some(port),
        source: None,
        mtu: 0,
        metric: 0,
    };
    let router = IpAddr::from(Ipv4Addr::new(192, 0, 2, 254));
    let router6 = IpAddr::from(Ipv6Addr::from_bits(vip(true) + 0xfe));
    let routes = vec![
        route(Ipv4Addr::new(10, 0, 0, 0).into(), 24, None, INSIDE),
        route(real_address(true, 0), 64, None, INSIDE),
        route(Ipv4Addr::new(192, 0, 2, 0).into(), 24, None, OUTSIDE),
        route(Ipv4Addr::UNSPECIFIED.into(), 0, Some(router), OUTSIDE),
        route(Ipv6Addr::UNSPECIFIED.into(), 0, Some(router6), OUTSIDE),
    ];
    let mut neighbours = HashMap::new();
    neighbours.insert((OUTSIDE, router), [2, 9, 9, 9, 9, 9]);
    neighbours.insert((OUTSIDE, router6), [2, 9, 9, 9, 9, 9]);
    for number in 0..REALS {
        for v6 in [false, true] {
            neighbours.insert((INSIDE, real_address(v6, number)), [2, 1, 1, 1, 1, number as u8]);
        }
    }
    Hops::new(vec![Some(port(1)), Some(port(2))], routes, neighbours, [], None, 1)
}
