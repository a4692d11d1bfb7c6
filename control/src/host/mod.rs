//! The host's links, addresses, routes and neighbours, as the kernel tells them by netlink.
//!
//! [`HostState`] is the picture, [`hops()`] turns it into what packets look up; both are pure. [`Watch`]
//! keeps the picture up to date: a notification says only which part of it is stale, and that part is
//! asked for anew, so that a lost notification can never leave it wrong for long.

mod dump;
mod hops;
mod ports;
pub mod probe_routes;
mod route_messages;
mod rules;
pub mod stack;
mod state;
mod tables;
mod watch;

pub use hops::hops;
pub use ports::shared_ports;
pub use stack::Stack;
pub use state::{Address, HostState, Link, Neighbour, NeighbourState};
pub use tables::{Route, Tables};
pub use watch::{HostError, Watch};
