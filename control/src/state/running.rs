//! The running director as `ipvsadm` sees it.

use crate::ipvs::{ConnectionPage, Counters, Running, RunningReal};
use crate::model::{Service, VirtualAddress};
use crate::state::Packets;
use crate::state::State;
use dataplane::packet_path::counters::Traffic;
use std::net::SocketAddr;

/// What runs, for listings.
pub struct RunningView<'a> {
    state: &'a State,
    packets: &'a dyn Packets,
}

impl<'a> RunningView<'a> {
    /// A view of the state with the packet path's numbers.
    pub const fn new(state: &'a State, packets: &'a dyn Packets) -> Self {
        Self { state, packets }
    }
}

const fn counters(traffic: Traffic) -> Counters {
    Counters {
        conns: traffic.connections,
        in_pkts: traffic.in_packets,
        out_pkts: traffic.out_packets,
        in_bytes: traffic.in_bytes,
        out_bytes: traffic.out_bytes,
    }
}

impl Running for RunningView<'_> {
    fn service(&self, service: &VirtualAddress) -> Counters {
        let counted: &dyn super::Counted = self.packets;
        counters(self.state.ledger.service(service, &self.state.ids, counted))
    }

    fn reals(&self, service: &Service) -> Vec<RunningReal> {
        let Some(compiled) = self.state.generation.service(&service.address) else {
            return Vec::new();
        };
        let running = compiled.reals.iter().map(|real| {
            let load = self.packets.load(real.id);
            RunningReal {
                address: SocketAddr::new(real.address, real.port),
                method: real.method,
                weight: real.weight,
                upper: real.upper,
                lower: real.lower,
                active: load.active,
                inactive: load.inactive,
                persistent: load.persistent,
                counters: counters(self.state.ledger.real(real.id, self.packets)),
            }
        });
        running.collect()
    }

    fn removed(&self, service: &VirtualAddress, server: &SocketAddr) -> Option<Counters> {
        let (ids, counted) = (&self.state.ids, self.packets);
        self.state.ledger.removed(service, server, ids, counted).map(counters)
    }

    fn connections(&self, cursor: u64, limit: u32) -> ConnectionPage {
        self.packets.page(cursor, limit)
    }

    fn table_size(&self) -> u32 {
        self.packets.table_size()
    }
}
