//! Steering rules from what packets look up.

use super::rules::{Endpoint, Ports, SteeringRules, TunnelEnd};
use crate::packet_path::open::{POOL_PORTS, RESERVED_PORTS};
use crate::table::{
    Family, Hops, Method, Protocol, Real, Service, ServiceKey, ServiceTable, Tunnel,
};
use std::net::IpAddr;

/// The control port of an FTP service, which has data connections besides.
const FTP: u16 = 21;

impl SteeringRules {
    /// What packets of these services, over these links, the dataplane must see.
    ///
    /// Replies of connections to real servers that are no longer in the table are not among them:
    /// see [`SteeringRules::keep_reals`].
    pub fn of(table: &ServiceTable, hops: &Hops) -> Self {
        let mut rules = Self::default();
        for address in table.owned_addresses() {
            rules.owned.insert(address.address);
            let ports = address.mac.into_iter().flat_map(|mac| hops.ports().map(move |p| (mac, p)));
            rules.macs.extend(ports.map(|(mac, (_, info))| (info.index, mac)));
        }
        rules.local.extend(hops.local_addresses().filter(|address| !address.is_loopback()));
        for service in table.services() {
            rules.add_service(table, service);
            for real in service.reals.iter() {
                rules.add_real(service, real);
            }
            rules.pools.extend(service.source_pool.iter().map(|source| (*source, POOL_PORTS)));
        }
        if !rules.reals.is_empty() {
            // Any of the host's addresses may have to stand in for a client that the real server
            // would answer past the director.
            for own in rules.local.iter().chain(hops.host_link().iter().flat_map(|l| &l.sources)) {
                rules.pools.entry(*own).or_insert(RESERVED_PORTS);
            }
        }
        rules
    }

    /// Goes on claiming the replies of real servers that these rules lack but others had, because
    /// connections to them go on.
    pub fn keep_reals(&mut self, others: &Self) {
        self.reals.extend(&others.reals);
    }

    fn add_service(&mut self, table: &ServiceTable, service: &Service) {
        match service.key {
            ServiceKey::Address { protocol, address, port } => {
                let ports = if port == 0 { Ports::All } else { Ports::One(port) };
                self.services.insert(Endpoint { protocol, address, ports });
                if protocol == Protocol::Tcp && port == FTP {
                    self.services.insert(Endpoint { protocol, address, ports: Ports::FtpData });
                }
            }
            ServiceKey::Mark { family, mark } => {
                let rules = table.marks().iter().filter(|rule| rule.mark == mark);
                let prefixes = rules.map(|rule| rule.destination);
                self.prefixes.extend(prefixes.filter(|p| Family::of(&p.address) == family));
            }
        }
    }

