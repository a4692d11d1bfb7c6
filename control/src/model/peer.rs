//! The other director.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The other director and the link to it. Its keys come from pairing and are not in the document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Address that the peer listens on.
    pub address: SocketAddr,
    /// Address that this node listens on for the peer.
    pub listen: SocketAddr,
    /// Whether a node that just started may take mastership before it has caught up.
    pub preempt_before_sync: bool,
    /// How long a node that just started, or lost the link, lets a lower master be, waiting to catch up.
    pub catch_up_limit: Duration,
    /// Hosts that answer ping: while the link is down and none of them does, this node is cut off and
    /// no master.
    pub witnesses: Vec<IpAddr>,
    /// What switches the other director off when this one takes over and cannot talk to it.
    pub fence: Option<Fence>,
}

impl Peer {
    /// [`Peer::catch_up_limit`] where the document gives none.
    pub const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);
}

/// A fence agent of ClusterLabs, and what it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fence {
    /// The agent, by its full path.
    pub agent: String,
    /// `off` or `reboot`.
    pub action: String,
    /// Its options, each `name=value`.
    pub options: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}
