//! lc, wlc, sed, nq: the least busy.

use super::Loads;
use super::pool::{Candidate, Load, Pool};

/// lc: the fewest connections, weights apart.
pub(super) fn lc<L: Loads>(pool: &Pool<'_, L>) -> Option<usize> {
    // `min_by_key` keeps the first of equals, as IPVS does.
    pool.candidates().min_by_key(|c| c.load.overhead()).map(|c| c.index)
}

/// wlc: the fewest connections for its weight.
pub(super) fn wlc<L: Loads>(pool: &Pool<'_, L>) -> Option<usize> {
    least(pool.candidates(), Load::overhead)
}

/// sed: where a new connection would wait least.
pub(super) fn sed<L: Loads>(pool: &Pool<'_, L>) -> Option<usize> {
    least(pool.candidates(), Load::expected_delay)
}

/// nq: the first that is idle, even a slow one; else as sed.
pub(super) fn nq<L: Loads>(pool: &Pool<'_, L>) -> Option<usize> {
    let idle = pool.candidates().find(|c| c.load.active == 0).map(|c| c.index);
    idle.or_else(|| sed(pool))
}

/// The first with the least cost per weight. Ratios are compared by cross multiplication.
pub(super) fn least(
    candidates: impl Iterator<Item = Candidate>,
    cost: impl Fn(Load) -> u64,
) -> Option<usize> {
    let per_weight = |c: Candidate| (cost(c.load), c);
    candidates
        .map(per_weight)
        .reduce(|least, next| if is_less(next, least) { next } else { least })
        .map(|(_, candidate)| candidate.index)
}

/// Whether `a` has strictly less cost per weight than `b`.
fn is_less(a: (u64, Candidate), b: (u64, Candidate)) -> bool {
    u128::from(a.0) * u128::from(b.1.weight) < u128::from(b.0) * u128::from(a.1.weight)
}
