//! The picture of the host.

use dataplane::table::{Mac, Prefix, route_rank, source_among};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All that is known of the host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostState {
    /// Interfaces, by the kernel's index.
    pub links: BTreeMap<u32, Link>,
    /// In the kernel's order: an interface's first address of a family is its preferred one.
    pub addresses: Vec<Address>,
    /// Of the main table.
    pub routes: Vec<Route>,
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
}

/// One address of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Interface index.
    pub link: u32,
    /// The address with the length of its subnet.
    pub prefix: Prefix,
}

/// One route of the host's main table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destinations that the route covers.
    pub prefix: Prefix,
    /// Next router; `None` when destinations are on the link.
    pub via: Option<IpAddr>,
    /// Interface index; `None` for a route that refuses or swallows.
    pub link: Option<u32>,
    /// Source address that the host would use.
    pub source: Option<IpAddr>,
    /// Largest IP packet in bytes; 0 for the interface's.
    pub mtu: u32,
    /// Lower wins.
    pub metric: u32,
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

    /// The route that the host would take.
    pub(crate) fn route_to(&self, destination: &IpAddr) -> Option<&Route> {
        let fitting = self.routes.iter().filter(|route| route.prefix.contains(destination));
        fitting.min_by_key(|route| route_rank(&route.prefix, route.metric))
    }

    /// Interface and neighbour by which the host would send to `destination`.
    pub fn neighbour_for(&self, destination: &IpAddr) -> Option<(u32, IpAddr)> {
        let route = self.route_to(destination)?;
        Some((route.link?, route.via.unwrap_or(*destination)))
    }

    /// The address that the host would send from towards `destination`: the route's own choice, or
    /// the first address of the interface, those of its subnet before others.
    pub fn source_for(&self, destination: &IpAddr) -> Option<IpAddr> {
        let route = self.route_to(destination)?;
        let next = route.via.unwrap_or(*destination);
        let own = self.addresses.iter().filter(|address| route.link == Some(address.link));
        route
            .source
            .or_else(|| source_among(own.map(|address| &address.prefix), destination, &next))
    }

    /// Every Ethernet interface that is no part of another one, by name.
    pub fn ethernet(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links
            .iter()
            .filter(|(_, link)| link.mac.is_some() && !link.loopback && link.controller.is_none())
            .map(|(index, link)| (*index, link))
    }
}
