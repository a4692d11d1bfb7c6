//! lblc and lblcr: one destination, one server (or a few), for clusters of caches.

use super::locality_cache::Cache;
use super::pool::Pool;
use super::ranking::Ranking;
use super::{Flow, Loads};
use crate::table::{Real, RealId};
use crate::tick::{Tick, Ticks};
use std::collections::HashMap;

/// How long a destination's set must have been stable before its busiest server is taken out:
/// `lblcr_expiration`.
const STABLE: Ticks = Ticks::from_secs(86_400);

/// lblc: each destination address keeps its server until that one is crowded.
#[derive(Clone, Debug)]
pub(super) struct Locality {
    servers: Cache<usize>,
}

impl Locality {
    pub fn new(now: Tick) -> Self {
        Self { servers: Cache::new(now) }
    }

    /// The destination's server, which may be over its threshold, else the one that wlc gives it
    /// now.
    pub fn choose<L: Loads>(
        &mut self,
        pool: &Pool<'_, L>,
        flow: &Flow,
        now: Tick,
        wlc: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let kept = self.servers.touch(flow.destination, now).copied();
        if let Some(index) = kept
            && pool.reals[index].weight != 0
            && pool.is_known(index)
            && !is_crowded(pool, index)
        {
            return kept;
        }
        let index = wlc()?;
        self.servers.put(flow.destination, index, now);
        Some(index)
    }

    pub fn update(&mut self, old: &[Real], new: &[Real]) {
        let Some(places) = places_by_id(old, new) else { return };
        self.servers.retain(|index| {
            let place = places.get(*index).copied().flatten();
            *index = place.unwrap_or(*index);
            place.is_some()
        });
    }

    pub fn expire(&mut self, now: Tick) -> bool {
        self.servers.expire(now)
    }
}

/// lblcr: each destination address has a set of servers, which grows when its least busy one is
/// crowded and shrinks after a day without change.
#[derive(Clone, Debug)]
pub(super) struct ReplicatedLocality {
    sets: Cache<ServerSet>,
}

#[derive(Clone, Debug)]
struct ServerSet {
    /// Indexes, newest first.
    servers: Vec<usize>,
    /// `None`: longer ago than [`STABLE`].
    modified: Option<Tick>,
}

impl ReplicatedLocality {
    pub fn new(now: Tick) -> Self {
        Self { sets: Cache::new(now) }
    }

    /// The least busy server of the destination's set, else the one that wlc adds to it now.
    pub fn choose<L: Loads>(
        &mut self,
        pool: &Pool<'_, L>,
        flow: &Flow,
        now: Tick,
        wlc: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let Some(set) = self.sets.touch(flow.destination, now) else {
            let index = wlc()?;
            let set = ServerSet { servers: vec![index], modified: Some(now) };
            self.sets.put(flow.destination, set, now);
            return Some(index);
        };
        let members = set.servers.iter().filter_map(|&index| pool.candidate(index));
        let chosen = Ranking::Wlc.best_of(members);
        if set.is_stable(now) && set.servers.len() > 1 {
            set.remove_busiest(pool, now);
        }
        if chosen.is_some_and(|index| !is_crowded(pool, index)) {
            return chosen;
        }
        let index = wlc()?;
        set.insert(index, now);
        Some(index)
    }

    pub fn update(&mut self, old: &[Real], new: &[Real]) {
        let Some(places) = places_by_id(old, new) else { return };
        self.sets.retain(|set| {
            set.servers.retain_mut(|index| {
                let place = places.get(*index).copied().flatten();
                *index = place.unwrap_or(*index);
                place.is_some()
            });
            !set.servers.is_empty()
        });
    }

    pub fn expire(&mut self, now: Tick) -> bool {
        self.sets.expire(now)
    }
}

impl ServerSet {
    /// Whether it has not changed for long. Once that is so, the moment of the change is forgotten,
    /// which after 97 days would look like the future. A set that nobody asks about for a day is
    /// forgotten as a whole.
    fn is_stable(&mut self, now: Tick) -> bool {
        self.modified = self.modified.filter(|modified| now.since(*modified) <= STABLE);
        self.modified.is_none()
    }

    fn insert(&mut self, index: usize, now: Tick) {
        if !self.servers.contains(&index) {
            self.servers.insert(0, index);
            self.modified = Some(now);
        }
    }

    /// Takes out the first with the most connections for its weight; none when all are drained.
    fn remove_busiest<L: Loads>(&mut self, pool: &Pool<'_, L>, now: Tick) {
        let cost = |index: usize| {
            (u128::from(pool.load(index).overhead()), u128::from(pool.reals[index].weight))
        };
        let busiest = self
            .servers
            .iter()
            .enumerate()
            .map(|(position, &index)| (position, cost(index)))
            .filter(|(_, (_, weight))| *weight != 0)
            .reduce(|most, next| {
                let ((load, weight), (next_load, next_weight)) = (most.1, next.1);
                if load * next_weight < next_load * weight { next } else { most }
            });
        if let Some((position, _)) = busiest {
            self.servers.remove(position);
            self.modified = Some(now);
        }
    }
}

/// Whether the server has more active connections than its weight while another has fewer than
/// half of its own weight.
fn is_crowded<L: Loads>(pool: &Pool<'_, L>, index: usize) -> bool {
    let has_room =
        |index: usize| u64::from(pool.load(index).active) * 2 < u64::from(pool.reals[index].weight);
    pool.load(index).active > pool.reals[index].weight && (0..pool.reals.len()).any(has_room)
}

/// Where each old server stands now, whatever became of the order; `None` when only weights and the
/// like have changed. A removed server's destinations are forgotten; IPVS would remember them in case
/// it comes back.
fn places_by_id(old: &[Real], new: &[Real]) -> Option<Vec<Option<usize>>> {
    if old.iter().map(|real| real.id).eq(new.iter().map(|real| real.id)) {
        return None;
    }
    let places: HashMap<RealId, usize> = new.iter().enumerate().map(|(i, r)| (r.id, i)).collect();
    Some(old.iter().map(|real| places.get(&real.id).copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::tests::moment;

    #[test]
    fn a_set_that_was_stable_stays_so_however_long_nothing_changes() {
        let day = Ticks::from_secs(86_400);
        let mut now = moment(0);
        let mut set = ServerSet { servers: vec![1, 2], modified: Some(now) };
        assert!(!set.is_stable(now.after(day)), "not before a day is over");
        for _ in 0..200 {
            now = now.after(Ticks(day.0 + 1));
            assert!(set.is_stable(now));
        }
        set.insert(3, now);
        assert!(!set.is_stable(now));
    }
}
