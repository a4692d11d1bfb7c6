//! The loop that owns everything control knows: receive an event, decide, carry out the actions.
//!
//! It runs on a thread of its own. What waits for a disk is done by the store's thread ([`Keeper`]);
//! what packets need is published to the packet workers; nothing here waits for either.

mod keeper;
mod packets;
mod run;
mod world;

pub use keeper::Keeper;
pub use packets::{connection, page};
pub(crate) use run::{Engine, clock, unix_now};
pub(crate) use world::{Listening, World, with_causes};
