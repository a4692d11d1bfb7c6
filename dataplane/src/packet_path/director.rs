//! What all workers and control share: the published tables, the connections, the loads.

use super::client_address::Announcement;
use super::connections::{Connections, HashKeys, Slot};
use super::counters::{Counters, Handshakes, Traffic};
use super::fragments::Trails;
use super::ftp::Session;
use super::reals::Reals;
use super::schedule::{Prepared, SchedulerState};
use super::verdict::DropReason;
use crate::table::{
    Address, Hops, Mac, PortId, RealId, Scheduler, Service, ServiceId, ServiceTable,
};
use crate::tick::Tick;
use arc_swap::ArcSwap;
use std::any::Any;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How large the shared tables are. Everything is allocated at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Connections and persistence templates.
    pub connections: usize,
    /// Virtual services.
    pub services: usize,
    /// Real servers, over all services.
    pub reals: usize,
    /// Packet workers.
    pub workers: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { connections: 1 << 20, services: 4096, reals: 1 << 16, workers: 1 }
    }
}

/// What the packet path asks of, or tells, control. Sent without waiting; what does not fit in the
/// channel is dropped, and said again when the next packet needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A packet needs this neighbour's MAC.
    NeighbourNeeded {
        /// Where it lives.
        port: PortId,
        /// Who is asked for.
        address: IpAddr,
    },
    /// A neighbour that was asked for has answered.
    NeighbourSeen {
        /// Where it lives.
        port: PortId,
        /// Who answered.
        address: IpAddr,
        /// With which MAC.
        mac: Mac,
    },
    /// Somebody else on the network answers for an address that this director owns.
    AddressClaimed {
        /// Where it was heard.
        port: PortId,
        /// The owned address.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
    },
    /// So many addresses that full NAT could send from have no place in the book; 0: all have again.
    SourcesMissing {
        /// How many.
        many: usize,
    },
    /// A worker ended by a panic: its share of the packets is not forwarded any more.
    WorkerFailed {
        /// Which.
        number: usize,
    },
    /// A port failed and was taken out of service by a worker.
    PortLost {
        /// Which.
        port: PortId,
        /// Of which attachment: the port may have been attached anew meanwhile.
        edition: u64,
    },
}

/// Something that was published.
type Retired = Arc<dyn Any + Send + Sync>;

/// The shared state of one director.
#[derive(Debug)]
pub struct Director {
    table: ArcSwap<ServiceTable>,
    hops: ArcSwap<Hops>,
    /// Tables and hops that some worker may still be reading.
    retired: Mutex<Vec<Retired>>,
    connections: Connections,
    reals: Reals,
    schedulers: Box<[Mutex<Option<SchedulerState>>]>,
    counters: Box<[Arc<Counters>]>,
    notices: SyncSender<Notice>,
    trails: Mutex<Trails>,
    ftp: Mutex<BTreeMap<Slot, Session>>,
    announcements: Mutex<BTreeMap<Slot, Announcement>>,
    /// Whether control knows that some full-NAT source has no place.
    sources_missing: AtomicBool,
}

impl Director {
    /// Allocates everything. `keys` are random numbers of this start.
    pub fn new(capacity: Capacity, keys: HashKeys, notices: SyncSender<Notice>) -> Self {
        let workers = capacity.workers.max(1);
        Self {
            table: ArcSwap::default(),
            hops: ArcSwap::default(),
            retired: Mutex::default(),
            // One more than there are workers: for the adopter.
            connections: Connections::new(capacity.connections, workers + 1, keys),
            reals: Reals::new(capacity.reals),
            schedulers: (0..capacity.services).map(|_| Mutex::new(None)).collect(),
            counters: (0..workers).map(|_| Arc::new(Counters::new(capacity.reals))).collect(),
            notices,
            trails: Mutex::new(Trails::default()),
            ftp: Mutex::default(),
            announcements: Mutex::default(),
            sources_missing: AtomicBool::new(false),
        }
    }

