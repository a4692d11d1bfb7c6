//! What can be asked of IPVS.

use super::daemon::{DaemonRole, DaemonSpec};
use super::wire::{MethodWire, NetmaskWire, SchedulerFlagsWire, VirtualAddressWire};
use crate::model::{Method, Netmask, SchedulerFlags, VirtualAddress};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One request. JSON: `{"delete_service":{"service":{"mark":{"family":"v4","mark":7}}}}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Makes a service without real servers.
    AddService {
        /// What clients connect to.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
        /// Everything else about it.
        spec: ServiceSpec,
    },
    /// Replaces everything that a [`ServiceSpec`] says about a service.
    EditService {
        /// The service's virtual address.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
        /// What to replace it with.
        spec: ServiceSpec,
    },
    /// Removes a service and its real servers.
    DeleteService {
        /// The service's virtual address.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
    },
    /// Adds a real server to a service, as its newest.
    AddServer {
        /// The service that gets the server.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
        /// RIP and port.
        server: SocketAddr,
        /// Everything else about it.
        spec: ServerSpec,
    },
    /// Replaces everything that a [`ServerSpec`] says about a real server.
    EditServer {
        /// The service that has the server.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
        /// RIP and port.
        server: SocketAddr,
        /// What to replace it with.
        spec: ServerSpec,
    },
    /// Removes a real server from a service. Its connections stay and meet "removed".
    DeleteServer {
        /// The service that loses the server.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
        /// RIP and port.
        server: SocketAddr,
    },
    /// Counts a service and its real servers from zero again.
    ZeroService {
        /// The service's virtual address.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
    },
    /// Counts everything from zero again.
    ZeroAll,
    /// Removes every service.
    Flush,
    /// Changes connection timeouts.
    SetTimeouts(TimeoutSpec),
    /// Starts a connection-sync daemon.
    StartDaemon(DaemonSpec),
    /// Stops a connection-sync daemon.
    StopDaemon {
        /// Which of the two.
        role: DaemonRole,
    },
    /// IPVS's version and the size of its connection table.
    Info,
    /// Every service with its real servers, in the kernel's order.
    Services,
    /// One service with its real servers.
    Service {
        /// The service's virtual address.
        #[serde(with = "VirtualAddressWire")]
        service: VirtualAddress,
    },
    /// The connection timeouts.
    Timeouts,
    /// The running sync daemons, master first.
    Daemons,
    /// A page of connections.
    Connections {
        /// Where the page before ended; 0 for the first.
        cursor: u64,
        /// At most this many; [`super::MAX_PAGE`] is the ceiling.
        limit: u32,
    },
    /// Several requests, one after the other; one that fails does not stop the next. All changes
    /// make one revision of the document. A batch inside a batch is refused.
    Batch(Vec<Request>),
}

/// What `ipvsadm -A` and `-E` say about a service besides its address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The scheduler's name, not yet looked up.
    pub scheduler: String,
    /// `-b` flags.
    #[serde(with = "SchedulerFlagsWire")]
    pub flags: SchedulerFlags,
    /// Same client, same real server.
    pub persistence: Option<PersistenceSpec>,
    /// The persistence engine's name, not yet looked up.
    pub engine: Option<String>,
    /// Each UDP datagram is scheduled on its own.
    pub one_packet: bool,
}

/// Persistence of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistenceSpec {
    /// Lifetime of a client's binding, in seconds.
    pub seconds: u32,
    /// Which part of the client's address counts.
    #[serde(with = "NetmaskWire")]
    pub netmask: Netmask,
}

/// What `ipvsadm -a` and `-e` say about a real server besides its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// How packets reach it.
    #[serde(with = "MethodWire")]
    pub method: Method,
    /// Share of new connections.
    pub weight: u32,
    /// Connections at which it stops taking new ones; 0 for no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 for three quarters of `upper`.
    pub lower: u32,
}

/// Connection timeouts in seconds. In [`Request::SetTimeouts`], 0 leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutSpec {
    /// TCP ESTABLISHED.
    pub tcp: u32,
    /// TCP FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Request {
    /// Whether it can change the configuration document.
    pub fn edits(&self) -> bool {
        match self {
            Self::AddService { .. }
            | Self::EditService { .. }
            | Self::DeleteService { .. }
            | Self::AddServer { .. }
            | Self::EditServer { .. }
            | Self::DeleteServer { .. }
            | Self::Flush
            | Self::SetTimeouts(_) => true,
            Self::ZeroService { .. }
            | Self::ZeroAll
            | Self::StartDaemon(_)
            | Self::StopDaemon { .. }
            | Self::Info
            | Self::Services
            | Self::Service { .. }
            | Self::Timeouts
            | Self::Daemons
            | Self::Connections { .. } => false,
            Self::Batch(requests) => requests.iter().any(Self::edits),
        }
    }
}
