//! Adverts as bytes: RFC 3768 (version 2) and RFC 9568 (version 3), over IPv4 and IPv6.
//!
//! ```text
//!  0               1               2               3
//!  version|type=1  VRID            priority        address count
//!  v2: auth type   interval (s)    checksum
//!  v3: 0 | interval, 12 bits (cs)  checksum
//!  addresses, 4 or 16 bytes each
//!  v2 only: 8 bytes of password, or zeros
//!  28 bytes of HMAC trailer where `auth_hmac` is on
//! ```
//!
//! Only what is here knows seconds and centiseconds; everybody else speaks `Duration`.

use super::{Priority, Version, Vrid};
use dataplane::table::Family;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

mod format;
mod rejected;
#[cfg(test)]
mod tests;

pub use format::{Format, FormatError};
use format::{checksum, covered, message_len, pseudo_header};
pub use rejected::Rejected;

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// Where adverts go over IPv4 when no unicast peers are configured.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where adverts go over IPv6 when no unicast peers are configured.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The TTL or hop limit that proves a packet never crossed a router.
pub const TTL: u8 = 255;
/// Priority field of a master that gives up.
pub const RESIGN: u8 = 0;

const HEADER: usize = 8;
const PASSWORD: usize = 8;
const ADVERTISEMENT: u8 = 1;
const AUTH_NONE: u8 = 0;
const AUTH_PASSWORD: u8 = 1;
const CENTISECOND: Duration = Duration::from_millis(10);

/// How the checksum of version 3 over IPv4 is made. Vendors differ; IPv6 and version 2 have one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// With a pseudo header, as RFC 5798 was read and keepalived sends by default.
    #[default]
    PseudoHeader,
    /// Over the message alone, as RFC 9568 says; keepalived's `v3_checksum_as_v2`.
    MessageOnly,
}

/// Authentication in the version 2 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Authentication {
    /// Type 0.
    #[default]
    None,
    /// Type 1: eight bytes in clear, zero padded.
    Password([u8; PASSWORD]),
}

impl Authentication {
    /// A simple password; bytes beyond the eighth are not used, as in keepalived.
    pub fn password(text: &str) -> Self {
        let mut bytes = [0; PASSWORD];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Self::Password(bytes)
    }

    const fn kind(self) -> u8 {
        match self {
            Self::None => AUTH_NONE,
            Self::Password(_) => AUTH_PASSWORD,
        }
    }

    const fn data(self) -> [u8; PASSWORD] {
        match self {
            Self::None => [0; PASSWORD],
            Self::Password(bytes) => bytes,
        }
    }
}

/// The addresses of the IP header around a message; part of some checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Source address.
    pub source: IpAddr,
    /// Multicast group or unicast peer.
    pub destination: IpAddr,
}

/// A packet of protocol 112 as a socket hands it over, without its IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// From the IP header.
    pub path: Path,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// Everything behind the IP header.
    pub bytes: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes the IPv4 header off what a raw IPv4 socket received.
    ///
    /// # Errors
    /// [`Rejected::Ip`] when the header is not one, or names another protocol.
    pub fn from_ipv4(packet: &'a [u8]) -> Result<Self, Rejected> {
        let field = |at: usize| packet.get(at).copied().ok_or(Rejected::Ip);
        let word = |at: usize| match packet.get(at..at + 4) {
            Some(&[a, b, c, d]) => Ok(IpAddr::from([a, b, c, d])),
            Some(_) | None => Err(Rejected::Ip),
        };
        let first = field(0)?;
        let header = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || header < 20 || field(9)? != PROTOCOL {
            return Err(Rejected::Ip);
        }
        let total = usize::from(u16::from_be_bytes([field(2)?, field(3)?]));
        let bytes = packet.get(header..total).ok_or(Rejected::Ip)?;
        let path = Path { source: word(12)?, destination: word(16)? };
        Ok(Self { path, ttl: field(8)?, bytes })
    }

    /// Which instance the packet is for: the virtual router id at its fixed place.
    pub fn vrid(&self) -> Option<Vrid> {
        Vrid::new(*self.bytes.get(1)?)
    }
}

