//! One 128-bit form for both families, so that a connection has one shape.

use super::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address; IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`), which never occurs on a wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub u128);

const MAPPED: u128 = 0xffff_0000_0000;

impl Address {
    /// From the 32 bits of an IPv4 address.
    #[inline]
    pub const fn v4(bits: u32) -> Self {
        Self(MAPPED | bits as u128)
    }

    /// From the 128 bits of an IPv6 address.
    #[inline]
    pub const fn v6(bits: u128) -> Self {
        Self(bits)
    }

    /// Whether it is an IPv4 address.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == MAPPED >> 32
    }

    /// The low 32 bits: the whole of an IPv4 address.
    #[inline]
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// Its family.
    #[inline]
    pub const fn family(self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// The client's group under a persistence mask: IPv4 masks count in the low 32 bits.
    #[inline]
    #[must_use]
    pub const fn masked(self, mask: u128) -> Self {
        if self.is_v4() { Self::v4(self.low() & mask as u32) } else { Self(self.0 & mask) }
    }

    /// The standard library's form.
    pub const fn ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.low()))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.0))
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits()),
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ip().fmt(f)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ip().fmt(f)
    }
}
