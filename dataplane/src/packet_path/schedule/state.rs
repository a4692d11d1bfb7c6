//! What a service's scheduler remembers from one connection to the next.

use super::address_hash::Buckets;
use super::followed::LONG_LIST;
use super::locality::{Locality, ReplicatedLocality};
use super::maglev::Maglev;
use super::pool::Pool;
use super::ranking::Ranking;
use super::round_robin::{RoundRobin, WeightedRoundRobin};
use super::tournament::Tournament;
use super::two_choices::{DrawTree, twos};
use super::{Flow, Loads};
use crate::table::{Real, Scheduler, SchedulerFlags, Service};
use crate::tick::Tick;
use std::sync::Arc;

/// One service's scheduler.
///
/// It outlives table generations. A packet may see a table slightly older or newer than what the
/// scheduler was last told; the answer then is still a server of the packet's own table.
///
/// A clone tells what would be chosen without anything being changed, as long as it is asked with
/// [`Loads`] that have no [`Loads::changes`]: those are for the original.
#[derive(Clone, Debug)]
pub struct SchedulerState {
    scheduler: Scheduler,
    reals: Arc<[Real]>,
    memory: Memory,
    index: Index,
}

/// What stands in for the scan of a long list, where changes of loads are marked.
#[derive(Clone, Debug)]
enum Index {
    None,
    Best(Tournament),
    Twos(DrawTree),
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
    Best(Ranking),
    Twos,
    Dh(Buckets),
    Sh(Buckets),
    Mh(Maglev),
}

/// What a scheduler was last told.
#[derive(Clone, Debug)]
pub struct Known {
    scheduler: Scheduler,
    reals: Arc<[Real]>,
}

/// A change, with the tables that it takes: built before the scheduler is locked, so that packet
/// threads, which lock it for new connections, never wait for that.
#[derive(Debug)]
pub enum Prepared {
    /// The scheduler is a new one.
    Afresh(SchedulerState),
    /// The list of servers is as it was.
    Unchanged,
    /// The list of servers is another one.
    Changed(Tables),
}

/// What is built from a list of servers.
#[derive(Debug)]
pub struct Tables {
    index: Index,
    memoryless: Option<Memoryless>,
}

