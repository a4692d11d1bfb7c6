//! The connection table: shared by all workers, preallocated, found from both ends.
//!
//! An entry is one cache line ([`entry`]); the index has a cell for each of its two directions
//! ([`index`]). Looking up takes no lock. The timer is a tick in the entry, pushed forward by every
//! packet; a second, dense array `wake` holds a moment no later than that at which to look, so that
//! sweeping a million idle connections reads four megabytes and not sixty-four.

mod changes;
pub mod entry;
pub mod index;
mod page;
pub mod slots;
mod sweep;
#[cfg(test)]
mod tests;

pub use changes::Seen;
pub use entry::{Entry, Flags, Meta, NewConnection, Via};
pub use index::{Candidate, Direction, Guess, Refused};
pub use page::{ConnectionInfo, Identity, Page};
pub use slots::Owned;
pub use sweep::Sweeper;

use super::reals::Reals;
use crate::sync::Ordering::{Relaxed, Release};
use crate::sync::{AtomicU32, AtomicU64};
use crate::table::Address;
use crate::tick::{Tick, Ticks};
use changes::Changes;
use index::Index;
use slots::Pool;

/// Where an entry is. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

/// What identifies the direction of a connection that a packet belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Protocol number; 0 in templates of mark services.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub destination: Address,
    /// Destination port.
    pub destination_port: u16,
    /// Whether it names a persistence template, which no packet belongs to.
    pub template: bool,
}

impl Tuple {
    /// The same, seen from the other end.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
            template: self.template,
        }
    }
}

/// Keys of the hash, random per start: which connections share a bucket is not for clients to know.
#[derive(Clone, Copy, Debug)]
pub struct HashKeys(pub [u64; 4]);

/// The table.
#[derive(Debug)]
pub struct Connections {
    entries: Box<[Entry]>,
    wake: Box<[AtomicU32]>,
    index: Index,
    pool: Pool,
    changes: Changes,
    keys: [u64; 4],
    /// By [`entry::protocol_code`].
    protocol_keys: [u64; 4],
    live: AtomicU64,
    without_client_port: AtomicU32,
}

/// Why a connection was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotInserted {
    /// Another worker was faster, or the tuple is in use: the connection that has it.
    Exists(Slot),
    /// The reply's tuple belongs to another connection.
    ReplyExists(Slot),
    /// Full NAT: the source address is in use no more.
    NoSource,
    /// No slot is free, or too many keys fell on the same buckets.
    Full,
}

/// What `wake` holds for a slot that needs no looking at.
const ASLEEP: u32 = 0;

const fn alarm(at: Tick) -> u32 {
    if at.0 == ASLEEP { 1 } else { at.0 }
}

impl Connections {
    /// A table for `capacity` connections and `workers` workers. All memory is taken here.
    pub fn new(capacity: usize, workers: usize, keys: HashKeys) -> Self {
        let slots = capacity.max(1) + 1;
        let mut entries = Vec::with_capacity(slots);
        crate::memory::huge_pages(&mut entries);
        entries.resize_with(slots, Entry::default);
        let mut wake = Vec::with_capacity(slots);
        wake.resize_with(slots, AtomicU32::default);
        Self {
            entries: entries.into_boxed_slice(),
            wake: wake.into_boxed_slice(),
            index: Index::new(2 * slots),
            pool: Pool::new(slots, workers),
            changes: Changes::new(slots),
            keys: keys.0.map(scramble),
            protocol_keys: [0, 1, 2, 3].map(|code| scramble(keys.0[1].wrapping_add(code << 40))),
            live: AtomicU64::new(0),
            without_client_port: AtomicU32::new(0),
        }
    }

    /// Connections and templates in the table.
    pub fn len(&self) -> usize {
        usize::try_from(self.live.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that fit.
    pub fn capacity(&self) -> usize {
        self.entries.len() - 1
    }

    /// Bytes of memory, all in.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.wake) + self.index.memory()
    }

    /// The slots of worker number `worker`, each of which must be asked for once.
    pub fn owned(&self, worker: usize) -> Owned {
        self.pool.owned(worker)
    }

    /// See [`slots`]: entries found before are not used after.
    #[inline]
    pub fn begin_batch(&self, owned: &Owned) {
        self.pool.begin_batch(owned);
    }

    /// See [`slots`]: the worker will wait.
    pub fn rest(&self, owned: &Owned) {
        self.pool.rest(owned);
    }

    /// Whether a worker rests.
    #[cfg(test)]
    pub fn is_resting(&self, owned: &Owned) -> bool {
        self.pool.is_resting(owned)
    }

    /// See [`slots`]: the free slots of an owner are for everybody.
    pub fn give_back(&self, owned: &mut Owned) {
        self.pool.give_back(owned);
    }

    /// See [`slots`]: begins a grace period for something that ended connections refer to.
    pub fn begin_grace(&self) -> u64 {
        self.pool.begin_grace()
    }

    /// Whether no worker holds a connection that ended before this grace period.
    pub fn is_over(&self, grace: u64) -> bool {
        self.pool.is_over(grace)
    }

    /// The hash of a tuple.
    #[inline(always)]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        let [a, b, c, d] = self.keys;
        let (source, destination) = (tuple.source.0, tuple.destination.0);
        let ports = u64::from(tuple.source_port) << 16 | u64::from(tuple.destination_port);
        let addresses = if tuple.source.is_v4() {
            u64::from(tuple.source.low()) << 32 | u64::from(tuple.destination.low())
        } else {
            let high = fold((source >> 64) as u64 ^ a, (destination >> 64) as u64 ^ b);
            fold(source as u64 ^ high, destination as u64 ^ c)
        };
        // Once is not enough: neighbouring ports would stand in a row.
        let ports = ports ^ self.protocol_keys[entry::protocol_code(tuple.protocol)];
        fold(fold(addresses ^ d, ports) ^ a, c)
    }

