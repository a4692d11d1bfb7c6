//! Whether real servers work, found by asking them.
//!
//! `probe` asks one question of one real server and returns an [`Outcome`]; `fsm` turns a sequence
//! of outcomes into a verdict that changes only for good reason; `quorum` does the same for a
//! service as a whole; `weight` says how much of its weight a server gets when it comes back;
//! `passive` draws outcomes from traffic instead of probes, and `evidence` reads that traffic. Those are pure. `task` runs thousands of
//! checks and tells the engine only what changed.

pub mod evidence;
pub mod fsm;
pub mod outcome;
pub mod passive;
pub mod probe;
pub mod quorum;
pub mod task;
pub mod weight;

pub use fsm::{Cadence, Depth, Fsm, Health, Transition};
pub use outcome::{Failure, Measured, Outcome, Verdict};

use std::sync::Arc;

use crate::model::Check;

/// One check of one real server of one service.
#[derive(Clone, Debug)]
pub struct CheckSpec {
    /// How it is checked. Shared by the servers of a service where they have the same check.
    pub check: Arc<Check>,
    /// Where probes go.
    pub target: Arc<probe::Target>,
    /// What is believed before the first probe ends.
    pub known: Health,
}

impl CheckSpec {
    /// Whether the other asks the same in the same way. What was known beforehand is of no account.
    fn same(&self, other: &Self) -> bool {
        let check = Arc::ptr_eq(&self.check, &other.check) || self.check == other.check;
        check && self.target == other.target
    }
}
