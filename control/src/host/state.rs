//! The picture of the host.

use dataplane::table::{Flow, Mac, Prefix, RouteHop, Routing, Target, source_among};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// All that is known of the host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostState {
    /// Interfaces, by the kernel's index.
    pub links: BTreeMap<u32, Link>,
    /// In the kernel's order: an interface's first address of a family is its preferred one.
    pub addresses: Vec<Address>,
    /// Tables and rules.
    pub routing: Arc<Routing>,
    /// Where this daemon's own routes lead, as the kernel has them.
    pub led: Arc<BTreeSet<IpAddr>>,
    /// By interface index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Which interface this is of those that were seen with its index: one may be removed and another
    /// one made, or come from another namespace, with the same index and name.
    pub generation: u64,
    /// Its Ethernet address; `None` for interfaces that are not Ethernet.
    pub mac: Option<Mac>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Receive queues in use.
    pub queues: u32,
    /// Whether VLAN interfaces stand on it.
    pub vlans: bool,
    /// Index of the bridge or bond that it is part of: frames are seen there.
    pub controller: Option<u32>,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether the other end is there.
    pub carrier: bool,
    /// Whether the kernel skips routes by it while it has no carrier: IPv4, IPv6
    /// (`ignore_routes_with_linkdown`).
    pub ignored_without_carrier: [bool; 2],
    /// The table of the VRF that it is.
    pub vrf: Option<u32>,
}

impl Link {
    /// Whether the kernel takes no route by it: IPv4, IPv6.
    pub fn dead(&self) -> [bool; 2] {
        self.ignored_without_carrier.map(|ignored| !self.up || (ignored && !self.carrier))
    }
}

/// One address of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Interface index.
    pub link: u32,
    /// The address with the length of its subnet.
    pub prefix: Prefix,
}

/// One neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its Ethernet address.
    pub mac: Mac,
    /// How sure the kernel is.
    pub state: NeighbourState,
}

/// How sure the kernel is of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourState {
    /// It answered lately, or somebody said so for good.
    Fresh,
    /// It was right once; nobody has asked since.
    Stale,
}

impl HostState {
    /// The index of the interface with this name.
    pub fn link_named(&self, name: &str) -> Option<u32> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(index, _)| *index)
    }

    /// The way that the host would take, and the source address that its route names.
    pub(crate) fn route_to(&self, destination: &IpAddr) -> Option<(RouteHop, Option<IpAddr>)> {
        let Target::Hops { hops, source, .. } = self.routing.target(&Flow::from(*destination))
        else {
            return None;
        };
        Some((*hops.first()?, *source))
    }

    /// Interface and neighbour by which the host would send to `destination`.
    pub fn neighbour_for(&self, destination: &IpAddr) -> Option<(u32, IpAddr)> {
        let (hop, _) = self.route_to(destination)?;
        Some((hop.link, hop.via.unwrap_or(*destination)))
    }

    /// The address that the host would send from towards `destination`: the route's own choice, or
    /// the first address of the interface, those of its subnet before others.
    pub fn source_for(&self, destination: &IpAddr) -> Option<IpAddr> {
        let (hop, source) = self.route_to(destination)?;
        let next = hop.via.unwrap_or(*destination);
        let own = self.addresses.iter().filter(|address| hop.link == address.link);
        source.or_else(|| source_among(own.map(|address| &address.prefix), destination, &next))
    }

    /// Every Ethernet interface that is no part of another one, by name. Those of a VRF stand for
    /// themselves; the VRF carries no frames.
    pub fn ethernet(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links
            .iter()
            .filter(|(_, link)| link.mac.is_some() && !link.loopback && link.vrf.is_none())
            .filter(|(_, link)| {
                let of = link.controller.and_then(|index| self.links.get(&index));
                link.controller.is_none() || of.is_some_and(|of| of.vrf.is_some())
            })
            .map(|(index, link)| (*index, link))
    }
}
