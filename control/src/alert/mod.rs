//! Telling people what happened: mail, webhooks, scripts and the system's log.
//!
//! `policy` decides which receiver hears what and when: selection, digests, repetitions, silence
//! during maintenance. `outbox` decides when a message that could not be delivered is tried again.
//! Both are pure. `send` delivers; `task` turns the crank. Nobody who reports a happening ever waits.

pub mod outbox;
pub mod policy;
mod send;
pub mod task;

pub use policy::{Happening, Item, Message};
pub use task::Alerts;
