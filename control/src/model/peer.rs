//! The other director.

use std::net::SocketAddr;

/// The other director and the link to it. Its keys come from pairing and are not in the document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where this node listens for it.
    pub listen: SocketAddr,
    /// Whether a node that just started may take mastership before it has caught up.
    pub preempt_before_sync: bool,
}
