//! The servers to choose among, and how busy each is at this moment.

use super::changes::Changes;
use crate::table::{Real, RealId, Service};
use std::sync::Arc;

/// How busy one real server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Connections in an active state (`ActiveConn`).
    pub active: u32,
    /// Other connections (`InActConn`); templates are not among them.
    pub inactive: u32,
    /// Over its threshold, by the rule of [`super::threshold`].
    pub overloaded: bool,
}

impl Load {
    /// What lc, wlc, lblc, lblcr and twos compare: 256 for each active connection and 1 for every
    /// connection. Older kernels than Debian 12's count 1 for the inactive ones only.
    pub(super) fn overhead(self) -> u64 {
        u64::from(self.active) * 257 + u64::from(self.inactive)
    }

    /// What sed and nq compare: the queue that a new connection would join, itself included.
    pub(super) fn expected_delay(self) -> u64 {
        u64::from(self.active) + 1
    }
}

/// Reads the load of a real server.
pub trait Loads {
    /// The load of this server; [`Load::default`] for one that is not known.
    fn of(&self, real: RealId) -> Load;

    /// Where changes of loads are marked. With it long lists are not scanned for each connection;
    /// then every change must be marked for services that
    /// [`follow_loads`](super::SchedulerState::follows_loads).
    fn changes(&self) -> Option<&Changes> {
        None
    }
}

impl<F: Fn(RealId) -> Load> Loads for F {
    fn of(&self, real: RealId) -> Load {
        self(real)
    }
}

/// A server that takes new connections: its weight is not 0 and it is not overloaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub index: usize,
    pub weight: u32,
    pub load: Load,
}

/// The servers in list order, with their loads.
pub(super) struct Pool<'a, L> {
    pub reals: &'a [Real],
    loads: &'a L,
    /// The servers that the packet's own table generation knows, while that differs from `reals`.
    known: Option<&'a [Real]>,
}

impl<'a, L: Loads> Pool<'a, L> {
    /// `reals` is what the scheduler was last told, `service` what the packet sees. They differ for
    /// the moment in which one of the two was already replaced.
    pub fn new(reals: &'a Arc<[Real]>, service: &'a Service, loads: &'a L) -> Self {
        let known = (!Arc::ptr_eq(reals, &service.reals)).then_some(&*service.reals);
        Self { reals, loads, known }
    }

    /// The load of the server at `index`. One that the packet's table does not have counts as
    /// overloaded, so that no scheduler picks it.
    pub fn load(&self, index: usize) -> Load {
        let mut load = self.loads.of(self.reals[index].id);
        load.overloaded |= !self.is_known(index);
        load
    }

    /// Whether the packet's table has the server at `index`.
    pub fn is_known(&self, index: usize) -> bool {
        self.known.is_none_or(|known| known.iter().any(|real| real.id == self.reals[index].id))
    }

    /// Where changes are marked, unless the packet's list is not the one that is followed.
    pub fn changes(&self) -> Option<&'a Changes> {
        self.known.is_none().then(|| self.loads.changes())?
    }

    /// The server at `index`, if it takes new connections.
    pub fn candidate(&self, index: usize) -> Option<Candidate> {
        let weight = self.reals.get(index)?.weight;
        if weight == 0 {
            return None;
        }
        let load = self.load(index);
        (!load.overloaded).then_some(Candidate { index, weight, load })
    }

    /// All servers that take new connections, in list order.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> {
        (0..self.reals.len()).filter_map(|index| self.candidate(index))
    }

    /// The chosen server's place in the packet's own list.
    pub fn answer(&self, index: usize) -> Option<usize> {
        match self.known {
            None => Some(index),
            Some(known) => {
                let id = self.reals.get(index)?.id;
                known.iter().position(|real| real.id == id)
            }
        }
    }
}
