//! What belongs to one instance beside its state machine.

use super::is_owner;
use crate::vrrp::fsm::{Parameters, Vrrp};
use crate::vrrp::hmac::Authenticator;
use crate::vrrp::instance::Instance;
use crate::vrrp::interfaces::Interface;
use crate::vrrp::packet::Differences;
use crate::vrrp::status::{Change, Counters, InstanceStatus};
use crate::vrrp::tracking::{Tracked, Tracking};
use dataplane::table::{Family, Mac};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// An instance as it is configured and what was learnt since.
#[derive(Debug)]
pub struct Member {
    pub instance: Instance,
    pub tracking: Tracking,
    pub authenticator: Option<Authenticator>,
    /// Where adverts come from; `None` while the interface has no fitting address.
    pub source: Option<IpAddr>,
    pub faults: Vec<String>,
    /// Of the last accepted advert.
    pub differences: Differences,
    /// Sender of the last advert that listed none of the instance's addresses.
    pub foreign: Option<IpAddr>,
    /// Rounds of announcements still to send, and the next address of the current round.
    pub announcing: (u8, usize),
    /// A change that the receiver's queue had no room for; later ones are merged into it.
    pub untold: Option<Change>,
    pub last_change: Option<Change>,
    pub counters: Arc<Counters>,
    created: Instant,
}

impl Member {
    pub fn new(instance: Instance, now: Instant) -> Self {
        Self {
            tracking: Tracking::new(instance.priority, things(&instance)),
            authenticator: instance.keys.clone().map(Authenticator::new),
            instance,
            source: None,
            faults: Vec::new(),
            differences: Differences::default(),
            foreign: None,
            announcing: (0, 0),
            untold: None,
            last_change: None,
            counters: Arc::default(),
            created: now,
        }
    }

    /// Takes another configuration and keeps what was learnt. A master announces addresses again that it
    /// did not have before.
    pub fn replace(&mut self, instance: Instance, master: bool) {
        let mut tracking = Tracking::new(instance.priority, things(&instance));
        tracking.inherit(&self.tracking);
        self.tracking = tracking;
        match (&mut self.authenticator, &instance.keys) {
            (Some(authenticator), Some(keys)) => authenticator.set_keys(keys.clone()),
            (authenticator, keys) => *authenticator = keys.clone().map(Authenticator::new),
        }
        let same =
            self.instance.owned().eq(instance.owned()) && self.instance.mac() == instance.mac();
        if self.instance.name != instance.name {
            // Who follows changes knows instances by name, and has not heard of this one.
            let known = self.last_change.take();
            self.last_change =
                known.map(|change| Change { instance: instance.name.clone(), ..change });
            self.untold.clone_from(&self.last_change);
        }
        if master && !same {
            self.announcing = (instance.announcements.repeat, 0);
        }
        self.instance = instance;
    }

    /// The state machine's share. Without a source the instance is in fault and never sends.
    pub fn parameters(&self) -> Parameters {
        self.instance.parameters(self.source.unwrap_or(match self.instance.format.family() {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }))
    }

    /// Chooses where adverts come from; whether that changed.
    pub fn find_source(&mut self, interfaces: &BTreeMap<String, Interface>) -> bool {
        let instance = &self.instance;
        let virtual_addresses = if is_owner(instance) { &[] } else { instance.format.addresses() };
        let source = instance.source.or_else(|| {
            interfaces.get(&instance.interface)?.source(instance.format.family(), virtual_addresses)
        });
        std::mem::replace(&mut self.source, source) != source
    }

    /// Notes which tracked interfaces are up.
    pub fn look_at_interfaces(&mut self, interfaces: &BTreeMap<String, Interface>) {
        for name in self.instance.interfaces.keys() {
            let up = interfaces.get(name).is_some_and(|interface| interface.up);
            self.tracking.set(&interface_thing(name), up);
        }
    }

    pub const fn is_announcing(&self) -> bool {
        self.announcing.0 > 0
    }

    /// As seen from outside; `own` is its interface's MAC.
    pub fn status(&self, machine: &Vrrp, own: Option<Mac>) -> InstanceStatus {
        InstanceStatus {
            name: self.instance.name.clone(),
            group: self.instance.group.clone(),
            interface: self.instance.interface.clone(),
            vrid: self.instance.format.vrid(),
            version: self.instance.format.version(),
            state: machine.state(),
            since: self.last_change.as_ref().map_or(self.created, |change| change.at),
            reason: self.last_change.as_ref().map(|change| change.reason),
            priority: machine.priority(),
            virtual_mac: self.instance.virtual_mac,
            mac: self.instance.mac().or(own),
            source: self.source,
            master: machine.master().map(|heard| (heard.source, heard.priority)),
            faults: self.faults.clone(),
            differences: self.differences,
            foreign: self.foreign,
            counters: Arc::clone(&self.counters),
        }
    }
}

fn things(instance: &Instance) -> BTreeMap<String, Tracked> {
    let interfaces = instance.interfaces.iter().map(|(name, t)| (interface_thing(name), *t));
    interfaces.chain(instance.things.iter().map(|(name, t)| (name.clone(), *t))).collect()
}

fn interface_thing(name: &str) -> String {
    format!("interface {name}")
}
