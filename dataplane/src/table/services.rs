//! The whole of what control publishes about services.

use super::{Family, MarkRule, Method, Protocol, Real, RealId, Service, ServiceKey};
use crate::tick::Ticks;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// An address that the director answers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnedAddress {
    /// The address.
    pub address: IpAddr,
    /// The MAC to answer with: VRRP's virtual one, or `None` for the port's own.
    pub mac: Option<super::Mac>,
    /// Whether ping is answered by the director itself.
    pub answers_ping: bool,
}

/// Timeouts that `ipvsadm --set` changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: Ticks,
    /// TCP FIN_WAIT.
    pub tcp_fin: Ticks,
    /// UDP.
    pub udp: Ticks,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Ticks::from_secs(900),
            tcp_fin: Ticks::from_secs(120),
            udp: Ticks::from_secs(300),
        }
    }
}

/// Switches that IPVS keeps under `net.ipv4.vs`, with its defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunables {
    /// Drop connections whose real server was removed, and schedule anew.
    pub expire_nodest_conn: bool,
    /// Templates to drained servers are given up.
    pub expire_quiescent_template: bool,
    /// Any TCP segment but RST opens a connection.
    pub sloppy_tcp: bool,
    /// Any SCTP chunk but ABORT opens a connection.
    pub sloppy_sctp: bool,
    /// 0: reused client ports continue the old connection; 1: are scheduled anew.
    pub conn_reuse_mode: u8,
    /// ICMP errors without a connection are scheduled too.
    pub schedule_icmp: bool,
    /// Stray packets from NAT real servers are answered with port unreachable.
    pub nat_icmp_send: bool,
    /// Path-MTU discovery through tunnels.
    pub pmtu_disc: bool,
    /// Stricter TCP state tables, for times of attack.
    pub secure_tcp: bool,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            sloppy_tcp: false,
            sloppy_sctp: false,
            conn_reuse_mode: 1,
            schedule_icmp: false,
            nat_icmp_send: false,
            pmtu_disc: true,
            secure_tcp: false,
        }
    }
}

/// Everything about services that a packet can meet. Immutable; published whole.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    services: HashMap<ServiceKey, Arc<Service>>,
    /// Indexed by `ServiceId`; a removed service leaves `None`.
    by_id: Vec<Option<Arc<Service>>>,
    /// Indexed by `RealId`: the service that it serves and itself. A removed server leaves `None`,
    /// and packets of its connections meet "real server removed".
    reals: Vec<Option<(Arc<Service>, usize)>>,
    /// All real servers by address, in order, those of silent services too.
    by_address: Vec<(IpAddr, RealId)>,
    owned: HashMap<IpAddr, OwnedAddress>,
    silent: HashSet<IpAddr>,
    marks: Arc<[MarkRule]>,
    has_ftp: bool,
    has_port_zero: bool,
    /// Timeouts by protocol state.
    pub timeouts: Timeouts,
    /// IPVS's switches.
    pub tunables: Tunables,
}

impl ServiceTable {
    /// Builds the table. Services with a key that occurs twice: the last one stands.
    pub fn new(
        services: impl IntoIterator<Item = Arc<Service>>,
        owned: impl IntoIterator<Item = OwnedAddress>,
        marks: Arc<[MarkRule]>,
        timeouts: Timeouts,
        tunables: Tunables,
    ) -> Self {
        let mut table = Self { timeouts, tunables, marks, ..Self::default() };
        for service in services {
            table.insert(service);
        }
        table.by_address.sort_unstable();
        for address in owned {
            table.owned.insert(address.address, address);
        }
        table
    }

    /// Addresses that another director answers for: packets to them are nobody's here. Their
    /// services stay in the table, so that the schedulers and connections of a backup are ready, but
    /// none of their real servers is found.
    #[must_use]
    pub fn with_silent(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.silent = addresses.into_iter().collect();
        if self.silent.is_empty() {
            return self;
        }
        let silent: Vec<_> = self.services().filter(|s| self.sleeps(&s.key)).cloned().collect();
        for real in silent.iter().flat_map(|service| service.reals.iter()) {
            if let Some(place) = self.reals.get_mut(real.id.0 as usize) {
                *place = None;
            }
        }
        self
    }

    /// Whether all that leads to a service is silent.
    fn sleeps(&self, key: &ServiceKey) -> bool {
        match key {
            ServiceKey::Address { address, .. } => self.silent.contains(address),
            ServiceKey::Mark { mark, .. } => {
                let mut rules = self.marks.iter().filter(|rule| rule.mark == *mark).peekable();
                rules.peek().is_some()
                    && rules.all(|rule| self.silent.contains(&rule.destination.address))
            }
        }
    }

