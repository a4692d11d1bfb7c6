//! Where a packet goes next: the host's interfaces, routes and neighbours, as control last saw them.

use super::ranges::Span;
use super::ways::{Group, Next, Place, Resolver, Way};
use super::{
    Address, Flow, Mac, Method, PortId, Prefix, Ranges, Real, RealId, Refusal, RouteHop, Routing,
    Target,
};
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
    /// A route or a rule refuses.
    Refused(Refusal),
    /// The neighbour's Ethernet address is not known yet; it has to be asked for.
    Unresolved {
        /// Port that the neighbour is on.
        port: PortId,
        /// Whom to ask for.
        neighbour: IpAddr,
    },
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

/// The last next hop that was found, and the destinations that share it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Near<'a>(Option<(Span, &'a Hop)>);

/// The host's interfaces, routes and neighbours. Immutable; published whole.
///
/// Routes are resolved down to Ethernet when this is built, so that finding the next hop of a packet
/// is one search in [`Ranges`], and one more in the neighbours if its destination is on a link. Where
/// the host has rules beyond the usual ones, they are gone through first.
#[derive(Clone, Debug, Default)]
pub struct Hops {
    ports: Vec<Option<PortInfo>>,
    /// Its numbers index `ways`.
    routing: Routing,
    ways: Arc<[Way]>,
    groups: Arc<[Group]>,
    /// Of destinations on a link.
    on_link: Arc<HashMap<Address, Hop, foldhash::fast::RandomState>>,
    /// Of neighbours that the main table does not lead to, or not by their link.
    beside: Arc<HashMap<(PortId, Address), Hop, foldhash::fast::RandomState>>,
    reals: Vec<Option<Hop>>,
    /// Where tunnels to real servers start.
    sources: Vec<Option<IpAddr>>,
    host: Option<HostLink>,
    /// Differs between any two published generations.
    pub generation: u64,
}

impl Hops {
    /// Builds the snapshot of a host with one table of routes. `ports` is indexed by [`PortId`];
    /// `local` are the host's own addresses, which `host` leads to; without it nothing does.
    pub fn new(
        ports: Vec<Option<PortInfo>>,
        mut routes: Vec<Route>,
        neighbours: HashMap<(PortId, IpAddr), Mac>,
        local: impl IntoIterator<Item = IpAddr>,
        host: Option<HostLink>,
        generation: u64,
    ) -> Self {
        // Of routes with the same prefix the one of lowest metric comes first and counts.
        routes.sort_by_key(|route| route.metric);
        let mut targets = Target::FIXED.to_vec();
        let local = local.into_iter().map(|address| (Prefix::host(address), Routing::LOCAL));
        let mut entries: Vec<(Prefix, u32)> = local.collect();
        for route in routes {
            let link = route.port.map_or(u32::MAX, |port| u32::from(port.0));
            let hops = [RouteHop { via: route.via, link, weight: 1 }].into();
            let target = Target::Hops { hops, source: route.source, mtu: route.mtu };
            let known = targets.iter().position(|known| *known == target);
            let number = known.unwrap_or(targets.len());
            if known.is_none() {
                targets.push(target);
            }
            entries.push((route.prefix, number as u32));
        }
        let tables = vec![Arc::new(Ranges::new(entries))];
        let routing = Routing { tables, targets: targets.into(), ..Routing::default() };
        let place =
            |link| u16::try_from(link).map_or(Place::Closed, |port| Place::Port(PortId(port)));
        Self::of(ports, &routing, place, &neighbours, host, generation)
    }

    /// Builds the snapshot of a host. `place` says where the interface of an index leads to.
    pub fn of(
        ports: Vec<Option<PortInfo>>,
        routing: &Routing,
        place: impl Fn(u32) -> Place,
        neighbours: &HashMap<(PortId, IpAddr), Mac>,
        host: Option<HostLink>,
        generation: u64,
    ) -> Self {
        let mut hops =
            Self { ports, host, generation, routing: routing.clone(), ..Self::default() };
        let (to_host, mut groups) = (hops.to_host(), Vec::new());
        let resolver = Resolver {
            ports: &hops.ports,
            place,
            neighbour: |port, address| neighbours.get(&(port, address)).copied(),
            host: &to_host,
        };
        hops.ways = routing.targets.iter().map(|to| resolver.way(to, &mut groups)).collect();
        hops.groups = groups.into();
        let known = |((port, address), mac): (&(PortId, IpAddr), &Mac)| {
            let info = hops.port(*port)?;
            let on_link = match hops.way(address).map(|way| way.next) {
                Some(Next::OnLink { port: on, mtu, .. }) => (on == *port).then_some(mtu),
                Some(Next::Hop(_) | Next::Group(_) | Next::Missing(_)) | None => None,
            };
            let hop = Hop::new(*port, *mac, info.mac, on_link.unwrap_or(info.mtu));
            Some((on_link.is_some(), (*address).into(), hop))
        };
        let all: Vec<(bool, Address, Hop)> = neighbours.iter().filter_map(known).collect();
        let of = |wanted: bool| all.iter().filter(move |(on_link, ..)| *on_link == wanted);
        let on_link = of(true).map(|(_, address, hop)| (*address, *hop)).collect();
        let beside = of(false).map(|(_, address, hop)| ((hop.port, *address), *hop)).collect();
        (hops.on_link, hops.beside) = (Arc::new(on_link), Arc::new(beside));
        hops
    }

    /// The link to the host's own stack, if there is one.
    pub fn host_link(&self) -> Option<&HostLink> {
        self.host.as_ref()
    }

