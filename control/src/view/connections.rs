//! Connections and persistence templates.

use crate::compile::Ids;
use crate::model::VirtualAddress;
use dataplane::packet_path::connections::{ConnectionInfo, Flags};
use dataplane::table::RealId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// One connection or persistence template.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionView {
    /// `TCP`, `UDP`, `SCTP`, or `IP` for the template of a mark service.
    pub protocol: String,
    /// The client; port 0 for templates.
    pub client: SocketAddr,
    /// VIP and virtual port.
    #[serde(rename = "virtual")]
    pub vip: SocketAddr,
    /// The real server.
    pub real: SocketAddr,
    /// Its state, as IPVS names it.
    pub state: String,
    /// Seconds until it ends by itself.
    pub expires: u32,
    /// Whether it is a persistence template.
    pub template: bool,
    /// The source address and port towards the real server, under full NAT.
    pub source: Option<SocketAddr>,
    /// Whether it was learned from the peer.
    pub synced: bool,
}

/// Some connections, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionsView {
    /// In the table's order.
    pub connections: Vec<ConnectionView>,
    /// Cursor of the next page; absent after the last.
    pub next: Option<u64>,
}

/// Which connections are meant: those that meet every given condition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionFilter {
    /// Of this service, by name or address.
    pub service: Option<String>,
    /// To this real server: an address, or an address and port.
    pub real: Option<String>,
    /// Of this client: an address, or an address and port.
    pub client: Option<String>,
}

/// A filter that was understood.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The ids of the real servers that are meant.
    reals: Option<BTreeSet<RealId>>,
    client: Option<(IpAddr, Option<u16>)>,
    real: Option<(IpAddr, Option<u16>)>,
}

impl From<&ConnectionInfo> for ConnectionView {
    fn from(info: &ConnectionInfo) -> Self {
        let plain = crate::engine::connection(info);
        Self {
            protocol: plain.protocol,
            client: plain.client,
            vip: plain.vip,
            real: plain.real,
            state: plain.state,
            expires: plain.expires,
            template: info.meta.flags.has(Flags::TEMPLATE),
            source: info.local.map(|(address, port)| SocketAddr::new(address.ip(), port)),
            synced: info.meta.flags.has(Flags::SYNCED),
        }
    }
}

impl ConnectionFilter {
    /// Whether nothing is asked for.
    pub const fn is_empty(&self) -> bool {
        self.service.is_none() && self.real.is_none() && self.client.is_none()
    }

    /// Understands the filter. `service` is the address of the service that it names.
    ///
    /// # Errors
    /// The text that is no address.
    pub fn choose(&self, service: Option<VirtualAddress>, ids: &Ids) -> Result<Chosen, String> {
        Ok(Chosen {
            reals: service.map(|service| ids.reals_of(&service).map(|slot| slot.id).collect()),
            client: self.client.as_deref().map(endpoint).transpose()?,
            real: self.real.as_deref().map(endpoint).transpose()?,
        })
    }
}

/// `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn endpoint(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip(), Some(address.port())));
    }
    text.parse().map(|ip| (ip, None)).map_err(|_| text.to_owned())
}

impl Chosen {
    /// Whether a connection is meant.
    pub fn matches(&self, info: &ConnectionInfo) -> bool {
        let meets = |wanted: Option<(IpAddr, Option<u16>)>, ip: IpAddr, port: u16| {
            wanted.is_none_or(|(address, of)| address == ip && of.is_none_or(|of| of == port))
        };
        self.reals.as_ref().is_none_or(|reals| reals.contains(&info.real))
            && meets(self.client, info.client.ip(), info.client_port)
            && meets(self.real, info.real_address.ip(), info.real_port)
    }
}
