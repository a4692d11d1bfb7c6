//! twos: the less busy of two drawn at random.
//!
//! Draws two servers by weight and takes the second only if it is strictly less busy for its weight.
//! As in IPVS a draw is uniform over 0 to the sum of the weights, both included, which gives the
//! first server one chance more than its weight.

use super::Loads;
use super::changes::Changes;
use super::followed::Followed;
use super::pool::{Candidate, Pool};
use super::ranking::Ranking;
use crate::table::Real;

/// Chooses by two walks along the list.
pub(super) fn twos<L: Loads>(
    pool: &Pool<'_, L>,
    random: &mut impl FnMut() -> u32,
) -> Option<usize> {
    let total: u64 = pool.candidates().map(|c| u64::from(c.weight)).sum();
    let (mut first, mut second) = (Draw::new(total, random()), Draw::new(total, random()));
    for candidate in pool.candidates() {
        first.pass(candidate);
        second.pass(candidate);
        if first.drawn && second.drawn {
            break;
        }
    }
    less_busy(first.last?, second.last?)
}

fn less_busy(first: Candidate, second: Candidate) -> Option<usize> {
    Ranking::Wlc.best_of([first, second].into_iter())
}

/// A number from 0 to `total`, both included.
fn draw(total: u64, random: u32) -> u64 {
    // Fits, since `random` is below 2^32.
    ((u128::from(random) * (u128::from(total) + 1)) >> 32) as u64
}

/// One draw in progress.
struct Draw {
    left: u64,
    drawn: bool,
    /// The server drawn. Until then the last one passed, which stands if loads change meanwhile
    /// and the walk ends early.
    last: Option<Candidate>,
}

impl Draw {
    fn new(total: u64, random: u32) -> Self {
        Self { left: draw(total, random), drawn: false, last: None }
    }

    fn pass(&mut self, candidate: Candidate) {
        if !self.drawn {
            self.left = self.left.saturating_sub(u64::from(candidate.weight));
            self.drawn = self.left == 0;
            self.last = Some(candidate);
        }
    }
}

/// The same draws on a long list without walking it: a complete binary tree of sums of weights.
#[derive(Clone, Debug)]
pub(super) struct DrawTree {
    followed: Followed,
    /// Node 1 is the sum of all, node `n` that of `2n` and `2n + 1`; the second half are the weights
    /// of the servers that take connections, in list order.
    sums: Box<[u64]>,
}

impl DrawTree {
    /// A tree for a long list; nothing for a short one.
    pub fn new(reals: &[Real]) -> Option<Self> {
        let followed = Followed::new(reals)?;
        Some(Self { followed, sums: vec![0; 2 * reals.len().next_power_of_two()].into() })
    }

    /// As [`twos`].
    pub fn twos<L: Loads>(
        &mut self,
        pool: &Pool<'_, L>,
        changes: &Changes,
        random: &mut impl FnMut() -> u32,
    ) -> Option<usize> {
        let Self { followed, sums } = self;
        followed.refresh(pool, changes, |place, candidate| {
            set(sums, place, candidate.map_or(0, |c| u64::from(c.weight)));
        });
        let total = sums[1];
        let (first, second) = (draw(total, random()), draw(total, random()));
        if total == 0 {
            return None;
        }
        let candidate = |drawn: u64| {
            let index = find(sums, drawn.max(1));
            let weight = pool.reals.get(index)?.weight;
            Some(Candidate { index, weight, load: pool.load(index) })
        };
        less_busy(candidate(first)?, candidate(second)?)
    }
}

fn set(sums: &mut [u64], place: usize, weight: u64) {
    let mut node = sums.len() / 2 + place;
    if sums[node] == weight {
        return;
    }
    sums[node] = weight;
    while node > 1 {
        node /= 2;
        sums[node] = sums[2 * node] + sums[2 * node + 1];
    }
}

/// The first place at which the weights up to it sum up to `goal`, which is not above the total.
fn find(sums: &[u64], mut goal: u64) -> usize {
    let places = sums.len() / 2;
    let mut node = 1;
    while node < places {
        node *= 2;
        if sums[node] < goal {
            goal -= sums[node];
            node += 1;
        }
    }
    node - places
}