/// How advertisements reach the other routers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// To the group; anybody on the link may speak.
    Multicast,
    /// To and from these peers.
    Unicast {
        /// The other routers.
        peers: Vec<IpAddr>,
        /// Whether only they are heard; keepalived's `check_unicast_src`.
        check_source: bool,
        /// Smallest TTL or hop limit to accept; 255 keeps routers out, but keepalived before 2.4 sends
        /// unicast over IPv6 with 64, so 0 is the safe choice.
        min_ttl: u8,
    },
}

/// A valid advert.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advert {
    /// 0 when the sender resigns.
    pub priority: u8,
    /// The sender's interval.
    pub interval: Duration,
    /// The sender's address.
    pub source: IpAddr,
}

impl Advert {
    /// The sender's priority; `None` when it resigns.
    pub const fn priority(&self) -> Option<Priority> {
        Priority::new(self.priority)
    }
}

/// Differences that do not make an advert invalid, but that an operator should know: the two sides are
/// configured differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Differences {
    /// The sender lists other addresses besides common ones. keepalived before 2.4 would reject ours
    /// too.
    pub addresses: bool,
    /// The sender's interval is not ours (version 3, which adapts to it).
    pub interval: bool,
    /// The sender uses the other checksum of version 3 over IPv4.
    pub checksum: bool,
}

/// A valid advert, what was odd about it, and the bytes behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed<'a> {
    /// The advert.
    pub advert: Advert,
    /// What the operator should be warned of.
    pub differences: Differences,
    /// Whether not one of the instance's addresses is listed: the sender belongs to another cluster with
    /// the same virtual router id, which must not take our addresses down.
    pub is_foreign: bool,
    /// The message without its trailer.
    pub message: &'a [u8],
    /// Bytes behind the message: an HMAC trailer, or nothing.
    pub trailer: Option<&'a [u8; TRAILER]>,
}

/// Bytes of the HMAC trailer.
pub const TRAILER: usize = 28;

/// Judges a datagram against an instance's configuration, in keepalived's order.
///
/// An address list that shares only some addresses with ours is accepted and reported: during a
/// configuration change the two sides differ for a moment, and rejecting the advert would make two
/// masters. A list that shares none belongs to another cluster: see [`Parsed::is_foreign`].
///
/// # Errors
/// The first rule that the datagram breaks.
pub fn parse<'a>(
    datagram: &Datagram<'a>,
    format: &Format,
    reach: &Reach,
) -> Result<Parsed<'a>, Rejected> {
    let Path { source, destination } = datagram.path;
    if Family::of(&source) != format.family || Family::of(&destination) != format.family {
        return Err(Rejected::Family);
    }
    let bytes = datagram.bytes;
    let Some(&[first, vrid, priority, count, kind, interval, ..]) = bytes.get(..HEADER) else {
        return Err(Rejected::Length);
    };
    if first >> 4 != format.version.number() {
        return Err(Rejected::Version);
    }
    let len = message_len(format.version, format.family, usize::from(count));
    let (message, rest) = bytes.split_at_checked(len).ok_or(Rejected::Length)?;
    let trailer = match <&[u8; TRAILER]>::try_from(rest) {
        Ok(trailer) => Some(trailer),
        Err(_) if rest.is_empty() => None,
        Err(_) => return Err(Rejected::Length),
    };
    check_ttl(datagram.ttl, reach)?;
    if first & 0xf != ADVERTISEMENT {
        return Err(Rejected::Type);
    }
    if vrid != format.vrid.get() {
        return Err(Rejected::Vrid);
    }
    if count == 0 {
        return Err(Rejected::NoAddresses);
    }
    let interval = match format.version {
        Version::V2 => {
            check_password(kind, message, format.authentication)?;
            Duration::from_secs(u64::from(interval))
        }
        Version::V3 => CENTISECOND * u32::from(u16::from_be_bytes([kind & 0xf, interval])),
    };
    if interval.is_zero() {
        return Err(Rejected::IntervalZero);
    }
    if format.version == Version::V2 && interval != format.interval {
        return Err(Rejected::Interval);
    }
    let other_checksum = check_checksum(format, &datagram.path, bytes, len, reach)?;
    check_reach(&datagram.path, reach)?;
    let listed = addresses(message, usize::from(count), format.family);
    let shared = format.addresses.iter().filter(|own| listed.contains(own)).count();
    let own = format.addresses.len();
    let differences = Differences {
        addresses: usize::from(count) != own || shared != own,
        interval: interval != format.interval,
        checksum: other_checksum,
    };
    let advert = Advert { priority, interval, source };
    Ok(Parsed { advert, differences, is_foreign: shared == 0, message, trailer })
}

