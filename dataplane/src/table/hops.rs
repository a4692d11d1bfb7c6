//! Where a packet goes next: the host's interfaces, routes and neighbours, as control last saw them.

use super::ranges::{Ranges, Span};
use super::{Address, Mac, PortId, Prefix, RealId};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

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

/// What routes lead to: many routes share one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    via: Option<IpAddr>,
    port: Option<PortId>,
    source: Option<IpAddr>,
    next: Next,
}

/// The next hop of a way, as far as it is the same for all destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// All go to one neighbour.
    Hop(Hop),
    /// Each destination is a neighbour itself.
    OnLink {
        port: PortId,
        mac: Mac,
        mtu: u16,
    },
    Missing(NoHop),
}

/// The last next hop that was found, and the destinations that share it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Near<'a>(Option<(Span, &'a Hop)>);

/// The numbers in [`Hops::ranges`] that stand for no route; those of routes follow.
const NO_ROUTE: u32 = 0;
const LOCAL: u32 = 1;

/// The host's interfaces, routes and neighbours. Immutable; published whole.
///
/// Routes are resolved down to Ethernet when this is built, so that finding the next hop of a packet
/// is one search in [`Ranges`], and one more in the neighbours if its destination is on a link.
#[derive(Clone, Debug, Default)]
pub struct Hops {
    ports: Vec<Option<PortInfo>>,
    /// Indexes `ways`.
    ranges: Arc<Ranges>,
    ways: Arc<[Way]>,
    /// Of destinations on a link.
    on_link: Arc<HashMap<Address, Hop, foldhash::fast::RandomState>>,
    reals: Vec<Option<Hop>>,
    /// Where tunnels to real servers start.
    sources: Vec<Option<IpAddr>>,
    host: Option<HostLink>,
    /// Differs between any two published generations.
    pub generation: u64,
}

