//! The loop that owns everything control knows: receive an event, decide, carry out the actions.
//!
//! It runs on a thread of its own. What waits for a disk is done by the store's thread ([`Keeper`]).
//! What packets need is published to the packet workers once for all events that were waiting, because
//! publishing costs time for every service. Events of VRRP and of the other director come by a channel
//! of their own, so they wait for one publication at most. VRRP's advertisements and the decision to
//! fence do not pass the loop at all.
//!
//! Opening and closing an interface is done in the loop, and it waits: closing waits for each packet
//! worker, up to half a second for one that does not answer, and opening waits for the kernel to set up
//! queues and to load programs. Both happen only when interfaces or the configuration change.

mod keeper;
mod packets;
mod run;
mod world;

pub use keeper::Keeper;
pub use packets::{connection, page};
pub(crate) use run::{Engine, Mail, clock, unix_now};
pub(crate) use world::{Listening, World, with_causes};
