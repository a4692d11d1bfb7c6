//! Counters as IPVS shows them: counted from the last zeroing, and as rates.
//!
//! The packet path only ever counts up. What is shown is the difference to the value remembered at
//! the last zeroing; rates come from an estimator that samples the counters every two seconds.

use super::Running;
use crate::model::{Service, VirtualAddress};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often [`Statistics::estimate`] must be called for rates to be per second.
pub const ESTIMATOR_PERIOD: Duration = Duration::from_secs(2);

/// Counters of a service or a real server. Bytes are those of whole IP packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Connections made.
    pub conns: u64,
    /// Packets from clients.
    pub in_pkts: u64,
    /// Packets from real servers.
    pub out_pkts: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from real servers.
    pub out_bytes: u64,
}

/// Rates per second, as IPVS estimates them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rates {
    /// New connections per second.
    pub cps: u64,
    /// Packets from clients.
    pub in_pps: u64,
    /// Packets from real servers.
    pub out_pps: u64,
    /// Bytes from clients.
    pub in_bps: u64,
    /// Bytes from real servers.
    pub out_bps: u64,
}

impl Counters {
    /// What was counted since `earlier`. Counters never run backwards; should one, it shows 0.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            conns: self.conns.saturating_sub(earlier.conns),
            in_pkts: self.in_pkts.saturating_sub(earlier.in_pkts),
            out_pkts: self.out_pkts.saturating_sub(earlier.out_pkts),
            in_bytes: self.in_bytes.saturating_sub(earlier.in_bytes),
            out_bytes: self.out_bytes.saturating_sub(earlier.out_bytes),
        }
    }
}

/// The kernel's estimator: an average that moves a quarter of the way to each new sample. Packets
/// and connections are kept in units of 1/1024 per second, bytes in 1/32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Estimator {
    last: Counters,
    average: Rates,
}

impl Estimator {
    fn sample(&mut self, now: Counters) {
        let delta = now.since(&self.last);
        step(&mut self.average.cps, delta.conns, 9);
        step(&mut self.average.in_pps, delta.in_pkts, 9);
        step(&mut self.average.out_pps, delta.out_pkts, 9);
        step(&mut self.average.in_bps, delta.in_bytes, 4);
        step(&mut self.average.out_bps, delta.out_bytes, 4);
        self.last = now;
    }

    const fn rates(&self) -> Rates {
        let Rates { cps, in_pps, out_pps, in_bps, out_bps } = self.average;
        Rates {
            cps: round(cps, 10),
            in_pps: round(in_pps, 10),
            out_pps: round(out_pps, 10),
            in_bps: round(in_bps, 5),
            out_bps: round(out_bps, 5),
        }
    }
}

/// Moves an average a quarter of the way to the sample; the shift also halves it, because the
/// period is two seconds. Arithmetic wraps as the kernel's 64-bit words do.
const fn step(average: &mut u64, delta: u64, shift: u32) {
    let sample = delta << shift;
    let quarter = (sample.wrapping_sub(*average) as i64) >> 2;
    *average = average.wrapping_add_signed(quarter);
}

const fn round(average: u64, shift: u32) -> u64 {
    average.wrapping_add((1 << (shift - 1)) - 1) >> shift
}

/// What is remembered about one service or real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Account {
    zero: Counters,
    estimator: Estimator,
}

impl Account {
    /// Starts from the counters as they are: shows zero, and no rate.
    fn opened(counters: Counters) -> Self {
        Self { zero: counters, estimator: Estimator { last: counters, ..Estimator::default() } }
    }

    fn shown(&self, counters: &Counters) -> (Counters, Rates) {
        (counters.since(&self.zero), self.estimator.rates())
    }
}

/// What is remembered about one service and its real servers.
#[derive(Clone, Debug, Default)]
struct Ledger {
    service: Account,
    servers: BTreeMap<SocketAddr, Account>,
    /// Real servers that were removed while the service stayed.
    removed: BTreeMap<SocketAddr, Account>,
}

/// Zero offsets and rates of all services and real servers.
///
/// Those that nothing is remembered about show their counters in full and no rate until the next
/// sample.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    ledgers: BTreeMap<VirtualAddress, Ledger>,
}

