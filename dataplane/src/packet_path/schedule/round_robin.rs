//! rr and wrr: in turn.

use super::Loads;
use super::pool::Pool;
use super::weights::{WeightIndex, divisor};
use crate::table::{Real, RealId};
use std::collections::HashMap;

/// rr: the next server that takes connections, whatever its weight.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundRobin {
    /// The server chosen last; `None` before the first.
    last: Option<usize>,
}

impl RoundRobin {
    /// Walks from the server after the last one, round to the last one itself.
    pub fn choose<L: Loads>(&mut self, pool: &Pool<'_, L>) -> Option<usize> {
        let next = self.last.map_or(0, |last| last + 1);
        let mut order = (next..pool.reals.len()).chain(0..next);
        self.last = Some(order.find(|&index| pool.candidate(index).is_some())?);
        self.last
    }

    /// Follows the last chosen server to its new place. When it was removed, the turn goes on
    /// after the server before it.
    pub fn update(&mut self, old: &[Real], new: &[Real]) {
        let places = places_kept(old, new);
        self.last =
            self.last.and_then(|last| places.iter().take(last + 1).rev().find_map(|place| *place));
    }
}

/// Where each old server stands now; `None` for those removed. A server that overtook a remaining
/// one was removed and added again, since new servers go to the front and nothing else moves.
fn places_kept(old: &[Real], new: &[Real]) -> Vec<Option<usize>> {
    let before: HashMap<RealId, usize> = old.iter().enumerate().map(|(i, r)| (r.id, i)).collect();
    let mut places = vec![None; old.len()];
    let mut bound = old.len();
    for (place, real) in new.iter().enumerate().rev() {
        match before.get(&real.id) {
            Some(&index) if index < bound => {
                places[index] = Some(place);
                bound = index;
            }
            Some(_) | None => {}
        }
    }
    places
}

/// wrr: `weight` turns per round, interleaved by falling levels. A walk along the list takes every
/// server whose weight reaches the level; at its end the level falls by the greatest common divisor
/// of the weights, and starts again from the top after the lowest.
#[derive(Clone, Debug)]
pub(super) struct WeightedRoundRobin {
    /// The server chosen last; `None` before the first of the list.
    current: Option<usize>,
    /// Weight that a server needs to be chosen now.
    level: i64,
    /// Greatest common divisor of the weights.
    step: i64,
    /// Where levels start; 0 when no server has a weight.
    highest: i64,
    weights: WeightIndex,
}

/// How a walk along the list ended.
enum Walk {
    Found(usize),
    CameBack,
    EndOfList,
}

impl WeightedRoundRobin {
    pub fn new(reals: &[Real]) -> Self {
        let mut fresh =
            Self { current: None, level: 0, step: 1, highest: 0, weights: WeightIndex::new(reals) };
        fresh.measure(reals);
        fresh.level = fresh.highest;
        fresh
    }

    fn measure(&mut self, reals: &[Real]) {
        self.step = i64::from(divisor(reals.iter().map(|real| real.weight)));
        self.highest = i64::from(self.weights.max()) - (self.step - 1);
    }

    /// Any change to the list starts the walk over, at a level that fits the new weights.
    pub fn update(&mut self, reals: &[Real]) {
        self.weights = WeightIndex::new(reals);
        self.measure(reals);
        self.current = None;
        if self.level > self.highest || self.level == 0 {
            self.level = self.highest;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }

    /// Ends at the latest when every server was seen at the lowest level.
    pub fn choose<L: Loads>(&mut self, pool: &Pool<'_, L>) -> Option<usize> {
        if self.highest == 0 {
            return None;
        }
        let start = self.current;
        let mut from = start.map_or(0, |index| index + 1);
        let (mut stop, mut lowest, mut restarted) = (None, false, false);
        loop {
            match self.walk(pool, from, stop) {
                Walk::Found(index) => {
                    self.current = Some(index);
                    return self.current;
                }
                Walk::CameBack => {
                    self.current = stop;
                    return None;
                }
                Walk::EndOfList => {}
            }
            if from == 0 {
                self.skip_hopeless_levels(pool);
            }
            self.level -= self.step;
            if self.level <= 0 {
                self.level = self.highest;
                if lowest || start.is_none() {
                    self.current = None;
                    return None;
                }
                restarted = true;
            }
            lowest = self.level <= self.step;
            if lowest && restarted {
                stop = start;
            }
            from = 0;
        }
    }

    /// The first server from `from` on that reaches the level and takes connections, up to and
    /// including `stop`.
    fn walk<L: Loads>(&self, pool: &Pool<'_, L>, mut from: usize, stop: Option<usize>) -> Walk {
        loop {
            let reached = self.weights.next_at_least(from, self.level);
            if let Some(stop) = stop
                && reached.is_none_or(|index| index > stop)
            {
                return Walk::CameBack;
            }
            match reached {
                None => return Walk::EndOfList,
                Some(index) if pool.candidate(index).is_some() => return Walk::Found(index),
                Some(index) if stop == Some(index) => return Walk::CameBack,
                Some(index) => from = index + 1,
            }
        }
    }

    /// After a whole walk found nothing, those above the best weight on offer will not either. Their
    /// outcome is left out, not changed: else one packet could cost 65,535 walks.
    fn skip_hopeless_levels<L: Loads>(&mut self, pool: &Pool<'_, L>) {
        let best = pool.candidates().map(|candidate| candidate.weight).max().unwrap_or(0);
        let reach = i64::from(best).max(self.step);
        let excess = self.level - self.step - reach;
        if excess > 0 {
            self.level -= (excess + self.step - 1) / self.step * self.step;
        }
    }
}