    /// Whether another director answers for an address.
    pub fn is_silent(&self, address: &IpAddr) -> bool {
        !self.silent.is_empty() && self.silent.contains(address)
    }

    /// All addresses that another director answers for, in no order.
    pub fn silent_addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.silent.iter()
    }

    fn insert(&mut self, service: Arc<Service>) {
        let id = service.id.0 as usize;
        if self.by_id.len() <= id {
            self.by_id.resize(id + 1, None);
        }
        for (index, real) in service.reals.iter().enumerate() {
            let (real_id, id) = (real.id, real.id.0 as usize);
            if self.reals.len() <= id {
                self.reals.resize(id + 1, None);
            }
            self.reals[id] = Some((Arc::clone(&service), index));
            self.by_address.push((real.address, real_id));
        }
        if let ServiceKey::Address { protocol, port, .. } = service.key {
            self.has_ftp |= protocol == Protocol::Tcp && port == 21;
            self.has_port_zero |= port == 0;
        }
        self.by_id[id] = Some(Arc::clone(&service));
        self.services.insert(service.key, service);
    }

    /// The service that a packet belongs to, in IPVS's order: mark, exact port, FTP data, port 0.
    pub fn lookup(
        &self,
        protocol: Protocol,
        source: &IpAddr,
        address: &IpAddr,
        port: u16,
    ) -> Option<&Arc<Service>> {
        let exact =
            |port| self.services.get(&ServiceKey::Address { protocol, address: *address, port });
        self.marked(protocol, source, address, port)
            .or_else(|| exact(port))
            .or_else(|| {
                let ftp_data = port == 20 || port >= 1024;
                (self.has_ftp && protocol == Protocol::Tcp && ftp_data).then(|| exact(21))?
            })
            .or_else(|| self.has_port_zero.then(|| exact(0))?)
    }

    fn marked(
        &self,
        protocol: Protocol,
        source: &IpAddr,
        address: &IpAddr,
        port: u16,
    ) -> Option<&Arc<Service>> {
        if self.marks.is_empty() {
            return None;
        }
        let rule = self.marks.iter().find(|r| r.matches(protocol, source, address, port))?;
        self.services.get(&ServiceKey::Mark { family: Family::of(address), mark: rule.mark })
    }

    /// The service and the real server with this id, unless removed.
    pub fn real(&self, id: RealId) -> Option<(&Arc<Service>, &Real)> {
        let (service, index) = self.reals.get(id.0 as usize)?.as_ref()?;
        Some((service, service.reals.get(*index)?))
    }

    /// The service with this key.
    pub fn by_key(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The service with this id, unless removed.
    pub fn service(&self, id: super::ServiceId) -> Option<&Arc<Service>> {
        self.by_id.get(id.0 as usize)?.as_ref()
    }

    /// All services, by id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_id.iter().flatten()
    }

    /// All real servers that are not removed, by id.
    pub fn reals(&self) -> impl Iterator<Item = (&Arc<Service>, &Real)> {
        self.reals
            .iter()
            .flatten()
            .filter_map(|(service, index)| service.reals.get(*index).map(|real| (service, real)))
    }

    /// Whether any service has a real server with this address.
    pub fn is_real_address(&self, address: &IpAddr) -> bool {
        self.ids_at(address).next().is_some()
    }

    /// The real servers with this address.
    pub fn reals_at(&self, address: &IpAddr) -> impl Iterator<Item = (&Arc<Service>, &Real)> {
        self.ids_at(address).filter_map(|id| self.real(id))
    }

    fn ids_at(&self, address: &IpAddr) -> impl Iterator<Item = RealId> {
        let first = self.by_address.partition_point(|(other, _)| other < address);
        let rest = self.by_address.get(first..).unwrap_or_default();
        rest.iter().take_while(move |(other, _)| other == address).map(|(_, id)| *id)
    }

    /// Whether this address and port is a real server under NAT.
    pub fn is_nat_real(&self, address: &IpAddr, port: u16) -> bool {
        self.reals_at(address)
            .any(|(_, real)| (real.port == port || real.port == 0) && real.method == Method::Nat)
    }

    /// How the director answers for an address, if it does.
    pub fn owned(&self, address: &IpAddr) -> Option<&OwnedAddress> {
        self.owned.get(address)
    }

    /// All owned addresses, in no order.
    pub fn owned_addresses(&self) -> impl Iterator<Item = &OwnedAddress> {
        self.owned.values()
    }

    /// The rules that mark packets, first match first.
    pub fn marks(&self) -> &[MarkRule] {
        &self.marks
    }
}
