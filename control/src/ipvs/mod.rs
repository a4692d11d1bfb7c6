//! The kernel's side of `ipvsadm`: what IPVS answers, on top of the configuration document.
//!
//! [`Request`] and [`Reply`] stand for IPVS's netlink messages and travel as JSON over the daemon's
//! socket (`POST /v1/ipvs`). [`execute()`] checks a request in the kernel's order, edits the document
//! or lists it, and answers with the kernel's error numbers. Counters, zero offsets, rates and sync
//! daemons live in [`KernelState`], which a restart forgets as the kernel does.
//!
//! Listing order is the kernel's: services by hash bucket, within a bucket and within a service the
//! newest first.

mod connection;
mod daemon;
mod edit;
mod errno;
mod execute;
mod host;
mod order;
mod reply;
mod request;
mod statistics;
mod wire;

pub use connection::{Connection, ConnectionPage, Engine, MAX_PAGE};
pub use daemon::{Daemon, DaemonRole, DaemonSpec, McastGroup};
pub use errno::Errno;
pub use execute::{Executed, KernelState, Running, RunningReal, execute};
pub use host::Host;
pub use reply::{Info, Reply, ServerEntry, ServiceEntry};
pub use request::{PersistenceSpec, Request, ServerSpec, ServiceSpec, TimeoutSpec};
pub use statistics::{Counters, ESTIMATOR_PERIOD, Rates, Statistics};

#[cfg(test)]
mod tests;
