//! What must not reach the host's stack, and how it gets there after all.
//!
//! The kernel shows every arriving frame to packet sockets first and to its own stack then. A BPF
//! program on the socket lets in what belongs to the dataplane and notes so in the frame's control
//! block; a program at the interface's ingress hook drops it. A frame that the packet path finds to
//! be the host's is sent out of the interface with a mark; a program at the egress hook turns it
//! round, and it comes in as if it had just arrived. All programs are held by descriptors: when the
//! process dies, by whatever death, the host's networking is as before. Before Linux 6.6 the kernel
//! keeps the programs, and they let everything pass from then on.
#![allow(unsafe_code)]

mod clsact;
mod judge;
mod program;
mod rules;
#[cfg(test)]
pub(super) mod tests;

pub use judge::{Judgement, addressed, is_copy, judge};
pub use program::REINJECTED;
pub use rules::{Endpoint, Ports, SteeringRules, Tables, TunnelEnd};

use super::bpf::{AttachPoint, BpfError, Link, Map, MapKind, Program, ProgramKind};
use super::xdp::Memory;
use crate::table::Mac;
use clsact::{Filter, Way};
use nix::net::if_::if_indextoname;
use program::{Hook, MapFds};
use rules::{Address, AddressEntry, EndpointKey};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Most addresses, endpoints, prefixes, and Ethernet addresses that can be steered. Rules beyond
/// them are refused as a whole.
pub const ADDRESSES: u32 = 1 << 17;
const ENDPOINTS: u32 = 1 << 18;
/// Most networks in mark rules.
pub const PREFIXES: u32 = 1 << 12;
/// Most Ethernet addresses, with their interfaces.
pub const MACS: u32 = 1 << 10;

/// The maps and programs that all attached interfaces share.
#[derive(Debug)]
pub struct Steering {
    addresses: Map,
    endpoints: Map,
    prefixes: Map,
    macs: Map,
    tap: Program,
    ingress: Program,
    egress: Program,
    /// The same once more: the kernel takes no program twice on one interface, and an interface that
    /// is opened again has an old guard beside the new one for a moment.
    other_ingress: Program,
    other_egress: Program,
    applied: Mutex<Arc<Tables>>,
    /// Own Ethernet addresses of interfaces whose drivers judge frames.
    own: Mutex<BTreeSet<(u32, Mac)>>,
    /// Of each worker.
    memories: Mutex<Vec<Vec<Weak<Memory>>>>,
    life: Mutex<Option<Arc<Life>>>,
    filters: Newest,
}

/// What keeps one interface's claimed frames from the host. Dropping it gives them back, unless the
/// interface has another one: so an interface can be opened again without the host seeing any.
#[derive(Debug)]
pub struct Guard {
    _attached: Attached,
}

#[derive(Debug)]
enum Attached {
    Links { _ingress: Link, _egress: Link },
    Filters { _filters: Filters, _life: Arc<Life> },
}

/// Which filters stand on an interface, by its index. New ones take the place of old ones.
type Newest = Arc<Mutex<BTreeMap<u32, u64>>>;

#[derive(Debug)]
struct Filters {
    ingress: Filter,
    egress: Filter,
    interface: u32,
    number: u64,
    newest: Newest,
}

impl Drop for Filters {
    fn drop(&mut self) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.get(&self.interface) == Some(&self.number) {
            newest.remove(&self.interface);
        } else {
            self.ingress.leave();
            self.egress.leave();
        }
    }
}

/// A sign of life for programs that the kernel keeps: a socket in a map, closed by any death.
#[derive(Debug)]
struct Life {
    ingress: Program,
    _map: Map,
    _sockets: (UnixStream, UnixStream),
}

impl Steering {
    /// Loads everything, with no rules: nothing is claimed.
    ///
    /// # Errors
    /// Without `CAP_BPF` and `CAP_NET_ADMIN`, or when the kernel refuses.
    pub fn new() -> Result<Self, BpfError> {
        let addresses = Map::new(MapKind::Hash, "viaduct_address", 16, 8, ADDRESSES)?;
        let endpoints = Map::new(MapKind::Hash, "viaduct_endpnt", 20, 4, ENDPOINTS)?;
        let prefixes = Map::new(MapKind::Prefixes, "viaduct_prefix", 20, 4, PREFIXES)?;
        let macs = Map::new(MapKind::Hash, "viaduct_mac", 12, 4, MACS)?;
        let maps = fds(&addresses, &endpoints, &prefixes, &macs);
        let tap = program::judging(Hook::Tap, maps)?;
        let (ingress, egress) = (program::judging(Hook::Ingress, maps)?, program::turning()?);
        Ok(Self {
            tap: Program::load(ProgramKind::SocketFilter, "viaduct_tap", &tap)?,
            ingress: Program::load(ProgramKind::TrafficControl, "viaduct_ingress", &ingress)?,
            egress: Program::load(ProgramKind::TrafficControl, "viaduct_egress", &egress)?,
            other_ingress: Program::load(ProgramKind::TrafficControl, "viaduct_ingress", &ingress)?,
            other_egress: Program::load(ProgramKind::TrafficControl, "viaduct_egress", &egress)?,
            addresses,
            endpoints,
            prefixes,
            macs,
            applied: Mutex::default(),
            own: Mutex::default(),
            memories: Mutex::default(),
            life: Mutex::default(),
            filters: Newest::default(),
        })
    }

