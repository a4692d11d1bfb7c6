//! What happened, for people: shown, kept in the store, and told to subscribers.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

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
    /// The real server that it is about, if one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<SocketAddr>,
    /// Whether that real server was in maintenance: then it was expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintenance: bool,
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
    /// A real server's agent asks for another weight.
    Weight,
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
    /// The link to the peer was lost or came back.
    Peer,
    /// A clock drifted or is right again.
    Clock,
    /// A certificate ends soon, or was renewed.
    Certificate,
    /// A real server is set up wrongly: it answers for a VIP, its replies take another way, or it does
    /// not take what is forwarded to it; or it is set right.
    Setup,
    /// An alert could not be delivered.
    Alert,
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
            Self::Weight => "weight",
            Self::ServiceDown => "service_down",
            Self::ServiceUp => "service_up",
            Self::Maintenance => "maintenance",
            Self::Interface => "interface",
            Self::Mastership => "mastership",
            Self::Peer => "peer",
            Self::Clock => "clock",
            Self::Certificate => "certificate",
            Self::Setup => "setup",
            Self::Alert => "alert",
            Self::System => "system",
        }
    }
}
