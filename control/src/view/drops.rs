//! Packets that died.

use dataplane::packet_path::{Director, DropReason};
use serde::{Deserialize, Serialize};

/// How many packets died of one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropView {
    /// The reason's stable name.
    pub reason: String,
    /// The reason in one sentence.
    pub explanation: String,
    /// How many, since the daemon started.
    pub packets: u64,
}

impl DropView {
    /// Every reason, in the order of the counters.
    pub fn all(director: &Director) -> Vec<Self> {
        let view = |reason: &DropReason| Self {
            reason: reason.label().to_owned(),
            explanation: reason.explanation().trim().to_owned(),
            packets: director.drops(*reason),
        };
        DropReason::ALL.iter().map(view).collect()
    }
}
