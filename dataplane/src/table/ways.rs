//! What routes lead to, resolved down to Ethernet.

use super::hops::{Hop, NoHop, PortInfo};
use super::{Address, Mac, PortId, RouteHop, Target};
use std::net::IpAddr;

/// Where a route's interface leads to, for the dataplane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is attached.
    Port(PortId),
    /// It is not attached: the host's own routing sends what leaves by it, in packets of at most so
    /// many bytes.
    Host {
        /// In bytes.
        mtu: u16,
    },
    /// Nothing can leave by it.
    Closed,
}

/// One way that some routes lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    pub via: Option<IpAddr>,
    pub port: Option<PortId>,
    pub source: Option<IpAddr>,
    /// Whether the host's own routing does the rest.
    pub by_host: bool,
    pub next: Next,
}

/// The next hop of a way, as far as it is the same for all destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// All go to one neighbour.
    Hop(Hop),
    /// Each destination is a neighbour itself.
    OnLink {
        port: PortId,
        mac: Mac,
        mtu: u16,
    },
    /// One of the groups: each flow has a way of its own.
    Group(u16),
    Missing(NoHop),
}

/// How many parts the flows of a route with several ways are cut into.
const PARTS: usize = 256;

/// Ways of equal rank. A flow keeps its way as long as that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    ways: Box<[Way]>,
    /// Which way each part of the flows takes.
    parts: Box<[u8]>,
}

impl Way {
    pub const fn closed(missing: NoHop) -> Self {
        Self { via: None, port: None, source: None, by_host: false, next: Next::Missing(missing) }
    }
}

impl Group {
    /// Each way gets parts by its weight. A way that goes leaves its parts to others and moves no
    /// other one: every part ranks all ways by a hash, and takes the first.
    pub fn new(hops: &[RouteHop], way: impl Fn(&RouteHop) -> Way) -> Self {
        let parts = (0..PARTS as u64).map(|part| {
            let rank = |hop: &RouteHop| {
                let via = hop.via.map_or(0, |via| fold(Address::from(via).0));
                let hash = mixed(mixed(via ^ u64::from(hop.link)) ^ part);
                // Uniform in (0, 1]; the weighted draw of Efraimidis and Spirakis.
                let uniform = ((hash >> 11) + 1) as f64 / (1u64 << 53) as f64;
                uniform.ln() / f64::from(hop.weight.max(1))
            };
            let ranks = hops.iter().map(rank).enumerate();
            let best = ranks.max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map_or(0, |(at, _)| u8::try_from(at).unwrap_or(0))
        });
        // More ways than a part can name are not used.
        let ways = hops.iter().take(usize::from(u8::MAX) + 1).map(way).collect();
        Self { ways, parts: parts.collect() }
    }

    /// The way of a flow, by its addresses alone, as the kernel's `fib_multipath_hash_policy` 0.
    pub fn way(&self, source: Address, destination: Address) -> Option<&Way> {
        let hash = mixed(mixed(fold(source.0)) ^ fold(destination.0));
        let part = self.parts.get(hash as usize % PARTS)?;
        self.ways.get(usize::from(*part))
    }
}

const fn fold(bits: u128) -> u64 {
    (bits >> 64) as u64 ^ bits as u64
}

/// The finaliser of `SplitMix64`.
const fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Makes ways of targets.
pub(super) struct Resolver<'a, P, N> {
    pub ports: &'a [Option<PortInfo>],
    pub place: P,
    /// The Ethernet address of a neighbour.
    pub neighbour: N,
    /// To the host's own stack.
    pub host: &'a Way,
}

