//! The packet path's connections, as peers tell them to each other.
//!
//! Whose a connection is follows from who is master for its VIP. A director tells what it is master of,
//! and what it opened itself while it was; it takes in what it is not master of, and, of the rest, only
//! what it does not have.

use super::connection::{Change, Connection, Key, Traits};
use super::replica::{Page, Sink, Source};
use dataplane::packet_path::Director;
use dataplane::packet_path::adopt::{NotAdopted, Told};
use dataplane::packet_path::connections::{ConnectionInfo, Flags, Seen, Slot, Tuple};
use dataplane::packet_path::states;
use dataplane::tick::{PER_SECOND, Tick, Ticks};
use dataplane::worker::Dataplane;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Connections looked at in one piece after a snapshot.
const PAGE: usize = 4096;

/// Connections told again in one go because their copies would expire; more wait a second.
const MOST_REFRESHED: usize = 20_000;

/// What came of the peer's connections.
#[derive(Debug, Default)]
pub struct Taken {
    /// Taken in or brought up to date.
    pub adopted: AtomicU64,
    /// Not taken: no such service or real server here, or the table is full.
    pub refused: AtomicU64,
}

/// Both ends of replication on the packet path's table.
#[derive(Debug)]
pub struct Table {
    dataplane: Arc<Dataplane>,
    taken: Arc<Taken>,
    /// During a snapshot: one bit for each slot that it has named.
    named: Option<Vec<u64>>,
}

impl Table {
    /// The table of these workers.
    pub const fn new(dataplane: Arc<Dataplane>, taken: Arc<Taken>) -> Self {
        Self { dataplane, taken, named: None }
    }

    fn apply_one(
        &mut self,
        adopter: &mut dataplane::packet_path::Adopter,
        change: &Change,
        now: Tick,
    ) {
        match change {
            Change::Close(key) => adopter.close(&tuple(key), key.template, now),
            Change::Update(connection) => match adopter.adopt(&told(connection), now) {
                Ok(slot) => {
                    self.taken.adopted.fetch_add(1, Ordering::Relaxed);
                    let word = self.named.as_mut().and_then(|n| n.get_mut(slot.0 as usize / 64));
                    if let Some(word) = word {
                        *word |= 1 << (slot.0 % 64);
                    }
                }
                Err(NotAdopted::Master) => {}
                Err(
                    NotAdopted::NoService
                    | NotAdopted::NoReal
                    | NotAdopted::NotOurSource
                    | NotAdopted::TupleInUse
                    | NotAdopted::TableFull,
                ) => {
                    self.taken.refused.fetch_add(1, Ordering::Relaxed);
                }
            },
        }
    }
}

impl Source for Table {
    fn page(&mut self, cursor: u64, limit: usize) -> Page {
        let from = u32::try_from(cursor).unwrap_or(u32::MAX);
        let page = self.dataplane.connections(from, limit);
        let director = self.dataplane.director();
        let told = page.connections.iter().filter(|info| is_told(director, info));
        Page {
            connections: told.map(|info| connection(director, info)).collect(),
            next: page.next.map(u64::from),
        }
    }
}

impl Sink for Table {
    fn begin(&mut self) {
        let slots = self.dataplane.director().connections().capacity() + 1;
        self.named = Some(vec![0; slots.div_ceil(64)]);
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let dataplane = Arc::clone(&self.dataplane);
        dataplane.adopt(|adopter, now| {
            for change in &changes {
                self.apply_one(adopter, change, now);
            }
        });
    }

    fn end(&mut self) {
        let Some(named) = self.named.take() else { return };
        let is_named = |slot: Slot| {
            named.get(slot.0 as usize / 64).is_some_and(|word| word & 1 << (slot.0 % 64) != 0)
        };
        let mut from = Some(0);
        while let Some(cursor) = from {
            let page = self.dataplane.connections(cursor, PAGE);
            self.dataplane.adopt(|adopter, now| {
                for info in page.connections.iter().filter(|info| !is_named(info.slot)) {
                    adopter.forget(info.slot, now);
                }
            });
            from = page.next;
        }
    }
}

/// Finds what has to be told: what changed, and what the peer's copy would outlive otherwise.
#[derive(Debug)]
pub struct Harvest {
    dataplane: Arc<Dataplane>,
    /// For each slot, what the peer has of it.
    copies: Vec<Copied>,
    looked: Tick,
}

