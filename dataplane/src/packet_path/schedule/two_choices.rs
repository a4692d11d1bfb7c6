//! twos: the less busy of two drawn at random.

use super::Loads;
use super::pool::{Candidate, Pool};

/// Draws two servers by weight and takes the second only if it is strictly less busy for its
/// weight. As in IPVS a draw is uniform over 0 to the sum of the weights, both included, which gives
/// the first server one chance more than its weight.
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
    let (first, second) = (first.last?, second.last?);
    let left = u128::from(second.weight) * u128::from(first.load.overhead());
    let right = u128::from(first.weight) * u128::from(second.load.overhead());
    Some(if left > right { second.index } else { first.index })
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
        let left = (u128::from(random) * (u128::from(total) + 1)) >> 32;
        // Below `total + 1`, since `random` is below 2^32.
        Self { left: left as u64, drawn: false, last: None }
    }

    fn pass(&mut self, candidate: Candidate) {
        if !self.drawn {
            self.left = self.left.saturating_sub(u64::from(candidate.weight));
            self.drawn = self.left == 0;
            self.last = Some(candidate);
        }
    }
}
