//! What a packet looks up: services, real servers, owned addresses, next hops.
//!
//! Control compiles one immutable [`ServiceTable`] and one immutable [`Hops`] and publishes them
//! whole; a batch of packets sees exactly one generation of each. What changes with every packet
//! (connection counts, scheduler positions) lives in [`crate::packet_path`], indexed by the ids here.

mod address;
mod hops;
mod mark;
mod prefixes;
mod ranges;
mod routing;
mod service;
mod services;
mod ways;

pub use address::Address;
pub use hops::{Hop, Hops, HostLink, Near, NoHop, PortInfo, Route, Vlan, source_among};
pub use mark::{MarkRule, Prefix};
pub use prefixes::Prefixes;
pub use ranges::Ranges;
pub use routing::{Flow, Refusal, RouteHop, Routing, Rule, RuleAction, Target};
pub use service::{
    Availability, ClientAddress, GueChecksum, Method, Persistence, Protocol, Real, RealId,
    Scheduler, SchedulerFlags, Service, ServiceId, ServiceKey, Tunnel,
};
pub use services::{OwnedAddress, ServiceTable, Timeouts, Tunables};
pub use ways::Place;

/// A place where frames enter and leave: one attached interface. Indexes [`Hops::ports`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u16);

/// IP version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: &std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(_) => Self::V4,
            std::net::IpAddr::V6(_) => Self::V6,
        }
    }
}

/// An Ethernet address.
pub type Mac = [u8; 6];
