//! The best of many servers without a scan: a tournament that replays only the matches of servers
//! whose load has changed.

use super::Loads;
use super::changes::Changes;
use super::followed::Followed;
use super::pool::Pool;
use super::ranking::{Ranking, Ratio};
use crate::table::Real;

/// A complete binary tree over the list. The left of two equals wins, so the winner of all is the
/// first in list order with the smallest ratio: the one that a scan finds.
#[derive(Clone, Debug)]
pub(super) struct Tournament {
    ranking: Ranking,
    followed: Followed,
    /// Per place in the list, filled up with servers that never win.
    ratios: Box<[Ratio]>,
    /// The winning place per node; node 1 is the final, node `n` is fed by `2n` and `2n + 1`, and
    /// the second half are the places themselves.
    winners: Box<[u32]>,
}

impl Tournament {
    /// A tournament for a long list; nothing for a short one.
    pub fn new(ranking: Ranking, reals: &[Real]) -> Option<Self> {
        let followed = Followed::new(reals)?;
        let places = reals.len().next_power_of_two();
        // Among servers that never win, the left one does.
        let leftmost = |node: usize| (node << (places.ilog2() - node.ilog2())) - places;
        let winners = (0..2 * places).map(|node| match node {
            0 => 0,
            _ => leftmost(node) as u32,
        });
        Some(Self {
            ranking,
            followed,
            ratios: vec![Ratio::INFINITE; places].into(),
            winners: winners.collect(),
        })
    }

    /// As [`Ranking::best`].
    pub fn best<L: Loads>(&mut self, pool: &Pool<'_, L>, changes: &Changes) -> Option<usize> {
        let Self { ranking, followed, ratios, winners } = self;
        followed.refresh(pool, changes, |place, candidate| {
            ratios[place] = candidate.map_or(Ratio::INFINITE, |c| ranking.rank(c));
            replay(ratios, winners, place);
        });
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
