//! Netlink's messages of routes and rules.
#![allow(clippy::wildcard_enum_match_arm)] // foreign enums of all that the kernel may ever say

use super::rules::{Does, KernelRule, View, everything};
use super::tables::{Among, MAIN, Route, Tables};
use dataplane::table::{Prefix, Refusal, RouteHop, Target};
use futures_util::TryStreamExt;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType,
    RouteVia,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{Error, Handle, IpVersion};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Marks routes as this daemon's, for whoever looks at them (`ip route` shows the number).
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(86);

/// What one message of a route says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// A route by which packets are sent.
    Route(Route),
    /// This daemon's own, by which the host reaches an address.
    Led(IpAddr),
}

/// Asks for all routes.
pub async fn routes(handle: &Handle, tables: &mut Tables) -> Result<(), Error> {
    let (mut routes, mut led) = (Vec::new(), std::collections::BTreeSet::new());
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        let mut messages = handle.route().get(wanted).execute();
        while let Some(message) = messages.try_next().await? {
            match told(&message) {
                Some(Told::Route(route)) => routes.push(route),
                Some(Told::Led(address)) => drop(led.insert(address)),
                None => {}
            }
        }
    }
    tables.replace(routes);
    tables.set_led(led);
    Ok(())
}

/// Asks for all rules.
pub async fn rules(handle: &Handle, tables: &mut Tables) -> Result<(), Error> {
    let mut rules = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let mut messages = handle.rule().get(version).execute();
        while let Some(message) = messages.try_next().await? {
            rules.extend(rule(&message));
        }
    }
    tables.rules = rules;
    Ok(())
}

/// A route came; `flags` are those of the netlink header.
pub fn added(message: &RouteMessage, flags: u16, tables: &mut Tables) {
    let among = if flags & NLM_F_REPLACE != 0 {
        Among::Replaces
    } else if message.header.address_family == AddressFamily::Inet6 {
        Among::Joins
    } else if flags & NLM_F_APPEND != 0 {
        Among::Last
    } else {
        Among::First
    };
    match told(message) {
        Some(Told::Route(route)) => tables.add(&route, among),
        Some(Told::Led(address)) => tables.lead(address, true),
        None => {}
    }
}

/// A route went.
pub fn removed(message: &RouteMessage, tables: &mut Tables) {
    match told(message) {
        Some(Told::Route(route)) => tables.remove(&route),
        Some(Told::Led(address)) => tables.lead(address, false),
        None => {}
    }
}

fn told(message: &RouteMessage) -> Option<Told> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    // What the kernel remembers of single destinations is no route; packets have no type of service.
    if header.flags.contains(RouteFlags::Cloned) || (any.is_ipv4() && header.tos != 0) {
        return None;
    }
    let mut parts = Parts {
        table: u32::from(header.table),
        prefix: Prefix { address: any, length: header.destination_prefix_length },
        via: None,
        link: None,
        many: Vec::new(),
        source: None,
        mtu: 0,
        metric: 0,
    };
    message.attributes.iter().for_each(|attribute| parts.take(attribute));
    let Parts { table, prefix, metric, source, mtu, .. } = parts;
    if header.protocol == PROTOCOL {
        return (table == MAIN).then_some(Told::Led(prefix.address));
    }
    let target = match header.kind {
        RouteType::Unicast => Target::Hops { hops: parts.hops().into(), source, mtu },
        RouteType::BlackHole => Target::Refuse(Refusal::Blackhole),
        RouteType::Unreachable => Target::Refuse(Refusal::Unreachable),
        RouteType::Prohibit => Target::Refuse(Refusal::Prohibit),
        RouteType::Throw => Target::Throw,
        _ => return None,
    };
    Some(Told::Route(Route { table, prefix, metric, target }))
}

/// What the attributes of a route say.
struct Parts {
    table: u32,
    prefix: Prefix,
    via: Option<IpAddr>,
    link: Option<u32>,
    many: Vec<RouteHop>,
    source: Option<IpAddr>,
    mtu: u16,
    metric: u32,
}

impl Parts {
    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Table(number) => self.table = *number,
            RouteAttribute::Destination(to) => {
                self.prefix.address = ip(to).unwrap_or(self.prefix.address);
            }
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => self.via = via(attribute),
            RouteAttribute::Oif(index) => self.link = Some(*index),
            RouteAttribute::PrefSource(from) => self.source = ip(from),
            RouteAttribute::Priority(metric) => self.metric = *metric,
            RouteAttribute::Metrics(metrics) => {
                let bytes = metrics.iter().find_map(mtu).unwrap_or(0);
                self.mtu = u16::try_from(bytes).unwrap_or(u16::MAX);
            }
            RouteAttribute::MultiPath(hops) => {
                let of = hops.iter().map(|hop| RouteHop {
                    via: hop.attributes.iter().find_map(via),
                    link: hop.interface_index,
                    weight: u32::from(hop.hops) + 1,
                });
                self.many = of.collect();
            }
            _ => {}
        }
    }

    /// The ways, in an order that does not depend on the kernel's.
    fn hops(&self) -> Vec<RouteHop> {
        let one = self.link.map(|link| RouteHop { via: self.via, link, weight: 1 });
        let mut hops = self.many.clone();
        hops.extend(one.filter(|_| hops.is_empty()));
        hops.sort();
        hops
    }
}

fn via(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(router) => ip(router),
        RouteAttribute::Via(RouteVia::Inet(router)) => Some((*router).into()),
        RouteAttribute::Via(RouteVia::Inet6(router)) => Some((*router).into()),
        _ => None,
    }
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

fn rule(message: &RuleMessage) -> Option<KernelRule> {
    let header = &message.header;
    let v6 = match header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    let any = everything(v6);
    let mut rule = KernelRule {
        v6,
        priority: 0,
        inverted: header.flags.contains(RuleFlags::Invert),
        source: Prefix { length: header.src_len, ..any },
        destination: Prefix { length: header.dst_len, ..any },
        input: None,
        foreign: header.tos != 0,
        does: Does::Pass,
    };
    let (mut table, mut shortest, mut target, mut vrf) = (u32::from(header.table), 0, 0, false);
    let (mut mark, mut mask) = (0, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(from) => rule.source.address = *from,
            RuleAttribute::Destination(to) => rule.destination.address = *to,
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(priority) => target = *priority,
            RuleAttribute::L3MDev(of) => vrf = *of,
            RuleAttribute::FwMark(bits) => mark = *bits,
            RuleAttribute::FwMask(bits) => mask = *bits,
            RuleAttribute::SuppressPrefixLen(longest) if *longest != u32::MAX => {
                shortest = u8::try_from(longest.saturating_add(1)).unwrap_or(u8::MAX);
            }
            RuleAttribute::Oifname(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => rule.foreign = true,
            RuleAttribute::UidRange(of) => rule.foreign |= of.start != 0,
            _ => {}
        }
    }
    rule.foreign |= mark & mask != 0;
    rule.does = match header.action {
        RuleAction::ToTable if vrf => Does::LookUpVrf,
        RuleAction::ToTable => Does::LookUp(View { table, shortest }),
        RuleAction::Goto => Does::Goto(target),
        RuleAction::Blackhole => Does::Refuse(Refusal::Blackhole),
        RuleAction::Unreachable => Does::Refuse(Refusal::Unreachable),
        RuleAction::Prohibit => Does::Refuse(Refusal::Prohibit),
        _ => Does::Pass,
    };
    Some(rule)
}
