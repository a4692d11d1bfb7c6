//! The tasks beside the loop: each waits for something outside the director, such as health checks,
//! VRRP, the other director or alerts, and sends the loop events about it.

pub(crate) mod alerting;
mod arbiter;
mod arbitration;
pub(crate) mod checks;
pub(crate) mod claims;
pub(crate) mod clocks;
pub(crate) mod evidence;
mod fencing;
mod given_file;
pub(crate) mod kernel_sync;
mod mac_kinds;
pub(crate) mod mastership;
pub(crate) mod remembered;
pub(crate) mod replication;
mod scripts;
pub(crate) mod sorry;

pub use given_file::GivenFile;
pub(crate) use given_file::{Known, known, remember, takes_back};
pub use mastership::Mastership;
pub use remembered::orders;
pub use replication::{LinkReport, Replication};
