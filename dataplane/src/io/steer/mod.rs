//! What must not reach the host's stack, and how it gets there after all.
//!
//! The kernel shows every arriving frame to packet sockets first and to its own stack then. A BPF
//! program on the socket lets in what belongs to the dataplane and notes so in the frame's control
//! block; a program at the interface's ingress hook drops it. A frame that the packet path finds to
//! be the host's is sent out of the interface with a mark; a program at the egress hook turns it
//! round, and it comes in as if it had just arrived. All programs are held by descriptors: when the
//! process dies, by whatever death, the host's networking is as before. Before Linux 6.6 the kernel
//! keeps the programs, and they let everything pass from then on.

mod guard;
mod judge;
mod maps;
mod rules;
#[cfg(test)]
pub(super) mod tests;

pub use guard::Guard;
pub use judge::{Judgement, addressed, is_copy, judge};
pub use maps::{ADDRESSES, MACS, PREFIXES};
pub use rules::{Endpoint, Ports, SteeringRules, Tables, TunnelEnd};

use super::bpf::{self, BpfError};
use super::xdp::{Memory, QueueSockets, Redirection};
use crate::table::Mac;
use aya::Ebpf;
use aya::maps::SockMap;
use aya::programs::{SchedClassifier, SocketFilter, XdpMode};
use guard::{Life, Newest};
use maps::{RuleMaps, check_room};
use nix::net::if_::if_indextoname;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Mark of a frame on its way back to the host's stack.
pub const REINJECTED: u32 = 0x5649_4144;

/// The maps and programs that all attached interfaces share.
#[derive(Debug)]
pub struct Steering {
    programs: Mutex<Ebpf>,
    rules: Mutex<Rules>,
    /// Of each worker.
    memories: Mutex<Vec<Vec<Weak<Memory>>>>,
    sockets: Mutex<QueueSockets>,
    life: Arc<Life>,
    newest: Newest,
}

/// The rules in force, and the maps that hold them.
#[derive(Debug)]
struct Rules {
    maps: RuleMaps,
    applied: Arc<Tables>,
    /// Own Ethernet addresses of interfaces whose drivers judge frames.
    own: BTreeSet<(u32, Mac)>,
}

impl Steering {
    /// Loads everything, with no rules: nothing is claimed.
    ///
    /// # Errors
    /// Without `CAP_BPF` and `CAP_NET_ADMIN`, or when the kernel refuses.
    pub fn new() -> Result<Self, BpfError> {
        let mut object = bpf::steering_object()?;
        let maps = RuleMaps::take(&mut object)?;
        let sockets = Mutex::new(bpf::map(&mut object, "sockets")?);
        let life = sign_of_life(&mut object)?;
        bpf::program::<SocketFilter>(&mut object, "viaduct_tap")?;
        for name in ["viaduct_ingress", "viaduct_egress"] {
            bpf::program::<SchedClassifier>(&mut object, name)?;
        }
        let rules = Rules { maps, applied: Arc::default(), own: BTreeSet::new() };
        Ok(Self {
            programs: Mutex::new(object),
            rules: Mutex::new(rules),
            memories: Mutex::default(),
            sockets,
            life: Arc::new(life),
            newest: Newest::default(),
        })
    }

    /// Makes these rules the ones that count, by writing only what differs from the last ones.
    /// Frames that arrive meanwhile meet the old or the new rule of each address and endpoint.
    ///
    /// # Errors
    /// When there are more rules than the maps hold; the last rules are in force then.
    pub fn apply(&self, rules: &SteeringRules) -> Result<(), BpfError> {
        let mut guard = self.rules();
        let Rules { maps, applied, own } = &mut *guard;
        let mut wanted = Tables::from(rules);
        wanted.macs.extend(own.iter());
        check_room(&wanted)?;
        let written = maps.replace(applied, &wanted).or_else(|_| {
            // Both together do not fit: what is to go makes room first.
            maps.forget(applied, &wanted)?;
            maps.replace(applied, &wanted)
        });
        if let Err(error) = written {
            // Going back needs no room, so it cannot fail for the same reason.
            maps.replace(&wanted, applied)?;
            return Err(error);
        }
        *applied = Arc::new(wanted);
        Ok(())
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets drivers take frames for an interface's own Ethernet address; unlike the stack, they do
    /// not know it. Those of interfaces that are gone are forgotten, and so is its last one.
    ///
    /// # Errors
    /// When there is no room for another address.
    pub fn accept_own(&self, interface: u32, mac: Mac) -> Result<(), BpfError> {
        let mut guard = self.rules();
        let Rules { maps, applied, own } = &mut *guard;
        let applied = Arc::make_mut(applied);
        // An index that nobody has may give an empty name instead of an error.
        let is_gone = |of| if_indextoname(of).map_or(true, |name| name.is_empty());
        let is_old = |of: u32| of == interface || is_gone(of);
        for old in own.extract_if(.., |(of, _)| is_old(*of)) {
            maps.remove_mac(&old)?;
            applied.macs.remove(&old);
        }
        maps.add_mac(&(interface, mac))?;
        own.insert((interface, mac));
        applied.macs.insert((interface, mac));
        Ok(())
    }

    /// Sends claimed frames of an interface from its driver to the sockets that its queues get.
    ///
    /// # Errors
    /// When the interface is gone, its driver or the kernel does not support it, or another XDP
    /// program is there.
    pub fn redirect(&self, interface: u32, mode: XdpMode) -> Result<Redirection, BpfError> {
        let mut programs = self.programs();
        let program = bpf::program(&mut programs, "viaduct_xdp")?;
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        Redirection::new(program, interface, mode, &mut sockets)
    }

    /// Packet memory of a worker with room for another XDP socket. Its sockets share one until that
    /// is full; frames are copied from one memory to another. It lives as long as one of its sockets
    /// does.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn memory(&self, worker: usize) -> io::Result<Arc<Memory>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if memories.len() <= worker {
            memories.resize_with(worker + 1, Vec::new);
        }
        let own = &mut memories[worker];
        own.retain(|memory| memory.strong_count() > 0);
        if let Some(memory) = own.iter().filter_map(Weak::upgrade).find(|memory| memory.has_room())
        {
            return Ok(memory);
        }
        let memory = Arc::new(Memory::new()?);
        own.push(Arc::downgrade(&memory));
        Ok(memory)
    }

    /// The tables last applied, for judging frames without a kernel.
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.rules().applied)
    }

    /// Lets only the dataplane's frames into a packet socket.
    ///
    /// # Errors
    /// When it is not a packet socket.
    pub fn filter(&self, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        let mut programs = self.programs();
        let tap: &mut SocketFilter = bpf::program(&mut programs, "viaduct_tap")?;
        tap.attach(socket).map_err(BpfError::action("filter a socket"))
    }
}

/// Puts a socket into the map `life`.
fn sign_of_life(object: &mut Ebpf) -> Result<Life, BpfError> {
    let action = "make the sign of life";
    let sockets = UnixStream::pair().map_err(|source| BpfError::Action { action, source })?;
    // The map stays in the object: the program that looks it up may be loaded later.
    let map = object.map_mut("life").ok_or(BpfError::Missing("life"))?;
    let mut map = SockMap::try_from(map).map_err(|_| BpfError::Missing("life"))?;
    map.set(0, &sockets.0, 0).map_err(BpfError::action(action))?;
    Ok(sockets)
}

impl SteeringRules {
    /// Whether there is room for these rules.
    ///
    /// # Errors
    /// What there are too many of.
    pub fn fit(&self) -> Result<(), BpfError> {
        check_room(&Tables::from(self))
    }
}