    /// Makes these rules the ones that count, by writing only what differs from the last ones.
    /// Frames that arrive meanwhile meet the old or the new rule of each address and endpoint.
    ///
    /// # Errors
    /// When there are more rules than the maps hold; the last rules are in force then.
    pub fn apply(&self, rules: &SteeringRules) -> Result<(), BpfError> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = Tables::from(rules);
        wanted.macs.extend(self.own.lock().unwrap_or_else(PoisonError::into_inner).iter());
        check_room(&wanted)?;
        let written = self.write(&applied, &wanted).or_else(|_| {
            // Both together do not fit: what is to go makes room first.
            self.forget(&applied, &wanted)?;
            self.write(&applied, &wanted)
        });
        if let Err(error) = written {
            // Going back needs no room, so it cannot fail for the same reason.
            self.write(&wanted, &applied)?;
            return Err(error);
        }
        *applied = Arc::new(wanted);
        Ok(())
    }

    /// Removes what is not wanted any more.
    fn forget(&self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        for key in old.prefixes.keys().filter(|key| !new.prefixes.contains_key(key)) {
            self.prefixes.remove(&prefix_key(key))?;
        }
        for key in old.endpoints.keys().filter(|key| !new.endpoints.contains_key(key)) {
            self.endpoints.remove(&endpoint_key(key))?;
        }
        for key in old.addresses.keys().filter(|key| !new.addresses.contains_key(*key)) {
            self.addresses.remove(key)?;
        }
        old.macs.difference(&new.macs).try_for_each(|mac| self.macs.remove(&mac_key(mac)))
    }

    fn write(&self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        let word = |number: u32| number.to_ne_bytes();
        replace(&self.prefixes, &old.prefixes, &new.prefixes, prefix_key, |v| word((*v).into()))?;
        replace(&self.endpoints, &old.endpoints, &new.endpoints, endpoint_key, |v| word(*v))?;
        replace(&self.addresses, &old.addresses, &new.addresses, |key| *key, address_value)?;
        let present = |macs: &BTreeSet<_>| macs.iter().map(|mac| (*mac, 1)).collect();
        replace(&self.macs, &present(&old.macs), &present(&new.macs), mac_key, |v| word(*v))
    }

    /// Lets drivers take frames for an interface's own Ethernet address; unlike the stack, they do
    /// not know it. Those of interfaces that are gone are forgotten, and so is its last one.
    ///
    /// # Errors
    /// When there is no room for another address.
    pub fn accept_own(&self, interface: u32, mac: Mac) -> Result<(), BpfError> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = Arc::make_mut(&mut applied);
        // An index that nobody has may give an empty name instead of an error.
        let is_gone = |of| if_indextoname(of).map_or(true, |name| name.is_empty());
        let is_old = |of: u32| of == interface || is_gone(of);
        for old in own.extract_if(.., |(of, _)| is_old(*of)) {
            self.macs.remove(&mac_key(&old))?;
            applied.macs.remove(&old);
        }
        self.macs.insert(&mac_key(&(interface, mac)), &1u32.to_ne_bytes())?;
        own.insert((interface, mac));
        applied.macs.insert((interface, mac));
        Ok(())
    }

    /// The program for a driver, which sends claimed frames to the socket of their queue in this map.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn driver_program(&self, sockets: &Map) -> Result<Program, BpfError> {
        let maps = fds(&self.addresses, &self.endpoints, &self.prefixes, &self.macs);
        let code = program::judging(Hook::Xdp(sockets.as_fd().as_raw_fd()), maps)?;
        Program::load(ProgramKind::Xdp, "viaduct_xdp", &code)
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
        Arc::clone(&self.applied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets only the dataplane's frames into a packet socket.
    ///
    /// # Errors
    /// When it is not a packet socket.
    pub fn filter(&self, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        self.tap.filter(socket)
    }

    /// Keeps the dataplane's frames on an interface from the host. To be called once its packet
    /// sockets are open.
    ///
    /// # Errors
    /// When the kernel is too old for both ways of attaching, or the interface is gone.
    pub fn guard(&self, interface: u32) -> Result<Guard, BpfError> {
        let links = |ingress, egress| -> Result<Guard, BpfError> {
            // The way back first: a frame must not be dropped before it can be given back.
            let egress = Link::new(egress, interface, AttachPoint::Egress)?;
            let ingress = Link::new(ingress, interface, AttachPoint::Ingress)?;
            Ok(Guard { _attached: Attached::Links { _ingress: ingress, _egress: egress } })
        };
        match links(&self.ingress, &self.egress) {
            Ok(guard) => Ok(guard),
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                links(&self.other_ingress, &self.other_egress)
            }
            // Linux before 6.6 does not know the attach point.
            Err(error) if error.errno() == Some(libc::EINVAL) => self.guard_by_filters(interface),
            Err(error) => Err(error),
        }
    }

    fn guard_by_filters(&self, interface: u32) -> Result<Guard, BpfError> {
        let life = self.life()?;
        let refused = |source| BpfError::Action { action: "put a filter on clsact", source };
        let egress = Filter::new(&self.egress, interface, Way::Out).map_err(refused)?;
        let ingress = Filter::new(&life.ingress, interface, Way::In).map_err(refused)?;
        let mut newest = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        let number = newest.get(&interface).map_or(0, |number| number + 1);
        newest.insert(interface, number);
        let newest = Arc::clone(&self.filters);
        let filters = Filters { ingress, egress, interface, number, newest };
        Ok(Guard { _attached: Attached::Filters { _filters: filters, _life: life } })
    }

    fn life(&self) -> Result<Arc<Life>, BpfError> {
        let mut kept = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = kept.as_ref() {
            return Ok(Arc::clone(life));
        }
        let map = Map::new(MapKind::Sockets, "viaduct_life", 4, 4, 1)?;
        let sockets = UnixStream::pair()
            .map_err(|source| BpfError::Action { action: "make a pair of sockets", source })?;
        map.insert(&[0; 4], &sockets.0.as_raw_fd().to_ne_bytes())?;
        let maps = fds(&self.addresses, &self.endpoints, &self.prefixes, &self.macs);
        let code = program::judging(Hook::LegacyIngress(map.as_fd().as_raw_fd()), maps)?;
        let ingress = Program::load(ProgramKind::TrafficControl, "viaduct_ingress", &code)?;
        let life = Arc::new(Life { ingress, _map: map, _sockets: sockets });
        *kept = Some(Arc::clone(&life));
        Ok(life)
    }
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

