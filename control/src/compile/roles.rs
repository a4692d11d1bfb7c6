//! What this node is for the addresses under VRRP. Pure.

use crate::model::{Document, VrrpInstance};
use crate::vrrp::Vrid;
use dataplane::table::{Family, Mac, OwnedAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What this node is for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// This director is master and answers for the addresses.
    Master {
        /// With this MAC; `None` for the interface's own.
        mac: Option<Mac>,
        /// Pings too.
        answers_ping: bool,
    },
    /// This director is backup and stays silent.
    Backup,
}

impl Role {
    /// Of an address that no VRRP instance has.
    pub const ALWAYS: Self = Self::Master { mac: None, answers_ping: true };

    /// As packets look it up.
    pub const fn owned(self, address: IpAddr) -> Option<OwnedAddress> {
        match self {
            Self::Master { mac, answers_ping } => Some(OwnedAddress { address, mac, answers_ping }),
            Self::Backup => None,
        }
    }
}

/// The role of every address under VRRP. `masters` are the instances that this node is master of; of
/// an instance that has not said anything yet it is not.
pub fn roles(document: &Document, masters: &BTreeSet<String>) -> BTreeMap<IpAddr, Role> {
    let mut roles = BTreeMap::new();
    for instance in &document.vrrp {
        let role = if masters.contains(&instance.name) {
            let answers_ping = instance.accept || instance.priority == u8::MAX;
            Role::Master { mac: mac(instance), answers_ping }
        } else {
            Role::Backup
        };
        let inside = instance.inside_addresses.iter().map(|inside| inside.address.address);
        roles.extend(instance.addresses.iter().copied().chain(inside).map(|at| (at, role)));
    }
    roles
}

/// The virtual Ethernet addresses that this node is to hear, with the interface's name. Instances that
/// answer with the interface's own address need none.
pub fn virtual_macs(document: &Document, masters: &BTreeSet<String>) -> BTreeSet<(String, Mac)> {
    let mut macs = BTreeSet::new();
    for instance in document.vrrp.iter().filter(|instance| masters.contains(&instance.name)) {
        let Some(mac) = mac(instance) else { continue };
        let inside = instance.inside_addresses.iter().map(|inside| &inside.interface);
        let everywhere = std::iter::once(&instance.interface).chain(inside);
        macs.extend(everywhere.map(|interface| (interface.clone(), mac)));
    }
    macs
}

/// The virtual Ethernet address, where it is used.
fn mac(instance: &VrrpInstance) -> Option<Mac> {
    if !instance.virtual_mac {
        return None;
    }
    let family = Family::of(instance.addresses.first()?);
    Some(Vrid::new(instance.id)?.mac(family))
}
