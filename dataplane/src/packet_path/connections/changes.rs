//! Which connections began, changed their state or ended, for whoever tells a peer.
//!
//! One bit for each slot. A packet that opens a connection or moves its state sets the bit; packets of
//! an unchanged state do not touch it. The reader takes the bits when it likes: what changed twice
//! meanwhile is told once, as it is then, so nothing ever overflows and no packet ever waits.

use super::{ConnectionInfo, Connections, Flags, Slot, Tuple};
use crate::packet_path::reals::Reals;
use crate::tick::Tick;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The bits, and whether anybody wants them.
#[derive(Debug)]
pub(super) struct Changes {
    wanted: AtomicBool,
    words: Box<[AtomicU64]>,
}

/// What a changed slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A live connection or template.
    Live(ConnectionInfo),
    /// One that has ended: what it was found by, and whether it was a template.
    Ended(Tuple, bool),
}

impl Changes {
    pub fn new(slots: usize) -> Self {
        let words = std::iter::repeat_with(AtomicU64::default).take(slots.div_ceil(64)).collect();
        Self { wanted: AtomicBool::new(false), words }
    }
}

impl Connections {
    /// Begins, or ends, to note changes.
    pub fn note_changes(&self, wanted: bool) {
        self.changes.wanted.store(wanted, Relaxed);
    }

    /// Notes that a connection changed.
    #[inline]
    pub fn changed(&self, slot: Slot) {
        if self.changes.wanted.load(Relaxed)
            && let Some(word) = self.changes.words.get(slot.0 as usize / 64)
        {
            word.fetch_or(1 << (slot.0 % 64), Relaxed);
        }
    }

    /// Takes all slots that changed since the last call, in ascending order.
    pub fn take_changed(&self, mut each: impl FnMut(Slot)) {
        let touched = self.pool.touched().div_ceil(64);
        for (word, base) in self.changes.words.iter().take(touched).zip((0u32..).step_by(64)) {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Relaxed);
            while bits != 0 {
                each(Slot(base + bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }

    /// What is in a slot. A connection that ended in a slot that has been given away since is not
    /// seen any more: the peer's copy expires by itself.
    pub fn look_at_changed(&self, slot: Slot, reals: &Reals, now: Tick) -> Option<Seen> {
        if let Some(info) = self.info(slot, reals, now) {
            return Some(Seen::Live(info));
        }
        let read = || {
            let entry = self.entry(slot);
            (Self::forward_tuple(entry), entry.meta().flags)
        };
        let (tuple, flags) = read();
        let same = read() == (tuple, flags) && flags.has(Flags::DEAD);
        same.then_some(Seen::Ended(tuple, flags.has(Flags::TEMPLATE)))
    }
}
