//! What reaches the engine's loop.

use crate::events::Event;
use crate::state::{Outcome, Packets, State, Ticket};
use tokio::sync::oneshot;

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

/// A question with the place for its answer.
pub struct Ask {
    /// Makes the event, with the caller's ticket.
    pub make: Box<dyn FnOnce(Ticket) -> Event + Send>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Outcome>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Event(event) => write!(f, "Event({event:?})"),
            Self::Ask(_) => f.write_str("Ask"),
            Self::Query(_) => f.write_str("Query"),
        }
    }
}
