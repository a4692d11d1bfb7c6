//! Which slots are free, whose they are, and when a removed one may be used again.
//!
//! Slots are handed to workers in chunks, on demand; from then on only that worker allocates,
//! sweeps and frees them. A removed entry rests until every worker has begun a batch after its
//! removal (quiescent-state reclamation): a worker that found it in the index may use it until its
//! batch ends.

use super::Slot;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, fence};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// Slots in a chunk.
pub const CHUNK: usize = if cfg!(loom) { 2 } else { 1024 };

/// A worker that waits for packets holds no entry.
const RESTING: u64 = u64::MAX;

/// Shared part: the chunks not handed out yet, and how far each worker has come.
#[derive(Debug)]
pub struct Pool {
    slots: usize,
    next_chunk: AtomicUsize,
    epoch: AtomicU64,
    workers: Box<[Padded]>,
    /// Free slots for whoever needs some, given back by an owner that has no use for them.
    spare: Mutex<Vec<Slot>>,
    spare_count: AtomicUsize,
}

/// A counter alone on its cache line.
#[repr(align(64))]
#[derive(Debug)]
struct Padded(AtomicU64);

/// One worker's part.
#[derive(Debug)]
pub struct Owned {
    worker: usize,
    chunks: Vec<usize>,
    free: Vec<Slot>,
    resting: VecDeque<(u64, Slot)>,
}

impl Pool {
    /// A pool of `slots` slots for `workers` workers. Slot 0 is never handed out.
    pub fn new(slots: usize, workers: usize) -> Self {
        let workers = (0..workers).map(|_| Padded(AtomicU64::new(RESTING))).collect();
        Self {
            slots,
            next_chunk: AtomicUsize::new(0),
            epoch: AtomicU64::new(1),
            workers,
            spare: Mutex::default(),
            spare_count: AtomicUsize::new(0),
        }
    }

    /// How many slots have been handed out at least once: the rest need not be looked at.
    pub fn touched(&self) -> usize {
        (self.next_chunk.load(Ordering::Relaxed) * CHUNK).min(self.slots)
    }

    /// The part of worker number `worker`.
    pub fn owned(&self, worker: usize) -> Owned {
        Owned { worker, chunks: Vec::new(), free: Vec::new(), resting: VecDeque::new() }
    }

    /// The worker holds no entry from before this call.
    ///
    /// From one batch to the next it needs no fence: it is taken to be in the older one until its
    /// store is seen, and who sees the store knows that the epoch was read before, so that every
    /// removal up to that epoch is visible to it. From rest it does: its lookups must not come before
    /// the store, or [`Pool::oldest`] could take it for resting while it holds a removed entry. Of the
    /// two fences one is the first. If it is this one, `oldest` sees the store; if the other, what was
    /// retired before is not found any more (as in `crossbeam_epoch::internal::Local::pin`).
    #[inline]
    pub fn begin_batch(&self, owned: &Owned) {
        let epoch = self.epoch.load(Ordering::Acquire);
        if let Some(place) = self.workers.get(owned.worker) {
            // Only this worker writes it.
            let rested = place.0.load(Ordering::Relaxed) == RESTING;
            place.0.store(epoch, Ordering::Release);
            if rested {
                fence(Ordering::SeqCst);
            }
        }
    }

    /// The worker holds no entry until it begins a batch.
    pub fn rest(&self, owned: &Owned) {
        if let Some(place) = self.workers.get(owned.worker) {
            place.0.store(RESTING, Ordering::Release);
        }
    }

    /// Whether the worker rests.
    #[cfg(test)]
    pub fn is_resting(&self, owned: &Owned) -> bool {
        self.workers[owned.worker].0.load(Ordering::SeqCst) == RESTING
    }

    /// The oldest batch in progress. What was retired before is out of the index for every worker
    /// that wakes after; see [`Pool::begin_batch`].
    fn oldest(&self) -> u64 {
        fence(Ordering::SeqCst);
        self.workers.iter().map(|w| w.0.load(Ordering::Acquire)).min().unwrap_or(RESTING)
    }

