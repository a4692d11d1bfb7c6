//! `[[service]]` and what is inside.

use super::check;
use super::writer::{Writer, entry, inline, raw_entry};
use crate::model::decode::FLAGS;
use crate::model::names::PROTOCOLS;
use crate::model::{
    ClientAddress, Family, GueChecksum, MatchRule, Method, Netmask, Persistence, Prefix, Quorum,
    QuorumUnit, Real, Scheduler, SchedulerFlags, Service, Sorry, Tunnel, VirtualAddress,
    format_duration, method_name, protocol_name, scheduler_name,
};
use std::time::Duration;

pub(super) fn service(writer: &mut Writer, service: &Service) {
    writer.heading("[[service]]", 0);
    if service.name != service.address.derived_name() {
        writer.text("name", &service.name);
    }
    address(writer, service);
    writer.text("scheduler", scheduler_name(service.scheduler));
    writer.texts("flags", flags(service.scheduler, service.flags));
    method(writer, service.method);
    if let Some(persistence) = &service.persistence {
        writer.raw("persistence", self::persistence(persistence));
    }
    if service.persistence_engine.is_some() {
        writer.text("pe", "sip");
    }
    writer.unless("one_packet", service.one_packet, false);
    writer.unless("return_by_mac", service.return_by_mac, false);
    match service.client_address {
        ClientAddress::Hidden => {}
        ClientAddress::ProxyProtocol => writer.text("client_address", "proxy-protocol"),
        ClientAddress::TcpOption(kind) => {
            writer.raw("client_address", inline(&[raw_entry("tcp_option", kind)]));
        }
    }
    writer.texts("source_pool", &service.source_pool);
    if let Some(sorry) = &service.sorry {
        writer.raw("sorry", self::sorry(sorry));
    }
    if service.quorum != Quorum::default() {
        writer.raw("quorum", quorum(&service.quorum));
    }
    for rule in &service.rules {
        self::rule(writer, rule);
    }
    if let Some(check) = &service.check {
        writer.heading("[service.check]", 1);
        check::check(writer, check);
    }
    for real in &service.reals {
        self::real(writer, real);
    }
}

fn address(writer: &mut Writer, service: &Service) {
    match service.address {
        VirtualAddress::Socket { protocol, address } => {
            writer.text("address", address);
            writer.text("protocol", protocol_name(protocol));
        }
        VirtualAddress::Mark { family, mark } => {
            writer.raw("mark", mark);
            if family == Family::V6 {
                writer.text("family", "ipv6");
            }
        }
    }
}

fn rule(writer: &mut Writer, rule: &MatchRule) {
    writer.heading("[[service.match]]", 1);
    writer.some_text("source", rule.source.as_ref().map(prefix));
    writer.text("destination", prefix(&rule.destination));
    if let Some(protocol) = rule.protocol {
        writer.text("protocol", super::word(PROTOCOLS, &protocol));
    }
    if let Some(ports) = &rule.ports {
        if ports.start() == ports.end() {
            writer.text("ports", ports.start());
        } else {
            writer.text("ports", format!("{}-{}", ports.start(), ports.end()));
        }
    }
}

/// `10.0.0.0/8`.
pub(super) fn prefix(prefix: &Prefix) -> String {
    format!("{}/{}", prefix.address, prefix.length)
}

/// The flags by the names that suit the scheduler.
fn flags(scheduler: Scheduler, flags: SchedulerFlags) -> Vec<&'static str> {
    let wanted = |of: Option<Scheduler>, bit: SchedulerFlags| {
        let set = (bit.flag_1 && flags.flag_1)
            || (bit.flag_2 && flags.flag_2)
            || (bit.flag_3 && flags.flag_3);
        let named = FLAGS.iter().any(|(_, other, same)| *other == Some(scheduler) && *same == bit);
        set && of == named.then_some(scheduler)
    };
    FLAGS.iter().filter(|(_, of, bit)| wanted(*of, *bit)).map(|(name, _, _)| *name).collect()
}

pub(super) fn method(writer: &mut Writer, method: Method) {
    writer.text("method", method_name(method));
    if let Method::Tunnel(tunnel) = method
        && tunnel != Tunnel::Ipip
    {
        writer.raw("tunnel", self::tunnel(tunnel));
    }
}

fn tunnel(tunnel: Tunnel) -> String {
    let entries = match tunnel {
        Tunnel::Ipip => vec![entry("type", "ipip")],
        Tunnel::Gre { checksum } => {
            vec![entry("type", "gre"), raw_entry("checksum", checksum)]
        }
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                GueChecksum::None => "none",
                GueChecksum::Full => "full",
                GueChecksum::Remote => "remote",
            };
            vec![entry("type", "gue"), raw_entry("port", port), entry("checksum", checksum)]
        }
    };
    inline(&entries)
}

fn persistence(persistence: &Persistence) -> String {
    let mut entries = vec![entry("timeout", format_duration(persistence.timeout))];
    match persistence.netmask {
        Netmask::V4(mask) if mask.is_broadcast() => {}
        Netmask::V4(mask) => entries.push(entry("netmask", mask)),
        Netmask::V6(128) => {}
        Netmask::V6(length) => entries.push(raw_entry("netmask", length)),
    }
    inline(&entries)
}

fn sorry(sorry: &Sorry) -> String {
    let default_retry = Duration::from_secs(30);
    match sorry {
        Sorry::Page { body: None, retry_after } if *retry_after == default_retry => {
            super::writer::quoted("builtin")
        }
        Sorry::Page { body, retry_after } => {
            let mut entries: Vec<_> = body.iter().map(|body| entry("body", body)).collect();
            entries.push(entry("retry_after", format_duration(*retry_after)));
            inline(&entries)
        }
        Sorry::Server { address, method: None } => super::writer::quoted(&address.to_string()),
        Sorry::Server { address, method: Some(method) } => {
            let mut entries =
                vec![entry("address", address), entry("method", method_name(*method))];
            if let Method::Tunnel(tunnel) = method {
                entries.push(raw_entry("tunnel", self::tunnel(*tunnel)));
            }
            inline(&entries)
        }
    }
}

fn quorum(quorum: &Quorum) -> String {
    let mut entries = vec![raw_entry("minimum", quorum.minimum)];
    if quorum.recover != quorum.minimum {
        entries.push(raw_entry("recover", quorum.recover));
    }
    if quorum.unit == QuorumUnit::Weight {
        entries.push(entry("unit", "weight"));
    }
    if quorum.withdraw {
        entries.push(raw_entry("withdraw", true));
    }
    inline(&entries)
}

fn real(writer: &mut Writer, real: &Real) {
    writer.heading("[[service.real]]", 1);
    writer.text("address", real.address);
    writer.raw("weight", real.weight);
    writer.unless("upper", real.upper, 0);
    writer.unless("lower", real.lower, 0);
    if let Some(method) = real.method {
        self::method(writer, method);
    }
    if let Some(check) = &real.check {
        writer.heading("[service.real.check]", 2);
        check::check(writer, check);
    }
}
