//! One connection in one cache line.
//!
//! Eight atomic words, so that any worker may read an entry while another changes its state. The
//! words that identify a connection never change between its publication in the index and the end
//! of the grace period after its removal (see [`super::slots`]), so relaxed loads are enough.
//!
//! | word | content |
//! | --- | --- |
//! | 0 .. 3 | client and virtual address (for templates of mark services: the mark), 32 bits of each in a word, lowest first: word 0 is all of an IPv4 pair |
//! | 4 | virtual port, client port, real port, local port (full NAT) or count of controlled connections |
//! | 5 | real server; controlling connection, or, in a template, count of controlled connections |
//! | 6 | expiry tick, timeout in seconds (22 bits), packets seen (10 bits) |
//! | 7 | protocol, method, state, local address, family, flags, peer |

mod meta;

pub(super) use meta::protocol_code;
pub use meta::{Flags, Meta, Via};

use super::{Slot, Tuple};
use crate::packet_path::Address;
use crate::sync::AtomicU64;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::table::RealId;
use crate::tick::{Tick, Ticks};

/// Everything that a new connection is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewConnection {
    /// Protocol number; 0 for templates of mark services.
    pub protocol: u8,
    /// Client address, masked in templates.
    pub client: Address,
    /// Client port; 0 in templates.
    pub client_port: u16,
    /// Virtual address; for templates of mark services the mark as an address.
    pub virtual_address: Address,
    /// Virtual port.
    pub virtual_port: u16,
    /// The real server.
    pub real: RealId,
    /// The real server's address; part of the key of replies under NAT.
    pub real_address: Address,
    /// Port on the real server.
    pub real_port: u16,
    /// Forwarding method.
    pub via: Via,
    /// Full NAT: index of the source address in the address book.
    pub local: u8,
    /// Full NAT: the source address itself.
    pub local_address: Address,
    /// Full NAT: source port.
    pub local_port: u16,
    /// Initial state number.
    pub state: u8,
    /// Initial flags.
    pub flags: Flags,
    /// Controlling template or FTP connection.
    pub control: Option<Slot>,
    /// Where replies go by MAC: index in the peer book, 0 for none.
    pub peer: u16,
    /// Lifetime after each packet, until the first change of state.
    pub timeout: Ticks,
}

/// One connection or persistence template.
#[repr(align(64))]
#[derive(Debug, Default)]
pub struct Entry([AtomicU64; 8]);

const TIMEOUT_BITS: u32 = 22;
const TIMEOUT_MASK: u64 = (1 << TIMEOUT_BITS) - 1;

