//! Long lists that are not scanned for each connection: which servers have to be looked at again.

use super::Loads;
use super::changes::{Changes, Watch};
use super::pool::{Candidate, Pool};
use crate::table::Real;

/// Shorter lists are scanned: that costs less than following changes.
pub(super) const LONG_LIST: usize = 32;

/// What is known of a list, and of which of its servers no more.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    watch: Watch,
    /// Whether every server was looked at since the list changed.
    is_complete: bool,
}

impl Followed {
    /// For a long list; nothing for a short one.
    pub fn new(reals: &[Real]) -> Option<Self> {
        (reals.len() >= LONG_LIST).then(|| Self { watch: Watch::new(reals), is_complete: false })
    }

    /// Calls `set` with the place of every server whose load may have changed since the last time,
    /// and with what it is now; `None` when it takes no connections.
    pub fn refresh<L: Loads>(
        &mut self,
        pool: &Pool<'_, L>,
        changes: &Changes,
        mut set: impl FnMut(usize, Option<Candidate>),
    ) {
        if self.is_complete {
            self.watch.take(changes, |place| set(place, pool.candidate(place)));
            return;
        }
        // Marks go first: a load that changes while it is read is read again.
        self.watch.take(changes, |_| {});
        for place in 0..pool.reals.len() {
            set(place, pool.candidate(place));
        }
        self.is_complete = true;
    }
}