    /// A free slot, from this worker's own or from a new chunk.
    pub fn allocate(&self, owned: &mut Owned) -> Option<Slot> {
        if owned.free.is_empty() {
            self.reclaim(owned);
        }
        if owned.free.is_empty() {
            self.take_spare(owned);
        }
        if owned.free.is_empty() {
            self.take_chunk(owned)?;
        }
        owned.free.pop()
    }

    /// Gives free slots to whoever needs some. The chunks stay with their owner, who goes on to sweep
    /// them.
    pub fn give_back(&self, owned: &mut Owned) {
        if owned.free.is_empty() {
            return;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.append(&mut owned.free);
        self.spare_count.store(spare.len(), Ordering::Relaxed);
    }

    fn take_spare(&self, owned: &mut Owned) {
        if self.spare_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = spare.len().saturating_sub(CHUNK);
        owned.free.extend(spare.drain(kept..));
        self.spare_count.store(kept, Ordering::Relaxed);
    }

    fn take_chunk(&self, owned: &mut Owned) -> Option<()> {
        let total = self.slots.div_ceil(CHUNK);
        let chunk = self
            .next_chunk
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (next < total).then_some(next + 1)
            })
            .ok()?;
        owned.chunks.push(chunk);
        let first = (chunk * CHUNK).max(1);
        let last = ((chunk + 1) * CHUNK).min(self.slots);
        owned.free.extend((first..last).rev().filter_map(|s| u32::try_from(s).ok()).map(Slot));
        Some(())
    }

    /// Puts a slot aside whose entry has just left the index.
    pub fn retire(&self, owned: &mut Owned, slot: Slot) {
        owned.resting.push_back((self.begin_grace(), slot));
    }

    /// Begins a grace period: what no lookup finds any more may be used again once it is over.
    pub fn begin_grace(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether every worker has begun a batch since, or rested.
    pub fn is_over(&self, grace: u64) -> bool {
        grace <= self.oldest()
    }

    /// Makes slots free whose grace period is over.
    pub fn reclaim(&self, owned: &mut Owned) {
        if owned.resting.is_empty() {
            return;
        }
        let oldest = self.oldest();
        while let Some((epoch, slot)) = owned.resting.front().copied() {
            if epoch > oldest {
                break;
            }
            owned.resting.pop_front();
            owned.free.push(slot);
        }
    }
}

impl Owned {
    /// The slots that this owner will hand out, now or after their grace period, in ascending order.
    #[cfg(test)]
    pub fn held(&self) -> Vec<Slot> {
        let resting = self.resting.iter().map(|(_, slot)| *slot);
        let mut held: Vec<Slot> = self.free.iter().copied().chain(resting).collect();
        held.sort_unstable();
        held
    }

    /// How many slots this worker sweeps.
    pub fn slots(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// The slot at position `position` of this worker's own, counted through its chunks.
    #[inline]
    pub fn at(&self, position: usize) -> Option<usize> {
        self.chunks.get(position / CHUNK).map(|chunk| chunk * CHUNK + position % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_but_the_first_is_handed_out_once() {
        let pool = Pool::new(3000, 2);
        let (mut a, mut b) = (pool.owned(0), pool.owned(1));
        let mut seen = std::collections::BTreeSet::new();
        while let Some(slot) = pool.allocate(&mut a).or_else(|| pool.allocate(&mut b)) {
            assert!(seen.insert(slot.0) && slot.0 != 0);
        }
        assert_eq!(seen.len(), 2999);
    }

    #[test]
    fn a_retired_slot_waits_for_every_batch_in_progress() {
        let pool = Pool::new(2, 2);
        let (mut a, b) = (pool.owned(0), pool.owned(1));
        pool.begin_batch(&a);
        pool.begin_batch(&b);
        let slot = pool.allocate(&mut a).unwrap();
        pool.retire(&mut a, slot);
        pool.begin_batch(&a);
        assert_eq!(pool.allocate(&mut a), None, "worker 1 may still hold the entry");
        pool.begin_batch(&b);
        assert_eq!(pool.allocate(&mut a), Some(slot));
        pool.retire(&mut a, slot);
        pool.begin_batch(&a);
        pool.rest(&b);
        assert_eq!(pool.allocate(&mut a), Some(slot), "a resting worker holds nothing");
    }
}
