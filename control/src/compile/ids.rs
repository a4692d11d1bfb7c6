//! Which number stands for which service and real server in the packet path.

use crate::model::VirtualAddress;
use dataplane::table::{RealId, ServiceId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Names a real server of a service in the document.
pub type RealKey = (VirtualAddress, SocketAddr);

/// Hands out ids and remembers them: a real server that was removed keeps its id, parked, as long
/// as the packet path still has connections to it, and gets it back when it is added again.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    services: BTreeMap<VirtualAddress, ServiceId>,
    reals: BTreeMap<RealKey, RealSlot>,
    used_services: BTreeSet<u32>,
    used_reals: BTreeSet<u32>,
    /// Services that are gone while connections to their servers remain.
    parked_services: BTreeSet<u32>,
}

/// What is remembered about a real server.
#[derive(Clone, Copy, Debug)]
pub struct RealSlot {
    /// Its id.
    pub id: RealId,
    /// Whose statistics it carries.
    pub service: ServiceId,
    /// Whether it is in use; else it is parked.
    pub present: bool,
    /// The last weight above 0 that it was configured with.
    last_weight: u32,
}

/// An id, and whether it starts from nothing: its statistics have to be zeroed before use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Allotted<Id> {
    pub id: Id,
    pub fresh: bool,
}

impl Ids {
    /// The id of a service that is in the document.
    pub(super) fn service(&mut self, address: VirtualAddress) -> Allotted<ServiceId> {
        if let Some(id) = self.services.get(&address) {
            return Allotted { id: *id, fresh: false };
        }
        let id = ServiceId(lowest_free(&mut self.used_services));
        self.services.insert(address, id);
        Allotted { id, fresh: true }
    }

    /// The id of a real server that is in the document, and its last weight above 0.
    pub(super) fn real(
        &mut self,
        key: RealKey,
        service: ServiceId,
        weight: u32,
    ) -> (Allotted<RealId>, u32) {
        if let Some(slot) = self.reals.get_mut(&key) {
            // As IPVS: a server taken back keeps its counters, unless its service is a new one.
            let fresh = slot.service != service;
            // As IPVS again: its last weight above 0 does not outlive its absence.
            let returns = !slot.present;
            slot.service = service;
            slot.present = true;
            if weight != 0 || returns {
                slot.last_weight = weight;
            }
            return (Allotted { id: slot.id, fresh }, slot.last_weight);
        }
        let id = RealId(lowest_free(&mut self.used_reals));
        let slot = RealSlot { id, service, last_weight: weight, present: true };
        self.reals.insert(key, slot);
        (Allotted { id, fresh: true }, weight)
    }

    /// Parks everything that is not in use any more.
    pub(super) fn retain(
        &mut self,
        services: &BTreeSet<VirtualAddress>,
        reals: &BTreeSet<RealKey>,
    ) {
        let parked = &mut self.parked_services;
        self.services.retain(|address, id| {
            let stays = services.contains(address);
            if !stays {
                parked.insert(id.0);
            }
            stays
        });
        for (key, slot) in &mut self.reals {
            slot.present = reals.contains(key);
        }
        self.free_services();
    }

    /// Removed real servers whose ids are kept because connections may remain.
    pub fn parked(&self) -> impl Iterator<Item = (&RealKey, &RealSlot)> {
        self.reals.iter().filter(|(_, slot)| !slot.present)
    }

    /// What is remembered about a real server.
    pub fn slot(&self, key: &RealKey) -> Option<&RealSlot> {
        self.reals.get(key)
    }

    /// All real servers of a service, parked ones included.
    pub fn reals_of(&self, address: &VirtualAddress) -> impl Iterator<Item = &RealSlot> {
        let address = *address;
        let first = SocketAddr::from(([0, 0, 0, 0], 0));
        self.reals
            .range((address, first)..)
            .take_while(move |((of, _), _)| *of == address)
            .map(|(_, slot)| slot)
    }

    /// Frees the ids of parked real servers that nothing refers to any more.
    pub fn release(&mut self, in_use: impl Fn(RealId) -> bool) {
        let used = &mut self.used_reals;
        self.reals.retain(|_, slot| {
            let stays = slot.present || in_use(slot.id);
            if !stays {
                used.remove(&slot.id.0);
            }
            stays
        });
        self.free_services();
    }

    /// Frees the parked services that no real server's id refers to.
    fn free_services(&mut self) {
        if self.parked_services.is_empty() {
            return;
        }
        let referred: BTreeSet<u32> = self.reals.values().map(|slot| slot.service.0).collect();
        let used = &mut self.used_services;
        self.parked_services.retain(|id| {
            let stays = referred.contains(id);
            if !stays {
                used.remove(id);
            }
            stays
        });
    }

    /// How many service and real server ids are taken.
    pub fn taken(&self) -> (usize, usize) {
        (self.used_services.len(), self.used_reals.len())
    }

    /// The id of a service in the document.
    pub fn service_id(&self, address: &VirtualAddress) -> Option<ServiceId> {
        self.services.get(address).copied()
    }

    /// The id of a real server, in the document or parked.
    pub fn real_id(&self, key: &RealKey) -> Option<RealId> {
        self.reals.get(key).map(|slot| slot.id)
    }
}

/// Takes the lowest number that is not taken, so that what ids index stays small.
fn lowest_free(used: &mut BTreeSet<u32>) -> u32 {
    let mut free = 0;
    // Dense from below almost always: the length is then the answer.
    if let Some(last) = used.last() {
        let length = u32::try_from(used.len()).unwrap_or(u32::MAX);
        free = if last + 1 == length {
            length
        } else {
            (0..=*last).find(|id| !used.contains(id)).unwrap_or(last + 1)
        };
    }
    used.insert(free);
    free
}
