//! Traffic by real server and service, out of counters that only ever grow.
//!
//! The packet path counts by id and never starts anew; an id that is given to another server goes on
//! from what the last one left. So what an id had counted when it was given out is remembered, and
//! what it had counted when it was freed goes to its service.

use crate::compile::Ids;
use crate::model::VirtualAddress;
use dataplane::packet_path::counters::Traffic;
use dataplane::table::{RealId, ServiceId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What has been counted, by whom.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What an id had counted when it was given to its server.
    bases: BTreeMap<RealId, Traffic>,
    /// What servers that are gone had counted for a service that remains.
    retired: BTreeMap<ServiceId, Traffic>,
}

/// The counters of the packet path, as they stand.
pub trait Counted {
    /// All that a real server's id has ever counted.
    fn traffic(&self, id: RealId) -> Traffic;
}

impl Ledger {
    /// Ids that start from nothing.
    pub fn open(&mut self, reals: &[RealId], services: &[ServiceId], counted: &dyn Counted) {
        for id in reals {
            self.bases.insert(*id, counted.traffic(*id));
        }
        for id in services {
            self.retired.remove(id);
        }
    }

    /// An id that is about to be freed.
    pub fn close(&mut self, real: RealId, service: ServiceId, counted: &dyn Counted) {
        let last = self.real(real, counted);
        self.retired.entry(service).or_default().add(last);
        self.bases.remove(&real);
    }

    /// What a real server has counted since it was added.
    pub fn real(&self, id: RealId, counted: &dyn Counted) -> Traffic {
        let base = self.bases.get(&id).copied().unwrap_or_default();
        let now = counted.traffic(id);
        Traffic {
            connections: now.connections.wrapping_sub(base.connections),
            in_packets: now.in_packets.wrapping_sub(base.in_packets),
            out_packets: now.out_packets.wrapping_sub(base.out_packets),
            in_bytes: now.in_bytes.wrapping_sub(base.in_bytes),
            out_bytes: now.out_bytes.wrapping_sub(base.out_bytes),
        }
    }

    /// What a service has counted since it was made, its removed servers included.
    pub fn service(&self, address: &VirtualAddress, ids: &Ids, counted: &dyn Counted) -> Traffic {
        let Some(service) = ids.service_id(address) else { return Traffic::default() };
        let mut sum = self.retired.get(&service).copied().unwrap_or_default();
        for real in ids.reals_of(address).filter(|real| real.service == service) {
            sum.add(self.real(real.id, counted));
        }
        sum
    }

    /// What a real server that was removed, but is not forgotten, has counted.
    pub fn removed(
        &self,
        address: &VirtualAddress,
        server: &SocketAddr,
        ids: &Ids,
        counted: &dyn Counted,
    ) -> Option<Traffic> {
        let slot = ids.slot(&(*address, *server)).filter(|slot| !slot.present)?;
        Some(self.real(slot.id, counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Generation, Situation, compile};
    use crate::model::{Document, Method, Protocol, Real, Service};
    use std::cell::RefCell;
    use std::sync::Arc;

    #[derive(Default)]
    struct Counters(RefCell<BTreeMap<RealId, u64>>);

    impl Counters {
        fn count(&self, id: RealId, connections: u64) {
            *self.0.borrow_mut().entry(id).or_default() += connections;
        }
    }

    impl Counted for Counters {
        fn traffic(&self, id: RealId) -> Traffic {
            let connections = self.0.borrow().get(&id).copied().unwrap_or(0);
            Traffic { connections, ..Traffic::default() }
        }
    }

    fn document(reals: &[u8]) -> (Document, VirtualAddress) {
        let address = VirtualAddress::Socket {
            protocol: Protocol::Tcp,
            address: SocketAddr::from(([192, 0, 2, 1], 80)),
        };
        let mut service = Service::new(address, Method::Nat);
        service.reals = reals.iter().map(|last| Real::new(rip(*last))).collect();
        (Document { services: vec![Arc::new(service)], ..Document::default() }, address)
    }

    fn rip(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn a_service_keeps_what_its_gone_servers_counted() {
        let (counters, mut ids, mut ledger) =
            (Counters::default(), Ids::default(), Ledger::default());
        let (both, vip) = document(&[1, 2]);
        let situation = Situation::default();
        let first = compile(&both, &situation, &mut ids, &Generation::default());
        ledger.open(&first.fresh_reals, &first.fresh_services, &counters);
        let gone = ids.real_id(&(vip, rip(1))).expect("there");
        counters.count(gone, 5);
        counters.count(ids.real_id(&(vip, rip(2))).expect("there"), 7);
        assert_eq!(ledger.service(&vip, &ids, &counters).connections, 12);

        let second = compile(&document(&[2]).0, &situation, &mut ids, &first);
        assert_eq!(ledger.service(&vip, &ids, &counters).connections, 12, "parked");
        assert_eq!(ledger.removed(&vip, &rip(1), &ids, &counters).map(|t| t.connections), Some(5));
        ledger.close(gone, ids.service_id(&vip).expect("there"), &counters);
        ids.release(|_| false);
        assert_eq!(ledger.service(&vip, &ids, &counters).connections, 12, "freed");

        let third = compile(&document(&[2, 3]).0, &situation, &mut ids, &second);
        ledger.open(&third.fresh_reals, &third.fresh_services, &counters);
        let new = ids.real_id(&(vip, rip(3))).expect("there");
        assert_eq!(new, gone, "the id is used again");
        assert_eq!(ledger.real(new, &counters).connections, 0);
        counters.count(new, 1);
        assert_eq!(ledger.service(&vip, &ids, &counters).connections, 13);
    }
}
