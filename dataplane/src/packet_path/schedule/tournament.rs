//! The best of many servers without a scan: a tournament that replays only the matches of servers
//! whose load has changed.

use super::Loads;
use super::changes::{Changes, Watch};
use super::pool::Pool;
use super::ranking::{Ranking, Ratio};
use crate::table::Real;

/// Shorter lists are scanned: that costs less than following changes.
pub(super) const LONG_LIST: usize = 32;

/// A complete binary tree over the list. The left of two equals wins, so the winner of all is the
/// first in list order with the smallest ratio: the one that a scan finds.
#[derive(Clone, Debug)]
pub(super) struct Tournament {
    ranking: Ranking,
    watch: Watch,
    /// Per place in the list, filled up with servers that never win.
    ratios: Box<[Ratio]>,
    /// The winning place per node; node 1 is the final, node `n` is fed by `2n` and `2n + 1`, and
    /// the second half are the places themselves.
    winners: Box<[u32]>,
    /// Whether every ratio was read since the list changed.
    is_filled: bool,
}

impl Tournament {
    /// A tournament for a long list; nothing for a short one.
    pub fn new(ranking: Ranking, reals: &[Real]) -> Option<Self> {
        if reals.len() < LONG_LIST {
            return None;
        }
        let places = reals.len().next_power_of_two();
        let node_place = |node: usize| node.saturating_sub(places) as u32;
        Some(Self {
            ranking,
            watch: Watch::new(reals),
            ratios: vec![Ratio::INFINITE; places].into(),
            winners: (0..2 * places).map(node_place).collect(),
            is_filled: false,
        })
    }

    /// As [`Ranking::best`].
    pub fn best<L: Loads>(&mut self, pool: &Pool<'_, L>, changes: &Changes) -> Option<usize> {
        let Self { ranking, watch, ratios, winners, is_filled } = self;
        let ratio = |place| pool.candidate(place).map_or(Ratio::INFINITE, |c| ranking.rank(c));
        if *is_filled {
            watch.take(changes, |place| {
                ratios[place] = ratio(place);
                replay(ratios, winners, place);
            });
        } else {
            // Marks go first: a load that changes while it is read is read again.
            watch.take(changes, |_| {});
            for (place, known) in ratios.iter_mut().enumerate() {
                *known = ratio(place);
            }
            for node in (1..ratios.len()).rev() {
                winners[node] = winner(ratios, winners, node);
            }
            *is_filled = true;
        }
        let best = winners[1] as usize;
        ratios[best].is_finite().then_some(best)
    }
}

fn winner(ratios: &[Ratio], winners: &[u32], node: usize) -> u32 {
    let (left, right) = (winners[2 * node], winners[2 * node + 1]);
    if ratios[right as usize].is_less(ratios[left as usize]) { right } else { left }
}

/// Plays the matches of one place again, up to the first that somebody else won before and wins
/// again.
fn replay(ratios: &[Ratio], winners: &mut [u32], place: usize) {
    let mut node = (ratios.len() + place) / 2;
    while node > 0 {
        let (before, now) = (winners[node], winner(ratios, winners, node));
        winners[node] = now;
        if now == before && now as usize != place {
            return;
        }
        node /= 2;
    }
}
