//! The packet path's numbers, as control reads them.

use crate::ipvs::{Connection, ConnectionPage};
use crate::state::Counted;
use crate::state::Packets;
use dataplane::io::xdp::Buffers;
use dataplane::packet_path::connections::{ConnectionInfo, Flags};
use dataplane::packet_path::counters::Traffic;
use dataplane::packet_path::reals::Load;
use dataplane::packet_path::states;
use dataplane::table::{PortId, RealId};
use dataplane::worker::Dataplane;
use std::net::SocketAddr;

/// Buckets that IPVS's connection table has by default, as its tools print it.
const TABLE_SIZE: u32 = 4096;

/// Reads the counters of running workers.
pub struct Workers<'a>(pub &'a Dataplane);

impl Counted for Workers<'_> {
    fn traffic(&self, id: RealId) -> Traffic {
        self.0.director().traffic(id)
    }
}

impl Packets for Workers<'_> {
    fn load(&self, id: RealId) -> Load {
        self.0.director().reals().load(id)
    }

    fn page(&self, cursor: u64, limit: u32) -> ConnectionPage {
        let from = u32::try_from(cursor).unwrap_or(u32::MAX);
        let page = self.0.connections(from, usize::try_from(limit).unwrap_or(usize::MAX));
        ConnectionPage {
            connections: page.connections.iter().map(connection).collect(),
            next: page.next.map(u64::from),
        }
    }

    fn table_size(&self) -> u32 {
        TABLE_SIZE
    }

    fn is_current(&self, port: PortId, edition: u64) -> bool {
        self.0.is_current(port, edition)
    }

    fn buffers(&self, port: PortId) -> Option<Buffers> {
        self.0.buffers(port)
    }
}

/// A connection in IPVS's words.
pub fn connection(info: &ConnectionInfo) -> Connection {
    let meta = &info.meta;
    let state = match (meta.flags.has(Flags::TEMPLATE), meta.flags.has(Flags::ASSURED)) {
        (true, true) => "ASSURED",
        (true, false) => "NONE",
        (false, _) => states::name(meta.protocol, meta.state),
    };
    Connection {
        protocol: protocol_name(meta.protocol).to_owned(),
        client: SocketAddr::new(info.client.ip(), info.client_port),
        vip: SocketAddr::new(info.virtual_address.ip(), info.virtual_port),
        real: SocketAddr::new(info.real_address.ip(), info.real_port),
        state: state.to_owned(),
        expires: info.remaining.as_secs(),
        engine: None,
    }
}

const fn protocol_name(number: u8) -> &'static str {
    match number {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "IP",
    }
}

/// A page of connections, straight from the packet path.
pub fn page(dataplane: &Dataplane, cursor: u64, limit: u32) -> ConnectionPage {
    Workers(dataplane).page(cursor, limit)
}