impl Prepared {
    /// What turns a scheduler that is `known` to be for something into one for `service`.
    pub fn new(known: Option<Known>, service: &Service, now: Tick) -> Self {
        let Some(known) = known.filter(|known| known.scheduler == service.scheduler) else {
            return Self::Afresh(SchedulerState::new(service, now));
        };
        if known.reals == service.reals {
            return Self::Unchanged;
        }
        let fresh = SchedulerState::new(service, now);
        let memoryless = match fresh.memory {
            Memory::Memoryless(memoryless) => Some(memoryless),
            Memory::Rr(_) | Memory::Wrr(_) | Memory::Lblc(_) | Memory::Lblcr(_) => None,
        };
        Self::Changed(Tables { index: fresh.index, memoryless })
    }
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
        Self { scheduler: service.scheduler, reals, memory, index: Index::new(service) }
    }

    /// Whether changes of loads of this service's servers are to be marked in
    /// [`Loads::changes`].
    pub fn follows_loads(service: &Service) -> bool {
        let has_index =
            Ranking::of(service.scheduler).is_some() || service.scheduler == Scheduler::Twos;
        has_index && service.reals.len() >= LONG_LIST
    }

    /// Takes note of a change to the service: its servers, their weights, its flags, its scheduler.
    /// A changed scheduler starts afresh; otherwise every scheduler goes on as IPVS's does, and a
    /// service that did not change loses nothing.
    ///
    /// Builds tables, so it is not for packet threads, nor for what they wait for: see
    /// [`Prepared`].
    pub fn update(&mut self, service: &Service, now: Tick) {
        let known = Known { scheduler: self.scheduler, reals: Arc::clone(&self.reals) };
        let prepared = Prepared::new(Some(known), service, now);
        self.install(prepared, service);
    }

    /// What a scheduler is known to be for, to [prepare](Prepared::new) a change from.
    pub fn known(&self) -> Known {
        Known { scheduler: self.scheduler, reals: Arc::clone(&self.reals) }
    }

    /// The second half of [`SchedulerState::update`], with little to do.
    pub fn install(&mut self, prepared: Prepared, service: &Service) {
        let Tables { index, memoryless } = match prepared {
            Prepared::Afresh(state) => {
                *self = state;
                return;
            }
            Prepared::Unchanged => {
                if let Memory::Memoryless(memoryless) = &mut self.memory {
                    memoryless.reals = Arc::clone(&service.reals);
                    memoryless.flags = service.flags;
                }
                self.reals = Arc::clone(&service.reals);
                return;
            }
            Prepared::Changed(tables) => tables,
        };
        let old = std::mem::replace(&mut self.reals, Arc::clone(&service.reals));
        let (old, new) = (&*old, &*self.reals);
        self.index = index;
        match (&mut self.memory, memoryless) {
            (Memory::Memoryless(memoryless), Some(built)) => *memoryless = built,
            (Memory::Memoryless(memoryless), None) => *memoryless = Memoryless::new(service),
            (Memory::Rr(rr), _) => rr.update(old, new),
            (Memory::Wrr(wrr), _) => wrr.update(new),
            (Memory::Lblc(lblc), _) => lblc.update(old, new),
            (Memory::Lblcr(lblcr), _) => lblcr.update(old, new),
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
        let list = &mut self.index;
        let index = match &mut self.memory {
            Memory::Memoryless(memoryless) => match memoryless.rule {
                Rule::Best(ranking) => list.best(ranking, &pool),
                Rule::Twos => list.twos(&pool, random),
                Rule::None | Rule::Dh(_) | Rule::Sh(_) | Rule::Mh(_) => {
                    memoryless.choose_from(&pool, flow, random)
                }
            },
            Memory::Rr(rr) => rr.choose(&pool),
            Memory::Wrr(wrr) => wrr.choose(&pool),
            Memory::Lblc(lblc) => lblc.choose(&pool, flow, now, || list.best(Ranking::Wlc, &pool)),
            Memory::Lblcr(lblcr) => {
                lblcr.choose(&pool, flow, now, || list.best(Ranking::Wlc, &pool))
            }
        };
        pool.answer(index?)
    }

    /// Forgets destinations that lblc and lblcr have not seen for long, in small steps. To be called
    /// about once a second; does something once a minute, and is to be called again soon when there
    /// is more to do.
    pub fn expire(&mut self, now: Tick) -> bool {
        match &mut self.memory {
            Memory::Lblc(lblc) => lblc.expire(now),
            Memory::Lblcr(lblcr) => lblcr.expire(now),
            Memory::Memoryless(_) | Memory::Rr(_) | Memory::Wrr(_) => false,
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
            Scheduler::Dh => Rule::Dh(Buckets::by_destination(&reals)),
            Scheduler::Sh => Rule::Sh(Buckets::by_source(&reals)),
            Scheduler::Mh => Rule::Mh(Maglev::new(service.key.family(), &reals)),
            Scheduler::Twos => Rule::Twos,
            Scheduler::None
            | Scheduler::Rr
            | Scheduler::Wrr
            | Scheduler::Lc
            | Scheduler::Wlc
            | Scheduler::Lblc
            | Scheduler::Lblcr
            | Scheduler::Sed
            | Scheduler::Nq
            | Scheduler::Fo
            | Scheduler::Ovf => Ranking::of(service.scheduler).map_or(Rule::None, Rule::Best),
        };
        Self { reals, flags: service.flags, rule }
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
            Rule::Best(ranking) => ranking.best(pool),
            Rule::Twos => twos(pool, random),
            Rule::Dh(buckets) => buckets.dh(pool, flow),
            Rule::Sh(buckets) => buckets.sh(pool, flow, self.flags),
            Rule::Mh(table) => table.choose(pool, flow, self.flags),
        }
    }
}

impl Index {
    fn new(service: &Service) -> Self {
        let reals = &service.reals;
        if service.scheduler == Scheduler::Twos {
            return DrawTree::new(reals).map_or(Self::None, Self::Twos);
        }
        Ranking::of(service.scheduler)
            .and_then(|ranking| Tournament::new(ranking, reals))
            .map_or(Self::None, Self::Best)
    }

    fn best<L: Loads>(&mut self, ranking: Ranking, pool: &Pool<'_, L>) -> Option<usize> {
        match (self, pool.changes()) {
            (Self::Best(tournament), Some(changes)) => tournament.best(pool, changes),
            (Self::None | Self::Best(_) | Self::Twos(_), _) => ranking.best(pool),
        }
    }

    fn twos<L: Loads>(
        &mut self,
        pool: &Pool<'_, L>,
        random: &mut impl FnMut() -> u32,
    ) -> Option<usize> {
        match (self, pool.changes()) {
            (Self::Twos(tree), Some(changes)) => tree.twos(pool, changes, random),
            (Self::None | Self::Best(_) | Self::Twos(_), _) => twos(pool, random),
        }
    }
}
