//! Which frames the dataplane takes from the host. Pure.

use super::{Generation, Ids};
use crate::host::HostState;
use crate::model::{Method, Protocol};
use dataplane::io::steer::{Endpoint, Ports, SteeringRules, TunnelEnd};
use dataplane::packet_path::{POOL_PORTS, RESERVED_PORTS};
use dataplane::table::{Mac, ServiceKey, Tunnel};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The port of FTP control connections.
const FTP: u16 = 21;

/// Compiles the rules for a generation. Real servers that were removed count as long as connections
/// to them may remain. `macs` are VRRP's virtual Ethernet addresses with their interface.
pub fn steering(
    generation: &Generation,
    ids: &Ids,
    host: &HostState,
    macs: BTreeSet<(u32, Mac)>,
) -> SteeringRules {
    let mut rules = SteeringRules { macs, ..SteeringRules::default() };
    let table = &generation.table;
    rules.owned = table.owned_addresses().map(|owned| owned.address).collect();
    // What another director answers for is taken from the host too, and dropped: a backup is silent,
    // whatever addresses its host has. But one that has a VIP on loopback is a real server as well,
    // and its host gets what the master sends.
    let silent = table.silent_addresses().filter(|address| !is_on_loopback(host, address));
    rules.owned.extend(silent);
    rules.prefixes = table.marks().iter().map(|rule| rule.destination).collect();
    rules.local = host.addresses.iter().map(|address| address.prefix.address).collect();
    // Full NAT without a pool, and clients on the director, use the host's own addresses.
    for address in host.addresses.iter().filter(|address| !is_loopback(host, address.link)) {
        rules.pools.insert(address.prefix.address, RESERVED_PORTS);
    }
    for service in table.services() {
        if let ServiceKey::Address { protocol, address, port } = service.key {
            let endpoint = |ports| Endpoint { protocol, address, ports };
            rules.services.extend(service_ports(protocol, port).map(endpoint));
        }
        for address in service.source_pool.iter() {
            rules.pools.insert(*address, POOL_PORTS);
        }
        for real in service.reals.iter().filter(|real| replies_return(real.method)) {
            add_real(&mut rules, service.key, real.address, real.port);
        }
        for real in service.reals.iter() {
            if let Method::Tunnel(tunnel) = real.method {
                rules.tunnels.extend(tunnel_ends(real.address, tunnel));
            }
        }
    }
    for ((service, server), _) in ids.parked() {
        add_real(&mut rules, service.key(), server.ip(), server.port());
    }
    rules
}

fn is_on_loopback(host: &HostState, address: &IpAddr) -> bool {
    let mut same = host.addresses.iter().filter(|own| own.prefix.address == *address);
    same.any(|own| is_loopback(host, own.link))
}

fn is_loopback(host: &HostState, link: u32) -> bool {
    host.links.get(&link).is_some_and(|link| link.loopback)
}

const fn replies_return(method: Method) -> bool {
    match method {
        Method::Nat | Method::FullNat | Method::Local => true,
        Method::DirectRouting | Method::Tunnel(_) => false,
    }
}

/// The far end of a tunnel, as ICMP errors about what went through it quote it: path-MTU discovery
/// needs them.
fn tunnel_ends(address: IpAddr, tunnel: Tunnel) -> impl Iterator<Item = TunnelEnd> {
    let ends: &[(u8, u16)] = match &tunnel {
        // IPv4 or IPv6 inside.
        Tunnel::Ipip => &[(4, 0), (41, 0)],
        Tunnel::Gre { .. } => &[(47, 0)],
        Tunnel::Gue { port, .. } => &[(17, *port)],
    };
    let ends = ends.to_vec();
    ends.into_iter().map(move |(protocol, port)| TunnelEnd { address, protocol, port })
}

/// Takes the replies of a real server.
fn add_real(rules: &mut SteeringRules, service: ServiceKey, address: IpAddr, port: u16) {
    let protocols: &[Protocol] = match service {
        ServiceKey::Address { protocol: Protocol::Tcp, .. } => &[Protocol::Tcp],
        ServiceKey::Address { protocol: Protocol::Udp, .. } => &[Protocol::Udp],
        ServiceKey::Address { protocol: Protocol::Sctp, .. } => &[Protocol::Sctp],
        ServiceKey::Mark { .. } => &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
    };
    let is_ftp = service.port() == FTP;
    for protocol in protocols {
        let endpoint = |ports| Endpoint { protocol: *protocol, address, ports };
        rules.reals.insert(endpoint(one_or_all(port)));
        if is_ftp && *protocol == Protocol::Tcp {
            rules.reals.insert(endpoint(Ports::FtpData));
        }
    }
}

fn service_ports(protocol: Protocol, port: u16) -> impl Iterator<Item = Ports> {
    let data = (protocol == Protocol::Tcp && port == FTP).then_some(Ports::FtpData);
    std::iter::once(one_or_all(port)).chain(data)
}

