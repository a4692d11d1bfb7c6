//! Virtual services and their real servers, as the operator means them.

use super::{Check, ClientAddress, Family, Method, Prefix, Protocol, Scheduler, SchedulerFlags};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// One virtual service.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Its name: unique, without blanks. Services made without one are named after their address,
    /// see [`VirtualAddress::derived_name`].
    pub name: String,
    /// What clients connect to: unique.
    pub address: VirtualAddress,
    /// Of a mark service: which packets belong to it. Empty otherwise.
    pub rules: Vec<MatchRule>,
    /// The rule that picks a real server.
    pub scheduler: Scheduler,
    /// `-b` flags, with the meaning that the scheduler gives them.
    pub flags: SchedulerFlags,
    /// How packets reach real servers that do not say otherwise.
    pub method: Method,
    /// Same client, same real server.
    pub persistence: Option<Persistence>,
    /// What makes two packets "the same client" besides their address.
    pub persistence_engine: Option<PersistenceEngine>,
    /// Each UDP datagram is scheduled on its own.
    pub one_packet: bool,
    /// Replies go to the MAC that the client's packets came from.
    pub return_by_mac: bool,
    /// What full NAT tells real servers about the client.
    pub client_address: ClientAddress,
    /// Source addresses for full NAT; empty means the director's own.
    pub source_pool: Vec<IpAddr>,
    /// Who answers when no real server can.
    pub sorry: Option<Sorry>,
    /// How many real servers make the service up.
    pub quorum: Quorum,
    /// How real servers that do not say otherwise are checked; none: always up.
    pub check: Option<Check>,
    /// Real servers in the order in which they were added: the last one is the newest.
    pub reals: Vec<Real>,
}

/// What clients of a service connect to. Unique in a document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum VirtualAddress {
    /// An address and a port; port 0 takes every port that no other service has.
    Socket {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP and virtual port.
        address: SocketAddr,
    },
    /// Packets with this mark, whatever their protocol, address and port.
    Mark {
        /// IPv4 and IPv6 services with the same mark are different services.
        family: Family,
        /// 1 or more.
        mark: u32,
    },
}

/// Packets that a mark service takes: those that match every given field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchRule {
    /// Client addresses; `None` for all.
    pub source: Option<Prefix>,
    /// Destination addresses, all owned by the director.
    pub destination: Prefix,
    /// Transport protocol; `None` for all three.
    pub protocol: Option<Protocol>,
    /// Destination ports; `None` for all.
    pub ports: Option<RangeInclusive<u16>>,
}

/// Same client, same real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Persistence {
    /// Lifetime of a client's binding after its last new connection: whole seconds, 1 s to 31 days.
    pub timeout: Duration,
    /// Which part of the client's address counts.
    pub netmask: Netmask,
}

/// Which part of a client's address makes it "one client".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Netmask {
    /// Of IPv4 services: any mask, as IPVS takes it.
    V4(Ipv4Addr),
    /// Of IPv6 services: a prefix length of 1 to 128.
    V6(u8),
}

/// IPVS's persistence engines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PersistenceEngine {
    /// SIP Call-ID, for UDP.
    Sip,
}

/// Who answers when no real server can.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sorry {
    /// The director itself, with a page.
    Page {
        /// HTML to show; `None` for the one built in.
        body: Option<String>,
        /// `Retry-After` of the answer.
        retry_after: Duration,
    },
    /// Another server.
    Server {
        /// Address and port of the server.
        address: SocketAddr,
        /// How to reach it; `None` means local delivery for an address of loopback, else the
        /// service's method.
        method: Option<Method>,
    },
}

/// When a service counts as up. It comes up at `recover` and goes down below `minimum`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// Below this the service is down: at least 1.
    pub minimum: u32,
    /// A service that is down comes up at this: at least `minimum`.
    pub recover: u32,
    /// The unit of both limits.
    pub unit: QuorumUnit,
    /// Whether the VIP is given up while the service is down.
    pub withdraw: bool,
}

/// What a quorum counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QuorumUnit {
    /// Real servers that are up.
    #[default]
    Servers,
    /// The sum of their weights.
    Weight,
}

/// One real server of one service.
#[derive(Clone, PartialEq, Debug)]
pub struct Real {
    /// RIP and port: unique in the service. Port 0 keeps the port that the client asked for.
    pub address: SocketAddr,
    /// Share of new connections: 0 to 2147483647; 0 takes none.
    pub weight: u32,
    /// Connections at which it stops taking new ones: 0 to 2147483647; 0 for no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again: at most `upper`; 0 for three quarters.
    pub lower: u32,
    /// How packets reach it; `None` for the service's method.
    pub method: Option<Method>,
    /// How it is checked; `None` for the service's check.
    pub check: Option<Check>,
}

/// The largest weight and threshold.
pub const MAX_WEIGHT: u32 = i32::MAX as u32;

/// The longest timeout that IPVS takes: 31 days.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(31 * 86_400);