    /// Asks the processor to fetch the index line of this hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The entry in a slot.
    #[inline(always)]
    pub fn entry(&self, slot: Slot) -> &Entry {
        let index = slot.0 as usize;
        &self.entries[if index < self.entries.len() { index } else { 0 }]
    }

    /// What the index names for this hash, not verified yet; the entry is on its way to the cache.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Guess {
        let guess = self.index.guess(hash);
        if let Some(candidate) = guess.candidate() {
            crate::memory::prefetch(&self.entries, candidate.slot.0 as usize);
        }
        guess
    }

    /// The entry that a guess names, if it is of this direction.
    #[inline(always)]
    pub fn guessed(&self, guess: Guess, direction: Direction) -> Option<&Entry> {
        self.entries.get(guess.slot(direction)?.0 as usize)
    }

    /// The live connection that a packet belongs to.
    #[inline]
    pub fn find(&self, tuple: &Tuple, hash: u64, reals: &Reals) -> Option<(Slot, Direction)> {
        self.index
            .find(hash, |candidate| self.is_match(candidate, tuple, reals))
            .map(|found| (found.slot, found.direction))
    }

    #[inline(always)]
    fn is_match(&self, candidate: Candidate, tuple: &Tuple, reals: &Reals) -> bool {
        self.is_entry(self.entry(candidate.slot), candidate.direction, tuple, reals)
    }

    /// Whether a packet with this tuple belongs to an entry that was found under its hash.
    #[inline(always)]
    pub fn is_entry(&self, entry: &Entry, side: Direction, tuple: &Tuple, reals: &Reals) -> bool {
        match side {
            Direction::Forward => entry.is_from_client(tuple),
            Direction::Reply => {
                entry.is_alive_as(tuple) && self.is_reply(entry, entry.meta(), tuple, reals)
            }
        }
    }

    #[inline(always)]
    fn is_reply(&self, entry: &Entry, meta: Meta, tuple: &Tuple, reals: &Reals) -> bool {
        let [client_port, virtual_port, real_port, local_port] = entry.ports();
        let (from, from_port) = if meta.via.rewrites_replies() {
            (reals.address(entry.real()), real_port)
        } else {
            (entry.virtual_address(), virtual_port)
        };
        let to_client = if meta.via == Via::FullNat {
            reals.local_address(meta.local) == tuple.destination
                && local_port == tuple.destination_port
        } else {
            entry.has_client(tuple.destination) && client_port == tuple.destination_port
        };
        to_client && from == tuple.source && from_port == tuple.source_port
    }

    /// The tuple of packets from the client.
    pub fn forward_tuple(entry: &Entry) -> Tuple {
        let [client_port, virtual_port, ..] = entry.ports();
        let meta = entry.meta();
        Tuple {
            protocol: meta.protocol,
            source: entry.client(),
            source_port: client_port,
            destination: entry.virtual_address(),
            destination_port: virtual_port,
            template: meta.flags.has(Flags::TEMPLATE),
        }
    }

    /// The tuple of packets from the real server.
    pub fn reply_tuple(entry: &Entry, reals: &Reals) -> Tuple {
        let meta = entry.meta();
        let [client_port, virtual_port, real_port, local_port] = entry.ports();
        let (source, source_port) = if meta.via.rewrites_replies() {
            (reals.address(entry.real()), real_port)
        } else {
            (entry.virtual_address(), virtual_port)
        };
        let (destination, destination_port) = if meta.via == Via::FullNat {
            (reals.local_address(meta.local), local_port)
        } else {
            (entry.client(), client_port)
        };
        let template = false;
        let protocol = meta.protocol;
        Tuple { protocol, source, source_port, destination, destination_port, template }
    }

    /// Stores a connection or template.
    ///
    /// # Errors
    /// The connection that has one of its tuples already, or that the table is full. Nothing is
    /// stored then.
    pub fn insert(
        &self,
        owned: &mut Owned,
        new: &NewConnection,
        reals: &Reals,
        now: Tick,
    ) -> Result<Slot, NotInserted> {
        let slot = self.pool.allocate(owned).ok_or(NotInserted::Full)?;
        let entry = self.entry(slot);
        let wants_reply = !new.flags.has(Flags::TEMPLATE) && !new.flags.has(Flags::NO_CLIENT_PORT);
        let flags = if wants_reply { new.flags.with(Flags::REPLY_INDEXED) } else { new.flags };
        entry.write(&NewConnection { flags, ..*new }, now);
        // Before anybody can find the entry: who removes it at once sets an earlier alarm, and takes
        // it off the counts.
        self.wake[slot.0 as usize].store(alarm(now.after(new.timeout)), Relaxed);
        self.count(flags);
        if let Err(refused) = self.index_both(slot, entry, wants_reply, reals) {
            // Who found it meanwhile and removed it has the slot retired by the sweep.
            if entry.die() {
                self.discount(flags);
                self.collect(owned, slot);
            }
            return Err(refused);
        }
        self.changed(slot);
        Ok(slot)
    }

    fn count(&self, flags: Flags) {
        self.live.fetch_add(1, Relaxed);
        if flags.has(Flags::NO_CLIENT_PORT) {
            self.without_client_port.fetch_add(1, Relaxed);
        }
    }

    fn discount(&self, flags: Flags) {
        self.live.fetch_sub(1, Relaxed);
        if flags.has(Flags::NO_CLIENT_PORT) {
            self.without_client_port.fetch_sub(1, Relaxed);
        }
    }

    fn index_both(
        &self,
        slot: Slot,
        entry: &Entry,
        wants_reply: bool,
        reals: &Reals,
    ) -> Result<(), NotInserted> {
        let forward = Self::forward_tuple(entry);
        let hash = self.hash(&forward);
        let candidate = Candidate { slot, direction: Direction::Forward };
        match self.index.insert(hash, candidate, |c| self.is_match(c, &forward, reals)) {
            Ok(()) => {}
            Err(Refused::Exists(other)) => return Err(NotInserted::Exists(other.slot)),
            Err(Refused::Full) => return Err(NotInserted::Full),
        }
        if !wants_reply {
            return Ok(());
        }
        let reply = Self::reply_tuple(entry, reals);
        let reply_hash = self.hash(&reply);
        let candidate = Candidate { slot, direction: Direction::Reply };
        match self.index.insert(reply_hash, candidate, |c| self.is_match(c, &reply, reals)) {
            Ok(()) => {
                // Somebody who found it by its first cell may have removed it before it had the second.
                // The bucket's lock has ordered the two: either that removal saw this cell, or its death
                // is seen here.
                if entry.meta().flags.has(Flags::DEAD) {
                    self.index.remove(reply_hash, candidate);
                }
                Ok(())
            }
            Err(refused) => {
                self.index.remove(hash, Candidate { slot, direction: Direction::Forward });
                Err(match refused {
                    Refused::Exists(other) => NotInserted::ReplyExists(other.slot),
                    Refused::Full => NotInserted::Full,
                })
            }
        }
    }

    /// Takes a connection out. `false` when it was out already: exactly one caller gets `true` and
    /// settles the counts. The slot returns to its owner when the sweep next passes.
    #[must_use]
    pub fn remove(&self, slot: Slot, reals: &Reals, now: Tick) -> bool {
        let entry = self.entry(slot);
        if !entry.die() {
            return false;
        }
        let meta = entry.meta();
        let forward = self.hash(&Self::forward_tuple(entry));
        self.index.remove(forward, Candidate { slot, direction: Direction::Forward });
        if meta.flags.has(Flags::REPLY_INDEXED) {
            let reply = self.hash(&Self::reply_tuple(entry, reals));
            self.index.remove(reply, Candidate { slot, direction: Direction::Reply });
        }
        self.discount(meta.flags);
        // Who retires the slot retires it after its cells are gone.
        self.wake_by(slot, now);
        self.changed(slot);
        true
    }

    /// Makes an entry impossible to find while it lives on: for a template whose server is gone but
    /// whose connections are not.
    pub fn hide(&self, slot: Slot) {
        let hash = self.hash(&Self::forward_tuple(self.entry(slot)));
        self.index.remove(hash, Candidate { slot, direction: Direction::Forward });
    }

    /// Whether any connection waits for its client port.
    #[inline]
    pub fn any_without_client_port(&self) -> bool {
        self.without_client_port.load(Relaxed) != 0
    }

    /// Makes the timer `timeout` from now, and the sweep look in time. For timeouts that may be
    /// shorter than the running one; packets of an unchanged state use [`Entry::restart`].
    pub fn reset_timer(&self, slot: Slot, now: Tick, timeout: Ticks) {
        self.entry(slot).set_timer(now, timeout);
        self.wake_by(slot, now.after(timeout));
    }

    /// Makes the sweep look at the slot no later than `at`, unless its entry is gone.
    #[inline]
    pub fn wake_by(&self, slot: Slot, at: Tick) {
        if let Some(wake) = self.wake.get(slot.0 as usize) {
            let is_earlier = |current| current != ASLEEP && at.is_due(Tick(current));
            let earlier = |current| is_earlier(current).then_some(alarm(at));
            let _ = wake.fetch_update(Release, Relaxed, earlier);
        }
    }
}

/// Makes keys that differ little differ much, and small ones large (the finisher of SplitMix64):
/// [`fold`] is as good as the keys that go into it.
const fn scramble(key: u64) -> u64 {
    let key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ key >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ key >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ key >> 31
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}
