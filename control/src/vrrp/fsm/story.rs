//! What happens to an instance, and what it has its caller do.

use super::Reason;
use std::net::IpAddr;
use std::time::Duration;

/// Where an instance stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Not started, or stopped.
    Initialize,
    /// Another node is master, or soon will be.
    Backup,
    /// This node owns the addresses.
    Master,
    /// Something that the instance needs is down.
    Fault,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Initialize => "stopped",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
        })
    }
}

/// A valid advert, as the machine needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// 0 when the sender resigns.
    pub priority: u8,
    /// The sender's advert interval, not zero.
    pub interval: Duration,
    /// The sender's address.
    pub source: IpAddr,
}

/// What happens to an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The instance starts.
    Startup,
    /// The instance stops and resigns.
    Shutdown,
    /// A valid advert of another router arrived.
    Advert(Heard),
    /// The deadline may have passed.
    Timeout,
    /// Something that the instance needs went down.
    Fault,
    /// All that the instance needs is up again.
    Recovered,
    /// The operator wants the other node to be master.
    Resign,
    /// The whole group is ready: become master.
    Promote,
    /// Another member of the group is no longer master.
    Demote,
    /// Another member of the group had to announce its addresses again.
    Announce,
}

/// What the caller must do, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send one advert with this priority; 0 resigns.
    Advertise {
        /// As on the wire.
        priority: u8,
    },
    /// Start to answer for the addresses.
    TakeAddresses,
    /// Stop to answer for the addresses.
    ReleaseAddresses,
    /// Send this many rounds of gratuitous ARP or unsolicited neighbour advertisements.
    Announce {
        /// Rounds over all addresses.
        rounds: u8,
    },
    /// Tell whoever wants to know.
    Changed {
        /// State before.
        from: State,
        /// State now.
        to: State,
        /// The reason for the change.
        reason: Reason,
    },
}

/// Whether an instance decides alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    /// Becomes master as soon as its timer expires.
    Alone,
    /// Waits for [`Event::Promote`]; see [`crate::vrrp::group`].
    Grouped,
}
