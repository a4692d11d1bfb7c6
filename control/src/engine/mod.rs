//! The loop that owns everything control knows: receive an event, decide, carry out the actions.
//!
//! It runs on a thread of its own. What waits for a disk is done by the store's thread ([`Keeper`]);
//! what packets need is published to the packet workers; nothing here waits for either.

mod action;
mod alerting;
mod arbiter;
mod arbitration;
mod checks;
mod claims;
mod clocks;
mod evidence;
mod fencing;
mod given_file;
mod keeper;
mod kernel_sync;
mod ledger;
mod mac_kinds;
mod mastership;
mod moment;
mod packets;
mod ports;
mod remembered;
mod replication;
mod run;
mod running;
mod scripts;
mod sharing;
mod sorry;
mod standings;
mod state;
mod world;

pub use action::{Action, Opened, Outcome, Refusal, StoreCommand, Ticket};
pub(crate) use claims::round as claims_round;
pub use given_file::GivenFile;
pub(crate) use given_file::{Known, known, remember, takes_back};
pub use keeper::Keeper;
pub use ledger::{Counted, Ledger};
pub use mastership::Mastership;
pub use moment::Moment;
pub use packets::{connection, page};
pub use ports::{Place, PortChanges, PortStatus, Ports};
pub use remembered::orders;
pub use replication::Replication;
pub use run::{Ask, Running, Settings, StartError, start};
pub use running::RunningView;
pub use sharing::{LINEAGE_MARK, Order, Sharing, Taking, Whose};
pub use state::{
    Burst, Claim, Drain, HealthView, InFlight, PeerVerdict, State, Summary, Then, Trial,
};

use crate::events::{Event, Packets};

/// A look at the state, between two events.
pub type Query = Box<dyn FnOnce(&State, &dyn Packets) + Send>;

/// What reaches the loop.
pub enum Message {
    /// Something happened.
    Event(Event),
    /// Somebody waits for an answer.
    Ask(Ask),
    /// Somebody wants to look.
    Query(Query),
}
