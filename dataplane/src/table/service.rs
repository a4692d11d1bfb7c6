//! Virtual services and their real servers, as a packet sees them.

use super::Family;
use crate::tick::Ticks;
use std::net::IpAddr;
use std::sync::Arc;

/// Names a virtual service for as long as it exists; indexes per-service run-time state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceId(pub u32);

/// Names a real server of one service for as long as it or a connection to it exists; indexes
/// per-server run-time state. A server removed and added again while connections remain gets its id
/// back, as from IPVS's destination trash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RealId(pub u32);

/// Transport protocol of a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number, if a service can have it.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// What a packet must match to belong to a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ServiceKey {
    /// Destination address and port; port 0 takes every port that no other service has.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// The VIP.
        address: IpAddr,
        /// The virtual port, host order.
        port: u16,
    },
    /// A mark set by a [`super::MarkRule`]; takes any protocol, address and port.
    Mark {
        /// IPv4 and IPv6 services with the same mark are different services.
        family: Family,
        /// 1 or more.
        mark: u32,
    },
}

impl ServiceKey {
    /// The family of the service's clients.
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => *family,
        }
    }

    /// The virtual port; 0 for mark services.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address { port, .. } => *port,
            Self::Mark { .. } => 0,
        }
    }
}

/// How packets reach a real server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// Destination rewritten; replies come back through the director.
    Nat,
    /// Only the Ethernet destination changes; replies bypass the director.
    DirectRouting,
    /// Wrapped in another IP packet; replies bypass the director.
    Tunnel(Tunnel),
    /// Source and destination rewritten; real servers need no route to the director.
    FullNat,
    /// Delivered to a process on the director.
    Local,
}

/// The wrapping used by [`Method::Tunnel`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tunnel {
    /// IP in IP: protocol 4 or 41.
    Ipip,
    /// GRE without key.
    Gre {
        /// Whether the GRE checksum is present.
        checksum: bool,
    },
    /// Generic UDP encapsulation, version 0.
    Gue {
        /// Destination UDP port, never 0.
        port: u16,
        /// What protects the outer UDP datagram.
        checksum: GueChecksum,
    },
}

/// The outer checksum of GUE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GueChecksum {
    /// No checksum: the field is zero.
    None,
    /// Full UDP checksum.
    Full,
    /// Full, with remote checksum offload when the inner checksum is still partial.
    Remote,
}

/// Why a real server takes no new connections, where its weight of 0 is not the operator's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Availability {
    /// Its weight alone decides. A weight of 0 keeps persistent clients, as in IPVS, unless
    /// [`Tunables::expire_quiescent_template`](super::Tunables::expire_quiescent_template) is set.
    #[default]
    Serving,
    /// It is drained or dead: persistent clients move to another real server at once.
    Withdrawn,
}

/// One real server of one service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Real {
    /// Index of its run-time state.
    pub id: RealId,
    /// RIP. Of another family than the service only with [`Method::Tunnel`].
    pub address: IpAddr,
    /// Port on the real server; 0 keeps the port that the client asked for.
    pub port: u16,
    /// How packets reach it.
    pub method: Method,
    /// Share of new connections; 0 takes none.
    pub weight: u32,
    /// Whether it keeps its persistent clients while `weight` is 0.
    pub availability: Availability,
    /// The last weight that was not 0; Maglev keeps placing by it.
    pub last_weight: u32,
    /// Connections at which it stops taking new ones; 0 for no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 for three quarters of `upper`.
    pub lower: u32,
}

/// Scheduler of a service. The order of `Service::reals` breaks ties, as in IPVS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheduler {
    /// No scheduler: every attempt finds no real server.
    None,
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connection.
    Lc,
    /// Weighted least connection.
    Wlc,
    /// Locality-based least connection.
    Lblc,
    /// Locality-based least connection with replication.
    Lblcr,
    /// Destination hash.
    Dh,
    /// Source hash.
    Sh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Maglev hash.
    Mh,
    /// Power of two choices.
    Twos,
}

/// `-b` flags of a service, with the meaning that its scheduler gives them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SchedulerFlags {
    /// flag-1: `sh-fallback`, `mh-fallback`.
    pub flag_1: bool,
    /// flag-2: `sh-port`, `mh-port`.
    pub flag_2: bool,
    /// flag-3: no meaning to any scheduler.
    pub flag_3: bool,
}

/// Persistence of a service: one client, one real server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Persistence {
    /// Lifetime of a template after its last new connection.
    pub timeout: Ticks,
    /// Bits of the client address that make up "one client": any IPv4 mask, or an IPv6 prefix.
    pub mask: u128,
}

/// How a real server behind full NAT learns the client's address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClientAddress {
    /// The real server sees only the director's address.
    #[default]
    Hidden,
    /// TCP option of this kind on the first segments.
    TcpOption(u8),
    /// PROXY protocol version 2 before the first byte.
    ProxyProtocol,
}

/// One virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Index of its run-time state.
    pub id: ServiceId,
    /// What a packet must match.
    pub key: ServiceKey,
    /// The rule that picks a real server.
    pub scheduler: Scheduler,
    /// `-b` flags.
    pub flags: SchedulerFlags,
    /// Same client, same real server.
    pub persistence: Option<Persistence>,
    /// Each UDP datagram is scheduled on its own and leaves no connection.
    pub one_packet: bool,
    /// Replies go to the MAC that the client's packets came from, whatever the routes say.
    pub return_by_mac: bool,
    /// Addresses that full NAT may use as source; empty means the director's own on that side.
    pub source_pool: Arc<[IpAddr]>,
    /// What full NAT tells the real server about the client.
    pub client_address: ClientAddress,
    /// Real servers, newest first, as IPVS walks them.
    pub reals: Arc<[Real]>,
}
