//! What the thread needs to know of one instance; compiled from the configuration by its caller.

use super::fsm::{Announcements, Parameters};
use super::hmac::Keys;
use super::packet::{Format, Reach};
use super::tracking::Tracked;
use super::{Priority, Vrid};
use dataplane::table::{Family, Mac};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

/// One virtual router and how this node plays its part.
#[derive(Clone, PartialEq, Debug)]
pub struct Instance {
    /// Unique; what operators and changes call it.
    pub name: String,
    /// Where it speaks. May be absent for now: then the instance is in fault.
    pub interface: String,
    /// Instances with the same group move together.
    pub group: Option<String>,
    /// Version, virtual router id, interval, addresses, checksum dialect and password.
    pub format: Format,
    /// HMAC keys.
    pub keys: Option<Keys>,
    /// Multicast, or the peers.
    pub reach: Reach,
    /// Source of adverts and tie-break; `None` for the interface's first IPv4 or its link-local IPv6
    /// address that is not one of the instance's own.
    pub source: Option<IpAddr>,
    /// Base priority.
    pub priority: Priority,
    /// Whether a lower master is replaced.
    pub preempt: bool,
    /// How long a lower master is tolerated first.
    pub preempt_delay: Duration,
    /// Adverts that must be missing before the master is given up.
    pub down_adverts: NonZeroU8,
    /// Waits one interval instead of the master-down interval at start.
    pub eager: bool,
    /// How much longer than usual it waits for a master to speak when it has just started.
    pub startup_delay: Duration,
    /// Whether a master that is not the owner accepts packets for the addresses. Not for the protocol:
    /// handed on with each change.
    pub accept: bool,
    /// Adverts and announcements come from the virtual MAC; else from the interface's own.
    pub virtual_mac: bool,
    /// IPv6 announcements call this node a router.
    pub router: bool,
    /// Announcements in both forms of gratuitous ARP, not only as requests.
    pub arp_replies: bool,
    /// How often addresses are announced.
    pub announcements: Announcements,
    /// Addresses that move along without being in adverts, and the interface they live on: inside
    /// gateways of NAT real servers.
    pub inside: Vec<(IpAddr, String)>,
    /// Interfaces whose carrier matters, by name. The instance's own is always watched.
    pub interfaces: BTreeMap<String, Tracked>,
    /// Services, scripts and whatever else the caller reports, by name.
    pub things: BTreeMap<String, Tracked>,
}

impl Instance {
    /// An instance with keepalived's defaults and, unlike keepalived, the virtual MAC.
    pub fn new(name: &str, interface: &str, format: Format, priority: Priority) -> Self {
        Self {
            name: name.to_owned(),
            interface: interface.to_owned(),
            group: None,
            format,
            keys: None,
            reach: Reach::Multicast,
            source: None,
            priority,
            preempt: true,
            preempt_delay: Duration::ZERO,
            down_adverts: NonZeroU8::MIN.saturating_add(2),
            eager: false,
            startup_delay: Duration::ZERO,
            accept: true,
            virtual_mac: true,
            router: false,
            arp_replies: false,
            announcements: Announcements::default(),
            inside: Vec::new(),
            interfaces: BTreeMap::new(),
            things: BTreeMap::new(),
        }
    }

    /// What makes it the same instance in another configuration: state is kept while this stays.
    pub fn identity(&self) -> (String, Family, Vrid) {
        (self.interface.clone(), self.format.family(), self.format.vrid())
    }

    /// The virtual MAC, where it is used.
    pub fn mac(&self) -> Option<Mac> {
        self.virtual_mac.then(|| self.format.vrid().mac(self.format.family()))
    }

    /// Every address with the interface that it is announced on.
    pub fn owned(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        let own = self.format.addresses().iter().map(|address| (*address, &*self.interface));
        own.chain(self.inside.iter().map(|(address, interface)| (*address, &**interface)))
    }

    /// The state machine's share.
    pub fn parameters(&self, source: IpAddr) -> Parameters {
        Parameters {
            version: self.format.version(),
            priority: self.priority,
            interval: self.format.interval(),
            source,
            preempt: self.preempt,
            preempt_delay: self.preempt_delay,
            down_adverts: self.down_adverts,
            eager: self.eager,
            startup_delay: self.startup_delay,
            answer_lower: true,
            answer_higher: false,
            yield_when_late: true,
            announcements: self.announcements,
        }
    }

    /// Whether packets to the addresses are answered while this node is master.
    pub fn accepts(&self) -> bool {
        self.accept || self.priority == Priority::OWNER
    }
}
