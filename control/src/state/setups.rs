//! Wrong setups on the network: what real servers and strangers do that takes clients away.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Between two questions about one address, unless there are many.
pub(crate) const ASKING_ROUND: Duration = Duration::from_secs(10);

/// Addresses asked for in a second at most, so that questions are no load.
pub(crate) const ASKED_EACH_SECOND: usize = 20;

/// What is wrong with a real server's setup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// It answers ARP or neighbour discovery for the VIP.
    AnswersForVip,
    /// What is forwarded to it is not answered, or its answers take another way.
    Replies,
}

/// Somebody else who answers for an address of this node. Times are on the steady clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// When it was heard first.
    pub first: Duration,
    /// When it was heard last.
    pub last: Duration,
    /// Whether people were told.
    pub told: bool,
}

/// How long a round over so many addresses takes.
pub(crate) fn asking_round(addresses: usize) -> Duration {
    ASKING_ROUND.max(Duration::from_secs((addresses / ASKED_EACH_SECOND) as u64 + 1))
}
