//! Connections as `/proc/net/ip_vs_conn` shows them, a page at a time.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The most connections in one page.
pub const MAX_PAGE: u32 = 10_000;

/// One connection or persistence template.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// `TCP`, `UDP`, `SCTP`, or `IP` for the template of a mark service.
    pub protocol: String,
    /// The client; port 0 for templates.
    pub client: SocketAddr,
    /// VIP and virtual port; of a mark service's template, the mark as an address.
    #[serde(rename = "virtual")]
    pub vip: SocketAddr,
    /// The real server.
    pub real: SocketAddr,
    /// Name of its state, as IPVS prints it.
    pub state: String,
    /// Seconds until it ends by itself.
    pub expires: u32,
    /// The persistence engine that made it, of templates.
    pub engine: Option<Engine>,
}

/// What a persistence engine knows about a template.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Engine {
    /// Its name, such as `sip`.
    pub name: String,
    /// What it compares, such as a Call-ID; without blanks.
    pub data: String,
}

/// Some connections, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionPage {
    /// In the table's order.
    pub connections: Vec<Connection>,
    /// Cursor of the next page; `None` after the last.
    pub next: Option<u64>,
}
