//! What deciding reads besides the state.

use super::{Counted, Moment};
use crate::ipvs;
use dataplane::io::xdp::Buffers;
use dataplane::packet_path::reals::Load;
use dataplane::table::{PortId, RealId};

/// What deciding may look at besides the state.
pub struct Senses<'a> {
    /// When it happened.
    pub now: Moment,
    /// The packet path's counters.
    pub packets: &'a dyn Packets,
    /// The host as IPVS's checks see it.
    pub host: &'a ipvs::Host,
}

/// The packet path as deciding sees it: numbers to read.
pub trait Packets: Counted {
    /// How many connections a real server has.
    fn load(&self, id: RealId) -> Load;

    /// A page of connections for `ipvsadm -Lc`.
    fn page(&self, cursor: u64, limit: u32) -> ipvs::ConnectionPage;

    /// Buckets of the connection table.
    fn table_size(&self) -> u32;

    /// Whether this attachment of a port is the one in use.
    fn is_current(&self, port: PortId, edition: u64) -> bool;

    /// The packet memory of a port, where there is such a thing.
    fn buffers(&self, port: PortId) -> Option<Buffers>;
}
