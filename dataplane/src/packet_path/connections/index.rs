//! From a packet's tuple to a slot: a fixed hash table of cache-line buckets.
//!
//! A bucket is one line: a word of bookkeeping and seven cells. A cell holds 31 bits of the hash,
//! the slot and the direction. Readers take no lock: they load the cells and let the caller verify
//! the entry. Writers lock the home bucket of their key, so that the same key cannot enter twice;
//! an entry whose home is full goes to one of the next buckets, and the home counts it, so that
//! readers look further only where they must.

use super::Slot;
use crate::sync::{AtomicU64, Ordering, spin_loop};

/// Cells in a bucket.
const CELLS: usize = 7;
/// Buckets that a key may be stored in, from its home on. In a full table of ten million connections
/// a dozen buckets in a row are full now and then; so many never are.
const REACH: usize = if cfg!(loom) { 2 } else { 32 };
/// Share of cells that a table of full size fills, in percent.
const FILL: usize = 62;

const LOCKED: u64 = 1;
/// One key stored elsewhere.
const ELSEWHERE: u64 = 2;
const ELSEWHERE_MASK: u64 = 0xffff_fffe;
/// Where the largest distance of such a key stands.
const FURTHEST: u32 = 32;

#[repr(align(64))]
#[derive(Debug, Default)]
struct Bucket {
    /// Bit 0: locked. Up to bit 31: how many keys with this home are stored elsewhere. The rest: how
    /// far away at most.
    book: AtomicU64,
    cells: [AtomicU64; CELLS],
}

/// Which end of a connection a tuple belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client.
    Forward,
    /// From the real server.
    Reply,
}

/// What a cell says before it is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Where the entry is.
    pub slot: Slot,
    /// Which end it claims to be.
    pub direction: Direction,
}

impl Candidate {
    fn cell(self, hash: u64) -> u64 {
        let direction = u64::from(self.direction == Direction::Reply);
        tag(hash) | u64::from(self.slot.0) << 1 | direction
    }

    fn of(cell: u64) -> Self {
        let direction = if cell & 1 == 0 { Direction::Forward } else { Direction::Reply };
        Self { slot: Slot((cell >> 1) as u32 & 0x7fff_ffff), direction }
    }
}

/// What [`Index::guess`] answers. In one word, so that many can be kept for a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guess(u64);

impl Default for Guess {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl Guess {
    /// The candidate, if there is one.
    #[inline(always)]
    pub fn candidate(self) -> Option<Candidate> {
        (self.0 >> 32 == 0).then(|| Candidate::of(self.0))
    }

    /// The direction of the candidate, if there is one.
    #[inline]
    pub fn direction(self) -> Option<Direction> {
        self.candidate().map(|candidate| candidate.direction)
    }

    /// The slot, if there is a candidate and it is of this direction.
    #[inline(always)]
    pub fn slot(self, direction: Direction) -> Option<Slot> {
        const UNFIT: u64 = 0xffff_ffff_0000_0001;
        let fit = self.0 & UNFIT == u64::from(direction == Direction::Reply);
        fit.then_some(Slot(self.0 as u32 >> 1))
    }
}

/// The upper half of a cell; never zero, so that an empty cell matches nothing.
#[inline]
const fn tag(hash: u64) -> u64 {
    (hash << 32) | 1 << 63
}

/// Why a key was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The caller recognised an entry with the same key.
    Exists(Candidate),
    /// No free cell within reach.
    Full,
}

/// The table of buckets.
#[derive(Debug)]
pub struct Index {
    buckets: Box<[Bucket]>,
}

impl Index {
    /// An index for `keys` keys. All of its memory is taken here.
    pub fn new(keys: usize) -> Self {
        let count = (keys * 100).div_ceil(CELLS * FILL).max(2 * REACH);
        let mut buckets = Vec::with_capacity(count);
        crate::memory::huge_pages(&mut buckets);
        buckets.resize_with(count, Bucket::default);
        Self { buckets: buckets.into_boxed_slice() }
    }

    /// Whether no key is stored, and none is noted as stored elsewhere.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let is_zero = |word: &AtomicU64| word.load(Ordering::SeqCst) == 0;
        self.buckets.iter().all(|bucket| is_zero(&bucket.book) && bucket.cells.iter().all(is_zero))
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        // The upper half of the hash scaled to the number of buckets; tags use the lower half.
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn bucket(&self, home: usize, distance: usize) -> &Bucket {
        let index = home + distance;
        &self.buckets[if index < self.buckets.len() { index } else { index - self.buckets.len() }]
    }

