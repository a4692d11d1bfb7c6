//! `ipvsadm -S`: the commands that would make the services again.

use super::draft::protocol_name;
use super::names::Names;
use super::text::{Endpoints, flags, port_protocol};
use control::ipvs::{ServerEntry, ServiceEntry};
use control::model::{Family, GueChecksum, Method, Netmask, Protocol, Tunnel, VirtualAddress};
use std::net::Ipv4Addr;

/// One service and its real servers as commands. Thresholds are not saved, as with `ipvsadm`.
pub(super) fn commands(entry: &ServiceEntry, numeric: bool, names: &dyn Names) -> String {
    let endpoints = Endpoints { names: (!numeric).then_some(names) };
    let service = service_option(&entry.service, &endpoints);
    let mut lines = format!("-A {service}{}\n", service_settings(entry));
    for server in &entry.servers {
        let address = endpoints.show(&server.server, port_protocol(&entry.service));
        lines.push_str(&format!("-a {service} -r {address} {}\n", server_settings(server)));
    }
    lines
}

/// Whether a method is lost when it is saved, because `ipvsadm` has no option for it.
pub(super) const fn is_lost(method: Method) -> bool {
    match method {
        Method::FullNat => true,
        Method::Nat | Method::DirectRouting | Method::Tunnel(_) | Method::Local => false,
    }
}

fn service_option(service: &VirtualAddress, endpoints: &Endpoints<'_>) -> String {
    match service {
        VirtualAddress::Mark { family: Family::V4, mark } => format!("-f {}", *mark as i32),
        VirtualAddress::Mark { family: Family::V6, mark } => format!("-f {} -6", *mark as i32),
        VirtualAddress::Socket { protocol, address } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", endpoints.show(address, Some(protocol_name(*protocol))))
        }
    }
}

fn service_settings(entry: &ServiceEntry) -> String {
    let spec = &entry.spec;
    let mut text = format!(" -s {}", spec.scheduler);
    if let Some(persistence) = spec.persistence {
        text.push_str(&format!(" -p {}", persistence.seconds));
        match persistence.netmask {
            Netmask::V4(Ipv4Addr::BROADCAST) | Netmask::V6(128) => {}
            Netmask::V4(mask) => text.push_str(&format!(" -M {mask}")),
            Netmask::V6(prefix) => text.push_str(&format!(" -M {prefix}")),
        }
    }
    if let Some(engine) = &spec.engine {
        text.push_str(&format!(" --pe {engine}"));
    }
    if spec.one_packet {
        text.push_str(" -o");
    }
    if let Some(flags) = flags(spec.flags, &spec.scheduler) {
        text.push_str(&format!(" -b {flags}"));
    }
    text
}

fn server_settings(server: &ServerEntry) -> String {
    let weight = server.weight;
    match server.method {
        Method::Nat | Method::FullNat => format!("-m -w {weight}"),
        Method::DirectRouting | Method::Local => format!("-g -w {weight}"),
        Method::Tunnel(tunnel) => format!("-i -w {weight}{}", tunnel_settings(tunnel)),
    }
}

fn tunnel_settings(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::Ipip => " --tun-type ipip".into(),
        Tunnel::Gre { checksum: false } => " --tun-type gre --tun-nocsum".into(),
        Tunnel::Gre { checksum: true } => " --tun-type gre --tun-csum".into(),
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                GueChecksum::None => "--tun-nocsum",
                GueChecksum::Full => "--tun-csum",
                GueChecksum::Remote => "--tun-remcsum",
            };
            format!(" --tun-type gue --tun-port {port} {checksum}")
        }
    }
}
