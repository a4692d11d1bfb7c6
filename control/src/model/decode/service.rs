//! `[[service]]` and what is inside.

use super::{HOUR, SECOND, check, combinations, ip, name, prefix, socket, unique};
use crate::model::names::{PROTOCOLS, SCHEDULERS};
use crate::model::section::{Section, integer};
use crate::model::service::{MAX_TIMEOUT, MAX_WEIGHT};
use crate::model::{
    ClientAddress, Family, GueChecksum, MatchRule, Method, Netmask, Persistence, PersistenceEngine,
    Protocol, Quorum, QuorumUnit, Real, Scheduler, SchedulerFlags, Service, Sorry, Tunnel,
    VirtualAddress,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

pub(in crate::model) const FLAGS: &[(&str, Option<Scheduler>, SchedulerFlags)] = &[
    ("sh-fallback", Some(Scheduler::Sh), flags(true, false, false)),
    ("sh-port", Some(Scheduler::Sh), flags(false, true, false)),
    ("mh-fallback", Some(Scheduler::Mh), flags(true, false, false)),
    ("mh-port", Some(Scheduler::Mh), flags(false, true, false)),
    ("flag-1", None, flags(true, false, false)),
    ("flag-2", None, flags(false, true, false)),
    ("flag-3", None, flags(false, false, true)),
];

const fn flags(flag_1: bool, flag_2: bool, flag_3: bool) -> SchedulerFlags {
    SchedulerFlags { flag_1, flag_2, flag_3 }
}

pub(super) fn services(root: &Section<'_, '_>) -> Vec<Arc<Service>> {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut services = Vec::new();
    for section in root.tables("service", "[[service]]") {
        let service = service(&section);
        if let Some(service) = service {
            unique(&mut names, service.name.clone(), &section, "name");
            let key = if section.has("mark") { "mark" } else { "address" };
            unique(&mut addresses, service.address, &section, key);
            services.push(Arc::new(service));
        }
        section.finish();
    }
    services
}

/// `None` when the virtual address could not be read; everything else was looked at all the same.
fn service(section: &Section<'_, '_>) -> Option<Service> {
    let address = virtual_address(section);
    let method = method(section).unwrap_or(Method::Nat);
    // Stands in for an address that could not be read, so that the rest is still checked.
    let placeholder = VirtualAddress::Mark { family: Family::V4, mark: 1 };
    let mut service = Service::new(address.unwrap_or(placeholder), method);
    if let Some(name) = name(section, "name") {
        service.name = name;
    }
    service.rules = rules(section, service.address);
    service.scheduler = section.word("scheduler", SCHEDULERS).unwrap_or(Scheduler::Wlc);
    service.flags = scheduler_flags(section, service.scheduler);
    service.persistence = persistence(section, service.address.family());
    service.persistence_engine = section.word("pe", &[("sip", PersistenceEngine::Sip)]);
    service.one_packet = section.switch("one_packet").unwrap_or_default();
    service.return_by_mac = section.switch("return_by_mac").unwrap_or_default();
    service.client_address = client_address(section);
    let wanted = "an address to send from, of the family of the real servers";
    service.source_pool = section.list("source_pool", wanted, ip);
    service.sorry = sorry(section);
    service.quorum = quorum(section);
    service.check = section.table("check", "[service.check]").and_then(check::check);
    for real in section.tables("real", "[[service.real]]") {
        let read = self::real(&real, &service);
        if let Some(read) = &read {
            combinations::of_real(&real, &service, read);
        }
        real.finish();
        service.reals.extend(read);
    }
    combinations::of_service(section, &service);
    address.map(|_| service)
}

fn virtual_address(section: &Section<'_, '_>) -> Option<VirtualAddress> {
    if section.has("mark") {
        let mark = section.number("mark", 1..=i64::from(u32::MAX));
        let family = section.word("family", &[("ipv4", Family::V4), ("ipv6", Family::V6)]);
        for key in ["address", "protocol"] {
            if section.value(key).is_some() {
                let message = format!("{key} is given beside mark, should be one of them");
                section.problem_at(key, message);
            }
        }
        return Some(VirtualAddress::Mark { family: family.unwrap_or(Family::V4), mark: mark? });
    }
    let protocol = section.word("protocol", PROTOCOLS).unwrap_or(Protocol::Tcp);
    let wanted = "an address and port, such as \"192.0.2.10:80\" or \"[2001:db8::10]:80\"";
    let address = section.read("address", wanted, socket);
    let address = section.required("address", address, "address = \"192.0.2.10:80\"")?;
    if !is_unicast(address.ip()) {
        section.problem_at("address", format!("{} cannot be a virtual address", address.ip()));
        return None;
    }
    Some(VirtualAddress::Socket { protocol, address })
}

/// Whether a server can have this address.
fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn rules(section: &Section<'_, '_>, address: VirtualAddress) -> Vec<MatchRule> {
    let sections = section.tables("match", "[[service.match]]");
    let VirtualAddress::Mark { family, .. } = address else {
        if !sections.is_empty() && !section.has("mark") {
            section.problem_at("match", "match is given without mark, should come with one");
        }
        return Vec::new();
    };
    let mut rules = Vec::new();
    for rule in sections {
        let wanted = "an address block of the service's family, such as \"192.0.2.0/24\"";
        let of_family = |value: &DeValue<'_>| {
            prefix(value).filter(|prefix| Family::of(&prefix.address) == family)
        };
        let destination = rule.read("destination", wanted, of_family);
        let example = "destination = \"192.0.2.10\"";
        let destination = rule.required("destination", destination, example);
        let source = rule.read("source", wanted, of_family);
        let protocol = rule.word("protocol", PROTOCOLS);
        let ports = rule.read("ports", "a port or a range of ports, such as \"5000-5999\"", ports);
        rule.finish();
        if let Some(destination) = destination {
            rules.push(MatchRule { source, destination, protocol, ports });
        }
    }
    rules
}

