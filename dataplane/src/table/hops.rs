//! Where a packet goes next: the host's interfaces, routes and neighbours, as control last saw them.

use super::{Mac, PortId, Prefix, RealId};
use std::collections::HashMap;
use std::net::IpAddr;

/// An 802.1Q tag: VLAN id 1..=4094.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vlan(pub u16);

/// One attached interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortInfo {
    /// The interface's name, for people.
    pub name: String,
    /// The kernel's interface index.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Largest IP packet that it carries, in bytes.
    pub mtu: u16,
    /// The host's own addresses on it, first the preferred one of each family.
    pub addresses: Vec<Prefix>,
}

/// One route of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destinations that the route covers.
    pub prefix: Prefix,
    /// Next router; `None` when destinations are on the link.
    pub via: Option<IpAddr>,
    /// The interface out of which to send; `None` when it is not attached to the dataplane.
    pub port: Option<PortId>,
    /// The source address that the host would use, when the route names one.
    pub source: Option<IpAddr>,
    /// Largest IP packet for this route in bytes; 0 for the interface's.
    pub mtu: u16,
    /// Lower wins among routes with the same prefix.
    pub metric: u32,
}

/// The next hop, resolved down to Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Leaves here.
    pub port: PortId,
    /// Tag to put on, if any.
    pub vlan: Option<Vlan>,
    /// Ethernet destination and source, as they stand in the header.
    pub macs: [u8; 12],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
}

impl Hop {
    /// The untagged hop to `mac`, from `source`.
    pub fn new(port: PortId, mac: Mac, source: Mac, mtu: u16) -> Self {
        let [a, b, c, d, e, f] = mac;
        let [g, h, i, j, k, l] = source;
        Self { port, vlan: None, macs: [a, b, c, d, e, f, g, h, i, j, k, l], mtu }
    }

    /// Ethernet destination.
    pub const fn mac(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.macs;
        [a, b, c, d, e, f]
    }

    /// Ethernet source.
    pub const fn source_mac(&self) -> Mac {
        let [.., g, h, i, j, k, l] = self.macs;
        [g, h, i, j, k, l]
    }
}

/// The link between the dataplane and the host's own stack: a TAP device. Clients on the director
/// and real servers on the director are neighbours on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostLink {
    /// The port that the device is attached as.
    pub port: PortId,
    /// The host's MAC on it.
    pub host_mac: Mac,
    /// Addresses that the dataplane sends from towards the host, one of each family.
    pub sources: Vec<IpAddr>,
}

/// Why there is no next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoHop {
    /// No route leads there.
    NoRoute,
    /// The route leaves by an interface that the dataplane is not attached to, or by loopback.
    NotAttached,
    /// The neighbour's Ethernet address is not known yet; it has to be asked for.
    Unresolved {
        /// Port that the neighbour is on.
        port: PortId,
        /// Whom to ask for.
        neighbour: IpAddr,
    },
}

/// Of several routes to one destination the host takes the one of lowest rank: the longest prefix,
/// then the lowest metric.
pub fn route_rank(prefix: &Prefix, metric: u32) -> impl Ord + use<> {
    (std::cmp::Reverse(prefix.length), metric)
}

/// Which of an interface's own addresses a host sends from, when the route does not say: of the
/// destination's family, the first that shares its subnet with the next hop, else the first. The host may hold VIPs there, too;
/// those have no subnet to share.
pub fn source_among<'a>(
    own: impl IntoIterator<Item = &'a Prefix>,
    destination: &IpAddr,
    next: &IpAddr,
) -> Option<IpAddr> {
    own.into_iter()
        .filter(|own| own.address.is_ipv4() == destination.is_ipv4())
        .min_by_key(|own| !own.contains(next))
        .map(|own| own.address)
}

/// The host's interfaces, routes and neighbours. Immutable; published whole.
#[derive(Clone, Debug, Default)]
pub struct Hops {
    ports: Vec<Option<PortInfo>>,
    /// Longest prefix first, then lowest metric.
    routes: Vec<Route>,
    neighbours: HashMap<(PortId, IpAddr), Mac>,
    local: HashMap<IpAddr, Option<PortId>>,
    reals: Vec<Option<Hop>>,
    /// Where tunnels to real servers start.
    sources: Vec<Option<IpAddr>>,
    host: Option<HostLink>,
    /// Differs between any two published generations.
    pub generation: u64,
}

