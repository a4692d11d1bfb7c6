//! The host's picture to what packets look up. Pure.

use super::{HostState, Stack};
use dataplane::table::{Hops, Mac, Place, PortId, PortInfo, Prefix};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Compiles the next hops. `ports` are the attached interfaces by index; `heard` are neighbours that
/// answered the dataplane itself and that the kernel need not know. What leaves by an interface that
/// is not attached goes through `stack`, for the host to route.
pub fn hops(
    host: &HostState,
    ports: &BTreeMap<u32, PortId>,
    heard: &BTreeMap<(PortId, IpAddr), Mac>,
    stack: Option<&Stack>,
    generation: u64,
) -> Hops {
    let count = ports.values().map(|port| usize::from(port.0) + 1).max().unwrap_or(0);
    let mut infos: Vec<Option<PortInfo>> = vec![None; count];
    for (index, port) in ports {
        if let Some(place) = infos.get_mut(usize::from(port.0)) {
            *place = port_info(host, *index);
        }
    }
    let mut neighbours: HashMap<(PortId, IpAddr), Mac> =
        heard.iter().map(|(key, mac)| (*key, *mac)).collect();
    // Where both know, the kernel is right: it notices when a neighbour moves.
    for ((link, address), neighbour) in &host.neighbours {
        if let Some(port) = ports.get(link) {
            neighbours.insert((*port, *address), neighbour.mac);
        }
    }
    let place = |index: u32| match (ports.get(&index), host.links.get(&index)) {
        (Some(port), _) => Place::Port(*port),
        (None, Some(link)) if !link.loopback => {
            Place::Host { mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX) }
        }
        (None, Some(_) | None) => Place::Closed,
    };
    let link = stack.map(Stack::link);
    Hops::of(infos, &host.routing, place, &neighbours, link, generation)
}

fn port_info(host: &HostState, index: u32) -> Option<PortInfo> {
    let link = host.links.get(&index)?;
    let own = host.addresses.iter().filter(|address| address.link == index);
    let mut addresses: Vec<Prefix> = own.map(|address| address.prefix).collect();
    // A link-local address is the last choice for anything that crosses a router.
    addresses.sort_by_key(|prefix| is_link_local(&prefix.address));
    Some(PortInfo {
        name: link.name.clone(),
        index,
        mac: link.mac?,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        addresses,
    })
}

