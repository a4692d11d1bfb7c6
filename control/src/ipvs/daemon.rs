//! IPVS's connection-sync daemons, as far as their settings go.

use super::{Errno, Host};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// Which half of the sync protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonRole {
    /// Sends its connections.
    Master,
    /// Receives another director's connections.
    Backup,
}

/// Where sync messages are sent: a multicast group.
pub type McastGroup = IpAddr;

/// What `ipvsadm --start-daemon` says; 0 and `None` stand for IPVS's defaults.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonSpec {
    /// Master or backup.
    pub role: DaemonRole,
    /// Interface for multicast, by name.
    pub interface: String,
    /// 0 to 255; a backup with another one ignores the master.
    pub sync_id: u8,
    /// Longest sync message in bytes, without IP and UDP headers.
    pub max_length: u16,
    /// Multicast group.
    pub group: Option<McastGroup>,
    /// UDP port.
    pub port: u16,
    /// Multicast TTL.
    pub ttl: u8,
}

/// A running daemon. Listed fields that are 0 or `None` are not shown.
pub type Daemon = DaemonSpec;

const DEFAULT_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const DEFAULT_PORT: u16 = 8848;

/// Settles a daemon's defaults as the kernel does, or says why it cannot run.
///
/// # Errors
/// ENODEV for an unknown interface.
pub(super) fn settle(spec: &DaemonSpec, host: &Host) -> Result<Daemon, Errno> {
    let mtu = host.mtu(&spec.interface).ok_or(Errno::Enodev)?;
    let group = spec.group.unwrap_or(DEFAULT_GROUP);
    let headers: u16 = if group.is_ipv6() { 40 + 8 } else { 20 + 8 };
    let largest = u16::MAX - headers;
    let (usual, smallest) = match spec.role {
        DaemonRole::Master => (1500, 1),
        DaemonRole::Backup => (u16::try_from(mtu).unwrap_or(u16::MAX).max(1500), 1024),
    };
    let max_length = match spec.max_length {
        0 => usual - headers,
        wanted => wanted.clamp(smallest, largest),
    };
    Ok(Daemon {
        group: Some(group),
        port: if spec.port == 0 { DEFAULT_PORT } else { spec.port },
        ttl: spec.ttl.max(1),
        max_length,
        interface: spec.interface.clone(),
        role: spec.role,
        sync_id: spec.sync_id,
    })
}