impl Harvest {
    /// A harvest that has told nothing yet. Changes are noted from now on.
    pub fn new(dataplane: Arc<Dataplane>, now: Tick) -> Self {
        let slots = dataplane.director().connections().capacity() + 1;
        dataplane.director().connections().note_changes(true);
        Self { dataplane, copies: vec![Copied::default(); slots], looked: now }
    }

    /// Everything to be told now.
    pub fn take(&mut self, now: Tick) -> Vec<Change> {
        let dataplane = Arc::clone(&self.dataplane);
        let director = dataplane.director();
        let mut changes = Vec::new();
        director.connections().take_changed(|slot| {
            changes.extend(self.change(director, slot, now));
        });
        if now.since(self.looked).0 >= PER_SECOND {
            self.looked = now;
            self.refresh(director, now, &mut changes);
        }
        changes
    }

    fn change(&mut self, director: &Director, slot: Slot, now: Tick) -> Option<Change> {
        let copy = self.copies.get_mut(slot.0 as usize)?;
        match director.connections().look_at_changed(slot, director.reals(), now)? {
            Seen::Live(info) => {
                // A connection that closes before it was ever told is not worth a word.
                let closing = !is_template(&info) && info.meta.flags.has(Flags::INACTIVE);
                let short = info.meta.protocol == 6 && closing && !copy.exists();
                if short || !is_told(director, &info) {
                    return None;
                }
                *copy = Copied::told(&info, now);
                Some(Change::Update(connection(director, &info)))
            }
            Seen::Ended(tuple, template) => {
                let copy = std::mem::take(copy);
                let endpoint = |address: dataplane::packet_path::Address, port| {
                    SocketAddr::new(address.ip(), port)
                };
                (copy.exists() && !copy.ends_by_itself(now)).then(|| {
                    Change::Close(Key {
                        protocol: tuple.protocol,
                        template,
                        client: endpoint(tuple.source, tuple.source_port),
                        vip: endpoint(tuple.destination, tuple.destination_port),
                    })
                })
            }
        }
    }

    fn refresh(&mut self, director: &Director, now: Tick, changes: &mut Vec<Change>) {
        let most = changes.len() + MOST_REFRESHED;
        for (slot, copy) in (0u32..).zip(&mut self.copies) {
            if !copy.exists() || !Tick(copy.due).is_due(now) {
                continue;
            }
            if changes.len() >= most {
                break;
            }
            let info = director.connections().info(Slot(slot), director.reals(), now);
            match info.filter(|info| is_awake(director, info)) {
                Some(info) if copy.outlives(info.remaining, now) => copy.look_later(now),
                Some(info) => {
                    *copy = Copied::told(&info, now);
                    changes.push(Change::Update(connection(director, &info)));
                }
                None => *copy = Copied::default(),
            }
        }
    }
}

/// When the peer's copy of a connection needs a look, and when it ends if nothing more is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Copied {
    /// A tick, or 0: there is no copy.
    due: u32,
    expires: u32,
}

impl Copied {
    fn told(info: &ConnectionInfo, now: Tick) -> Self {
        Self { due: again(info, now), expires: now.after(info.remaining).0 }
    }

    const fn exists(self) -> bool {
        self.due != 0
    }

    /// The copy is as good as gone: nothing has to be said of the end.
    const fn ends_by_itself(self, now: Tick) -> bool {
        Tick(self.expires).is_due(now.after(MOMENT))
    }

    /// No packet has come since it was told, so the copy ends when the connection does.
    const fn outlives(self, remaining: Ticks, now: Tick) -> bool {
        now.after(remaining).is_due(Tick(self.expires).after(MOMENT))
    }

    /// Halfway to the copy's end.
    fn look_later(&mut self, now: Tick) {
        let half = Ticks(Tick(self.expires).remaining(now).0 / 2);
        self.due = now.after(half.max(LEAST)).0.max(1);
    }
}

/// Clocks of two nodes and the way between them are as exact as this.
const MOMENT: Ticks = Ticks(2 * PER_SECOND);

/// Between two looks at one connection.
const LEAST: Ticks = Ticks(5 * PER_SECOND);

impl Drop for Harvest {
    fn drop(&mut self) {
        self.dataplane.director().connections().note_changes(false);
    }
}

/// When a connection is told again though its state stays: well before its copy expires, and not all
/// at once.
fn again(info: &ConnectionInfo, now: Tick) -> u32 {
    let third = info.timeout.0 / 3;
    let spread = (third / 4).saturating_mul(info.slot.0 % 64) / 64;
    let span = (third - spread.min(third)).max(LEAST.0);
    now.after(Ticks(span)).0.max(1)
}

