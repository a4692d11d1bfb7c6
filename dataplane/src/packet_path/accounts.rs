//! What a connection counts in: its real server's load, its controller's count, the users of its full-NAT source. It is counted
//! before it can be found, so that no other worker can end it earlier, and taken off once, by whoever
//! ends it; [`Flags::COUNTED`] says who that is.

use super::Director;
use super::connections::{
    Entry, Flags, Identity, Meta, NewConnection, NotInserted, Owned, Slot, Via,
};
use super::ftp;
use crate::table::{Address, RealId};
use crate::tick::Tick;

/// Where one connection counts.
#[derive(Clone, Copy, Debug)]
struct Account {
    real: RealId,
    flags: Flags,
    control: Option<Slot>,
    /// Full NAT: the number of its source address.
    source: Option<u8>,
}

impl Account {
    fn of_new(new: &NewConnection) -> Self {
        let source = source(new.via, new.flags, new.local);
        Self { real: new.real, flags: new.flags, control: new.control, source }
    }

    fn of(entry: &Entry) -> Self {
        let Meta { via, flags, local, .. } = entry.meta();
        let source = source(via, flags, local);
        Self { real: entry.real(), flags, control: entry.control(), source }
    }
}

/// Templates send nothing.
fn source(via: Via, flags: Flags, local: u8) -> Option<u8> {
    (via == Via::FullNat && !flags.has(Flags::TEMPLATE)).then_some(local)
}

impl Director {
    /// Stores a connection or template and counts it. A controller that has ended is not named.
    ///
    /// # Errors
    /// As [`insert`](super::connections::Connections::insert), that the controller can count no more,
    /// and that its full-NAT source has been given up. Nothing is counted then.
    pub(super) fn store(
        &self,
        owned: &mut Owned,
        new: &NewConnection,
        now: Tick,
    ) -> Result<Slot, NotInserted> {
        let control = new.control.filter(|slot| self.controller(*slot, new.real).is_some());
        let new = NewConnection { control, ..*new };
        let account = Account::of_new(&new);
        self.open_account(account, new.local_address)?;
        let stored = self.connections().insert(owned, &new, self.reals(), now);
        let Ok(slot) = stored else {
            self.close_account(account);
            return stored;
        };
        let entry = self.connections().entry(slot);
        let counted = entry.update_meta(|meta| {
            let flags = meta.flags.with(Flags::COUNTED);
            (!meta.flags.has(Flags::DEAD)).then_some(Meta { flags, ..meta })
        });
        if counted.is_err() {
            // Whoever ended it did not see it counted.
            self.close_account(Account::of(entry));
        }
        Ok(slot)
    }

    fn open_account(&self, account: Account, from: Address) -> Result<(), NotInserted> {
        let Account { real, flags, control, source } = account;
        let sources = self.reals().sources();
        if source.is_some_and(|number| !sources.take(number, from)) {
            return Err(NotInserted::NoSource);
        }
        if let Some(controller) = control.and_then(|slot| self.controller(slot, real))
            && !controller.add_controlled()
        {
            source.into_iter().for_each(|number| sources.give_back(number));
            return Err(NotInserted::Full);
        }
        if flags.has(Flags::TEMPLATE) {
            self.reals().count_template(real, true);
        } else {
            self.reals().bind(real, !flags.has(Flags::INACTIVE));
        }
        Ok(())
    }

    fn close_account(&self, Account { real, flags, control, source }: Account) {
        source.into_iter().for_each(|number| self.reals().sources().give_back(number));
        if flags.has(Flags::TEMPLATE) {
            self.reals().count_template(real, false);
            return;
        }
        self.reals().unbind(real, !flags.has(Flags::INACTIVE));
        if let Some(controller) = control.and_then(|slot| self.controller(slot, real)) {
            controller.remove_controlled();
        }
    }

    /// Ends a connection now. `false` when it had ended already.
    pub fn end(&self, slot: Slot, now: Tick) -> bool {
        let ended = self.connections().remove(slot, self.reals(), now);
        if ended {
            self.settle(slot);
        }
        ended
    }

    /// Ends the connection that is meant, and no other that has its slot by now. To be called inside
    /// a batch.
    pub fn end_meant(&self, meant: &Identity, now: Tick) -> bool {
        self.connections().is_alive(meant) && self.end(meant.slot, now)
    }

    /// Brings the counts up to date with a connection that has just been removed.
    pub(super) fn settle(&self, slot: Slot) {
        let entry = self.connections().entry(slot);
        let account = Account::of(entry);
        if account.flags.has(Flags::SHIFTED) {
            self.ftp().remove(&slot);
            self.announcements().remove(&slot);
        }
        if account.flags.has(Flags::COUNTED) {
            self.close_account(account);
        }
    }

    /// The template or FTP connection in this slot that controls connections to this real server. A
    /// slot that it has left may hold another by now, which counts nothing, or its own.
    pub(super) fn controller(&self, slot: Slot, real: RealId) -> Option<&Entry> {
        let controller = self.connections().entry(slot);
        let meta = controller.meta();
        let [_, virtual_port, ..] = controller.ports();
        let controls = meta.flags.has(Flags::TEMPLATE)
            || virtual_port == ftp::CONTROL && meta.via != Via::FullNat;
        let same = controls && controller.real() == real;
        (same && !meta.flags.has(Flags::DEAD)).then_some(controller)
    }

    /// Marks a connection whose sequence numbers are shifted from now on. One that has ended
    /// meanwhile has nothing kept about it: whoever ended it saw no shifts to forget.
    pub(super) fn mark_shifted(&self, slot: Slot) {
        let marked = self.connections().entry(slot).update_meta(|meta| {
            let flags = meta.flags.with(Flags::SHIFTED);
            (!meta.flags.has(Flags::DEAD)).then_some(Meta { flags, ..meta })
        });
        if marked.is_err() {
            self.ftp().remove(&slot);
            self.announcements().remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests;