impl Entry {
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.0[index].load(Relaxed)
    }

    /// Two 128-bit numbers in four words: the first in the upper halves, the second in the lower.
    fn set_ends(&self, first: u128, second: u128) {
        for (place, shift) in self.0.iter().zip([0, 32, 64, 96]) {
            let (upper, lower) = ((first >> shift) as u32, (second >> shift) as u32);
            place.store(u64::from(upper) << 32 | u64::from(lower), Relaxed);
        }
    }

    #[inline(always)]
    fn end(&self, shift: u32) -> u128 {
        let lane = |index| u128::from((self.word(index) >> shift) as u32);
        lane(3) << 96 | lane(2) << 64 | lane(1) << 32 | lane(0)
    }

    /// Fills a free slot; the caller publishes it in the index afterwards.
    pub(super) fn write(&self, new: &NewConnection, now: Tick) {
        self.set_ends(new.client.0, new.virtual_address.0);
        let local_port = if new.via == Via::FullNat { new.local_port } else { 0 };
        let ports = u64::from(new.client_port) << 16
            | u64::from(new.virtual_port)
            | u64::from(new.real_port) << 32
            | u64::from(local_port) << 48;
        self.0[4].store(ports, Relaxed);
        let control = new.control.map_or(0, |slot| slot.0);
        self.0[5].store(u64::from(new.real.0) | u64::from(control) << 32, Relaxed);
        self.set_timing(now.after(new.timeout), new.timeout, 0);
        let meta = Meta {
            protocol: new.protocol,
            via: new.via,
            state: new.state,
            local: new.local,
            flags: new.flags,
            peer: new.peer,
        };
        // Whoever sees it alive, without having found it in the index, sees the rest of it.
        self.0[7].store(meta.pack() | family(new.client), Release);
    }

    fn set_timing(&self, expires: Tick, timeout: Ticks, packets: u64) {
        let seconds = u64::from(timeout.as_secs()) & TIMEOUT_MASK;
        let word = u64::from(expires.0) | seconds << 32 | (packets & 0x3ff) << (32 + TIMEOUT_BITS);
        self.0[6].store(word, Relaxed);
    }

    /// Restarts the timer and counts a packet. Two workers may race here; one restart wins, which
    /// is as right as the other.
    #[inline(always)]
    pub fn restart(&self, now: Tick, timeout: Ticks) {
        let packets = (self.word(6) >> (32 + TIMEOUT_BITS)) + 1;
        self.set_timing(now.after(timeout), timeout, packets);
    }

    /// As [`Entry::restart`] if it lives beyond `now` and `timeout` is the running one; else nothing
    /// happens and the answer is `false`. `packets` are counted.
    #[inline(always)]
    #[must_use]
    pub fn renew(&self, now: Tick, timeout: Ticks, packets: u64) -> bool {
        let word = self.word(6);
        let running = word >> 32 & TIMEOUT_MASK == u64::from(timeout.as_secs());
        if !running || Tick(word as u32).is_due(now) {
            return false;
        }
        let upper = (word >> 32).wrapping_add(packets << TIMEOUT_BITS);
        self.0[6].store(upper << 32 | u64::from(now.after(timeout).0), Relaxed);
        true
    }

    /// Changes timer and timeout without counting a packet.
    pub fn set_timer(&self, now: Tick, timeout: Ticks) {
        let packets = self.word(6) >> (32 + TIMEOUT_BITS);
        self.set_timing(now.after(timeout), timeout, packets);
    }

    /// Moves only the expiry, keeping the timeout.
    pub fn set_expiry(&self, expires: Tick) {
        let word = self.word(6) & !0xffff_ffff | u64::from(expires.0);
        self.0[6].store(word, Relaxed);
    }

    /// When it expires unless a packet comes.
    #[inline(always)]
    pub fn expires(&self) -> Tick {
        Tick(self.word(6) as u32)
    }

    /// Lifetime after each packet.
    pub fn timeout(&self) -> Ticks {
        Ticks::from_secs((self.word(6) >> 32 & TIMEOUT_MASK) as u32)
    }

    /// Packets from the client, modulo 1024.
    pub fn packets(&self) -> u16 {
        (self.word(6) >> (32 + TIMEOUT_BITS)) as u16
    }

    /// The fields of the last word.
    #[inline(always)]
    pub fn meta(&self) -> Meta {
        Meta::unpack(self.word(7))
    }

    /// The state number, as in [`Meta`].
    #[inline(always)]
    pub fn state(&self) -> u8 {
        (self.word(7) >> 8) as u8
    }

    /// Changes the last word as `change` says, or gives up when it answers `None`. Returns the
    /// fields before the change.
    #[inline(always)]
    pub fn update_meta(&self, change: impl Fn(Meta) -> Option<Meta>) -> Result<Meta, Meta> {
        self.0[7]
            .fetch_update(Relaxed, Relaxed, |word| {
                change(Meta::unpack(word)).map(|meta| meta.pack() | word & FAMILY)
            })
            .map(Meta::unpack)
            .map_err(Meta::unpack)
    }

    /// Marks it removed. `false` when it was so already.
    pub(super) fn die(&self) -> bool {
        self.mark(Flags::default(), Flags::DEAD)
    }

    /// Marks the slot of a removed entry retired. `false` when it was so already, or holds a live
    /// entry again: a slot is retired once for each entry, whatever alarms were set for it.
    pub(super) fn retire(&self) -> bool {
        self.mark(Flags::DEAD, Flags::RETIRED)
    }

    /// Sets `flag` where `needed` is set and `flag` is not. Whether it did.
    fn mark(&self, needed: Flags, flag: Flags) -> bool {
        let bits = |flags: Flags| u64::from(flags.0) << FLAGS;
        let change = |word| {
            let fit = word & bits(needed) == bits(needed) && word & bits(flag) == 0;
            fit.then_some(word | bits(flag))
        };
        self.0[7].fetch_update(AcqRel, Acquire, change).is_ok()
    }

    /// The client's address.
    #[inline(always)]
    pub fn client(&self) -> Address {
        Address(self.end(32))
    }

    /// The virtual address.
    #[inline(always)]
    pub fn virtual_address(&self) -> Address {
        Address(self.end(0))
    }

    /// The virtual address of an entry of this family: of an IPv4 one, a single load.
    #[inline(always)]
    pub fn virtual_address_in(&self, v4: bool) -> Address {
        if v4 { Address::v4(self.word(0) as u32) } else { self.virtual_address() }
    }

    /// Client, virtual, real and local port.
    #[inline(always)]
    pub fn ports(&self) -> [u16; 4] {
        let word = self.word(4);
        [(word >> 16) as u16, word as u16, (word >> 32) as u16, (word >> 48) as u16]
    }

    /// The real server.
    #[inline(always)]
    pub fn real(&self) -> RealId {
        RealId(self.word(5) as u32)
    }

    /// The controlling template or FTP connection.
    pub fn control(&self) -> Option<Slot> {
        if self.meta().flags.has(Flags::TEMPLATE) {
            return None;
        }
        match (self.word(5) >> 32) as u32 {
            0 => None,
            slot => Some(Slot(slot)),
        }
    }

    /// How many connections it controls.
    pub fn controls(&self) -> u32 {
        let meta = self.meta();
        if meta.flags.has(Flags::TEMPLATE) {
            (self.word(5) >> 32) as u32
        } else if meta.via == Via::Nat {
            u32::from(self.ports()[3])
        } else {
            0
        }
    }

    /// Counts one controlled connection more. `false` when the count is full.
    #[must_use]
    pub fn add_controlled(&self) -> bool {
        let (index, shift, limit) = self.counter();
        self.0[index]
            .fetch_update(Relaxed, Relaxed, |word| {
                (word >> shift < limit).then(|| word + (1 << shift))
            })
            .is_ok()
    }

    /// Counts one controlled connection less.
    pub fn remove_controlled(&self) {
        let (index, shift, _) = self.counter();
        let _ = self.0[index].fetch_update(Relaxed, Relaxed, |word| {
            (word >> shift > 0).then(|| word - (1 << shift))
        });
    }

    fn counter(&self) -> (usize, u32, u64) {
        if self.meta().flags.has(Flags::TEMPLATE) {
            (5, 32, u64::from(u32::MAX))
        } else {
            (4, 48, u64::from(u16::MAX))
        }
    }

    /// Whether a packet from the client belongs to it. The differences of all words are gathered
    /// and judged once: a branch for each would cost more than it saves.
    #[inline(always)]
    pub(in crate::packet_path) fn is_from_client(&self, tuple: &Tuple) -> bool {
        self.has_ends(tuple) && self.is_alive_as(tuple)
    }

    /// As [`Entry::is_from_client`], of an entry that forwards this way, is in this state and neither
    /// young nor doomed.
    #[inline(always)]
    pub(in crate::packet_path) fn is_from_client_by<const VIA: u8>(
        &self,
        tuple: &Tuple,
        state: u8,
    ) -> bool {
        const MORE: u64 = ((Flags::YOUNG.0 | Flags::DOOMED.0) as u64) << FLAGS | 0xff00 | 7;
        let wanted = identity(tuple) | u64::from(VIA) | u64::from(state) << 8;
        self.has_ends(tuple) && self.word(7) & (IDENTITY | MORE) == wanted
    }

    /// Whether a packet from the real server at this address belongs to it, it is under plain NAT,
    /// in this state, and nothing else is to be done to the packet: no shifting, no return by MAC, no reset.
    #[inline(always)]
    pub(in crate::packet_path) fn is_nat_from_real(
        &self,
        tuple: &Tuple,
        real: Address,
        state: u8,
    ) -> bool {
        const UNWANTED: u16 = Flags::NO_OUTPUT.0 | Flags::SHIFTED.0 | Flags::DOOMED.0;
        const PEER: u64 = 0xffff << 48;
        const MORE: u64 = PEER | (UNWANTED as u64) << FLAGS | 0xff00 | 7;
        let wanted = identity(tuple) | Via::Nat as u64 | u64::from(state) << 8;
        // Real port and client port.
        let ports = u32::from(tuple.source_port) << 16 | u32::from(tuple.destination_port);
        (self.word(4) >> 16) as u32 == ports
            && self.word(7) & (IDENTITY | MORE) == wanted
            && self.has_client(tuple.destination)
            && real == tuple.source
    }

    /// Whether client, virtual address and their ports are the tuple's. [`identity`] tells the
    /// families apart.
    #[inline(always)]
    fn has_ends(&self, tuple: &Tuple) -> bool {
        let (client, vip) = (tuple.source.0, tuple.destination.0);
        let ports = u64::from(tuple.source_port) << 16 | u64::from(tuple.destination_port);
        let lane = |index: usize, shift: u32| {
            self.word(index)
                ^ (u64::from((client >> shift) as u32) << 32 | u64::from((vip >> shift) as u32))
        };
        let mut different = lane(0, 0) | self.word(4) & 0xffff_ffff ^ ports;
        if !tuple.source.is_v4() {
            different |= lane(1, 32) | lane(2, 64) | lane(3, 96);
        }
        different == 0
    }

    /// Whether its client has this address. [`identity`] tells the families apart.
    #[inline(always)]
    pub(super) fn has_client(&self, address: Address) -> bool {
        if address.is_v4() {
            (self.word(0) >> 32) as u32 == address.low()
        } else {
            self.client() == address
        }
    }

    /// Whether it is alive and what the tuple is of: protocol, family, template or not.
    #[inline(always)]
    pub(super) fn is_alive_as(&self, tuple: &Tuple) -> bool {
        self.word(7) & IDENTITY == identity(tuple)
    }
}

/// Where the flags are in word 7.
const FLAGS: u32 = 32;
/// Set in word 7 of an entry whose client is an IPv6 one.
const FAMILY: u64 = 1 << 24;
/// The bits of word 7 that tell whether an entry is alive and of which kind.
const IDENTITY: u64 = ((Flags::DEAD.0 | Flags::TEMPLATE.0) as u64) << 32 | FAMILY | 0x1f << 3;

/// What the [`IDENTITY`] bits of the tuple's entry are.
#[inline(always)]
fn identity(tuple: &Tuple) -> u64 {
    let template = if tuple.template { u64::from(Flags::TEMPLATE.0) << 32 } else { 0 };
    (protocol_code(tuple.protocol) as u64) << 3 | family(tuple.source) | template
}

#[inline(always)]
const fn family(client: Address) -> u64 {
    if client.is_v4() { 0 } else { FAMILY }
}

#[cfg(test)]
mod tests;