    fn add_real(&mut self, service: &Service, real: &Real) {
        match real.method {
            Method::Nat | Method::FullNat => {}
            Method::Tunnel(tunnel) => return self.add_tunnel(real.address, tunnel),
            // Replies go past the director, or come from it.
            Method::DirectRouting | Method::Local => return,
        }
        let (protocols, asked): (&[Protocol], u16) = match &service.key {
            ServiceKey::Address { protocol, port, .. } => (std::slice::from_ref(protocol), *port),
            ServiceKey::Mark { .. } => (&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp], 0),
        };
        let ports = match if real.port == 0 { asked } else { real.port } {
            0 => Ports::All,
            port => Ports::One(port),
        };
        for &protocol in protocols {
            let endpoint = Endpoint { protocol, address: real.address, ports };
            self.reals.insert(endpoint);
            if protocol == Protocol::Tcp && asked == FTP {
                self.reals.insert(Endpoint { ports: Ports::FtpData, ..endpoint });
            }
        }
    }

    fn add_tunnel(&mut self, address: IpAddr, tunnel: Tunnel) {
        let ends: &[(u8, u16)] = match tunnel {
            // IPv4 or IPv6 inside.
            Tunnel::Ipip => &[(4, 0), (41, 0)],
            Tunnel::Gre { .. } => &[(47, 0)],
            Tunnel::Gue { port, .. } => &[(17, port)],
        };
        let ends = ends.iter().map(|&(protocol, port)| TunnelEnd { address, protocol, port });
        self.tunnels.extend(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{
        ClientAddress, MarkRule, OwnedAddress, PortInfo, Prefix, RealId, Scheduler, SchedulerFlags,
        ServiceId, Timeouts, Tunables,
    };
    use std::collections::HashMap;
    use std::sync::Arc;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn service(id: u32, key: ServiceKey, reals: &[(&str, u16, Method)]) -> Service {
        let reals = reals.iter().enumerate().map(|(index, (address, port, method))| Real {
            id: RealId(id * 16 + index as u32),
            address: ip(address),
            port: *port,
            method: *method,
            weight: 1,
            last_weight: 1,
            upper: 0,
            lower: 0,
        });
        Service {
            id: ServiceId(id),
            key,
            scheduler: Scheduler::Rr,
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            return_by_mac: false,
            source_pool: [].into(),
            client_address: ClientAddress::Hidden,
            reals: reals.collect(),
        }
    }

    fn at(protocol: Protocol, address: &str, port: u16) -> ServiceKey {
        ServiceKey::Address { protocol, address: ip(address), port }
    }

    fn hops() -> Hops {
        let info = PortInfo {
            name: "eth0".to_owned(),
            index: 7,
            mac: [2; 6],
            mtu: 1500,
            addresses: Vec::new(),
        };
        let local = HashMap::from([(ip("192.0.2.2"), None), (ip("127.0.0.1"), None)]);
        Hops::new(vec![Some(info)], Vec::new(), HashMap::new(), local, 1)
    }

    fn table(services: Vec<Service>) -> ServiceTable {
        let mac = Some([0, 0, 0x5e, 0, 1, 1]);
        let owned = OwnedAddress { address: ip("192.0.2.10"), mac, answers_ping: true };
        let rule = MarkRule {
            mark: 5,
            source: None,
            destination: Prefix { address: ip("198.51.100.0"), length: 24 },
            protocol: None,
            ports: None,
        };
        let services = services.into_iter().map(Arc::new);
        let (timeouts, tunables) = (Timeouts::default(), Tunables::default());
        ServiceTable::new(services, [owned], [rule].into(), timeouts, tunables)
    }

    #[test]
    fn services_reals_pools_and_virtual_macs_are_steered() {
        let tcp = Protocol::Tcp;
        let mut web = service(
            0,
            at(tcp, "192.0.2.10", 80),
            &[("10.0.0.1", 8080, Method::Nat), ("10.0.0.2", 0, Method::FullNat)],
        );
        web.source_pool = [ip("10.0.0.200")].into();
        let rules = SteeringRules::of(&table(vec![web]), &hops());
        let one = |address, port| Endpoint { protocol: tcp, address: ip(address), ports: port };
        assert_eq!(rules.owned, [ip("192.0.2.10")].into());
        assert_eq!(rules.services, [one("192.0.2.10", Ports::One(80))].into());
        let reals = [one("10.0.0.1", Ports::One(8080)), one("10.0.0.2", Ports::One(80))];
        assert_eq!(rules.reals, reals.into());
        let pools = [(ip("10.0.0.200"), POOL_PORTS), (ip("192.0.2.2"), RESERVED_PORTS)];
        assert_eq!(rules.pools, pools.into());
        assert_eq!(rules.local, [ip("192.0.2.2")].into());
        assert_eq!(rules.macs, [(7, [0, 0, 0x5e, 0, 1, 1])].into());
    }

    #[test]
    fn servers_that_answer_past_the_director_are_left_alone() {
        let reals = [
            ("10.0.0.1", 0, Method::DirectRouting),
            ("10.0.0.2", 0, Method::Tunnel(Tunnel::Ipip)),
            ("127.0.0.1", 0, Method::Local),
        ];
        let web = service(0, at(Protocol::Tcp, "192.0.2.10", 80), &reals);
        let rules = SteeringRules::of(&table(vec![web]), &hops());
        assert!(rules.reals.is_empty() && rules.pools.is_empty());
        let end = |protocol| TunnelEnd { address: ip("10.0.0.2"), protocol, port: 0 };
        assert_eq!(rules.tunnels, [end(4), end(41)].into());
    }

    #[test]
    fn ftp_and_mark_services_take_more_than_one_port() {
        let nat = |address| [(address, 0, Method::Nat)];
        let ftp = service(0, at(Protocol::Tcp, "192.0.2.10", 21), &nat("10.0.0.1"));
        let key = ServiceKey::Mark { family: Family::V4, mark: 5 };
        let marked = service(1, key, &nat("10.0.0.2"));
        let other = service(2, ServiceKey::Mark { family: Family::V6, mark: 5 }, &[]);
        let rules = SteeringRules::of(&table(vec![ftp, marked, other]), &hops());
        let ports_of = |endpoints: &std::collections::BTreeSet<Endpoint>, address: &str| {
            let of = endpoints.iter().filter(|e| e.address == ip(address));
            of.map(|e| (e.protocol, e.ports)).collect::<Vec<_>>()
        };
        let tcp = Protocol::Tcp;
        let ftp = vec![(tcp, Ports::One(21)), (tcp, Ports::FtpData)];
        assert_eq!(ports_of(&rules.services, "192.0.2.10"), ftp);
        assert_eq!(ports_of(&rules.reals, "10.0.0.1"), ftp);
        let all = [tcp, Protocol::Udp, Protocol::Sctp].map(|p| (p, Ports::All));
        assert_eq!(ports_of(&rules.reals, "10.0.0.2"), all);
        let marked = Prefix { address: ip("198.51.100.0"), length: 24 };
        assert_eq!(rules.prefixes, [marked].into());
    }
}
