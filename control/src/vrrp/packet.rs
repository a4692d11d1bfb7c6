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

#[cfg(test)]
mod tests;

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
    /// Sender.
    pub source: IpAddr,
    /// Multicast group or unicast peer.
    pub destination: IpAddr,
}

/// Everything about an instance that its messages carry and that never depends on its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    version: Version,
    family: Family,
    vrid: Vrid,
    interval: Duration,
    addresses: Vec<IpAddr>,
    checksum: Checksum,
    authentication: Authentication,
}

/// Why an instance cannot be put on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Every instance must own an address.
    #[error("an instance needs at least one address")]
    NoAddresses,
    /// The count field has eight bits and the packet must fit the MTU.
    #[error("an instance can carry at most 255 addresses, and IPv6 at most 88")]
    TooManyAddresses,
    /// Each family needs an instance of its own.
    #[error("addresses of both families in one instance")]
    MixedFamilies,
    /// Version 2 has whole seconds.
    #[error("version 2 needs an advert interval of whole seconds, from 1 s to 255 s")]
    IntervalV2,
    /// Version 3 has 12 bits of centiseconds.
    #[error("version 3 needs an advert interval from 10 ms to 40.95 s in steps of 10 ms")]
    IntervalV3,
    /// RFC 9568 took authentication out, and IPv6 messages never had room for it.
    #[error("a password needs version 2 over IPv4; use an HMAC instead")]
    Password,
}

impl Format {
    /// Checks that an instance can be expressed on the wire.
    ///
    /// # Errors
    /// Says which rule of the version or of the header it breaks.
    pub fn new(
        version: Version,
        vrid: Vrid,
        interval: Duration,
        addresses: Vec<IpAddr>,
        checksum: Checksum,
        authentication: Authentication,
    ) -> Result<Self, FormatError> {
        let family = Family::of(addresses.first().ok_or(FormatError::NoAddresses)?);
        if addresses.iter().any(|address| Family::of(address) != family) {
            return Err(FormatError::MixedFamilies);
        }
        // With both headers and the HMAC trailer this stays below an MTU of 1500.
        let most = match family {
            Family::V4 => 255,
            Family::V6 => 88,
        };
        if addresses.len() > most {
            return Err(FormatError::TooManyAddresses);
        }
        interval_field(version, interval)?;
        if password_len(version, family) == 0 && authentication != Authentication::None {
            return Err(FormatError::Password);
        }
        Ok(Self { version, family, vrid, interval, addresses, checksum, authentication })
    }

    /// Family of the addresses, which is also the family that adverts travel over.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Protocol version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Virtual router id.
    pub const fn vrid(&self) -> Vrid {
        self.vrid
    }

    /// Own advert interval.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// The addresses in the order of configuration.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Bytes of a message, without an HMAC trailer.
    pub fn len(&self) -> usize {
        message_len(self.version, self.family, self.addresses.len())
    }

    /// Never: an instance has at least one address.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The message with a checksum of zero. [`Format::seal`] must follow, once per destination.
    pub fn message(&self, priority: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        bytes.extend([
            self.version.number() << 4 | ADVERTISEMENT,
            self.vrid.get(),
            priority,
            count,
        ]);
        // `new` has checked the interval; the shortest stands in where it cannot be expressed.
        let field = interval_field(self.version, self.interval).unwrap_or(1);
        match self.version {
            Version::V2 => bytes.extend([self.authentication.kind(), field.to_be_bytes()[1]]),
            Version::V3 => bytes.extend(field.to_be_bytes()),
        }
        bytes.extend([0, 0]);
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        if password_len(self.version, self.family) > 0 {
            bytes.extend(self.authentication.data());
        }
        bytes
    }

    /// Writes the checksum of a message that leaves on `path`. Over IPv6 it covers a trailer behind the
    /// message, because the kernel of the peer checks it like any transport; over IPv4 it does not.
    pub fn seal(&self, message: &mut [u8], path: &Path) {
        let covered = covered(self.family, message, self.len());
        let sum = match (self.family, self.version, self.checksum) {
            (Family::V4, Version::V2, _) | (Family::V4, Version::V3, Checksum::MessageOnly) => {
                checksum(covered, 0)
            }
            (Family::V4, Version::V3, Checksum::PseudoHeader) | (Family::V6, _, _) => {
                checksum(covered, pseudo_header(path, covered.len()))
            }
        };
        if let Some(field) = message.get_mut(6..8) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
}

const fn message_len(version: Version, family: Family, count: usize) -> usize {
    let address = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    HEADER + count * address + password_len(version, family)
}

/// Version 2 has a password field, even when it is not used; keepalived leaves it out over IPv6.
const fn password_len(version: Version, family: Family) -> usize {
    match (version, family) {
        (Version::V2, Family::V4) => PASSWORD,
        (Version::V2, Family::V6) | (Version::V3, _) => 0,
    }
}

fn interval_field(version: Version, interval: Duration) -> Result<u16, FormatError> {
    let whole = |unit: Duration, most: u128| {
        let units = interval.as_nanos() / unit.as_nanos();
        let exact = interval.as_nanos().is_multiple_of(unit.as_nanos());
        (exact && (1..=most).contains(&units)).then(|| u16::try_from(units).ok()).flatten()
    };
    match version {
        Version::V2 => whole(Duration::from_secs(1), 255).ok_or(FormatError::IntervalV2),
        Version::V3 => whole(CENTISECOND, 4095).ok_or(FormatError::IntervalV3),
    }
}

fn covered(family: Family, message: &[u8], len: usize) -> &[u8] {
    match family {
        Family::V4 => message.get(..len).unwrap_or(message),
        Family::V6 => message,
    }
}

fn pseudo_header(path: &Path, len: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(path.source) + address(path.destination) + u64::from(PROTOCOL) + len as u64
}

fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>() + last
}