impl Statistics {
    /// Samples every counter. To be called every [`ESTIMATOR_PERIOD`].
    pub fn estimate(&mut self, services: &[Arc<Service>], running: &dyn Running) {
        for service in services {
            let ledger = self.ledgers.entry(service.address).or_default();
            ledger.service.estimator.sample(running.service(&service.address));
            for real in running.reals(service) {
                let account = ledger.servers.entry(real.address).or_default();
                account.estimator.sample(real.counters);
            }
            ledger.removed.retain(|server, _| running.removed(&service.address, server).is_some());
        }
    }

    /// What to show for a service.
    pub(super) fn service(
        &self,
        service: &VirtualAddress,
        counters: &Counters,
    ) -> (Counters, Rates) {
        let account = self.ledgers.get(service).map(|ledger| ledger.service);
        account.unwrap_or_default().shown(counters)
    }

    /// What to show for a real server.
    pub(super) fn server(
        &self,
        service: &VirtualAddress,
        server: &SocketAddr,
        counters: &Counters,
    ) -> (Counters, Rates) {
        let ledger = self.ledgers.get(service);
        let account = ledger.and_then(|ledger| ledger.servers.get(server)).copied();
        account.unwrap_or_default().shown(counters)
    }

    /// Counts a service and its real servers from zero.
    pub(super) fn zero(&mut self, service: &Service, running: &dyn Running) {
        let ledger = self.ledgers.entry(service.address).or_default();
        ledger.service = Account::opened(running.service(&service.address));
        for real in running.reals(service) {
            ledger.servers.insert(real.address, Account::opened(real.counters));
        }
    }

    /// A real server was added. One that comes back before it was forgotten goes on counting where
    /// it was; that is IPVS's destination trash.
    pub(super) fn server_added(
        &mut self,
        service: &VirtualAddress,
        server: &SocketAddr,
        running: &dyn Running,
    ) {
        let ledger = self.ledgers.entry(*service).or_default();
        let kept = ledger.removed.remove(server);
        let account = match running.removed(service, server) {
            Some(counters) => kept.unwrap_or_else(|| Account::opened(counters)),
            None => Account::default(),
        };
        ledger.servers.insert(*server, account);
    }

    /// A real server was removed from its service.
    pub(super) fn server_removed(&mut self, service: &VirtualAddress, server: &SocketAddr) {
        let ledger = self.ledgers.entry(*service).or_default();
        let account = ledger.servers.remove(server).unwrap_or_default();
        ledger.removed.insert(*server, account);
    }

    /// A service was removed with all its real servers: they start from zero should they come back.
    pub(super) fn service_removed(&mut self, service: &VirtualAddress) {
        self.ledgers.remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conns(conns: u64) -> Counters {
        Counters { conns, ..Counters::default() }
    }

    #[test]
    fn a_hundred_connections_a_second_are_approached_as_in_the_kernel() {
        let mut estimator = Estimator::default();
        let shown: Vec<_> = (1..=4)
            .map(|round| {
                estimator.sample(conns(200 * round));
                estimator.rates().cps
            })
            .collect();
        assert_eq!(shown, [25, 44, 58, 68]);
        for round in 5..60 {
            estimator.sample(conns(200 * round));
        }
        assert_eq!(estimator.rates().cps, 100);
        for _ in 0..60 {
            estimator.sample(conns(200 * 59));
        }
        assert_eq!(estimator.rates().cps, 0);
    }

    #[test]
    fn bytes_are_per_second_too() {
        let mut estimator = Estimator::default();
        for round in 1..80 {
            let counters = Counters { in_bytes: 3000 * round, ..Counters::default() };
            estimator.sample(counters);
        }
        assert_eq!(estimator.rates().in_bps, 1500);
    }

    #[test]
    fn an_account_shows_the_difference_to_its_opening() {
        let account = Account::opened(conns(40));
        assert_eq!(account.shown(&conns(45)).0, conns(5));
        assert_eq!(account.shown(&conns(3)).0, conns(0));
    }
}
