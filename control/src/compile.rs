//! Intent, health and role to what packets look up. Pure.

mod ids;
mod instances;
mod roles;
mod steering;

pub use ids::{Ids, RealKey, RealSlot};
pub use instances::{instances, script_thing, service_thing};
pub use roles::{Role, roles, virtual_macs};
pub use steering::steering;

use crate::model::{
    Document, MatchRule, Method, Netmask, Persistence, Real, Service, Sorry, VirtualAddress,
};
use dataplane::table::{
    self, Availability, MarkRule, OwnedAddress, RealId, ServiceId, ServiceTable,
};
use dataplane::tick::Ticks;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What is so, beyond what the operator wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// Real servers that do not simply have their configured weight.
    pub standings: BTreeMap<RealKey, Standing>,
    /// Services below their quorum.
    pub down: BTreeSet<VirtualAddress>,
    /// Where the director itself answers for a service with its sorry page.
    pub sorry_pages: BTreeMap<VirtualAddress, SocketAddr>,
    /// Addresses under VRRP.
    pub roles: BTreeMap<IpAddr, Role>,
    /// Addresses of source pools that the host answers for itself.
    pub host_s: BTreeSet<IpAddr>,
}

/// How a real server's part in its service differs from the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has this weight: its agent's, or less than its own while it starts slowly. 0 when it is
    /// drained and keeps its persistent clients.
    Weight(u32),
    /// Weight 0, and persistent clients move: it is down, or drained without keeping them.
    Withdrawn,
    /// It is not in the service at all.
    Removed,
}

/// One generation of what packets look up, with what the next one needs to know of it.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// The table to publish.
    pub table: Arc<ServiceTable>,
    /// Services whose statistics start from nothing.
    pub fresh_services: Vec<ServiceId>,
    /// Real servers whose statistics start from nothing.
    pub fresh_reals: Vec<RealId>,
    compiled: BTreeMap<VirtualAddress, Compiled>,
}

/// One compiled service with what it was made of.
#[derive(Clone, Debug)]
struct Compiled {
    source: Arc<Service>,
    part: Part,
    service: Arc<table::Service>,
}

/// The part of a [`Situation`] that concerns one service.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    standings: Vec<Option<Standing>>,
    down: bool,
    sorry_page: Option<SocketAddr>,
}

/// Makes the next generation. A service that nothing changed for is the previous generation's own.
pub fn compile(
    document: &Document,
    situation: &Situation,
    ids: &mut Ids,
    previous: &Generation,
) -> Generation {
    let mut next = Generation::default();
    let mut reals = BTreeSet::new();
    for source in &document.services {
        let part = situation.part_of(source);
        let kept = previous.compiled.get(&source.address).filter(|old| {
            old.part == part && (Arc::ptr_eq(&old.source, source) || old.source == *source)
        });
        let service = match kept {
            Some(old) => Arc::clone(&old.service),
            None => Arc::new(service(source, &part, ids, &mut next)),
        };
        reals.extend(
            service
                .reals
                .iter()
                .map(|real| (source.address, SocketAddr::new(real.address, real.port))),
        );
        // Servers that are removed for now keep their ids too.
        reals.extend(source.reals.iter().map(|real| (source.address, real.address)));
        let compiled = Compiled { source: Arc::clone(source), part, service };
        next.compiled.insert(source.address, compiled);
    }
    ids.retain(&next.compiled.keys().copied().collect(), &reals);
    let table = ServiceTable::new(
        next.compiled.values().map(|compiled| Arc::clone(&compiled.service)),
        owned_addresses(document, situation),
        marks(document),
        timeouts(document),
        document.tunables,
    );
    next.table = Arc::new(table.with_silent(silent_addresses(situation)));
    next
}

impl Situation {
    fn part_of(&self, service: &Service) -> Part {
        let standing = |real: &Real| self.standings.get(&(service.address, real.address)).copied();
        Part {
            standings: service.reals.iter().map(standing).collect(),
            down: self.down.contains(&service.address),
            sorry_page: self.sorry_pages.get(&service.address).copied(),
        }
    }
}

impl Generation {
    /// The compiled service at an address.
    pub fn service(&self, address: &VirtualAddress) -> Option<&Arc<table::Service>> {
        self.compiled.get(address).map(|compiled| &compiled.service)
    }
}

fn service(source: &Service, part: &Part, ids: &mut Ids, fresh: &mut Generation) -> table::Service {
    let id = ids.service(source.address);
    if id.fresh {
        fresh.fresh_services.push(id.id);
    }
    let mut reals = Vec::with_capacity(source.reals.len() + 1);
    // The packet path walks the newest first.
    for (real, standing) in source.reals.iter().zip(&part.standings).rev() {
        let (weight, availability) = match standing {
            None => (real.weight, Availability::Serving),
            Some(Standing::Weight(weight)) => (*weight, Availability::Serving),
            Some(Standing::Withdrawn | Standing::Removed) => (0, Availability::Withdrawn),
        };
        let removed = *standing == Some(Standing::Removed);
        let given = ids.real((source.address, real.address), id.id, real.weight);
        if given.0.fresh {
            fresh.fresh_reals.push(given.0.id);
        }
        if !removed {
            let (weight, availability) = if part.down && sorry_server(source, part).is_some() {
                (0, Availability::Withdrawn)
            } else {
                (weight, availability)
            };
            let known = table_real(source.method_of(real), real, given.0.id, weight, given.1);
            reals.push(table::Real { availability, ..known });
        }
    }
    let unserved = part.down || reals.iter().all(|real| real.weight == 0);
    if let Some((address, method)) = sorry_server(source, part).filter(|_| unserved) {
        stand_in(source, address, method, id.id, ids, fresh, &mut reals);
    }
    table::Service {
        id: id.id,
        key: source.address.key(),
        scheduler: source.scheduler,
        flags: source.flags,
        persistence: source.persistence.as_ref().map(persistence),
        one_packet: source.one_packet,
        return_by_mac: source.return_by_mac,
        source_pool: source.source_pool.clone().into(),
        client_address: source.client_address,
        reals: reals.into(),
    }
}