const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Address, Link, Neighbour, NeighbourState, Route as HostRoute, Tables};
    use dataplane::table::{NoHop, Refusal, RouteHop, Target};

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn prefix(text: &str, length: u8) -> Prefix {
        Prefix { address: ip(text), length }
    }

    fn link(name: &str, last: u8) -> Link {
        Link {
            name: name.into(),
            mac: Some([2, 0, 0, 0, 1, last]),
            mtu: 1500,
            controller: None,
            queues: 1,
            vlans: false,
            generation: 0,
            loopback: false,
            up: true,
            carrier: true,
            ignored_without_carrier: [false; 2],
            vrf: None,
        }
    }

    fn host() -> HostState {
        let mut host = HostState {
            links: [(2, link("eth0", 2)), (3, link("eth1", 3)), (4, link("mgmt", 4))].into(),
            addresses: vec![
                Address { link: 2, prefix: prefix("fe80::1", 64) },
                Address { link: 2, prefix: prefix("2001:db8::1", 64) },
                Address { link: 2, prefix: prefix("192.0.2.1", 24) },
                Address { link: 3, prefix: prefix("10.0.0.1", 24) },
            ],
            neighbours: [
                ((2, ip("192.0.2.254")), Neighbour { mac: MAC, state: NeighbourState::Stale }),
                ((4, ip("198.51.100.9")), Neighbour { mac: MAC, state: NeighbourState::Fresh }),
            ]
            .into(),
            ..HostState::default()
        };
        route(&mut host);
        host
    }

    /// Gives it its routes, as its addresses are now.
    fn route(host: &mut HostState) {
        let to = |block: &str, length, via: Option<&str>, link, metric| {
            let hops = [RouteHop { via: via.map(ip), link, weight: 1 }].into();
            let target = Target::Hops { hops, source: None, mtu: 0 };
            HostRoute { table: 254, prefix: prefix(block, length), metric, target }
        };
        let refusing = to("203.0.113.0", 24, None, 0, 0);
        let mut tables = Tables::default();
        tables.replace([
            to("0.0.0.0", 0, Some("192.0.2.254"), 2, 100),
            to("0.0.0.0", 0, Some("10.0.0.254"), 3, 200),
            to("10.0.0.0", 24, None, 3, 0),
            to("192.0.2.0", 24, None, 2, 0),
            to("198.51.100.0", 24, None, 4, 0),
            HostRoute { target: Target::Refuse(Refusal::Prohibit), ..refusing },
        ]);
        tables.follow(&host.links, &host.addresses);
        host.routing = tables.snapshot(&host.links);
    }

    fn ports() -> BTreeMap<u32, PortId> {
        [(2, PortId(0)), (3, PortId(1))].into()
    }

    #[test]
    fn next_hops_follow_the_host_s_routes() {
        let heard = [((PortId(1), ip("10.0.0.7")), [9; 6])].into();
        let hops = hops(&host(), &ports(), &heard, None, 7);
        let via_router = hops.resolve(ip("8.8.8.8")).expect("default route");
        assert_eq!((via_router.port, via_router.mac()), (PortId(0), MAC));
        assert_eq!(via_router.source_mac(), [2, 0, 0, 0, 1, 2]);
        assert_eq!(hops.resolve(ip("10.0.0.7")).map(|hop| hop.mac()), Ok([9; 6]));
        let unresolved = NoHop::Unresolved { port: PortId(1), neighbour: ip("10.0.0.8") };
        assert_eq!(hops.resolve(ip("10.0.0.8")), Err(unresolved));
        assert_eq!(hops.resolve(ip("198.51.100.9")), Err(NoHop::NotAttached));
        assert_eq!(hops.resolve(ip("203.0.113.9")), Err(NoHop::Refused(Refusal::Prohibit)));
        assert_eq!(hops.generation, 7);
    }

    #[test]
    fn global_addresses_are_preferred_to_link_local_ones() {
        let hops = hops(&host(), &ports(), &BTreeMap::new(), None, 1);
        let port = hops.port(PortId(0)).expect("attached");
        let addresses: Vec<_> = port.addresses.iter().map(|prefix| prefix.address).collect();
        assert_eq!(addresses, [ip("2001:db8::1"), ip("192.0.2.1"), ip("fe80::1")]);
        assert!(hops.is_local(&ip("10.0.0.1")));
    }

    #[test]
    fn a_vip_that_the_host_holds_as_well_is_no_source() {
        let mut host = host();
        host.addresses.insert(0, Address { link: 3, prefix: prefix("192.0.2.10", 32) });
        route(&mut host);
        let hops = hops(&host, &ports(), &BTreeMap::new(), None, 1);
        assert_eq!(hops.source_for(&ip("10.0.0.7")), Some(ip("10.0.0.1")));
        assert_eq!(host.source_for(&ip("10.0.0.7")), Some(ip("10.0.0.1")));
    }

    #[test]
    fn the_kernel_s_neighbour_wins_over_one_that_was_heard() {
        let heard = [((PortId(0), ip("192.0.2.254")), [9; 6])].into();
        let hops = hops(&host(), &ports(), &heard, None, 1);
        assert_eq!(hops.resolve(ip("8.8.8.8")).map(|hop| hop.mac()), Ok(MAC));
    }

    #[test]
    fn the_host_s_own_addresses_are_reached_by_the_link_to_its_stack() {
        let mut host = host();
        host.links.insert(9, link("viaduct0", 9));
        let ports = [(2, PortId(1)), (9, PortId(0))].into();
        let stack = Stack { port: PortId(0), index: 9, mac: [2, 0, 0, 0, 1, 9] };
        let hops = hops(&host, &ports, &BTreeMap::new(), Some(&stack), 1);
        let hop = hops.resolve(ip("10.0.0.1")).expect("the host's own");
        assert_eq!((hop.port, hop.mac()), (PortId(0), stack.mac));
        let source = hops.source_for(&ip("10.0.0.1"));
        assert!(source.is_some_and(|source| stack.link().sources.contains(&source)));
    }

    #[test]
    fn what_leaves_by_an_interface_that_is_no_port_is_routed_by_the_host() {
        let mut host = host();
        host.links.insert(9, link("viaduct0", 9));
        if let Some(mgmt) = host.links.get_mut(&4) {
            mgmt.mtu = 1420;
        }
        let ports = [(2, PortId(1)), (9, PortId(0))].into();
        let stack = Stack { port: PortId(0), index: 9, mac: [2, 0, 0, 0, 1, 9] };
        let hops = hops(&host, &ports, &BTreeMap::new(), Some(&stack), 1);
        let hop = hops.resolve(ip("198.51.100.9")).expect("by the host");
        assert_eq!((hop.port, hop.mac(), hop.mtu), (PortId(0), stack.mac, 1420));
    }

    #[test]
    fn a_port_whose_link_vanished_is_no_port() {
        let mut host = host();
        host.links.remove(&2);
        let hops = hops(&host, &ports(), &BTreeMap::new(), None, 1);
        assert!(hops.port(PortId(0)).is_none());
        assert_eq!(hops.resolve(ip("8.8.8.8")), Err(NoHop::NotAttached));
    }
}
