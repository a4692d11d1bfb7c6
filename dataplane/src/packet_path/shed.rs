//! When the connection table is full: the least valuable entry makes room, and is counted. Half-open
//! connections go first, then closing ones; an open connection is never pushed out.

use super::connections::{Flags, Slot};
use super::counters::bump;
use super::states;
use super::{PacketPath, View};
use crate::wire::ip;

/// Entries looked at for one new connection. A table in which none of them may go is full of open
/// connections, and the new one is refused.
const LOOKED_AT: usize = 256;

impl PacketPath {
    /// Frees a slot of this worker. Whether one will be free after the grace period; with several
    /// workers that may take a batch, during which new connections are refused.
    pub(super) fn shed(&mut self, view: View<'_>) -> bool {
        let slots = self.owned.slots();
        let mut closing = None;
        for _ in 0..LOOKED_AT.min(slots) {
            self.shed_from = (self.shed_from + 1) % slots.max(1);
            let Some(slot) = self.owned.at(self.shed_from) else { continue };
            let Ok(slot) = u32::try_from(slot).map(Slot) else { continue };
            let entry = view.director.connections().entry(slot);
            let meta = entry.meta();
            let kept = meta.flags.has(Flags::DEAD) || meta.flags.has(Flags::TEMPLATE);
            if slot.0 == 0 || kept || entry.controls() > 0 {
                continue;
            }
            // A single datagram is all that a forged source ever sends.
            let lone = meta.protocol == ip::UDP && meta.flags.has(Flags::YOUNG);
            if lone || states::is_half_open(meta.protocol, meta.state) {
                return self.give_up(view, slot);
            }
            if closing.is_none() && !states::is_open(meta.protocol, meta.state) {
                closing = Some(slot);
            }
        }
        closing.is_some_and(|slot| self.give_up(view, slot))
    }

    fn give_up(&mut self, view: View<'_>, slot: Slot) -> bool {
        if !view.director.end(slot, view.now) {
            return false;
        }
        bump(&self.counters.shed, 1);
        view.director.connections().collect(&mut self.owned, slot);
        true
    }
}
