//! Which servers' loads have changed, so that a scheduler need not read a thousand of them to find
//! out.

use crate::table::{Real, RealId};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// One bit per [`RealId`], set by whoever changes the server's load and cleared by the scheduler of
/// its service.
#[derive(Debug)]
pub struct Changes {
    words: Box<[AtomicU64]>,
}

impl Changes {
    /// Room for ids below `reals`; others are never noticed.
    pub fn new(reals: usize) -> Self {
        Self { words: (0..reals.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// To be called after the load of `real` was changed.
    pub fn mark(&self, real: RealId) {
        if let Some(word) = self.words.get(real.0 as usize / 64) {
            // Release: the scheduler that clears the bit also sees the new load.
            word.fetch_or(1 << (real.0 % 64), Release);
        }
    }

    /// Clears the bits of `mask` in one word; those that were set.
    fn take(&self, word: u32, mask: u64) -> u64 {
        match self.words.get(word as usize) {
            Some(bits) if bits.load(Relaxed) & mask != 0 => bits.fetch_and(!mask, Acquire) & mask,
            Some(_) | None => 0,
        }
    }
}

/// The servers of one service among all the bits.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    words: Box<[WatchedWord]>,
    /// Places in the service's list, by rising id.
    places: Box<[u32]>,
}

/// The ids of a service that share one word.
#[derive(Clone, Debug)]
struct WatchedWord {
    word: u32,
    mask: u64,
    /// Where the places of this word's ids start.
    start: usize,
}

impl Watch {
    pub fn new(reals: &[Real]) -> Self {
        let mut by_id: Vec<(u32, u32)> = (0u32..).zip(reals).map(|(at, r)| (r.id.0, at)).collect();
        by_id.sort_unstable();
        let mut words: Vec<WatchedWord> = Vec::new();
        for (start, (id, _)) in by_id.iter().enumerate() {
            let (word, bit) = (id / 64, 1 << (id % 64));
            match words.last_mut() {
                Some(last) if last.word == word => last.mask |= bit,
                Some(_) | None => words.push(WatchedWord { word, mask: bit, start }),
            }
        }
        Self { words: words.into(), places: by_id.into_iter().map(|(_, at)| at).collect() }
    }

    /// Calls `each` with the place of every server that was marked since the last time.
    pub fn take(&self, changes: &Changes, mut each: impl FnMut(usize)) {
        for watched in &self.words {
            let mut bits = changes.take(watched.word, watched.mask);
            while bits != 0 {
                let below = (bits & bits.wrapping_neg()) - 1;
                let rank = (watched.mask & below).count_ones() as usize;
                if let Some(place) = self.places.get(watched.start + rank) {
                    each(*place as usize);
                }
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::real;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_mark_is_taken_once_by_its_own_service(
            ids in prop::collection::btree_set(0u32..500, 0..60),
            marked in prop::collection::btree_set(0u32..600, 0..200),
            order in any::<u64>(),
        ) {
            let changes = Changes::new(500);
            let mut ids: Vec<u32> = ids.into_iter().collect();
            ids.sort_by_key(|id| u64::from(*id).wrapping_mul(order | 1));
            let (mine, others): (Vec<_>, Vec<_>) = ids.iter().partition(|id| *id % 3 != 0);
            let watch = |ids: &[u32]| {
                Watch::new(&ids.iter().map(|id| real(*id, 1)).collect::<Vec<_>>())
            };
            for id in &marked {
                changes.mark(RealId(*id));
            }
            for ids in [mine, others] {
                let watch = watch(&ids);
                let mut taken = BTreeSet::new();
                watch.take(&changes, |place| assert!(taken.insert(ids[place])));
                let expected: BTreeSet<u32> =
                    ids.iter().copied().filter(|id| marked.contains(id)).collect();
                prop_assert_eq!(taken, expected);
                watch.take(&changes, |place| panic!("{place} was taken twice"));
            }
        }
    }
}
