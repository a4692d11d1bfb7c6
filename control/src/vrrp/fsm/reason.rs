//! Why an instance changed its state, in the operator's words.

use std::net::IpAddr;
use std::time::Duration;

/// Why an instance changed its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The instance was started.
    Started,
    /// The instance was stopped.
    Stopped,
    /// It has priority 255 and waits for nobody.
    Owner,
    /// No advert for the master-down interval.
    MasterSilent,
    /// The master said that it leaves.
    MasterResigned,
    /// The master has a lower priority and preemption is allowed.
    Preempted {
        /// The master until now.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another master has a higher priority.
    HigherPriority {
        /// The other master.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another master has the same priority and a higher address.
    HigherAddress {
        /// The other master.
        from: IpAddr,
    },
    /// This process did not run for so long that the others must have given it up.
    Late {
        /// How late the next advert was.
        by: Duration,
    },
    /// Something tracked is down.
    Fault,
    /// Everything tracked is up again.
    Recovered,
    /// Another instance of the sync group moved.
    Group,
    /// The operator asked for it.
    Operator,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Owner => f.write_str("owns the addresses (priority 255)"),
            Self::MasterSilent => f.write_str("no master heard"),
            Self::MasterResigned => f.write_str("the master resigned"),
            Self::Preempted { from, priority } => {
                write!(f, "preempts {from}, whose priority is {priority}")
            }
            Self::HigherPriority { from, priority } => {
                write!(f, "{from} is master with priority {priority}")
            }
            Self::HigherAddress { from } => {
                write!(f, "{from} is master with the same priority and a higher address")
            }
            Self::Late { by } => {
                write!(f, "this node did not run for {} ms", by.as_millis())
            }
            Self::Fault => f.write_str("a tracked object is down"),
            Self::Recovered => f.write_str("all tracked objects are up again"),
            Self::Group => f.write_str("moves with its sync group"),
            Self::Operator => f.write_str("requested by the operator"),
        }
    }
}
