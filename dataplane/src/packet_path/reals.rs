//! What changes about real servers while packets flow: how many connections each has, and whether
//! it has too many. Shared by all workers, indexed by [`RealId`].

use super::schedule;
use super::schedule::threshold::Thresholds;
use super::schedule::{Changes, Loads};
use super::sources::{MOST_SOURCES, Sources};
use crate::table::Address;
use crate::table::{Mac, PortId, Real, RealId};
use crate::tick::{Tick, Ticks};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections of one real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Established, or on the way there.
    pub active: u32,
    /// All other connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Takes no new connections until enough have ended (IPVS `OVERLOAD`).
    pub overloaded: bool,
}

impl Load {
    /// The part that a scheduler may know.
    pub fn for_scheduler(self) -> schedule::Load {
        schedule::Load { active: self.active, inactive: self.inactive, overloaded: self.overloaded }
    }
}

/// Run-time state of one real server. One cache line, so that two servers never share one.
#[repr(align(64))]
#[derive(Debug, Default)]
struct State {
    address: [AtomicU64; 2],
    active: AtomicU32,
    inactive: AtomicU32,
    persistent: AtomicU32,
    overloaded: AtomicU32,
    upper: AtomicU32,
    lower: AtomicU32,
    /// Whether a scheduler wants to know when the load changes.
    followed: AtomicU32,
    /// The largest packet that the path of a tunnel to it carries, or [`NO_LIMIT`].
    path_limit: AtomicU32,
}

impl State {
    fn unlimited() -> Self {
        Self { path_limit: AtomicU32::new(NO_LIMIT), ..Self::default() }
    }

    #[inline(always)]
    fn address(&self) -> Address {
        let [high, low] = &self.address;
        Address(u128::from(high.load(Relaxed)) << 64 | u128::from(low.load(Relaxed)))
    }

    #[inline(always)]
    fn path_limit(&self, mtu: u16) -> u16 {
        // No more than `mtu`, so it fits.
        self.path_limit.load(Relaxed).min(u32::from(mtu)) as u16
    }

    /// `None` lifts the limit.
    fn limit_path(&self, limit: Option<u16>) {
        self.path_limit.store(limit.map_or(NO_LIMIT, u32::from), Relaxed);
    }
}

/// Larger than any packet.
const NO_LIMIT: u32 = u32::MAX;

/// How long a path's limit is believed (RFC 1191 section 6.3).
const PATH_LIMIT_KEPT: Ticks = Ticks::from_secs(600);

/// Run-time state of all real servers, and the two small books that connections refer to by number.
#[derive(Debug)]
pub struct Reals {
    states: Box<[State]>,
    /// When which path limits end.
    limits: Mutex<BTreeMap<RealId, Tick>>,
    changes: Changes,
    sources: Sources,
    peers: Box<[AtomicU64]>,
}

/// Places in the book of client-side MACs; a full book means that replies follow the routes.
const PEERS: usize = 4096;

impl Reals {
    /// Room for `count` real servers.
    pub fn new(count: usize) -> Self {
        let fill = |n| std::iter::repeat_with(AtomicU64::default).take(n).collect();
        Self {
            states: std::iter::repeat_with(State::unlimited).take(count).collect(),
            limits: Mutex::default(),
            changes: Changes::new(count),
            sources: Sources::new(MOST_SOURCES),
            peers: fill(PEERS),
        }
    }

    /// Real servers that there is room for.
    pub fn capacity(&self) -> usize {
        self.states.len()
    }

    #[inline]
    fn state(&self, id: RealId) -> Option<&State> {
        self.states.get(id.0 as usize)
    }

    /// Takes over what a newly published table says about a server. `followed`: its service's
    /// scheduler is to be told of each change of the load.
    pub fn configure(&self, real: &Real, followed: bool) {
        let Some(state) = self.state(real.id) else { return };
        let address = Address::from(real.address).0;
        if state.address().0 != address {
            self.limits().remove(&real.id);
            state.limit_path(None);
        }
        state.address[0].store((address >> 64) as u64, Relaxed);
        state.address[1].store(address as u64, Relaxed);
        state.followed.store(followed.into(), Relaxed);
        let old = thresholds(state);
        state.upper.store(real.upper, Relaxed);
        state.lower.store(real.lower, Relaxed);
        let overloaded = state.overloaded.load(Relaxed) != 0;
        let still = old.after_edit(Thresholds::from(real), overloaded, total(state));
        state.overloaded.store(still.into(), Relaxed);
        self.tell_scheduler(real.id, state);
    }

    /// To be called after every change of a load.
    #[inline]
    fn tell_scheduler(&self, id: RealId, state: &State) {
        if state.followed.load(Relaxed) != 0 {
            self.changes.mark(id);
        }
    }

    /// The server's address; it stays the same for as long as any connection refers to the id.
    #[inline]
    pub fn address(&self, id: RealId) -> Address {
        self.state(id).map_or(Address(0), State::address)
    }

