//! Keeps the peer's connection table like ours: a sender with bounded memory on one side, a receiver that
//! notices every gap on the other. Neither knows the transport; loss, reordering and duplicates cost a new
//! snapshot at worst, never a wrong table.
//!
//! ```text
//!   sender                                    receiver
//!     Begin 0  ---------------------------->    forget what is not told again
//!     Changes 1, 2, ... from the table ------>  apply      <-- changes that happen meanwhile
//!     End n  ------------------------------->   caught up      travel in between
//!     Changes n+1, ...  --------------------->  apply
//!              <------------------------ Ack    up to here
//!              <--------------------- Resync    something is missing: next epoch
//! ```
//! Each change carries a connection's whole state, so the order of a snapshot page and a change of the same
//! connection matters only until the later change arrives, which it always does.

mod receiver;
mod sender;

pub use receiver::{Answer, Receiver, Sink};
pub use sender::{Lag, Limits, Page, Sender, Source};

#[cfg(test)]
mod tests;
