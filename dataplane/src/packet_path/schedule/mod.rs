//! Which real server takes a new connection: IPVS's schedulers, choice for choice.
//!
//! Every service has one [`SchedulerState`], made with the service and told of each change to it,
//! off the packet threads. A packet that opens a connection asks [`SchedulerState::choose`]. Loads
//! are read at that moment; whoever counts connections also keeps the overload flag, by the rule in
//! [`threshold`].
//!
//! Where two servers are equally good the one earlier in `Service::reals` wins. A server of weight 0
//! takes no new connection, and neither does one over its threshold.

mod address_hash;
mod changes;
mod followed;
mod locality;
mod locality_cache;
mod maglev;
mod pool;
mod ranking;
mod round_robin;
mod siphash;
mod state;
pub mod threshold;
mod tournament;
mod two_choices;
mod weights;

#[cfg(test)]
mod tests;

pub use changes::Changes;
pub use pool::{Load, Loads};
pub use state::{Known, Memoryless, Prepared, SchedulerState, Tables};

use crate::table::Protocol;
use std::net::IpAddr;

/// What a scheduler may know of the packet that opens a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Who asks.
    pub client: IpAddr,
    /// The client's port, host order.
    pub client_port: u16,
    /// What is asked: the VIP, or for mark services any address.
    pub destination: IpAddr,
    /// The destination port, host order.
    pub destination_port: u16,
}