const fn check_ttl(ttl: u8, reach: &Reach) -> Result<(), Rejected> {
    let least = match reach {
        Reach::Multicast => TTL,
        Reach::Unicast { min_ttl, .. } => *min_ttl,
    };
    if ttl < least { Err(Rejected::Ttl) } else { Ok(()) }
}

fn check_password(kind: u8, message: &[u8], expected: Authentication) -> Result<(), Rejected> {
    if kind != expected.kind() {
        return Err(Rejected::AuthenticationType);
    }
    match expected {
        Authentication::None => Ok(()),
        Authentication::Password(password) if message.ends_with(&password) => Ok(()),
        Authentication::Password(_) => Err(Rejected::Password),
    }
}

/// Whether the sender uses the other dialect than ours; an error when no dialect fits.
fn check_checksum(
    format: &Format,
    path: &Path,
    bytes: &[u8],
    len: usize,
    reach: &Reach,
) -> Result<bool, Rejected> {
    let covered = covered(format.family, bytes, len);
    let plain = || checksum(covered, 0) == 0;
    let with = |path: &Path| checksum(covered, pseudo_header(path, covered.len())) == 0;
    // keepalived before 1.3.7 put the group's address into the checksum of unicast adverts.
    let old_unicast = || match reach {
        Reach::Multicast => false,
        Reach::Unicast { .. } => {
            with(&Path { source: path.source, destination: IpAddr::V4(GROUP_V4) })
        }
    };
    let (ours, other) = match (format.family, format.version) {
        (Family::V4, Version::V2) => (plain(), false),
        (Family::V6, Version::V2 | Version::V3) => (with(path), false),
        (Family::V4, Version::V3) => {
            let pseudo = with(path) || old_unicast();
            match format.checksum {
                Checksum::PseudoHeader => (pseudo, plain()),
                Checksum::MessageOnly => (plain(), pseudo),
            }
        }
    };
    if ours || other { Ok(!ours) } else { Err(Rejected::Checksum) }
}

fn check_reach(path: &Path, reach: &Reach) -> Result<(), Rejected> {
    match reach {
        Reach::Multicast if path.destination.is_multicast() => Ok(()),
        Reach::Unicast { .. } if path.destination.is_multicast() => Err(Rejected::Reach),
        Reach::Unicast { peers, check_source: true, .. } if !peers.contains(&path.source) => {
            Err(Rejected::Peer)
        }
        Reach::Unicast { .. } => Ok(()),
        Reach::Multicast => Err(Rejected::Reach),
    }
}

/// Returns the addresses that a message lists.
fn addresses(message: &[u8], count: usize, family: Family) -> BTreeSet<IpAddr> {
    let list = message.get(HEADER..).unwrap_or_default();
    match family {
        Family::V4 => {
            list.as_chunks::<4>().0.iter().take(count).map(|a| IpAddr::from(*a)).collect()
        }
        Family::V6 => {
            list.as_chunks::<16>().0.iter().take(count).map(|a| IpAddr::from(*a)).collect()
        }
    }
}
