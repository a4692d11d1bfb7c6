//! The rules as the programs see them: the maps of `bpf/maps.h` hold the entries of [`Tables`].

use super::rules::{AddressEntry, EndpointKey, Tables};
use crate::io::bpf::{self, BpfError};
use crate::table::Mac;
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData, MapError};
use std::collections::BTreeMap;

/// Most addresses, endpoints, prefixes, and Ethernet addresses that can be steered. Rules beyond
/// them are refused as a whole.
pub const ADDRESSES: u32 = 1 << 17;
pub(super) const ENDPOINTS: u32 = 1 << 18;
/// Most networks in mark rules.
pub const PREFIXES: u32 = 1 << 12;
/// Most Ethernet addresses, with their interfaces.
pub const MACS: u32 = 1 << 10;

/// The maps that the steering rule looks up.
#[derive(Debug)]
pub(super) struct RuleMaps {
    addresses: HashMap<MapData, [u8; 16], [u8; 8]>,
    endpoints: HashMap<MapData, [u8; 20], u32>,
    prefixes: LpmTrie<MapData, [u8; 16], u32>,
    macs: HashMap<MapData, [u8; 12], u32>,
}

impl RuleMaps {
    /// Takes the maps out of the object.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, BpfError> {
        Ok(Self {
            addresses: bpf::map(object, "addresses")?,
            endpoints: bpf::map(object, "endpoints")?,
            prefixes: bpf::map(object, "prefixes")?,
            macs: bpf::map(object, "macs")?,
        })
    }

    /// Brings the maps from the entries `old` to the entries `new`: of each map additions and changes
    /// first, so that nothing that stays is ever missing.
    pub(super) fn replace(&mut self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        for (key, covered) in changed(&old.prefixes, &new.prefixes) {
            written(self.prefixes.insert(&prefix(key), u32::from(*covered), 0))?;
        }
        self.forget_prefixes(old, new)?;
        for (key, value) in changed(&old.endpoints, &new.endpoints) {
            written(self.endpoints.insert(endpoint(key), value, 0))?;
        }
        self.forget_endpoints(old, new)?;
        for (key, entry) in changed(&old.addresses, &new.addresses) {
            written(self.addresses.insert(key, address_value(entry), 0))?;
        }
        self.forget_addresses(old, new)?;
        new.macs.difference(&old.macs).try_for_each(|mac| self.add_mac(mac))?;
        old.macs.difference(&new.macs).try_for_each(|mac| self.remove_mac(mac))
    }

    /// Removes what is in `old` and not in `new`.
    pub(super) fn forget(&mut self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        self.forget_prefixes(old, new)?;
        self.forget_endpoints(old, new)?;
        self.forget_addresses(old, new)?;
        old.macs.difference(&new.macs).try_for_each(|mac| self.remove_mac(mac))
    }

    fn forget_prefixes(&mut self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        gone(&old.prefixes, &new.prefixes)
            .try_for_each(|key| removed(self.prefixes.remove(&prefix(key))))
    }

    fn forget_endpoints(&mut self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        gone(&old.endpoints, &new.endpoints)
            .try_for_each(|key| removed(self.endpoints.remove(&endpoint(key))))
    }

    fn forget_addresses(&mut self, old: &Tables, new: &Tables) -> Result<(), BpfError> {
        gone(&old.addresses, &new.addresses).try_for_each(|key| removed(self.addresses.remove(key)))
    }

    pub(super) fn add_mac(&mut self, mac: &(u32, Mac)) -> Result<(), BpfError> {
        written(self.macs.insert(station(mac), 1, 0))
    }

    pub(super) fn remove_mac(&mut self, mac: &(u32, Mac)) -> Result<(), BpfError> {
        removed(self.macs.remove(&station(mac)))
    }
}

/// Refuses rules for which the maps have no room.
pub(super) fn check_room(tables: &Tables) -> Result<(), BpfError> {
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

/// The entries of `new` that `old` has not, or otherwise.
fn changed<'m, K: Ord, V: PartialEq>(
    old: &'m BTreeMap<K, V>,
    new: &'m BTreeMap<K, V>,
) -> impl Iterator<Item = (&'m K, &'m V)> {
    new.iter().filter(|(key, value)| old.get(key) != Some(value))
}

/// The keys of `old` that `new` has not.
fn gone<'m, K: Ord, V>(
    old: &'m BTreeMap<K, V>,
    new: &'m BTreeMap<K, V>,
) -> impl Iterator<Item = &'m K> {
    old.keys().filter(|key| !new.contains_key(key))
}

fn written(result: Result<(), MapError>) -> Result<(), BpfError> {
    result.map_err(BpfError::action("write a BPF map entry"))
}

/// Removing what is not there is fine.
fn removed(result: Result<(), MapError>) -> Result<(), BpfError> {
    let result = result.map_err(BpfError::action("remove a BPF map entry"));
    result.or_else(|error| match error.errno() {
        Some(libc::ENOENT) => Ok(()),
        _ => Err(error),
    })
}

/// `struct endpoint`
fn endpoint(key: &EndpointKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.address);
    bytes[16..18].copy_from_slice(&key.port.to_be_bytes());
    bytes[18] = key.protocol;
    bytes[19] = key.side as u8;
    bytes
}

/// `struct address`
fn address_value(entry: &AddressEntry) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&entry.flags.to_ne_bytes());
    bytes[4..6].copy_from_slice(&entry.low.to_ne_bytes());
    bytes[6..].copy_from_slice(&entry.high.to_ne_bytes());
    bytes
}

/// `struct prefix`
fn prefix((length, address): &(u8, [u8; 16])) -> Key<[u8; 16]> {
    Key::new((*length).into(), *address)
}

/// `struct station`
fn station((interface, mac): &(u32, Mac)) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&interface.to_ne_bytes());
    bytes[4..10].copy_from_slice(mac);
    bytes
}