    /// Asks the processor to fetch the bucket of a hash that will be looked up soon.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        crate::memory::prefetch(&self.buckets, self.home(hash));
    }

    /// The candidate in the home bucket whose tag is this hash's, if any. It is not the right one
    /// when two have the same tag, or when the key is stored further on. All cells are compared
    /// without a branch, because where a key stands in its bucket cannot be predicted.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Guess {
        let wanted = tag(hash);
        let Some(bucket) = self.buckets.get(self.home(hash)) else { return Guess::default() };
        let [a, b, c, d, e, f, g] = &bucket.cells;
        // Less than 2^32 when the upper halves agree; and then the lower half is the cell's.
        let distance = |cell: &AtomicU64| cell.load(Ordering::Acquire).wrapping_sub(wanted);
        let (ab, cd) = (distance(a).min(distance(b)), distance(c).min(distance(d)));
        let (ef, g) = (distance(e).min(distance(f)), distance(g));
        Guess(ab.min(cd).min(ef.min(g)))
    }

    /// The first stored candidate with this hash that `accept` recognises.
    #[inline(always)]
    pub fn find(&self, hash: u64, accept: impl Fn(Candidate) -> bool) -> Option<Candidate> {
        let home = self.home(hash);
        let first = &self.buckets[home];
        if let Some(found) = search(first, hash, &accept) {
            return Some(found);
        }
        match (first.book.load(Ordering::Acquire) >> FURTHEST) as usize {
            0 => None,
            furthest => self.find_beyond(home, furthest, hash, &accept),
        }
    }

    /// Searches the buckets after the home one.
    #[cold]
    fn find_beyond(
        &self,
        home: usize,
        furthest: usize,
        hash: u64,
        accept: &impl Fn(Candidate) -> bool,
    ) -> Option<Candidate> {
        (1..=furthest).find_map(|distance| search(self.bucket(home, distance), hash, accept))
    }

    /// Stores a key unless `same` recognises an equal one.
    ///
    /// # Errors
    /// The equal key, or that there is no room.
    pub fn insert(
        &self,
        hash: u64,
        candidate: Candidate,
        same: impl Fn(Candidate) -> bool,
    ) -> Result<(), Refused> {
        let home = self.home(hash);
        let lock = Lock::take(&self.buckets[home]);
        if let Some(existing) = self.find(hash, same) {
            return Err(Refused::Exists(existing));
        }
        let cell = candidate.cell(hash);
        for distance in 0..REACH {
            let stored = self.bucket(home, distance).cells.iter().any(|place| {
                place.load(Ordering::Relaxed) == 0
                    && place.compare_exchange(0, cell, Ordering::Release, Ordering::Relaxed).is_ok()
            });
            if stored {
                if distance > 0 {
                    lock.enter(distance as u64);
                }
                return Ok(());
            }
        }
        Err(Refused::Full)
    }

    /// Takes a key out. Whether it was there.
    pub fn remove(&self, hash: u64, candidate: Candidate) -> bool {
        let home = self.home(hash);
        let lock = Lock::take(&self.buckets[home]);
        let cell = candidate.cell(hash);
        for distance in 0..REACH {
            let removed = self.bucket(home, distance).cells.iter().any(|place| {
                place.load(Ordering::Relaxed) == cell
                    && place.compare_exchange(cell, 0, Ordering::Release, Ordering::Relaxed).is_ok()
            });
            if removed {
                if distance > 0 {
                    lock.leave();
                }
                return true;
            }
        }
        false
    }
}

#[inline(always)]
fn search(bucket: &Bucket, hash: u64, accept: &impl Fn(Candidate) -> bool) -> Option<Candidate> {
    let wanted = tag(hash);
    for cell in &bucket.cells {
        let cell = cell.load(Ordering::Acquire);
        if cell & 0xffff_ffff_0000_0000 == wanted {
            let candidate = Candidate::of(cell);
            if accept(candidate) {
                return Some(candidate);
            }
        }
    }
    None
}

/// Exclusive right to store and remove keys of one home bucket. Held for a few dozen loads, so
/// waiting spins.
struct Lock<'a>(&'a Bucket);

impl<'a> Lock<'a> {
    fn take(bucket: &'a Bucket) -> Self {
        while bucket.book.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
            spin_loop();
        }
        Self(bucket)
    }

    /// Notes that a key is stored `distance` buckets away. Nobody else writes the book meanwhile.
    fn enter(&self, distance: u64) {
        let book = self.0.book.load(Ordering::Relaxed);
        let furthest = (book >> FURTHEST).max(distance);
        let rest = book & (LOCKED | ELSEWHERE_MASK);
        self.0.book.store((rest + ELSEWHERE) | furthest << FURTHEST, Ordering::Release);
    }

    /// Notes that such a key is gone. When it was the last one, readers need look no further than
    /// home again.
    fn leave(&self) {
        let book = self.0.book.load(Ordering::Relaxed) - ELSEWHERE;
        let left = if book & ELSEWHERE_MASK == 0 { book & LOCKED } else { book };
        self.0.book.store(left, Ordering::Release);
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.0.book.fetch_and(!LOCKED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn candidate(slot: u32) -> Candidate {
        Candidate { slot: Slot(slot), direction: Direction::Forward }
    }

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    #[test]
    fn a_table_of_full_size_takes_all_its_keys() {
        let index = Index::new(20_000);
        let mut hash = 1u64;
        for slot in 1..=20_000 {
            hash = hash
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mixed = hash ^ hash >> 29;
            assert_eq!(index.insert(mixed, candidate(slot), |_| false), Ok(()), "{slot}");
        }
    }

    proptest! {
        /// Few homes and many keys, so that overflow and reuse are exercised.
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec((0u64..4, 0u64..40, any::<bool>()), 1..400)) {
            let index = Index::new(8);
            let mut model = BTreeMap::new();
            for (home, key, insert) in steps {
                let hash = home << 60 | key;
                let slot = candidate((home * 100 + key) as u32 + 1);
                if insert {
                    match index.insert(hash, slot, |found| found == slot) {
                        Ok(()) => prop_assert!(model.insert(hash, slot).is_none()),
                        Err(Refused::Exists(found)) => prop_assert_eq!(model.get(&hash), Some(&found)),
                        Err(Refused::Full) => prop_assert!(model.len() >= CELLS),
                    }
                } else {
                    prop_assert_eq!(index.remove(hash, slot), model.remove(&hash).is_some());
                }
                for (hash, slot) in &model {
                    prop_assert_eq!(index.find(*hash, |found| found == *slot), Some(*slot));
                }
                prop_assert_eq!(index.find(hash, |found| found == slot).is_some(), model.contains_key(&hash));
            }
        }
    }
}