impl Hops {
    /// Builds the snapshot. `ports` is indexed by [`PortId`]; `local` are the host's own addresses,
    /// which `host` leads to; without it nothing does.
    pub fn new(
        ports: Vec<Option<PortInfo>>,
        mut routes: Vec<Route>,
        neighbours: HashMap<(PortId, IpAddr), Mac>,
        local: impl IntoIterator<Item = IpAddr>,
        host: Option<HostLink>,
        generation: u64,
    ) -> Self {
        let mut hops = Self { ports, host, generation, ..Self::default() };
        // Of routes with the same prefix the one of lowest metric comes first and counts.
        routes.sort_by_key(|route| route.metric);
        let mut ways = vec![Way::closed(NoHop::NoRoute), hops.to_host()];
        let mut numbers: HashMap<_, u32> = HashMap::new();
        let local = local.into_iter().map(|address| (Prefix::host(address), LOCAL));
        let mut entries: Vec<(Prefix, u32)> = local.collect();
        for route in routes {
            let Route { via, port, source, mtu, .. } = route;
            let number = *numbers.entry((via, port, source, mtu)).or_insert_with(|| {
                let next = hops.next_of(&route, &neighbours).unwrap_or_else(Next::Missing);
                ways.push(Way { via, port, source, next });
                ways.len() as u32 - 1
            });
            entries.push((route.prefix, number));
        }
        hops.ranges = Arc::new(Ranges::new(entries));
        hops.ways = ways.into();
        let on_link = neighbours.iter().filter_map(|(key, mac)| hops.on_link_hop(key, *mac));
        hops.on_link = Arc::new(on_link.collect());
        hops
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
            resolved[index] = self.resolve(*address).ok();
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

    /// The next hop towards any address.
    ///
    /// # Errors
    /// Says whether a route, an attached interface or the neighbour's address is missing.
    pub fn resolve(&self, destination: impl Into<Address>) -> Result<Hop, NoHop> {
        let destination = destination.into();
        if let Some(hop) = self.look_up(destination, &mut Near::default()) {
            return Ok(*hop);
        }
        match self.ways.get(self.ranges.number(destination) as usize).map(|way| way.next) {
            Some(Next::Hop(hop)) => Ok(hop),
            Some(Next::OnLink { port, .. }) => {
                Err(NoHop::Unresolved { port, neighbour: destination.ip() })
            }
            Some(Next::Missing(missing)) => Err(missing),
            None => Err(NoHop::NoRoute),
        }
    }

    /// The next hop towards any address, if there is one. `near` remembers the last one found, which
    /// is most often the next one's, too.
    #[inline(always)]
    pub fn known<'a>(&'a self, destination: Address, near: &mut Near<'a>) -> Option<&'a Hop> {
        match near.0 {
            Some((span, hop)) if span.contains(destination) => Some(hop),
            Some(_) | None => self.look_up(destination, near),
        }
    }

    #[inline(never)]
    fn look_up<'a>(&'a self, destination: Address, near: &mut Near<'a>) -> Option<&'a Hop> {
        let (number, span) = self.ranges.find(destination);
        match &self.ways.get(number as usize)?.next {
            Next::Hop(hop) => {
                near.0 = Some((span, hop));
                Some(hop)
            }
            Next::OnLink { .. } => self.on_link.get(&destination),
            Next::Missing(_) => None,
        }
    }

    fn way(&self, destination: &IpAddr) -> Option<&Way> {
        match self.ranges.number((*destination).into()) {
            NO_ROUTE | LOCAL => None,
            number => self.ways.get(number as usize),
        }
    }

    /// The attached interface on whose link an address lives, if it does on any.
    pub fn link_of(&self, address: &IpAddr) -> Option<PortId> {
        self.way(address).filter(|way| way.via.is_none())?.port
    }

    /// The hop of a neighbour that is a destination itself, if its address is routed to its link.
    fn on_link_hop(&self, (on, address): &(PortId, IpAddr), to: Mac) -> Option<(Address, Hop)> {
        match self.way(address)?.next {
            Next::OnLink { port, mac, mtu } if port == *on => {
                Some(((*address).into(), Hop::new(port, to, mac, mtu)))
            }
            Next::OnLink { .. } | Next::Hop(_) | Next::Missing(_) => None,
        }
    }

    fn next_of(
        &self,
        route: &Route,
        neighbours: &HashMap<(PortId, IpAddr), Mac>,
    ) -> Result<Next, NoHop> {
        let port = route.port.ok_or(NoHop::NotAttached)?;
        let info = self.port(port).ok_or(NoHop::NotAttached)?;
        let mtu = if route.mtu == 0 { info.mtu } else { route.mtu.min(info.mtu) };
        let Some(neighbour) = route.via else {
            return Ok(Next::OnLink { port, mac: info.mac, mtu });
        };
        let mac =
            neighbours.get(&(port, neighbour)).ok_or(NoHop::Unresolved { port, neighbour })?;
        Ok(Next::Hop(Hop::new(port, *mac, info.mac, mtu)))
    }

    fn to_host(&self) -> Way {
        let link = self.host.as_ref();
        let found = link.and_then(|link| Some((link, self.port(link.port)?)));
        match found {
            None => Way::closed(NoHop::NotAttached),
            Some((link, info)) => {
                let hop = Hop::new(link.port, link.host_mac, info.mac, info.mtu);
                Way { port: Some(link.port), next: Next::Hop(hop), ..Way::closed(NoHop::NoRoute) }
            }
        }
    }

    /// The address to send from towards `destination`: the host's own on that side, or the
    /// dataplane's on the host link.
    pub fn source_for(&self, destination: &IpAddr) -> Option<IpAddr> {
        if self.is_local(destination) {
            let sources = &self.host.as_ref()?.sources;
            let family = super::Family::of(destination);
            return sources.iter().copied().find(|a| super::Family::of(a) == family);
        }
        let way = self.way(destination)?;
        let next = way.via.unwrap_or(*destination);
        let own = way.port.and_then(|port| self.port(port)).map(|port| &port.addresses);
        way.source.or_else(|| source_among(own.into_iter().flatten(), destination, &next))
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

    /// Whether the host itself has this address.
    pub fn is_local(&self, address: &IpAddr) -> bool {
        self.ranges.number((*address).into()) == LOCAL
    }
}

impl Way {
    const fn closed(missing: NoHop) -> Self {
        Self { via: None, port: None, source: None, next: Next::Missing(missing) }
    }
}
