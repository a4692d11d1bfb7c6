//! lc, wlc, sed, nq, fo, ovf: the best by a rule, the first in the list among equals.
//!
//! Each rule is a ratio to be as small as possible, so one scan and one index
//! ([`super::tournament`]) serve all six.

use super::Loads;
use super::pool::{Candidate, Pool};
use crate::table::Scheduler;

/// Which ratio counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ranking {
    /// The fewest connections, weights apart.
    Lc,
    /// The fewest connections for its weight.
    Wlc,
    /// Where a new connection would wait least.
    Sed,
    /// An idle one, even a slow one; else as sed.
    Nq,
    /// The greatest weight.
    Fo,
    /// The greatest weight of those whose active connections do not exceed their weight.
    Ovf,
}

/// Cost per weight, compared by cross multiplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    cost: u64,
    weight: u32,
}

impl Ratio {
    /// More than any other: the server takes no connection.
    pub const INFINITE: Self = Self { cost: 1, weight: 0 };

    pub fn is_finite(self) -> bool {
        self.weight != 0
    }

    /// Strictly less; equals are not, so that the first of them stands.
    pub fn is_less(self, other: Self) -> bool {
        u128::from(self.cost) * u128::from(other.weight)
            < u128::from(other.cost) * u128::from(self.weight)
    }
}

impl Ranking {
    /// The ranking that a scheduler goes by, if it goes by one. lblc and lblcr do where they have
    /// nothing remembered.
    pub fn of(scheduler: Scheduler) -> Option<Self> {
        match scheduler {
            Scheduler::Lc => Some(Self::Lc),
            Scheduler::Wlc | Scheduler::Lblc | Scheduler::Lblcr => Some(Self::Wlc),
            Scheduler::Sed => Some(Self::Sed),
            Scheduler::Nq => Some(Self::Nq),
            Scheduler::Fo => Some(Self::Fo),
            Scheduler::Ovf => Some(Self::Ovf),
            Scheduler::None
            | Scheduler::Rr
            | Scheduler::Wrr
            | Scheduler::Dh
            | Scheduler::Sh
            | Scheduler::Mh
            | Scheduler::Twos => None,
        }
    }

    /// The ratio of one server.
    pub fn rank(self, candidate: Candidate) -> Ratio {
        let Candidate { weight, load, .. } = candidate;
        let (cost, weight) = match self {
            Self::Lc => (load.overhead(), 1),
            Self::Wlc => (load.overhead(), weight),
            Self::Nq if load.active == 0 => (0, 1),
            Self::Sed | Self::Nq => (load.expected_delay(), weight),
            Self::Ovf if load.active > weight => return Ratio::INFINITE,
            Self::Fo | Self::Ovf => (1, weight),
        };
        Ratio { cost, weight }
    }

    /// The first server with the smallest ratio.
    pub fn best<L: Loads>(self, pool: &Pool<'_, L>) -> Option<usize> {
        self.best_of(pool.candidates())
    }

    /// The first of these with the smallest ratio.
    pub fn best_of(self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let mut best = (Ratio::INFINITE, None);
        for candidate in candidates {
            let ratio = self.rank(candidate);
            if ratio.is_less(best.0) {
                best = (ratio, Some(candidate.index));
            }
        }
        best.1
    }
}
