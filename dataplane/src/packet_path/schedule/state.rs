//! What a service's scheduler remembers from one connection to the next.

use super::address_hash::Buckets;
use super::locality::{Locality, ReplicatedLocality};
use super::maglev::Maglev;
use super::pool::Pool;
use super::round_robin::{RoundRobin, WeightedRoundRobin};
use super::{Flow, Loads, failover, least_connection, two_choices};
use crate::table::{Real, Scheduler, SchedulerFlags, Service};
use crate::tick::Tick;
use std::sync::Arc;

/// One service's scheduler.
///
/// It outlives table generations. A packet may see a table slightly older or newer than what the
/// scheduler was last told; the answer then is still a server of the packet's own table.
#[derive(Clone, Debug)]
pub struct SchedulerState {
    scheduler: Scheduler,
    reals: Arc<[Real]>,
    memory: Memory,
}

#[derive(Clone, Debug)]
enum Memory {
    Memoryless(Memoryless),
    Rr(RoundRobin),
    Wrr(WeightedRoundRobin),
    Lblc(Locality),
    Lblcr(ReplicatedLocality),
}

/// A scheduler whose choice depends on nothing but the flow, the loads and the list. Immutable and
/// cheap to clone, so workers may share it without a lock.
#[derive(Clone, Debug)]
pub struct Memoryless {
    reals: Arc<[Real]>,
    flags: SchedulerFlags,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    None,
    Lc,
    Wlc,
    Sed,
    Nq,
    Fo,
    Ovf,
    Twos,
    Dh(Buckets),
    Sh(Buckets),
    Mh(Maglev),
}

impl SchedulerState {
    /// A fresh scheduler for this service.
    pub fn new(service: &Service, now: Tick) -> Self {
        let reals = Arc::clone(&service.reals);
        let memory = match service.scheduler {
            Scheduler::Rr => Memory::Rr(RoundRobin::default()),
            Scheduler::Wrr => Memory::Wrr(WeightedRoundRobin::new(&reals)),
            Scheduler::Lblc => Memory::Lblc(Locality::new(now)),
            Scheduler::Lblcr => Memory::Lblcr(ReplicatedLocality::new(now)),
            Scheduler::None
            | Scheduler::Lc
            | Scheduler::Wlc
            | Scheduler::Dh
            | Scheduler::Sh
            | Scheduler::Sed
            | Scheduler::Nq
            | Scheduler::Fo
            | Scheduler::Ovf
            | Scheduler::Mh
            | Scheduler::Twos => Memory::Memoryless(Memoryless::new(service)),
        };
        Self { scheduler: service.scheduler, reals, memory }
    }

    /// Takes note of a change to the service: its servers, their weights, its flags, its scheduler.
    /// Builds tables, so it is not for packet threads. A changed scheduler starts afresh; otherwise
    /// every scheduler goes on as IPVS's does, and a service that did not change loses nothing.
    pub fn update(&mut self, service: &Service, now: Tick) {
        if service.scheduler != self.scheduler {
            *self = Self::new(service, now);
            return;
        }
        let old = std::mem::replace(&mut self.reals, Arc::clone(&service.reals));
        let (old, new) = (&*old, &*self.reals);
        let changed = old != new;
        match &mut self.memory {
            Memory::Memoryless(memoryless) => memoryless.update(service, changed),
            Memory::Rr(rr) if changed => rr.update(old, new),
            Memory::Wrr(wrr) if changed => wrr.update(new),
            Memory::Lblc(lblc) if changed => lblc.update(old, new),
            Memory::Lblcr(lblcr) if changed => lblcr.update(old, new),
            Memory::Rr(_) | Memory::Wrr(_) | Memory::Lblc(_) | Memory::Lblcr(_) => {}
        }
    }

