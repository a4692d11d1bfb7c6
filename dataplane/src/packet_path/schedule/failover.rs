//! fo and ovf: the heaviest first, the others when it cannot.

use super::Loads;
use super::pool::{Candidate, Pool};

/// fo: the greatest weight of those that take connections.
pub(super) fn fo<L: Loads>(pool: &Pool<'_, L>) -> Option<usize> {
    heaviest(pool.candidates())
}

/// ovf: the greatest weight of those whose active connections do not exceed their weight.
pub(super) fn ovf<L: Loads>(pool: &Pool<'_, L>) -> Option<usize> {
    heaviest(pool.candidates().filter(|c| c.load.active <= c.weight))
}

/// The first of the greatest weight.
fn heaviest(candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    candidates
        .reduce(|best, next| if next.weight > best.weight { next } else { best })
        .map(|candidate| candidate.index)
}