/// One's complement checksum of `bytes` on top of `start`; zero when `bytes` hold a right checksum.
fn checksum(bytes: &[u8], start: u64) -> u16 {
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
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

/// How adverts travel.
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
        /// Smallest TTL or hop limit to accept; 255 keeps routers out.
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
    /// The sender lists other addresses. keepalived before 2.4 would reject ours too.
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
    /// The message without its trailer.
    pub message: &'a [u8],
    /// Bytes behind the message: an HMAC trailer, or nothing.
    pub trailer: Option<&'a [u8; TRAILER]>,
}

/// Bytes of the HMAC trailer.
pub const TRAILER: usize = 28;

/// Why a packet is not an advert for this instance. Each is a counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Rejected {
    /// Not a whole IPv4 packet of protocol 112.
    #[error("IP header malformed")]
    Ip,
    /// The sender is of the other IP family.
    #[error("wrong address family")]
    Family,
    /// The TTL shows that a router forwarded it, or that it was forged.
    #[error("TTL or hop limit too small")]
    Ttl,
    /// Shorter or longer than its address count implies.
    #[error("length does not match the address count")]
    Length,
    /// Another protocol version.
    #[error("version differs")]
    Version,
    /// Not an advertisement.
    #[error("unknown packet type")]
    Type,
    /// For another virtual router.
    #[error("virtual router id differs")]
    Vrid,
    /// RFC 9568 demands at least one.
    #[error("no addresses")]
    NoAddresses,
    /// Neither checksum dialect matches.
    #[error("checksum wrong")]
    Checksum,
    /// Version 2: the authentication type is not the configured one.
    #[error("authentication type differs")]
    AuthenticationType,
    /// Version 2: the password is not the configured one.
    #[error("password differs")]
    Password,
    /// Version 2: both sides must use the same interval.
    #[error("advert interval differs")]
    Interval,
    /// Version 3: zero would make everybody master at once.
    #[error("advert interval is zero")]
    IntervalZero,
    /// A unicast advert where multicast is configured, or the reverse.
    #[error("unicast and multicast mixed")]
    Reach,
    /// The sender is not one of the configured peers.
    #[error("sender is not a configured peer")]
    Peer,
    /// `auth_hmac` is enforced and there is no trailer.
    #[error("HMAC missing")]
    HmacMissing,
    /// A trailer of an unknown kind.
    #[error("HMAC trailer malformed")]
    HmacMalformed,
    /// The trailer names a key that is not configured.
    #[error("HMAC key unknown")]
    HmacKey,
    /// The HMAC is not made with our key.
    #[error("HMAC wrong")]
    Hmac,
    /// The sender's clock is too far from ours, or the packet is a recording.
    #[error("HMAC time stamp outside the window")]
    HmacStale,
    /// The packet was seen before.
    #[error("HMAC sequence number replayed")]
    HmacReplay,
}

impl Rejected {
    /// Every reason, in the order of [`Rejected::index`].
    pub const ALL: [Self; 21] = [
        Self::Ip,
        Self::Family,
        Self::Ttl,
        Self::Length,
        Self::Version,
        Self::Type,
        Self::Vrid,
        Self::NoAddresses,
        Self::Checksum,
        Self::AuthenticationType,
        Self::Password,
        Self::Interval,
        Self::IntervalZero,
        Self::Reach,
        Self::Peer,
        Self::HmacMissing,
        Self::HmacMalformed,
        Self::HmacKey,
        Self::Hmac,
        Self::HmacStale,
        Self::HmacReplay,
    ];

    /// Place of its counter.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Judges a datagram against an instance's configuration, in keepalived's order.
///
/// A different address list is reported and not refused: during a configuration change the two sides
/// differ for a moment, and refusing would make two masters.
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
    let differences = Differences {
        addresses: !same_addresses(message, usize::from(count), format),
        interval: interval != format.interval,
        checksum: other_checksum,
    };
    Ok(Parsed { advert: Advert { priority, interval, source }, differences, message, trailer })
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

fn same_addresses(message: &[u8], count: usize, format: &Format) -> bool {
    let list = message.get(HEADER..).unwrap_or_default();
    let theirs: BTreeSet<IpAddr> = match format.family {
        Family::V4 => {
            list.as_chunks::<4>().0.iter().take(count).map(|a| IpAddr::from(*a)).collect()
        }
        Family::V6 => {
            list.as_chunks::<16>().0.iter().take(count).map(|a| IpAddr::from(*a)).collect()
        }
    };
    count == format.addresses.len() && format.addresses.iter().all(|own| theirs.contains(own))
}
