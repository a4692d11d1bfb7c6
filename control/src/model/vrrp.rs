//! VRRP instances, as the operator means them.

use super::Prefix;
use std::net::IpAddr;
use std::time::Duration;

/// One VRRP instance.
#[derive(Clone, PartialEq, Debug)]
pub struct VrrpInstance {
    /// Its name: unique.
    pub name: String,
    /// Interface that carries its advertisements.
    pub interface: String,
    /// Virtual router id: 1 to 255, unique with the interface and the family of its addresses.
    pub id: u8,
    /// Version of the protocol: 2 or 3.
    pub version: u8,
    /// 1 to 254, or 255 for the owner of the addresses.
    pub priority: u8,
    /// Between two adverts: whole seconds to 255 s in version 2, 10 ms to 40.95 s in steps of
    /// 10 ms in version 3.
    pub advert_interval: Duration,
    /// Whether a higher priority takes mastership back.
    pub preempt: bool,
    /// How long it waits before it does.
    pub preempt_delay: Duration,
    /// Source address of adverts; `None` for the interface's.
    pub source: Option<IpAddr>,
    /// Adverts go to these instead of the multicast group.
    pub unicast_peers: Vec<IpAddr>,
    /// Virtual addresses, in the order to advertise.
    pub addresses: Vec<IpAddr>,
    /// Addresses that move along without being advertised: inside gateways.
    pub inside_addresses: Vec<InsideAddress>,
    /// Instances of one group move together.
    pub group: Option<String>,
    /// Authentication of advertisements.
    pub auth: VrrpAuth,
    /// Whether the version 3 checksum over IPv4 includes the pseudo header.
    pub checksum_pseudo_header: bool,
    /// What changes the priority or forbids mastership.
    pub track: Vec<VrrpTrack>,
    /// Whether packets to the virtual addresses are accepted by a master that is not their owner.
    pub accept: bool,
    /// Whether the master speaks and answers with the protocol's virtual MAC; else with the interface's
    /// own, for hypervisors and switches that let no other one pass. keepalived's `use_vmac`, which is
    /// off there unless asked for.
    pub virtual_mac: bool,
}

/// An address that moves with an instance, on an interface of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InsideAddress {
    /// The address and its prefix.
    pub address: Prefix,
    /// Interface that the address is on.
    pub interface: String,
}

/// Authentication of adverts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VrrpAuth {
    /// No authentication.
    #[default]
    None,
    /// Version 2's plain password: at most 8 bytes.
    Password(String),
    /// keepalived's `auth_hmac`: a key of 32 to 64 bytes, as it is or in hexadecimal.
    Hmac(String),
}

/// What an instance watches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VrrpTrack {
    /// The tracked object.
    pub what: Tracked,
    /// Added to the priority while good when above 0, while bad when below; 0 forbids mastership
    /// while bad. -253 to 253.
    pub weight: i16,
}

/// What can be watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tracked {
    /// An interface: is its carrier up.
    Interface(String),
    /// A service: has it its quorum.
    Service(String),
    /// A script: does it exit with 0.
    Script(String),
}

/// A script that instances track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackScript {
    /// Its name: unique.
    pub name: String,
    /// Program and arguments, run without a shell.
    pub command: Vec<String>,
    /// Between two runs: 100 ms or more.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
    /// Consecutive good runs that make it good.
    pub rise: u32,
    /// Consecutive bad runs that make it bad.
    pub fall: u32,
}