fn check_room(tables: &Tables) -> Result<(), BpfError> {
    let Tables { addresses, endpoints, prefixes, macs } = tables;
    for (what, count, most) in [
        ("addresses of services and real servers", addresses.len(), ADDRESSES),
        ("ports of services and real servers", endpoints.len(), ENDPOINTS),
        ("networks in mark rules", prefixes.len(), PREFIXES),
        ("Ethernet addresses", macs.len(), MACS),
    ] {
        if count > most as usize {
            return Err(BpfError::Full { what, count, most });
        }
    }
    Ok(())
}

fn fds(addresses: &Map, endpoints: &Map, prefixes: &Map, macs: &Map) -> MapFds {
    let [addresses, endpoints, prefixes, macs] =
        [addresses, endpoints, prefixes, macs].map(|map| map.as_fd().as_raw_fd());
    MapFds { addresses, endpoints, prefixes, macs }
}

/// Brings a map from the entries `old` to the entries `new`: additions and changes first, so that
/// nothing that stays is ever missing.
fn replace<K: Ord, V: PartialEq, const KEY: usize, const VALUE: usize>(
    map: &Map,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    key: impl Fn(&K) -> [u8; KEY],
    value: impl Fn(&V) -> [u8; VALUE],
) -> Result<(), BpfError> {
    for (k, v) in new.iter().filter(|(k, v)| old.get(k) != Some(v)) {
        map.insert(&key(k), &value(v))?;
    }
    for k in old.keys().filter(|k| !new.contains_key(k)) {
        map.remove(&key(k))?;
    }
    Ok(())
}

fn endpoint_key(key: &EndpointKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.address);
    bytes[16..18].copy_from_slice(&key.port.to_be_bytes());
    bytes[18] = key.protocol;
    bytes[19] = key.side as u8;
    bytes
}

fn address_value(entry: &AddressEntry) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&entry.flags.to_ne_bytes());
    bytes[4..6].copy_from_slice(&entry.low.to_ne_bytes());
    bytes[6..].copy_from_slice(&entry.high.to_ne_bytes());
    bytes
}

fn prefix_key((length, address): &(u8, Address)) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&u32::from(*length).to_ne_bytes());
    bytes[4..].copy_from_slice(address);
    bytes
}

fn mac_key((interface, mac): &(u32, Mac)) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&interface.to_ne_bytes());
    bytes[4..10].copy_from_slice(mac);
    bytes
}
