//! What happened, for people: shown, kept in the store, and told to subscribers.

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Ascending, without gaps as long as the store keeps them.
    pub sequence: u64,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What kind of thing.
    pub kind: Kind,
    /// What it is about: a service, a real server, an interface; may be empty.
    pub subject: String,
    /// What happened, in one sentence.
    pub text: String,
}

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody should look now.
    Error,
}

/// What kind of thing happened. The names are part of the JSON contract.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A revision was committed, confirmed or rolled back.
    Configuration,
    /// A change was refused.
    Refused,
    /// A real server went down.
    RealDown,
    /// A real server came up.
    RealUp,
    /// A service lost its quorum.
    ServiceDown,
    /// A service has its quorum again.
    ServiceUp,
    /// A real server was drained or undrained.
    Maintenance,
    /// An interface was attached, lost, or cannot be attached.
    Interface,
    /// VRRP mastership changed.
    Mastership,
    /// Something about the director itself.
    System,
}

impl Kind {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Refused => "refused",
            Self::RealDown => "real_down",
            Self::RealUp => "real_up",
            Self::ServiceDown => "service_down",
            Self::ServiceUp => "service_up",
            Self::Maintenance => "maintenance",
            Self::Interface => "interface",
            Self::Mastership => "mastership",
            Self::System => "system",
        }
    }
}