impl Hops {
    /// Builds the snapshot. `ports` is indexed by [`PortId`]; `local` are all the host's own
    /// addresses, with the attached port that carries each.
    pub fn new(
        ports: Vec<Option<PortInfo>>,
        mut routes: Vec<Route>,
        neighbours: HashMap<(PortId, IpAddr), Mac>,
        local: HashMap<IpAddr, Option<PortId>>,
        generation: u64,
    ) -> Self {
        routes.sort_by_key(|route| route_rank(&route.prefix, route.metric));
        Self {
            ports,
            routes,
            neighbours,
            local,
            reals: Vec::new(),
            sources: Vec::new(),
            host: None,
            generation,
        }
    }

    /// With a link to the host's own stack, by which all local addresses are reached.
    #[must_use]
    pub fn with_host_link(mut self, link: HostLink) -> Self {
        self.host = Some(link);
        self
    }

    /// The link to the host's own stack, if there is one.
    pub fn host_link(&self) -> Option<&HostLink> {
        self.host.as_ref()
    }

    /// Resolves next hop and source of every real server ahead of the packets.
    #[must_use]
    pub fn with_reals<'a>(mut self, reals: impl IntoIterator<Item = (RealId, &'a IpAddr)>) -> Self {
        let (mut resolved, mut sources) = (Vec::new(), Vec::new());
        for (id, address) in reals {
            let index = id.0 as usize;
            if resolved.len() <= index {
                resolved.resize(index + 1, None);
                sources.resize(index + 1, None);
            }
            resolved[index] = self.resolve(address).ok();
            sources[index] = self.source_for(address);
        }
        self.reals = resolved;
        self.sources = sources;
        self
    }

    /// The next hop towards a real server, when it was resolved ahead.
    pub fn for_real(&self, id: RealId) -> Option<&Hop> {
        self.reals.get(id.0 as usize)?.as_ref()
    }

    /// [`Hops::source_for`] a real server, when it was resolved ahead.
    #[inline(always)]
    pub fn source_for_real(&self, id: RealId) -> Option<IpAddr> {
        *self.sources.get(id.0 as usize)?
    }

    /// The route that the host would take. Linear in the number of routes of the host.
    pub fn route(&self, destination: &IpAddr) -> Option<&Route> {
        self.routes.iter().find(|route| route.prefix.contains(destination))
    }

    /// The next hop towards any address.
    ///
    /// # Errors
    /// Says whether a route, an attached interface or the neighbour's address is missing.
    pub fn resolve(&self, destination: &IpAddr) -> Result<Hop, NoHop> {
        if self.is_local(destination) {
            return self.to_host().ok_or(NoHop::NotAttached);
        }
        let route = self.route(destination).ok_or(NoHop::NoRoute)?;
        let port = route.port.ok_or(NoHop::NotAttached)?;
        let info = self.port(port).ok_or(NoHop::NotAttached)?;
        let neighbour = route.via.unwrap_or(*destination);
        let mac =
            self.neighbours.get(&(port, neighbour)).ok_or(NoHop::Unresolved { port, neighbour })?;
        let mtu = if route.mtu == 0 { info.mtu } else { route.mtu.min(info.mtu) };
        Ok(Hop::new(port, *mac, info.mac, mtu))
    }

    fn to_host(&self) -> Option<Hop> {
        let link = self.host.as_ref()?;
        let info = self.port(link.port)?;
        Some(Hop::new(link.port, link.host_mac, info.mac, info.mtu))
    }

    /// The address to send from towards `destination`: the host's own on that side, or the
    /// dataplane's on the host link.
    pub fn source_for(&self, destination: &IpAddr) -> Option<IpAddr> {
        if self.is_local(destination) {
            let sources = &self.host.as_ref()?.sources;
            let family = super::Family::of(destination);
            return sources.iter().copied().find(|a| super::Family::of(a) == family);
        }
        let route = self.route(destination)?;
        let next = route.via.unwrap_or(*destination);
        let own = route.port.and_then(|port| self.port(port)).map(|port| &port.addresses);
        route.source.or_else(|| source_among(own.into_iter().flatten(), destination, &next))
    }

    /// An attached interface.
    pub fn port(&self, id: PortId) -> Option<&PortInfo> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// Returns all attached interfaces.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortInfo)> {
        self.ports
            .iter()
            .enumerate()
            .filter_map(|(id, port)| Some((PortId(u16::try_from(id).ok()?), port.as_ref()?)))
    }

    /// All the host's own addresses, in no order.
    pub fn local_addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.local.keys()
    }

    /// Whether the host itself has this address.
    pub fn is_local(&self, address: &IpAddr) -> bool {
        self.local.contains_key(address)
    }
}