impl Service {
    /// A service without real servers, with IPVS's defaults (wlc) and its derived name.
    pub fn new(address: VirtualAddress, method: Method) -> Self {
        Self {
            name: address.derived_name(),
            address,
            rules: Vec::new(),
            scheduler: Scheduler::Wlc,
            flags: SchedulerFlags::default(),
            method,
            persistence: None,
            persistence_engine: None,
            one_packet: false,
            return_by_mac: false,
            client_address: ClientAddress::default(),
            source_pool: Vec::new(),
            sorry: None,
            quorum: Quorum::default(),
            check: None,
            reals: Vec::new(),
        }
    }

    /// How packets reach this real server.
    pub fn method_of(&self, real: &Real) -> Method {
        real.method.unwrap_or(self.method)
    }

    /// How this real server is checked, if at all.
    pub fn check_of<'a>(&'a self, real: &'a Real) -> Option<&'a Check> {
        real.check.as_ref().or(self.check.as_ref())
    }

    /// Why a service's packets cannot reach a server at this address by this method.
    pub fn misfit(&self, method: Method, server: SocketAddr) -> Option<String> {
        let tunnel = matches!(method, Method::Tunnel(_));
        if Family::of(&server.ip()) != self.address.family() && !tunnel {
            return Some(format!(
                "{} is of another family than the service, should come with method \"tun\"",
                server.ip()
            ));
        }
        // A service of all ports or of a mark has no port of its own that could be another one.
        let (virtual_port, port) = (self.address.port(), server.port());
        let (keeps, name) = match method {
            Method::DirectRouting => (true, "dr"),
            Method::Tunnel(_) => (true, "tun"),
            Method::Nat | Method::FullNat | Method::Local => (false, ""),
        };
        if keeps && virtual_port != 0 && port != 0 && port != virtual_port {
            return Some(format!(
                "port {port} should be {virtual_port}, the service's own: method \"{name}\" leaves packets \
                 as they are"
            ));
        }
        None
    }

    /// Whether packets can be forwarded to this real server as the document says.
    pub fn can_reach(&self, real: &Real) -> bool {
        let method = self.method_of(real);
        let one_packet = self.one_packet && method == Method::FullNat;
        !one_packet && self.misfit(method, real.address).is_none()
    }

    /// The real server with this address.
    pub fn real(&self, address: &SocketAddr) -> Option<&Real> {
        self.reals.iter().find(|real| real.address == *address)
    }

    /// The real server with this address, to be changed.
    pub fn real_mut(&mut self, address: &SocketAddr) -> Option<&mut Real> {
        self.reals.iter_mut().find(|real| real.address == *address)
    }
}

impl Real {
    /// A real server with weight 1 and the service's method and check.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, upper: 0, lower: 0, method: None, check: None }
    }
}

impl Default for Quorum {
    fn default() -> Self {
        Self { minimum: 1, recover: 1, unit: QuorumUnit::default(), withdraw: false }
    }
}

impl Netmask {
    /// The mask under which every address is a client of its own.
    pub const fn host(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Self::V6(128),
        }
    }
}

impl VirtualAddress {
    /// The family of the service's clients.
    pub const fn family(&self) -> Family {
        match self {
            Self::Socket { address, .. } => match address {
                SocketAddr::V4(_) => Family::V4,
                SocketAddr::V6(_) => Family::V6,
            },
            Self::Mark { family, .. } => *family,
        }
    }

    /// The virtual port; 0 for mark services.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Socket { address, .. } => address.port(),
            Self::Mark { .. } => 0,
        }
    }

    /// The VIP, unless a mark service.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket { address, .. } => Some(address.ip()),
            Self::Mark { .. } => None,
        }
    }

    /// What packets look up.
    pub const fn key(&self) -> dataplane::table::ServiceKey {
        match self {
            Self::Socket { protocol, address } => dataplane::table::ServiceKey::Address {
                protocol: *protocol,
                address: address.ip(),
                port: address.port(),
            },
            Self::Mark { family, mark } => {
                dataplane::table::ServiceKey::Mark { family: *family, mark: *mark }
            }
        }
    }

    /// The name of a service that was given none: `tcp-192.0.2.10:80`, `mark-7`, `mark-7-ipv6`.
    pub fn derived_name(&self) -> String {
        match self {
            Self::Socket { protocol, address } => {
                format!("{}-{address}", super::protocol_name(*protocol))
            }
            Self::Mark { family: Family::V4, mark } => format!("mark-{mark}"),
            Self::Mark { family: Family::V6, mark } => format!("mark-{mark}-ipv6"),
        }
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { protocol, address } => {
                write!(f, "{} {address}", super::protocol_name(*protocol))
            }
            Self::Mark { family: Family::V4, mark } => write!(f, "mark {mark}"),
            Self::Mark { family: Family::V6, mark } => write!(f, "mark {mark} IPv6"),
        }
    }
}
