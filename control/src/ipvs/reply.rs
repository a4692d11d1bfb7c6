//! What IPVS answers.

use super::wire::{MethodWire, VirtualAddressWire};
use super::{ConnectionPage, Counters, Daemon, Errno, Rates, ServiceSpec, TimeoutSpec};
use crate::model::{Method, VirtualAddress};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The answer to one request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// It is not, for a reason that IPVS has too.
    Failed(Errno),
    /// It is not, for a reason of Viaduct's own, in words.
    Refused(String),
    /// Answers [`super::Request::Info`].
    Info(Info),
    /// Answers [`super::Request::Services`].
    Services(Vec<ServiceEntry>),
    /// Answers [`super::Request::Service`].
    Service(Box<ServiceEntry>),
    /// Answers [`super::Request::Timeouts`].
    Timeouts(TimeoutSpec),
    /// Answers [`super::Request::Daemons`].
    Daemons(Vec<Daemon>),
    /// Answers [`super::Request::Connections`].
    Connections(ConnectionPage),
    /// To [`super::Request::Batch`]: one for each, in order.
    Batch(Vec<Reply>),
}

/// What the kernel says about IPVS itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Info {
    /// Version of IPVS: major, minor, patch.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table.
    pub table_size: u32,
}

/// One service with its counters and real servers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// What clients connect to.
    #[serde(with = "VirtualAddressWire")]
    pub service: VirtualAddress,
    /// Everything that `ipvsadm -A` said.
    pub spec: ServiceSpec,
    /// Since it was made or zeroed.
    pub counters: Counters,
    /// Current rates.
    pub rates: Rates,
    /// Its real servers, the newest first.
    pub servers: Vec<ServerEntry>,
}

/// One real server with its counters.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerEntry {
    /// RIP and port.
    pub server: SocketAddr,
    /// How packets reach it.
    #[serde(with = "MethodWire")]
    pub method: Method,
    /// Share of new connections as it counts now, that is, after health.
    pub weight: u32,
    /// Upper threshold.
    pub upper: u32,
    /// Lower threshold.
    pub lower: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Since it was added or zeroed.
    pub counters: Counters,
    /// Current rates.
    pub rates: Rates,
}
