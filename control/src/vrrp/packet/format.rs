//! What an instance's messages look like: checked once, then written for every advert.

use super::{
    ADVERTISEMENT, Authentication, CENTISECOND, Checksum, HEADER, PASSWORD, PROTOCOL, Path,
};
use crate::vrrp::{Version, Vrid};
use dataplane::table::Family;
use std::net::IpAddr;
use std::time::Duration;

/// Everything about an instance that its messages carry and that never depends on its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    pub(super) version: Version,
    pub(super) family: Family,
    pub(super) vrid: Vrid,
    pub(super) interval: Duration,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) checksum: Checksum,
    pub(super) authentication: Authentication,
}

/// Why an instance cannot be put on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Every instance must own an address.
    #[error("an instance needs at least one address")]
    NoAddresses,
    /// The count field has eight bits and the packet must fit the MTU.
    #[error("an instance holds at most 255 addresses, and IPv6 at most 88")]
    TooManyAddresses,
    /// Each family needs an instance of its own.
    #[error("addresses of both families in one instance")]
    MixedFamilies,
    /// Version 2 has whole seconds.
    #[error("version 2 needs an advertisement interval of whole seconds, from 1 s to 255 s")]
    IntervalV2,
    /// Version 3 has 12 bits of centiseconds.
    #[error("version 3 needs an advertisement interval from 10 ms to 40.95 s in steps of 10 ms")]
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

    /// Returns the message with a checksum of zero; [`Format::seal`] must follow for each destination.
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

    /// Writes the checksum of a message that leaves on `path`, replacing the one of an earlier path.
    /// Over IPv6 the checksum covers a trailer behind the message, because the peer's kernel checks it
    /// like any transport; over IPv4 it does not.
    pub fn seal(&self, message: &mut [u8], path: &Path) {
        // The field counts as zero while the message is summed.
        if let Some(field) = message.get_mut(6..8) {
            field.fill(0);
        }
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

pub(super) const fn message_len(version: Version, family: Family, count: usize) -> usize {
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

pub(super) fn covered(family: Family, message: &[u8], len: usize) -> &[u8] {
    match family {
        Family::V4 => message.get(..len).unwrap_or(message),
        Family::V6 => message,
    }
}

pub(super) fn pseudo_header(path: &Path, len: usize) -> u64 {
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
pub(super) fn checksum(bytes: &[u8], start: u64) -> u16 {
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}
