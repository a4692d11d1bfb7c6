//! What belongs to the dataplane, in the operator's terms and as the tables that both the pure
//! judgement and the BPF program look up.

use crate::table::{Mac, Prefix, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// Ports of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ports {
    /// One port.
    One(u16),
    /// Every port.
    All,
    /// What an FTP service needs besides 21: port 20 and all from 1024.
    FtpData,
}

/// A virtual service, or a real server as its replies come back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// VIP or RIP.
    pub address: IpAddr,
    /// Which ports.
    pub ports: Ports,
}

/// The far end of a tunnel to a real server, as ICMP errors quote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TunnelEnd {
    /// RIP.
    pub address: IpAddr,
    /// IP protocol of the wrapping.
    pub protocol: u8,
    /// Destination port, when the wrapping is UDP; else 0.
    pub port: u16,
}

/// Everything that the dataplane takes from the host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SteeringRules {
    /// Addresses that the dataplane answers for: ARP requests and neighbour solicitations, all ICMP,
    /// all fragments, and their services.
    pub owned: BTreeSet<IpAddr>,
    /// Virtual services; only those at owned addresses count.
    pub services: BTreeSet<Endpoint>,
    /// Destinations of mark rules: all TCP, UDP, SCTP and ICMP to them, and fragments.
    pub prefixes: BTreeSet<Prefix>,
    /// Real servers whose replies come through the director (NAT and full NAT).
    pub reals: BTreeSet<Endpoint>,
    /// Real servers behind tunnels: ICMP errors about packets to them are claimed.
    pub tunnels: BTreeSet<TunnelEnd>,
    /// Source addresses of full NAT, and the ports that it uses there.
    pub pools: BTreeMap<IpAddr, RangeInclusive<u16>>,
    /// The host's own addresses. Packets to them stay the host's unless a service, a pool, or an
    /// owned address says otherwise; replies of real servers to them are replies to the host.
    pub local: BTreeSet<IpAddr>,
    /// Ethernet addresses besides the interface's own, by interface index: VRRP's virtual ones.
    pub macs: BTreeSet<(u32, Mac)>,
}

/// Flags of an address, in the tables.
pub mod flag {
    /// The dataplane answers for it.
    pub const OWNED: u32 = 1;
    /// It is the host's.
    pub const LOCAL: u32 = 2;
    /// A source of full NAT; the entry has the ports.
    pub const POOL: u32 = 4;
    /// A real server whose replies come through the director.
    pub const REAL: u32 = 8;
    /// Some service there has more ports than one.
    pub const WIDE_SERVICE: u32 = 16;
    /// Some real server there has more ports than one.
    pub const WIDE_REAL: u32 = 32;
}

/// Values of an endpoint, in the tables.
pub mod ports {
    /// The port of the key, or every port when that is 0.
    pub const MATCHING: u32 = 1;
    /// [`super::Ports::FtpData`].
    pub const FTP_DATA: u32 = 2;
}

/// What the tables say about an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddressEntry {
    /// See [`flag`].
    pub flags: u32,
    /// First port of the pool.
    pub low: u16,
    /// Last port of the pool.
    pub high: u16,
}

/// Which side of a flow an endpoint is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Destination: a virtual service.
    Service,
    /// Source: a real server.
    Real,
    /// Destination in an ICMP error: the far end of a tunnel.
    Tunnel,
}

/// An address in the tables: IPv6, or IPv4 mapped into it.
pub type Address = [u8; 16];

/// Key of an endpoint, in the tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointKey {
    /// VIP or RIP.
    pub address: Address,
    /// 0 for more than one.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Which side.
    pub side: Side,
}

/// The rules as tables. The BPF maps hold exactly these entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    /// By address.
    pub addresses: BTreeMap<Address, AddressEntry>,
    /// By address, protocol, port and side; values from [`ports`]. A service is here only if its
    /// address is owned, and a real server's address has [`flag::REAL`].
    pub endpoints: BTreeMap<EndpointKey, u32>,
    /// By length in bits (of 128) and address, with the bits beyond the length zero. The longest
    /// match says whether the address is covered.
    pub prefixes: BTreeMap<(u8, Address), bool>,
    /// As in the rules.
    pub macs: BTreeSet<(u32, Mac)>,
}

/// An address as the tables have it.
pub fn address(address: &IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl From<&SteeringRules> for Tables {
    fn from(rules: &SteeringRules) -> Self {
        let mut tables = Self { macs: rules.macs.clone(), ..Self::default() };
        for ip in &rules.owned {
            tables.entry(ip).flags |= flag::OWNED;
        }
        for ip in &rules.local {
            tables.entry(ip).flags |= flag::LOCAL;
        }
        for (ip, range) in &rules.pools {
            let entry = tables.entry(ip);
            entry.flags |= flag::POOL;
            (entry.low, entry.high) = (*range.start(), *range.end());
        }
        for endpoint in &rules.services {
            if tables.entry(&endpoint.address).flags & flag::OWNED != 0 {
                tables.add(endpoint, Side::Service);
            }
        }
        for endpoint in &rules.reals {
            tables.entry(&endpoint.address).flags |= flag::REAL;
            tables.add(endpoint, Side::Real);
        }
        for end in &rules.tunnels {
            let (address, side) = (address(&end.address), Side::Tunnel);
            let key = EndpointKey { address, port: end.port, protocol: end.protocol, side };
            tables.endpoints.insert(key, ports::MATCHING);
        }
        tables.prefixes = rules.prefixes.iter().map(|prefix| (masked(prefix), true)).collect();
        if !tables.prefixes.is_empty() {
            // A short IPv6 prefix, ::/0 say, must not cover IPv4.
            let all_of_ipv4 = address(&IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            tables.prefixes.entry((96, all_of_ipv4)).or_insert(false);
        }
        tables
    }
}

impl Tables {
    fn entry(&mut self, ip: &IpAddr) -> &mut AddressEntry {
        self.addresses.entry(address(ip)).or_default()
    }

    fn add(&mut self, endpoint: &Endpoint, side: Side) {
        let (port, value) = match endpoint.ports {
            Ports::One(port) => (port, ports::MATCHING),
            Ports::All => (0, ports::MATCHING),
            Ports::FtpData => (0, ports::FTP_DATA),
        };
        if port == 0 {
            self.entry(&endpoint.address).flags |= wide_flag(side);
        }
        let protocol = endpoint.protocol.number();
        let key = EndpointKey { address: address(&endpoint.address), port, protocol, side };
        *self.endpoints.entry(key).or_default() |= value;
    }
}

/// The flag of an address that has an endpoint with more ports than one on this side.
pub const fn wide_flag(side: Side) -> u32 {
    match side {
        Side::Service => flag::WIDE_SERVICE,
        Side::Real => flag::WIDE_REAL,
        Side::Tunnel => 0,
    }
}

/// A prefix as the tables have it.
fn masked(prefix: &Prefix) -> (u8, Address) {
    let length = match prefix.address {
        IpAddr::V4(_) => 96 + prefix.length.min(32),
        IpAddr::V6(_) => prefix.length.min(128),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    let bits = u128::from_be_bytes(address(&prefix.address)) & mask;
    (length, bits.to_be_bytes())
}
