//! Direct routing: the packet reaches the real server as the client sent it, in a new Ethernet
//! frame. Nothing above Ethernet changes but the hop limit.

use super::decrement_hop_limit;
use crate::frame::Frame;
use crate::packet_path::parse::Packet;
use crate::packet_path::verdict::{DropReason, Verdict};
use crate::table::Hop;

/// Sends the packet on.
///
/// # Errors
/// When there is no room for the Ethernet header.
pub fn forward(frame: &mut Frame<'_>, packet: &Packet, hop: &Hop) -> Result<Verdict, DropReason> {
    decrement_hop_limit(frame.bytes_mut(), packet);
    super::send(frame, packet.l3, hop)
}
