//! Whether real servers work, found by asking them.
//!
//! `probe` asks one question of one real server and returns an [`Outcome`]; `fsm` turns a sequence
//! of outcomes into a verdict that changes only for good reason; `quorum` does the same for a
//! service as a whole; `weight` says how much of its weight a server gets when it comes back;
//! `passive` draws outcomes from traffic instead of probes. Those are pure. `task` runs thousands of
//! checks and tells the engine only what changed.

pub mod fsm;
pub mod outcome;
pub mod probe;
pub mod quorum;
pub mod weight;

pub use fsm::{Cadence, Depth, Fsm, Health, Transition};
pub use outcome::{Failure, Measured, Outcome, Verdict};