const fn one_or_all(port: u16) -> Ports {
    match port {
        0 => Ports::All,
        port => Ports::One(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Role, Situation, compile};
    use crate::host::{Address, Link};
    use crate::model::{Document, Family, Netmask, Persistence, Real, Service, VirtualAddress};
    use dataplane::table::Prefix;
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;

    fn service(last: u8, port: u16, method: Method, real: &str) -> Arc<Service> {
        let address = VirtualAddress::Socket {
            protocol: Protocol::Tcp,
            address: SocketAddr::from(([192, 0, 2, last], port)),
        };
        let mut service = Service::new(address, method);
        let netmask = Netmask::host(Family::V4);
        let timeout = std::time::Duration::from_secs(60);
        service.persistence = (port == 0).then_some(Persistence { timeout, netmask });
        service.reals = vec![Real::new(real.parse().unwrap())];
        Arc::new(service)
    }

    fn host() -> HostState {
        let link = |name: &str, loopback| Link {
            queues: 1,
            vlans: false,
            generation: 0,
            name: name.into(),
            mac: None,
            mtu: 1500,
            controller: None,
            loopback,
            up: true,
            carrier: true,
            ignored_without_carrier: [false; 2],
            vrf: None,
        };
        let address = |link, text: &str| Address {
            link,
            prefix: Prefix { address: text.parse().unwrap(), length: 24 },
        };
        HostState {
            links: [(1, link("lo", true)), (2, link("eth0", false))].into(),
            addresses: vec![address(1, "127.0.0.1"), address(2, "10.0.0.254")],
            ..HostState::default()
        }
    }

    #[test]
    fn errors_about_tunnels_are_taken() {
        let ends = |tunnel| {
            let ends = tunnel_ends(IpAddr::from([10, 0, 0, 9]), tunnel);
            ends.map(|end| (end.protocol, end.port)).collect::<Vec<_>>()
        };
        assert_eq!(ends(Tunnel::Ipip), [(4, 0), (41, 0)]);
        assert_eq!(ends(Tunnel::Gre { checksum: true }), [(47, 0)]);
        let checksum = dataplane::table::GueChecksum::Full;
        assert_eq!(ends(Tunnel::Gue { port: 6080, checksum }), [(17, 6080)]);
    }

    fn endpoint(address: &str, ports: Ports) -> Endpoint {
        Endpoint { protocol: Protocol::Tcp, address: address.parse().unwrap(), ports }
    }

    #[test]
    fn services_and_returning_replies_are_taken_and_nothing_else() {
        let mut ids = Ids::default();
        let services = vec![
            service(1, 80, Method::Nat, "10.0.0.1:8080"),
            service(2, 80, Method::DirectRouting, "10.0.0.2:80"),
            service(3, 21, Method::Nat, "10.0.0.3:21"),
            service(4, 0, Method::Nat, "10.0.0.4:0"),
        ];
        let mut document = Document { services, ..Document::default() };
        let backup = [(IpAddr::from([192, 0, 2, 2]), Role::Backup)].into();
        let situation = Situation { roles: backup, ..Situation::default() };
        let first = compile(&document, &situation, &mut ids, &Generation::default());
        let rules = steering(&first, &ids, &host(), BTreeSet::new());
        assert!(rules.owned.contains(&IpAddr::from([192, 0, 2, 1])));
        let silent = IpAddr::from([192, 0, 2, 2]);
        assert!(rules.owned.contains(&silent), "taken from the host, to be dropped");
        let mut real_server = host();
        let prefix = dataplane::table::Prefix { address: silent, length: 32 };
        let loopback = real_server.links.iter().find(|(_, link)| link.loopback);
        let link = *loopback.expect("a loopback").0;
        real_server.addresses.push(Address { link, prefix });
        let rules_there = steering(&first, &ids, &real_server, BTreeSet::new());
        assert!(!rules_there.owned.contains(&silent), "the host is a real server of it");
        assert_eq!(
            rules.reals,
            [
                endpoint("10.0.0.1", Ports::One(8080)),
                endpoint("10.0.0.3", Ports::One(21)),
                endpoint("10.0.0.3", Ports::FtpData),
                endpoint("10.0.0.4", Ports::All),
            ]
            .into()
        );
        assert!(rules.services.contains(&endpoint("192.0.2.3", Ports::FtpData)));
        assert!(rules.services.contains(&endpoint("192.0.2.4", Ports::All)));
        assert_eq!(rules.pools.keys().collect::<Vec<_>>(), [&IpAddr::from([10, 0, 0, 254])]);
        assert_eq!(rules.local.len(), 2);

        document.services.remove(0);
        let second = compile(&document, &situation, &mut ids, &first);
        let rules = steering(&second, &ids, &host(), BTreeSet::new());
        assert!(
            rules.reals.contains(&endpoint("10.0.0.1", Ports::One(8080))),
            "connections remain"
        );
        ids.release(|_| false);
        let rules = steering(&second, &ids, &host(), BTreeSet::new());
        assert!(!rules.reals.contains(&endpoint("10.0.0.1", Ports::One(8080))));
    }
}