fn table_real(method: Method, real: &Real, id: RealId, weight: u32, last: u32) -> table::Real {
    table::Real {
        id,
        address: real.address.ip(),
        port: real.address.port(),
        method,
        weight,
        availability: Availability::Serving,
        last_weight: last,
        upper: real.upper,
        lower: real.lower,
    }
}

/// Who answers for a service that no real server can, and how it is reached.
fn sorry_server(source: &Service, part: &Part) -> Option<(SocketAddr, Method)> {
    match source.sorry.as_ref()? {
        Sorry::Page { .. } => part.sorry_page.map(|address| (address, Method::Local)),
        Sorry::Server { address, method } => {
            let usual = if address.ip().is_loopback() { Method::Local } else { source.method };
            Some((*address, method.unwrap_or(usual)))
        }
    }
}

/// Puts the sorry server in: as a server of its own, or by giving weight to the real server that
/// already has its address.
fn stand_in(
    source: &Service,
    address: SocketAddr,
    method: Method,
    id: ServiceId,
    ids: &mut Ids,
    fresh: &mut Generation,
    reals: &mut Vec<table::Real>,
) {
    let same = |real: &&mut table::Real| SocketAddr::new(real.address, real.port) == address;
    if let Some(real) = reals.iter_mut().find(same) {
        real.weight = 1;
        return;
    }
    let given = ids.real((source.address, address), id, 1);
    if given.0.fresh {
        fresh.fresh_reals.push(given.0.id);
    }
    reals.insert(0, table_real(method, &Real::new(address), given.0.id, 1, given.1));
}

fn persistence(persistence: &Persistence) -> table::Persistence {
    let mask = match persistence.netmask {
        Netmask::V4(mask) => u128::from(u32::from(mask)),
        Netmask::V6(length) => u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0),
    };
    table::Persistence { timeout: Ticks::from(persistence.timeout), mask }
}

/// The addresses that the director answers for: every VIP, every single address that a match rule
/// names, and those of source pools that the host has not, but what VRRP gives to another node or a lost quorum withdraws.
fn owned_addresses(document: &Document, situation: &Situation) -> Vec<OwnedAddress> {
    let mut owned = BTreeMap::new();
    for service in &document.services {
        if service.quorum.withdraw && situation.down.contains(&service.address) {
            continue;
        }
        let ruled = service.rules.iter().map(|rule| rule.destination);
        let ruled = ruled.filter(|block| block.length == host_length(&block.address));
        for address in service.address.ip().into_iter().chain(ruled.map(|block| block.address)) {
            let role = situation.roles.get(&address).copied();
            owned.extend(role.unwrap_or(Role::ALWAYS).owned(address).map(|own| (address, own)));
        }
        // Real servers ask for them on their own link, where the virtual MAC is not at home.
        let vip = service.address.ip().and_then(|vip| situation.roles.get(&vip));
        if vip != Some(&Role::Backup) {
            let pool = service.source_pool.iter();
            let pool = pool.filter(|address| !situation.host_s.contains(*address));
            for address in pool.copied() {
                if let Some(own) = Role::ALWAYS.owned(address) {
                    owned.entry(address).or_insert(own);
                }
            }
        }
    }
    // Addresses that VRRP gives this node without a service on them, such as an inside gateway.
    let ruled = situation.roles.iter();
    let ruled = ruled.filter_map(|(address, role)| Some((*address, role.owned(*address)?)));
    owned.extend(ruled.filter(|(address, _)| !withdrawn(document, situation, address)));
    owned.into_values().collect()
}

/// Whether every service on an address is below its quorum and wants the address withdrawn then.
fn withdrawn(document: &Document, situation: &Situation, address: &IpAddr) -> bool {
    let on = document.services.iter().filter(|service| service.address.ip() == Some(*address));
    let mut on = on.peekable();
    on.peek().is_some()
        && on.all(|service| service.quorum.withdraw && situation.down.contains(&service.address))
}

/// The addresses that another node answers for.
fn silent_addresses(situation: &Situation) -> impl Iterator<Item = IpAddr> {
    let silent = situation.roles.iter().filter(|(_, role)| matches!(role, Role::Backup));
    silent.map(|(address, _)| *address)
}

const fn host_length(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn marks(document: &Document) -> Arc<[MarkRule]> {
    let mut marks = Vec::new();
    for service in &document.services {
        if let VirtualAddress::Mark { mark, .. } = service.address {
            marks.extend(service.rules.iter().map(|rule| mark_rule(mark, rule)));
        }
    }
    marks.into()
}

fn mark_rule(mark: u32, rule: &MatchRule) -> MarkRule {
    MarkRule {
        mark,
        source: rule.source,
        destination: rule.destination,
        protocol: rule.protocol,
        ports: rule.ports.clone(),
    }
}

fn timeouts(document: &Document) -> table::Timeouts {
    table::Timeouts {
        tcp: Ticks::from(document.timeouts.tcp),
        tcp_fin: Ticks::from(document.timeouts.tcp_fin),
        udp: Ticks::from(document.timeouts.udp),
    }
}

#[cfg(test)]
mod tests;