    /// Its connections now.
    pub fn load(&self, id: RealId) -> Load {
        self.state(id).map_or_else(Load::default, |state| Load {
            active: state.active.load(Relaxed),
            inactive: state.inactive.load(Relaxed),
            persistent: state.persistent.load(Relaxed),
            overloaded: state.overloaded.load(Relaxed) != 0,
        })
    }

    /// The network said that packets to this server must be no larger than `mtu` bytes. A limit is
    /// only ever lowered while it lasts (RFC 1191 section 3).
    pub fn limit_path(&self, id: RealId, mtu: u16, now: Tick) {
        let Some(state) = self.state(id) else { return };
        let mut limits = self.limits();
        state.limit_path(Some(state.path_limit(mtu)));
        limits.insert(id, now.after(PATH_LIMIT_KEPT));
    }

    /// Lifts the path limits whose time is up.
    pub fn expire_limits(&self, now: Tick) {
        self.limits().retain(|id, until| {
            let keep = !until.is_due(now);
            if let (false, Some(state)) = (keep, self.state(*id)) {
                state.limit_path(None);
            }
            keep
        });
    }

    fn limits(&self) -> MutexGuard<'_, BTreeMap<RealId, Tick>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest packet for the path to this server, out of an interface that carries `mtu`.
    #[inline]
    pub fn path_limit(&self, id: RealId, mtu: u16) -> u16 {
        self.state(id).map_or(mtu, |state| state.path_limit(mtu))
    }

    /// What [`Reals::address`] and [`Reals::path_limit`] answer, with one look.
    #[inline(always)]
    pub fn path(&self, id: RealId, mtu: u16) -> Option<(Address, u16)> {
        let state = self.state(id)?;
        Some((state.address(), state.path_limit(mtu)))
    }

    /// A connection was opened; new ones are inactive until their state says otherwise.
    pub fn bind(&self, id: RealId, active: bool) {
        let Some(state) = self.state(id) else { return };
        if active { &state.active } else { &state.inactive }.fetch_add(1, Relaxed);
        if thresholds(state).after_bind(false, total(state)) {
            state.overloaded.store(1, Relaxed);
        }
        self.tell_scheduler(id, state);
    }

    /// A connection ended.
    pub fn unbind(&self, id: RealId, active: bool) {
        let Some(state) = self.state(id) else { return };
        decrement(if active { &state.active } else { &state.inactive });
        if state.overloaded.load(Relaxed) != 0
            && !thresholds(state).after_unbind(true, total(state))
        {
            state.overloaded.store(0, Relaxed);
        }
        self.tell_scheduler(id, state);
    }

    /// A connection became active or inactive.
    pub fn shift(&self, id: RealId, active: bool) {
        let Some(state) = self.state(id) else { return };
        let (from, to) = if active {
            (&state.inactive, &state.active)
        } else {
            (&state.active, &state.inactive)
        };
        decrement(from);
        to.fetch_add(1, Relaxed);
        self.tell_scheduler(id, state);
    }

    /// A persistence template was made or ended.
    pub fn count_template(&self, id: RealId, made: bool) {
        let Some(state) = self.state(id) else { return };
        if made {
            state.persistent.fetch_add(1, Relaxed);
        } else {
            decrement(&state.persistent);
        }
    }

    /// The addresses that full NAT sends from.
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The full-NAT source address with this number.
    #[inline]
    pub fn local_address(&self, number: u8) -> Address {
        self.sources.address(number)
    }

    /// A number for "replies go to this MAC by this port"; 0 when the book is full.
    pub fn peer_number(&self, mac: Mac, port: PortId) -> u16 {
        // Bit 48 tells an entry from an empty place; the port, below 32768, stands above it.
        let key = mac_bits(mac) | 1 << 48;
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % PEERS;
        for step in 0..16 {
            let place = (start + step) % PEERS;
            if place == 0 {
                continue;
            }
            let wanted = key | u64::from(port.0) << 49;
            match self.peers[place].compare_exchange(0, wanted, Relaxed, Relaxed) {
                Ok(_) => return u16::try_from(place).unwrap_or(0),
                Err(current) if current == wanted => return u16::try_from(place).unwrap_or(0),
                Err(_) => {}
            }
        }
        0
    }

    /// What a peer number stands for.
    pub fn peer(&self, number: u16) -> Option<(Mac, PortId)> {
        let bits = self.peers.get(usize::from(number))?.load(Relaxed);
        if number == 0 || bits == 0 {
            return None;
        }
        let [_, _, mac @ ..] = bits.to_be_bytes();
        Some((mac, PortId((bits >> 49) as u16)))
    }
}

impl Loads for Reals {
    fn of(&self, real: RealId) -> schedule::Load {
        self.load(real).for_scheduler()
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }
}

fn mac_bits(mac: Mac) -> u64 {
    mac.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

fn thresholds(state: &State) -> Thresholds {
    Thresholds { upper: state.upper.load(Relaxed), lower: state.lower.load(Relaxed) }
}

fn total(state: &State) -> u32 {
    state.active.load(Relaxed).saturating_add(state.inactive.load(Relaxed))
}

/// Counts down, never below zero: a peer may have told us of an end without its beginning.
fn decrement(counter: &AtomicU32) {
    let _ = counter.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
}
