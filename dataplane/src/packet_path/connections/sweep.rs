//! Expiry, spread over time: each call looks at as many slots as time has passed, so that every
//! slot is looked at once a second and no moment pays for all.

use super::{ASLEEP, Connections, Flags, Owned, Slot, alarm};
use crate::packet_path::reals::Reals;
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::tick::{PER_SECOND, Tick, Ticks};

/// Most slots looked at in one call, to bound the time between two batches: of those that sleep, a
/// sixteenth of a cache line each.
const MOST_AT_ONCE: usize = 16 * 1024;

/// Most slots whose time has come that one call of a packet thread works on. Each costs a few cache
/// misses, so this is some ten microseconds.
const MOST_DUE: usize = 128;

/// How long an expired template or FTP connection lives on while it controls others (IPVS).
const HELD_FOR: Ticks = Ticks::from_secs(60);

/// Where one worker's sweep stands.
#[derive(Debug)]
pub struct Sweeper {
    /// Slots whose time has come that one call works on.
    most_due: usize,
    position: usize,
    last: Option<Tick>,
    /// Slots that time has made due but that were not looked at yet.
    owed: usize,
}

impl Default for Sweeper {
    /// For a thread that nothing waits for.
    fn default() -> Self {
        Self { most_due: usize::MAX, position: 0, last: None, owed: 0 }
    }
}

impl Sweeper {
    /// For a thread that packets wait for.
    pub fn between_batches() -> Self {
        Self { most_due: MOST_DUE, ..Self::default() }
    }

    /// Whether more slots are due than one call looks at.
    pub const fn is_behind(&self) -> bool {
        self.owed > 0
    }
}

impl Connections {
    /// Ends what has expired among the next slots of this worker. `ended` settles the counts of
    /// each connection that this call removed.
    pub fn sweep(
        &self,
        sweeper: &mut Sweeper,
        owned: &mut Owned,
        reals: &Reals,
        now: Tick,
        mut ended: impl FnMut(Slot),
    ) {
        let passed = sweeper.last.map_or(PER_SECOND, |last| now.since(last).0);
        if passed == 0 && sweeper.owed == 0 {
            return;
        }
        sweeper.last = Some(now);
        let slots = owned.slots();
        let share = slots.saturating_mul(passed as usize).div_ceil(PER_SECOND as usize);
        let due = (sweeper.owed + share).min(slots);
        let count = due.min(MOST_AT_ONCE);
        let (mut looked, mut worked) = (0, 0);
        while looked < count && worked < sweeper.most_due {
            if sweeper.position >= slots {
                sweeper.position = 0;
            }
            if let Some(slot) = owned.at(sweeper.position) {
                worked += usize::from(self.look_at(slot, owned, reals, now, &mut ended));
            }
            sweeper.position += 1;
            looked += 1;
        }
        sweeper.owed = due - looked;
        self.pool.reclaim(owned);
    }

    /// Takes back one of the worker's own slots whose connection has just been removed, without
    /// waiting for the sweep to pass.
    pub fn collect(&self, owned: &mut Owned, slot: Slot) {
        if let Some(wake) = self.wake.get(slot.0 as usize)
            && wake.swap(ASLEEP, Acquire) != ASLEEP
            && self.entry(slot).retire()
        {
            self.pool.retire(owned, slot);
        }
    }

    /// Whether the slot's time had come.
    #[inline]
    fn look_at(
        &self,
        index: usize,
        owned: &mut Owned,
        reals: &Reals,
        now: Tick,
        ended: &mut impl FnMut(Slot),
    ) -> bool {
        let Some(wake) = self.wake.get(index) else { return false };
        let at = wake.load(Acquire);
        if at == ASLEEP || !Tick(at).is_due(now) {
            return false;
        }
        let Ok(number) = u32::try_from(index) else { return false };
        let slot = Slot(number);
        let entry = self.entry(slot);
        if entry.meta().flags.has(Flags::DEAD) {
            // Its user may be another than the chunk's owner, and both may come here.
            self.collect(owned, slot);
        } else if !entry.expires().is_due(now) {
            // Whoever removes it meanwhile sets an alarm for now, which must not be replaced here.
            let later = alarm(entry.expires());
            let _ = wake.compare_exchange(at, later, Relaxed, Relaxed);
        } else if entry.controls() > 0 {
            self.reset_timer(slot, now, HELD_FOR);
        } else if self.remove(slot, reals, now) {
            ended(slot);
        }
        true
    }
}