impl<P: Fn(u32) -> Place, N: Fn(PortId, IpAddr) -> Option<Mac>> Resolver<'_, P, N> {
    /// The way of a target; those with several ways become one more group.
    pub fn way(&self, target: &Target, groups: &mut Vec<Group>) -> Way {
        let (hops, source, mtu) = match target {
            Target::Nothing | Target::Throw => return Way::closed(NoHop::NoRoute),
            Target::Local => return *self.host,
            Target::Refuse(refusal) => return Way::closed(NoHop::Refused(*refusal)),
            Target::Hops { hops, source, mtu } => (hops, *source, *mtu),
        };
        let of = |hop: &RouteHop| self.hop(hop, source, mtu);
        match (&**hops, u16::try_from(groups.len())) {
            ([], _) => Way::closed(NoHop::NoRoute),
            ([hop], _) | ([hop, ..], Err(_)) => of(hop),
            ([first, ..], Ok(number)) => {
                groups.push(Group::new(hops, of));
                Way { next: Next::Group(number), ..of(first) }
            }
        }
    }

    fn hop(&self, hop: &RouteHop, source: Option<IpAddr>, mtu: u16) -> Way {
        let way = Way { via: hop.via, source, ..Way::closed(NoHop::NotAttached) };
        match (self.place)(hop.link) {
            Place::Closed => way,
            Place::Port(port) => {
                let next = self.next(port, hop.via, mtu).unwrap_or_else(Next::Missing);
                Way { port: Some(port), next, ..way }
            }
            Place::Host { mtu: of_link } => match self.host.next {
                Next::Hop(to_host) => {
                    let limits = [mtu, of_link].into_iter().filter(|limit| *limit != 0);
                    let mtu = limits.fold(to_host.mtu, u16::min);
                    Way { by_host: true, next: Next::Hop(Hop { mtu, ..to_host }), ..way }
                }
                Next::OnLink { .. } | Next::Group(_) | Next::Missing(_) => way,
            },
        }
    }

    fn next(&self, port: PortId, via: Option<IpAddr>, mtu: u16) -> Result<Next, NoHop> {
        let info = self.ports.get(usize::from(port.0)).and_then(Option::as_ref);
        let info = info.ok_or(NoHop::NotAttached)?;
        let mtu = if mtu == 0 { info.mtu } else { mtu.min(info.mtu) };
        let Some(neighbour) = via else {
            return Ok(Next::OnLink { port, mac: info.mac, mtu });
        };
        let mac = (self.neighbour)(port, neighbour).ok_or(NoHop::Unresolved { port, neighbour })?;
        Ok(Next::Hop(Hop::new(port, mac, info.mac, mtu)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(weights: &[u32]) -> Vec<RouteHop> {
        let of = |(link, weight): (u32, &u32)| RouteHop { via: None, link, weight: *weight };
        (1..).zip(weights).map(of).collect()
    }

    fn group(hops: &[RouteHop]) -> Group {
        let way = |hop: &RouteHop| Way {
            port: Some(PortId(hop.link as u16)),
            ..Way::closed(NoHop::NoRoute)
        };
        Group::new(hops, way)
    }

    fn chosen(group: &Group) -> Vec<u16> {
        let client = |n: u32| Address::v4(0xcb00_7100 + n * 7);
        let of = |n| group.way(Address::v4(0xc000_020a), client(n)).and_then(|way| way.port);
        (0..20_000).map(|n| of(n).unwrap().0).collect()
    }

    #[test]
    fn flows_are_spread_by_weight() {
        let all = chosen(&group(&hops(&[1, 3])));
        let second = all.iter().filter(|link| **link == 2).count();
        assert!(
            (13_000..17_000).contains(&second),
            "{second} of 20000 by the way of weight 3 in 4"
        );
    }

    #[test]
    fn a_way_that_goes_moves_no_flow_of_another_one() {
        let all = hops(&[1, 1, 2]);
        let (before, after) = (chosen(&group(&all)), chosen(&group(&all[..2])));
        let moved = |(before, after): (&u16, &u16)| *before != 3 && before != after;
        assert!(!before.iter().zip(&after).any(moved));
        let [first, second] = [1, 2].map(|link| after.iter().filter(|to| **to == link).count());
        assert!(first > 7_000 && second > 7_000, "{first} and {second}");
    }
}