    /// The index in `service.reals` of the server for a new connection; `None` when no server takes
    /// it. `random` gives uniform 32-bit numbers. Allocates only for lblc and lblcr.
    pub fn choose<L: Loads>(
        &mut self,
        service: &Service,
        loads: &L,
        flow: &Flow,
        now: Tick,
        random: &mut impl FnMut() -> u32,
    ) -> Option<usize> {
        let pool = Pool::new(&self.reals, service, loads);
        let index = match &mut self.memory {
            Memory::Memoryless(memoryless) => memoryless.choose_from(&pool, flow, random),
            Memory::Rr(rr) => rr.choose(&pool),
            Memory::Wrr(wrr) => wrr.choose(&pool),
            Memory::Lblc(lblc) => lblc.choose(&pool, flow, now),
            Memory::Lblcr(lblcr) => lblcr.choose(&pool, flow, now),
        };
        pool.answer(index?)
    }

    /// Forgets destinations that lblc and lblcr have not seen for long. To be called about once a
    /// second; does something once a minute.
    pub fn expire(&mut self, now: Tick) {
        match &mut self.memory {
            Memory::Lblc(lblc) => lblc.expire(now),
            Memory::Lblcr(lblcr) => lblcr.expire(now),
            Memory::Memoryless(_) | Memory::Rr(_) | Memory::Wrr(_) => {}
        }
    }

    /// The scheduler as a value to share without a lock, good until the next
    /// [`SchedulerState::update`]; `None` for rr, wrr, lblc and lblcr, which remember.
    pub fn memoryless(&self) -> Option<&Memoryless> {
        match &self.memory {
            Memory::Memoryless(memoryless) => Some(memoryless),
            Memory::Rr(_) | Memory::Wrr(_) | Memory::Lblc(_) | Memory::Lblcr(_) => None,
        }
    }
}

impl Memoryless {
    fn new(service: &Service) -> Self {
        let reals = Arc::clone(&service.reals);
        let rule = match service.scheduler {
            Scheduler::Lc => Rule::Lc,
            Scheduler::Wlc => Rule::Wlc,
            Scheduler::Sed => Rule::Sed,
            Scheduler::Nq => Rule::Nq,
            Scheduler::Fo => Rule::Fo,
            Scheduler::Ovf => Rule::Ovf,
            Scheduler::Twos => Rule::Twos,
            Scheduler::Dh => Rule::Dh(Buckets::by_destination(&reals)),
            Scheduler::Sh => Rule::Sh(Buckets::by_source(&reals)),
            Scheduler::Mh => Rule::Mh(Maglev::new(service.key.family(), &reals)),
            Scheduler::None
            | Scheduler::Rr
            | Scheduler::Wrr
            | Scheduler::Lblc
            | Scheduler::Lblcr => Rule::None,
        };
        Self { reals, flags: service.flags, rule }
    }

    fn update(&mut self, service: &Service, list_changed: bool) {
        if list_changed {
            *self = Self::new(service);
        } else {
            self.reals = Arc::clone(&service.reals);
            self.flags = service.flags;
        }
    }

    /// As [`SchedulerState::choose`].
    pub fn choose<L: Loads>(
        &self,
        service: &Service,
        loads: &L,
        flow: &Flow,
        random: &mut impl FnMut() -> u32,
    ) -> Option<usize> {
        let pool = Pool::new(&self.reals, service, loads);
        pool.answer(self.choose_from(&pool, flow, random)?)
    }

    fn choose_from<L: Loads>(
        &self,
        pool: &Pool<'_, L>,
        flow: &Flow,
        random: &mut impl FnMut() -> u32,
    ) -> Option<usize> {
        match &self.rule {
            Rule::None => None,
            Rule::Lc => least_connection::lc(pool),
            Rule::Wlc => least_connection::wlc(pool),
            Rule::Sed => least_connection::sed(pool),
            Rule::Nq => least_connection::nq(pool),
            Rule::Fo => failover::fo(pool),
            Rule::Ovf => failover::ovf(pool),
            Rule::Twos => two_choices::twos(pool, random),
            Rule::Dh(buckets) => buckets.dh(pool, flow),
            Rule::Sh(buckets) => buckets.sh(pool, flow, self.flags),
            Rule::Mh(table) => table.choose(pool, flow, self.flags),
        }
    }
}