    /// Resolves next hop and source of every real server ahead of the packets, but of those for which
    /// packets' own interfaces decide.
    #[must_use]
    pub fn with_reals<'a>(mut self, reals: impl IntoIterator<Item = &'a Real>) -> Self {
        let (mut resolved, mut sources) = (Vec::new(), Vec::new());
        for real in reals {
            let index = real.id.0 as usize;
            if resolved.len() <= index {
                resolved.resize(index + 1, None);
                sources.resize(index + 1, None);
            }
            resolved[index] = self.to_real(real).ok();
            sources[index] = self.source_for(&real.address);
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

    /// The next hop towards a real server. By way of the host's own routing only tunnels lead: it
    /// does not give the replies of other methods back.
    ///
    /// # Errors
    /// As [`Hops::resolve`].
    pub fn to_real(&self, real: &Real) -> Result<Hop, NoHop> {
        let flow = Flow::from(real.address);
        let by_host = self.way_of(&flow).is_some_and(|way| way.by_host);
        if by_host && !matches!(real.method, Method::Tunnel(_)) {
            return Err(NoHop::NotAttached);
        }
        self.resolve(flow)
    }

    /// The next hop towards any address.
    ///
    /// # Errors
    /// Says whether a route, an attached interface or the neighbour's address is missing.
    pub fn resolve(&self, flow: impl Into<Flow>) -> Result<Hop, NoHop> {
        let flow = flow.into();
        let way = self.way_of(&flow).ok_or(NoHop::NoRoute)?;
        match way.next {
            Next::Hop(hop) => Ok(hop),
            Next::OnLink { port, .. } => {
                let known = self.on_link(port, flow.destination).copied();
                known.ok_or(NoHop::Unresolved { port, neighbour: flow.destination.ip() })
            }
            Next::Missing(missing) => Err(missing),
            Next::Group(_) => Err(NoHop::NoRoute),
        }
    }

    /// The next hop of a packet from `source` that came in by `input`, if there is one. `near`
    /// remembers the last one found, which is most often the next one's, too.
    #[inline(always)]
    pub fn known<'a>(
        &'a self,
        destination: Address,
        (source, input): (Address, PortId),
        near: &mut Near<'a>,
    ) -> Option<&'a Hop> {
        match near.0 {
            Some((span, hop)) if span.contains(destination) => Some(hop),
            Some(_) | None => self.look_up(destination, source, input, near),
        }
    }

    #[inline(never)]
    fn look_up<'a>(
        &'a self,
        destination: Address,
        source: Address,
        input: PortId,
        near: &mut Near<'a>,
    ) -> Option<&'a Hop> {
        let ([main, ..], true) =
            (&*self.routing.tables, self.routing.rules_for(destination).is_empty())
        else {
            return self.look_up_by_rules(&self.flow(destination, source, input));
        };
        let (number, span) = main.find(destination);
        let next = &self.ways.get(number as usize)?.next;
        if let Next::Hop(hop) = next {
            near.0 = Some((span, hop));
            return Some(hop);
        }
        self.hop(next, destination, source)
    }

    #[inline(never)]
    fn look_up_by_rules(&self, flow: &Flow) -> Option<&Hop> {
        let next = &self.ways.get(self.routing.number(flow) as usize)?.next;
        self.hop(next, flow.destination, flow.source)
    }

    #[inline(always)]
    fn hop<'a>(&'a self, next: &'a Next, destination: Address, source: Address) -> Option<&'a Hop> {
        let next = match next {
            Next::Group(group) => &self.member(*group, source, destination)?.next,
            Next::Hop(_) | Next::OnLink { .. } | Next::Missing(_) => next,
        };
        match next {
            Next::Hop(hop) => Some(hop),
            Next::OnLink { port, .. } => self.on_link(*port, destination),
            Next::Group(_) | Next::Missing(_) => None,
        }
    }

    #[inline(always)]
    fn on_link(&self, port: PortId, destination: Address) -> Option<&Hop> {
        let known = self.on_link.get(&destination).filter(|hop| hop.port == port);
        known.or_else(|| self.beside.get(&(port, destination)))
    }

    fn member(&self, group: u16, source: Address, destination: Address) -> Option<&Way> {
        self.groups.get(usize::from(group))?.way(source, destination)
    }

    /// What the route of a packet depends on.
    pub fn flow(&self, destination: Address, source: Address, input: PortId) -> Flow {
        let input = self.port(input).map_or(Flow::LOOPBACK, |port| port.index);
        Flow { destination, source, input }
    }

    /// The way of a flow, one of a group's.
    fn way_of(&self, flow: &Flow) -> Option<&Way> {
        let way = self.ways.get(self.routing.number(flow) as usize)?;
        match way.next {
            Next::Group(group) => self.member(group, flow.source, flow.destination),
            Next::Hop(_) | Next::OnLink { .. } | Next::Missing(_) => Some(way),
        }
    }

    /// The way towards another host, as far as the destination alone decides.
    fn way(&self, destination: &IpAddr) -> Option<&Way> {
        let flow = Flow::from(*destination);
        match self.routing.number(&flow) {
            Routing::NOTHING | Routing::LOCAL => None,
            _ => self.way_of(&flow),
        }
    }

    /// The attached interface on whose link an address lives, if it does on any.
    pub fn link_of(&self, address: &IpAddr) -> Option<PortId> {
        self.way(address).filter(|way| way.via.is_none())?.port
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
        let main = self.routing.tables.first();
        main.is_some_and(|main| main.number((*address).into()) == Routing::LOCAL)
    }
}
