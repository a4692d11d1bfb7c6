//! Netlink messages to the picture's words. The only place that knows the netlink crates' types.
#![allow(clippy::wildcard_enum_match_arm)] // foreign enums of all that the kernel may ever say

use super::{Address, Link, Neighbour, NeighbourState};
use dataplane::io::{receive_queues, vlan_carriers};
use dataplane::table::Prefix;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoVrf, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as KernelState,
};
use rtnetlink::{Error, Handle};
use std::collections::BTreeMap;
use std::net::IpAddr;

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
    let (mut name, mut mac, mut mtu, mut controller, mut vrf) = (None, None, 0, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Controller(index) => controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => vrf = infos.iter().find_map(vrf_table),
            _ => {}
        }
    }
    let name = name?;
    let carrier = header.flags.contains(LinkFlags::LowerUp);
    let ethernet = header.link_layer_type == LinkLayerType::Ether;
    Some(Link {
        queues: receive_queues(&name),
        // Of interest only without a carrier.
        ignored_without_carrier: if carrier { [false; 2] } else { ignored_without_carrier(&name) },
        vrf,
        vlans: false,
        generation: 0,
        name,
        mac: mac.filter(|_| ethernet),
        mtu,
        controller: controller.filter(|index| *index != 0),
        loopback: header.flags.contains(LinkFlags::Loopback),
        up: header.flags.contains(LinkFlags::Up),
        carrier,
    })
}

fn vrf_table(info: &LinkInfo) -> Option<u32> {
    let LinkInfo::Data(InfoData::Vrf(all)) = info else { return None };
    all.iter().find_map(|one| if let InfoVrf::TableId(table) = one { Some(*table) } else { None })
}

/// Whether the kernel skips routes by an interface while it has no carrier: IPv4, IPv6.
pub(super) fn ignored_without_carrier(name: &str) -> [bool; 2] {
    ["ipv4", "ipv6"].map(|family| {
        let path = format!("/proc/sys/net/{family}/conf/{name}/ignore_routes_with_linkdown");
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
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