    /// Publishes what packets look up from now on. Connections keep the real server that they have.
    pub fn publish(&self, table: impl Into<Arc<ServiceTable>>, now: Tick) {
        let table = table.into();
        for service in table.services() {
            let followed = SchedulerState::follows_loads(service);
            for real in service.reals.iter() {
                self.reals.configure(real, followed);
            }
            if let Some(place) = self.schedulers.get(service.id.0 as usize) {
                prepare_scheduler(place, service, now);
            }
        }
        let pools = table.services().flat_map(|service| service.source_pool.iter());
        let pools = pools.copied().map(Address::from);
        self.reals.sources().offer_pools(pools, &self.connections);
        self.resolve_reals(Hops::clone(&self.hops.load()), &table);
        let old = self.table.swap(table);
        let new = self.table.load();
        for gone in old.services().filter(|service| new.service(service.id).is_none()) {
            if let Some(place) = self.schedulers.get(gone.id.0 as usize) {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
        self.retire(Some(old));
    }

    /// Publishes the host's interfaces, routes and neighbours.
    pub fn publish_hops(&self, hops: Hops) {
        let of_ports = hops.ports().flat_map(|(_, port)| &port.addresses);
        let to_host = hops.host_link().into_iter().flat_map(|link| &link.sources);
        let all = of_ports.map(|prefix| &prefix.address).chain(to_host);
        let all = all.copied().map(Address::from);
        self.reals.sources().offer_interfaces(all, &self.connections);
        self.resolve_reals(hops, &self.table.load());
    }

    fn resolve_reals(&self, hops: Hops, table: &ServiceTable) {
        let reals = table.reals().map(|(_, real)| real);
        let old = self.hops.swap(Arc::new(hops.with_reals(reals)));
        self.retire(Some(old));
    }

    /// Keeps what is no longer published until no worker reads it any more, so that it is freed here
    /// and never on a packet thread.
    fn retire(&self, old: Option<Retired>) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.extend(old);
        // Nobody can take a new reference to what is not published.
        retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// The published services.
    pub fn table(&self) -> arc_swap::Guard<Arc<ServiceTable>> {
        self.table.load()
    }

    /// The published next hops.
    pub fn hops(&self) -> arc_swap::Guard<Arc<Hops>> {
        self.hops.load()
    }

    /// The connection table.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The loads of real servers.
    pub fn reals(&self) -> &Reals {
        &self.reals
    }

    /// Forgets path limits and fragments' first parts whose time is up, and gives up source addresses
    /// that nobody needs any more; control is told when some have no place, and when all have. To be called every second or
    /// two, off the packet threads.
    pub fn expire(&self, now: Tick) {
        self.reals.expire_limits(now);
        self.trails().expire(now);
        let fill = self.reals.sources().arrange(&self.connections);
        let missing = fill.missing > 0;
        if fill.resting == 0
            && missing != self.sources_missing.load(Relaxed)
            && self.notify(Notice::SourcesMissing { many: fill.missing })
        {
            self.sources_missing.store(missing, Relaxed);
        }
    }

    /// Lets lblc and lblcr forget destinations not seen for long, and frees tables that were
    /// replaced. To be called every second or two, off the packet threads, which wait for one small
    /// step at most; and again a moment later when it returns that there is more to do.
    pub fn expire_schedulers(&self, now: Tick) -> bool {
        self.retire(None);
        let table = self.table.load();
        let remembers = |service: &&Arc<Service>| {
            matches!(service.scheduler, Scheduler::Lblc | Scheduler::Lblcr)
        };
        let mut more = false;
        for service in table.services().filter(remembers) {
            let Some(place) = self.scheduler(service.id) else { continue };
            let mut state = place.lock().unwrap_or_else(PoisonError::into_inner);
            more |= state.as_mut().is_some_and(|state| state.expire(now));
        }
        more
    }

    /// A service's scheduler.
    pub(super) fn scheduler(&self, id: ServiceId) -> Option<&Mutex<Option<SchedulerState>>> {
        self.schedulers.get(id.0 as usize)
    }

    /// The counters of worker number `worker`; a number out of range gets counters that nobody reads.
    pub(super) fn worker_counters(&self, worker: usize) -> Arc<Counters> {
        let own = self.counters.get(worker).map(Arc::clone);
        own.unwrap_or_else(|| Arc::new(Counters::new(0)))
    }

    /// All workers' counters.
    pub fn all_counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Fragmented datagrams under way.
    pub(super) fn trails(&self) -> MutexGuard<'_, Trails> {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PROXY headers under way.
    pub(super) fn announcements(&self) -> MutexGuard<'_, BTreeMap<Slot, Announcement>> {
        self.announcements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// FTP control connections that need their text read.
    pub(super) fn ftp(&self) -> MutexGuard<'_, BTreeMap<Slot, Session>> {
        self.ftp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells control something, unless it is too busy to hear.
    pub(super) fn notify(&self, notice: Notice) -> bool {
        self.notices.try_send(notice).is_ok()
    }

    /// Tells control something that it has to hear, and waits for that.
    pub(crate) fn report(&self, notice: Notice) {
        // Without a receiver, control has ended before.
        let _ = self.notices.send(notice);
    }

    /// What a real server has seen, over all workers.
    pub fn traffic(&self, id: RealId) -> Traffic {
        self.counters.iter().fold(Traffic::default(), |mut sum, worker| {
            sum.add(worker.traffic(id));
            sum
        })
    }

    /// How a real server took its connections, over all workers.
    pub fn handshakes(&self, id: RealId) -> Handshakes {
        self.counters.iter().fold(Handshakes::default(), |sum, worker| {
            let seen = worker.handshakes(id);
            Handshakes {
                completed: sum.completed.wrapping_add(seen.completed),
                refused: sum.refused.wrapping_add(seen.refused),
            }
        })
    }

    /// How many packets died of a reason, over all workers.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.counters.iter().map(|worker| worker.drops(reason)).sum()
    }
}

/// Tells a scheduler about its service. Packet threads wait for the lock, so it is held for short.
fn prepare_scheduler(place: &Mutex<Option<SchedulerState>>, service: &Service, now: Tick) {
    let lock = || place.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock().as_ref().map(SchedulerState::known);
    let prepared = Prepared::new(known, service, now);
    let mut state = lock();
    match (state.as_mut(), prepared) {
        (Some(state), prepared) => state.install(prepared, service),
        (None, Prepared::Afresh(new)) => *state = Some(new),
        (None, Prepared::Unchanged | Prepared::Changed(_)) => {
            *state = Some(SchedulerState::new(service, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::tests::moment;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_replaced_table_is_not_freed_by_its_last_reader() {
        let capacity = Capacity { connections: 1024, services: 4, reals: 4, workers: 1 };
        let (sender, _) = sync_channel(1);
        let director = Director::new(capacity, HashKeys([1, 2, 3, 4]), sender);
        director.publish(ServiceTable::default(), moment(1));
        let (reading, hops) = (Arc::clone(&director.table()), Arc::clone(&director.hops()));
        let (table, old_hops) = (Arc::downgrade(&reading), Arc::downgrade(&hops));
        director.publish(ServiceTable::default(), moment(2));
        director.expire_schedulers(moment(3));
        drop((reading, hops));
        assert!(table.upgrade().is_some() && old_hops.upgrade().is_some(), "kept for control");
        director.expire_schedulers(moment(4));
        assert!(table.upgrade().is_none() && old_hops.upgrade().is_none(), "freed by control");
    }
}
