//! How real servers differ from the document for packets: dead, drained, weighed, starting slowly; and
//! which services have their quorum by it.

use crate::compile::{RealKey, Standing, roles};
use crate::health::weight::{FULL, published, share};
use crate::model::{OnDown, PersistentClients, QuorumUnit, Real, Service, VirtualAddress};
use crate::state::State;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

impl State {
    /// Health, drains and quorums as the compiler wants them.
    pub(super) fn update_situation(&mut self) {
        let running = Arc::clone(&self.running);
        self.situation.standings.clear();
        self.warming = false;
        for service in &running.services {
            self.update_standings(service);
            self.update_quorum(service);
        }
        let exists = |address: &VirtualAddress| running.service_at(address).is_some();
        self.situation.down.retain(exists);
        self.masters.retain(|name| running.vrrp.iter().any(|instance| instance.name == *name));
        self.situation.roles = roles(&running, &self.masters);
        let pools = running.services.iter().flat_map(|service| &service.source_pool);
        let own = |address: &&IpAddr| {
            self.host.addresses.iter().any(|own| own.prefix.address == **address)
        };
        self.situation.host_s = pools.filter(own).copied().collect();
    }

    /// How a service's real servers differ from the document: dead, drained, weighed by their
    /// agents, starting slowly.
    fn update_standings(&mut self, service: &Service) {
        let mut live = Vec::new();
        for real in &service.reals {
            let key = (service.address, real.address);
            if let Some(standing) = self.absence(service, real) {
                self.situation.standings.insert(key, standing);
                continue;
            }
            let health = self.health.get(&key);
            let weight = match health.and_then(|health| health.agent) {
                Some(agent) => agent.of(real.weight),
                None => real.weight,
            };
            let slow_start =
                service.check_of(real).map_or(Duration::ZERO, |check| check.slow_start);
            let share = match health.and_then(|health| health.warming_since) {
                Some(since) => share(self.steady.saturating_sub(since), slow_start),
                None => FULL,
            };
            live.push((key, real.weight, weight, share));
        }
        self.warming |= live.iter().any(|(_, _, _, share)| *share < FULL);
        // Almost always nobody is weighed: then weights stay as they are, however large.
        if live.iter().all(|(_, own, weight, share)| own == weight && *share >= FULL) {
            return;
        }
        let shares: Vec<_> = live.iter().map(|(_, _, weight, share)| (*weight, *share)).collect();
        for ((key, own, _, _), weight) in live.iter().zip(published(&shares)) {
            if weight != *own {
                self.situation.standings.insert(*key, Standing::Weight(weight));
            }
        }
    }

    /// Why a real server takes no new connections, if it does not.
    fn absence(&self, service: &Service, real: &Real) -> Option<Standing> {
        let key = (service.address, real.address);
        if let Some(drain) = self.maintenance.get(&key) {
            return Some(match drain.persistent {
                PersistentClients::Move => Standing::Withdrawn,
                PersistentClients::Keep => Standing::Weight(0),
            });
        }
        let check = service.check_of(real)?;
        if self.believed(&key)? {
            return None;
        }
        Some(match check.on_down {
            OnDown::Quiesce => Standing::Withdrawn,
            OnDown::Remove => Standing::Removed,
        })
    }

    /// Whether a real server that is checked works: what this director's own probes say, and until they
    /// say something, what the peer's do. `None` when nobody has asked it yet.
    pub fn believed(&self, real: &RealKey) -> Option<bool> {
        let own = self.health.get(real).map(|health| health.up);
        own.or_else(|| self.peer_health.get(real).map(|verdict| verdict.up))
    }

    /// Whether a service has its quorum, with the band between losing and gaining it.
    fn update_quorum(&mut self, service: &Service) {
        let is_down = self.situation.down.contains(&service.address);
        let live = service.reals.iter().filter(|real| {
            let key = (service.address, real.address);
            let checked = service.check_of(real).is_some();
            // Servers that nobody has asked yet are trusted, but they bring no dead service back.
            let up = !checked || self.believed(&key).unwrap_or(!is_down);
            up && !self.maintenance.contains_key(&key)
        });
        let count: u64 = match service.quorum.unit {
            QuorumUnit::Servers => live.filter(|real| real.weight > 0).count() as u64,
            QuorumUnit::Weight => live.map(|real| u64::from(real.weight)).sum(),
        };
        let needed = if is_down { service.quorum.recover } else { service.quorum.minimum };
        if count >= u64::from(needed) {
            self.situation.down.remove(&service.address);
        } else {
            self.situation.down.insert(service.address);
        }
    }
}
