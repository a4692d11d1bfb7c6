//! Netlink messages to the picture's words. The only place that knows the netlink crates' types.
#![allow(clippy::wildcard_enum_match_arm)] // foreign enums of all that the kernel may ever say

use super::{Address, Link, Neighbour, NeighbourState, Route};
use dataplane::io::{receive_queues, vlan_carriers};
use dataplane::table::Prefix;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::{Error, Handle};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `RT_TABLE_DEFAULT`, looked up after the main table.
const TABLE_DEFAULT: u32 = 253;

pub(super) async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>, Error> {
    let mut links = BTreeMap::new();
    let mut messages = handle.link().get().execute();
    while let Some(message) = messages.try_next().await? {
        if let Some(link) = link(&message) {
            links.insert(message.header.index, link);
        }
    }
    let carriers = vlan_carriers();
    links.values_mut().for_each(|link| link.vlans = carriers.contains(&link.name));
    Ok(links)
}

fn link(message: &LinkMessage) -> Option<Link> {
    let header = &message.header;
    let (mut name, mut mac, mut mtu, mut controller) = (None, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Controller(index) => controller = Some(*index),
            _ => {}
        }
    }
    let name = name?;
    let ethernet = header.link_layer_type == LinkLayerType::Ether;
    Some(Link {
        queues: receive_queues(&name),
        vlans: false,
        generation: 0,
        name,
        mac: mac.filter(|_| ethernet),
        mtu,
        controller: controller.filter(|index| *index != 0),
        loopback: header.flags.contains(LinkFlags::Loopback),
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
    })
}

pub(super) async fn addresses(handle: &Handle) -> Result<Vec<Address>, Error> {
    let mut addresses = Vec::new();
    let mut messages = handle.address().get().execute();
    while let Some(message) = messages.try_next().await? {
        addresses.extend(address(&message));
    }
    Ok(addresses)
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut own, mut other) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => own = Some(*ip),
            AddressAttribute::Address(ip) => other = Some(*ip),
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end's.
    let address = own.or(other)?;
    let prefix = Prefix { address, length: message.header.prefix_len };
    Some(Address { link: message.header.index, prefix })
}

pub(super) async fn routes(handle: &Handle) -> Result<Vec<Route>, Error> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        let mut messages = handle.route().get(wanted).execute();
        while let Some(message) = messages.try_next().await? {
            routes.extend(route(&message));
        }
    }
    Ok(routes)
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let prefix = Prefix { address: any, length: header.destination_prefix_length };
    let mut route = Route { prefix, via: None, link: None, source: None, mtu: 0, metric: 0 };
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        table = read_attribute(attribute, &mut route).unwrap_or(table);
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) && table != TABLE_DEFAULT {
        return None;
    }
    match header.kind {
        RouteType::Unicast => Some(route),
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => {
            Some(Route { via: None, link: None, ..route })
        }
        _ => None,
    }
}

/// Takes one attribute over; returns the table when it names one.
fn read_attribute(attribute: &RouteAttribute, route: &mut Route) -> Option<u32> {
    match attribute {
        RouteAttribute::Table(number) => return Some(*number),
        RouteAttribute::Destination(to) => {
            route.prefix.address = ip(to).unwrap_or(route.prefix.address);
        }
        RouteAttribute::Gateway(router) => route.via = ip(router),
        RouteAttribute::Via(RouteVia::Inet(router)) => route.via = Some((*router).into()),
        RouteAttribute::Via(RouteVia::Inet6(router)) => route.via = Some((*router).into()),
        RouteAttribute::Oif(index) => route.link = Some(*index),
        RouteAttribute::PrefSource(from) => route.source = ip(from),
        RouteAttribute::Priority(metric) => route.metric = *metric,
        RouteAttribute::Metrics(metrics) => {
            route.mtu = metrics.iter().find_map(mtu).unwrap_or(0);
        }
        // Of several equal next hops the first is used: a connection must not change its path.
        RouteAttribute::MultiPath(hops) => {
            if let Some(hop) = hops.first() {
                route.link = Some(hop.interface_index);
                for attribute in &hop.attributes {
                    read_attribute(attribute, route);
                }
            }
        }
        _ => {}
    }
    None
}

fn mtu(metric: &RouteMetric) -> Option<u32> {
    if let RouteMetric::Mtu(bytes) = metric { Some(*bytes) } else { None }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

pub(super) async fn neighbours(
    handle: &Handle,
) -> Result<BTreeMap<(u32, IpAddr), Neighbour>, Error> {
    let mut neighbours = BTreeMap::new();
    let mut messages = handle.neighbours().get().execute();
    while let Some(message) = messages.try_next().await? {
        if let Some((address, neighbour)) = neighbour(&message) {
            neighbours.insert((message.header.ifindex, address), neighbour);
        }
    }
    Ok(neighbours)
}

fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Neighbour)> {
    let state = match message.header.state {
        KernelState::Reachable
        | KernelState::Permanent
        | KernelState::Noarp
        | KernelState::Delay
        | KernelState::Probe => NeighbourState::Fresh,
        KernelState::Stale => NeighbourState::Stale,
        _ => return None,
    };
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some((address?, Neighbour { mac: mac?, state }))
}
