//! Reading the table from outside the packet threads, a page at a time.
//!
//! Readers here are not part of the grace period, so an entry may change hands while it is read:
//! its words are read twice and the reading kept only when both agree.

use super::{Connections, Flags, Meta, Slot, Tuple};
use crate::packet_path::Address;
use crate::packet_path::reals::Reals;
use crate::table::RealId;
use crate::tick::{Tick, Ticks};

/// A connection as shown to people and peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionInfo {
    /// Where it is.
    pub slot: Slot,
    /// Client address.
    pub client: Address,
    /// Client port.
    pub client_port: u16,
    /// Virtual address.
    pub virtual_address: Address,
    /// Virtual port.
    pub virtual_port: u16,
    /// The real server.
    pub real: RealId,
    /// The real server's address.
    pub real_address: Address,
    /// Port on the real server.
    pub real_port: u16,
    /// Full NAT: source address and port towards the real server.
    pub local: Option<(Address, u16)>,
    /// State, method, flags.
    pub meta: Meta,
    /// Time left.
    pub remaining: Ticks,
    /// Lifetime after each packet.
    pub timeout: Ticks,
    /// Packets from the client, modulo 1024.
    pub packets: u16,
    /// Its template or FTP control connection.
    pub control: Option<Slot>,
}

/// Which connection is meant. A slot alone names whatever is in it by then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Where it was seen.
    pub slot: Slot,
    /// What it is found by.
    pub tuple: Tuple,
    /// Its real server.
    pub real: RealId,
}

impl ConnectionInfo {
    /// To name it by, once it may have ended.
    pub const fn identity(&self) -> Identity {
        let tuple = Tuple {
            protocol: self.meta.protocol,
            source: self.client,
            source_port: self.client_port,
            destination: self.virtual_address,
            destination_port: self.virtual_port,
            template: self.meta.flags.has(Flags::TEMPLATE),
        };
        Identity { slot: self.slot, tuple, real: self.real }
    }
}

/// Connections, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What was found.
    pub connections: Vec<ConnectionInfo>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<u32>,
}

impl Connections {
    /// Up to `limit` live connections from slot `from` on. Looks at no more than 64 times as many
    /// slots, so that no call is long; a page may be short or empty and still have a next one.
    pub fn page(&self, from: u32, limit: usize, reals: &Reals, now: Tick) -> Page {
        let end = u32::try_from(self.pool.touched()).unwrap_or(u32::MAX);
        let most = u32::try_from(limit.saturating_mul(64)).unwrap_or(u32::MAX);
        let stop = from.saturating_add(most).min(end);
        let mut page = Page::default();
        let mut slot = from.max(1);
        while slot < stop && page.connections.len() < limit {
            page.connections.extend(self.info(Slot(slot), reals, now));
            slot += 1;
        }
        page.next = (slot < end).then_some(slot);
        page
    }

    /// Whether the connection that is meant lives. Only inside a batch does the answer last: its slot
    /// has no other tenant until the batch ends.
    pub fn is_alive(&self, meant: &Identity) -> bool {
        let entry = self.entry(meant.slot);
        entry.is_from_client(&meant.tuple) && entry.real() == meant.real
    }

    /// One live connection as shown to people.
    pub fn info(&self, slot: Slot, reals: &Reals, now: Tick) -> Option<ConnectionInfo> {
        let first = self.read(slot, reals, now)?;
        let second = self.read(slot, reals, now)?;
        let same = first.client == second.client
            && first.virtual_address == second.virtual_address
            && first.client_port == second.client_port
            && first.virtual_port == second.virtual_port
            && first.real == second.real;
        same.then_some(second)
    }

    fn read(&self, slot: Slot, reals: &Reals, now: Tick) -> Option<ConnectionInfo> {
        let entry = self.entry(slot);
        let meta = entry.meta();
        let [client_port, virtual_port, real_port, local_port] = entry.ports();
        // A slot that was never used is all zeroes: no connection has such a virtual address.
        if meta.flags.has(Flags::DEAD) || entry.virtual_address().0 == 0 {
            return None;
        }
        let full_nat = meta.via == super::Via::FullNat;
        Some(ConnectionInfo {
            slot,
            client: entry.client(),
            client_port,
            virtual_address: entry.virtual_address(),
            virtual_port,
            real: entry.real(),
            real_address: reals.address(entry.real()),
            real_port,
            local: full_nat.then(|| (reals.local_address(meta.local), local_port)),
            meta,
            remaining: entry.expires().remaining(now),
            timeout: entry.timeout(),
            packets: entry.packets(),
            control: entry.control(),
        })
    }
}