fn ports(value: &DeValue<'_>) -> Option<RangeInclusive<u16>> {
    if let Some(port) = integer(value) {
        let port = u16::try_from(port).ok()?;
        return Some(port..=port);
    }
    let text = value.as_str()?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

fn scheduler_flags(section: &Section<'_, '_>, scheduler: Scheduler) -> SchedulerFlags {
    let wanted = "a flag of the scheduler: sh-fallback, sh-port, mh-fallback, mh-port, flag-1, \
                  flag-2 or flag-3";
    let given = section.list("flags", wanted, |value| {
        let word = value.as_str()?;
        let (_, of, flags) = FLAGS.iter().find(|(name, _, _)| *name == word)?;
        of.is_none_or(|of| of == scheduler).then_some(*flags)
    });
    given.into_iter().fold(SchedulerFlags::default(), |all, one| {
        flags(all.flag_1 || one.flag_1, all.flag_2 || one.flag_2, all.flag_3 || one.flag_3)
    })
}

pub(super) fn method(section: &Section<'_, '_>) -> Option<Method> {
    let tunnel = section.table("tunnel", "tunnel").map(tunnel);
    let method = section.word(
        "method",
        &[
            ("nat", Method::Nat),
            ("dr", Method::DirectRouting),
            ("tun", Method::Tunnel(Tunnel::Ipip)),
            ("fullnat", Method::FullNat),
            ("local", Method::Local),
        ],
    );
    match (method, tunnel) {
        (Some(Method::Tunnel(_)), tunnel) => {
            Some(Method::Tunnel(tunnel.flatten().unwrap_or(Tunnel::Ipip)))
        }
        (method, Some(_)) => {
            section.problem_at("tunnel", "tunnel is given, should come with method = \"tun\"");
            method
        }
        (method, None) => method,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TunnelKind {
    Ipip,
    Gre,
    Gue,
}

fn tunnel(section: Section<'_, '_>) -> Option<Tunnel> {
    let kinds = [("ipip", TunnelKind::Ipip), ("gre", TunnelKind::Gre), ("gue", TunnelKind::Gue)];
    let kind = section.word("type", &kinds);
    let kind = section.required("type", kind, "type = \"gre\"");
    let tunnel = match kind {
        None => None,
        Some(TunnelKind::Ipip) => Some(Tunnel::Ipip),
        Some(TunnelKind::Gre) => {
            Some(Tunnel::Gre { checksum: section.switch("checksum").unwrap_or_default() })
        }
        Some(TunnelKind::Gue) => {
            let port = section.number("port", 1..=65_535);
            let port = section.required("port", port, "port = 6080");
            let checksums = [
                ("none", GueChecksum::None),
                ("full", GueChecksum::Full),
                ("remote", GueChecksum::Remote),
            ];
            let checksum = section.word("checksum", &checksums).unwrap_or(GueChecksum::None);
            port.map(|port| Tunnel::Gue { port, checksum })
        }
    };
    if kind.is_some() {
        section.finish();
    }
    tunnel
}

fn persistence(section: &Section<'_, '_>, family: Family) -> Option<Persistence> {
    let section = section.table("persistence", "persistence")?;
    let timeout = section.seconds("timeout", SECOND..=MAX_TIMEOUT);
    let netmask = match family {
        Family::V4 => {
            section.parsed("netmask", "an IPv4 mask, such as \"255.255.255.0\"").map(Netmask::V4)
        }
        Family::V6 => section.number("netmask", 1..=128).map(Netmask::V6),
    };
    section.finish();
    Some(Persistence {
        timeout: timeout.unwrap_or(Duration::from_secs(360)),
        netmask: netmask.unwrap_or(Netmask::host(family)),
    })
}

fn client_address(section: &Section<'_, '_>) -> ClientAddress {
    let wanted =
        "\"hidden\", \"proxy-protocol\" or { tcp_option = 253 } with a number from 1 to 255";
    let read = section.read("client_address", wanted, |value| {
        if let Some(table) = value.as_table() {
            let kind = integer(table.get("tcp_option")?.get_ref())?;
            let kind = u8::try_from(kind).ok().filter(|kind| *kind > 1)?;
            return (table.len() == 1).then_some(ClientAddress::TcpOption(kind));
        }
        match value.as_str()? {
            "hidden" => Some(ClientAddress::Hidden),
            "proxy-protocol" => Some(ClientAddress::ProxyProtocol),
            _ => None,
        }
    });
    read.unwrap_or_default()
}

fn sorry(section: &Section<'_, '_>) -> Option<Sorry> {
    let value = section.value("sorry")?;
    let builtin = Sorry::Page { body: None, retry_after: Duration::from_secs(30) };
    if value.get_ref().as_table().is_none() {
        let wanted = "\"builtin\", a server such as \"127.0.0.1:80\", or a table";
        return section.read("sorry", wanted, |value| match value.as_str()? {
            "builtin" => Some(builtin),
            _ => Some(Sorry::Server { address: socket(value)?, method: None }),
        });
    }
    let table = section.table("sorry", "sorry")?;
    let sorry = if table.has("address") {
        let wanted = "an address and port, such as \"127.0.0.1:80\"";
        let address = table.read("address", wanted, socket);
        let method = method(&table);
        address.map(|address| Sorry::Server { address, method })
    } else {
        let body = table.text("body");
        let retry = table.seconds("retry_after", Duration::ZERO..=24 * HOUR);
        Some(Sorry::Page { body, retry_after: retry.unwrap_or(Duration::from_secs(30)) })
    };
    table.finish();
    sorry
}

fn quorum(section: &Section<'_, '_>) -> Quorum {
    let Some(section) = section.table("quorum", "quorum") else {
        return Quorum::default();
    };
    let most = i64::from(MAX_WEIGHT);
    let minimum = section.number("minimum", 1..=most).unwrap_or(1);
    let recover = section.number("recover", 1..=most).unwrap_or(minimum);
    if recover < minimum {
        let message = format!("recover is {recover}, should be at least minimum, {minimum}");
        section.problem_at("recover", message);
    }
    let units = [("servers", QuorumUnit::Servers), ("weight", QuorumUnit::Weight)];
    let unit = section.word("unit", &units).unwrap_or_default();
    let withdraw = section.switch("withdraw").unwrap_or_default();
    section.finish();
    Quorum { minimum, recover, unit, withdraw }
}

fn real(section: &Section<'_, '_>, service: &Service) -> Option<Real> {
    let wanted = "an address and port, such as \"10.0.0.11:80\"";
    let address = section.read("address", wanted, |value| {
        socket(value).or_else(|| Some(SocketAddr::new(ip(value)?, service.address.port())))
    });
    let address = section.required("address", address, "address = \"10.0.0.11:80\"");
    let most = i64::from(MAX_WEIGHT);
    let real = Real {
        address: address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        weight: section.number("weight", 0..=most).unwrap_or(1),
        upper: section.number("upper", 0..=most).unwrap_or(0),
        lower: section.number("lower", 0..=most).unwrap_or(0),
        method: method(section),
        check: section.table("check", "[service.real.check]").and_then(check::check),
    };
    if real.lower > real.upper {
        let message = format!("lower is {}, should be at most upper, {}", real.lower, real.upper);
        section.problem_at("lower", message);
    }
    if let Some(address) = address {
        real_address(section, service, address);
    }
    address.map(|_| real)
}

fn real_address(section: &Section<'_, '_>, service: &Service, address: SocketAddr) {
    if !is_unicast(address.ip()) {
        section
            .problem_at("address", format!("{} cannot be a real server's address", address.ip()));
    }
    if service.real(&address).is_some() {
        let message = format!("{address} was given before, should be in a service once");
        section.problem_at("address", message);
    }
}