const fn is_template(info: &ConnectionInfo) -> bool {
    info.meta.flags.has(Flags::TEMPLATE)
}

/// Whether this director is master for a connection's VIP.
fn is_awake(director: &Director, info: &ConnectionInfo) -> bool {
    director.table().real(info.real).is_some()
}

/// Whether a connection is this director's to tell, and worth it: not before its handshake is over, so
/// that a SYN flood stays here.
fn is_told(director: &Director, info: &ConnectionInfo) -> bool {
    let meta = &info.meta;
    let ours = !meta.flags.has(Flags::SYNCED) || is_awake(director, info);
    let settled = is_template(info)
        || match meta.protocol {
            6 => !matches!(
                meta.state,
                states::tcp::NONE
                    | states::tcp::SYN_SENT
                    | states::tcp::SYN_RECV
                    | states::tcp::LISTEN
                    | states::tcp::SYNACK
            ),
            132 => meta.state >= states::sctp::ESTABLISHED,
            _ => true,
        };
    ours && settled
}

/// A connection as peers tell it.
pub fn connection(director: &Director, info: &ConnectionInfo) -> Connection {
    let flags = info.meta.flags;
    Connection {
        key: Key {
            protocol: info.meta.protocol,
            template: is_template(info),
            client: SocketAddr::new(info.client.ip(), info.client_port),
            vip: SocketAddr::new(info.virtual_address.ip(), info.virtual_port),
        },
        real: SocketAddr::new(info.real_address.ip(), info.real_port),
        via: info.meta.via,
        state: info.meta.state,
        traits: Traits {
            no_output: flags.has(Flags::NO_OUTPUT),
            inactive: flags.has(Flags::INACTIVE),
            no_client_port: flags.has(Flags::NO_CLIENT_PORT),
            assured: flags.has(Flags::ASSURED),
            controlled: info.control.is_some(),
        },
        timeout: info.timeout,
        remaining: info.remaining,
        mark: 0,
        local: info.local.map(|(address, port)| SocketAddr::new(address.ip(), port)),
        shifts: director.shifts(info).map(Into::into),
    }
}

fn tuple(key: &Key) -> Tuple {
    Tuple {
        protocol: key.protocol,
        template: key.template,
        source: key.client.ip().into(),
        source_port: key.client.port(),
        destination: key.vip.ip().into(),
        destination_port: key.vip.port(),
    }
}

/// A peer's connection as the packet path takes it in.
fn told(connection: &Connection) -> Told {
    let traits = &connection.traits;
    let flags = [
        (connection.key.template, Flags::TEMPLATE),
        (traits.no_output, Flags::NO_OUTPUT),
        (traits.inactive, Flags::INACTIVE),
        (traits.no_client_port, Flags::NO_CLIENT_PORT),
        (traits.assured, Flags::ASSURED),
    ];
    let set = flags.iter().filter(|(is, _)| *is);
    Told {
        tuple: tuple(&connection.key),
        real: connection.real.ip(),
        real_port: connection.real.port(),
        via: connection.via,
        local: connection.local.map(|local| (local.ip(), local.port())),
        state: connection.state,
        flags: set.fold(Flags::default(), |flags, (_, flag)| flags.with(*flag)),
        timeout: connection.timeout,
        remaining: connection.remaining,
        shifts: connection.shifts.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u32) -> Ticks {
        Ticks::from_secs(seconds)
    }

    #[test]
    fn a_copy_of_an_idle_connection_is_looked_at_but_not_told_again() {
        for start in [Tick(1), Tick(u32::MAX - 1000)] {
            let mut copy = Copied { due: 1, expires: start.after(seconds(900)).0 };
            let mut now = start.after(seconds(300));
            for _ in 0..4 {
                let left = Tick(copy.expires).remaining(now);
                assert!(copy.outlives(left, now), "idle");
                assert!(!copy.outlives(Ticks(left.0 + 10 * PER_SECOND), now), "a packet came");
                copy.look_later(now);
                assert!(!Tick(copy.due).is_due(now));
                assert!(Tick(copy.due).is_due(Tick(copy.expires)), "before the copy ends");
                now = Tick(copy.due);
            }
        }
    }

    #[test]
    fn the_end_of_a_connection_is_told_unless_its_copy_ends_by_itself() {
        let now = Tick(5000);
        let ends = |left| Copied { due: 1, expires: now.after(left).0 }.ends_by_itself(now);
        assert!(ends(Ticks(0)) && ends(seconds(1)));
        assert!(!ends(seconds(60)), "killed, or its slot was needed");
    }
}
