//! An address with its prefix length, as operators write it: `192.0.2.1/24`, `2001:db8::1/64`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// An interface address or a destination prefix. Without a `/`, the whole address is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address; host bits are kept.
    pub address: IpAddr,
    /// Prefix length in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub prefix: u8,
}

impl Cidr {
    /// The prefix of length 0 in the family of `address`: all destinations.
    pub fn everything_like(address: IpAddr) -> Self {
        let unspecified: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self { address: unspecified, prefix: 0 }
    }

    /// The longest prefix that this address family allows.
    fn full_length(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for Cidr {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().with_context(|| format!("address in {text:?}"))?;
        let full = Self::full_length(address);
        let prefix = match prefix {
            Some(prefix) => prefix.parse().with_context(|| format!("prefix in {text:?}"))?,
            None => full,
        };
        if prefix > full {
            bail!("prefix in {text:?} is longer than {full}");
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_prefix_is_a_single_host() {
        assert_eq!("192.0.2.1".parse::<Cidr>().unwrap().prefix, 32);
        assert_eq!("2001:db8::1".parse::<Cidr>().unwrap().prefix, 128);
        assert_eq!("10.0.0.7/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.7/8");
    }

    #[test]
    fn too_long_prefixes_and_words_are_refused() {
        for text in ["10.0.0.1/33", "::/129", "10.0.0/8", "10.0.0.1/", "host/24", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?} was accepted");
        }
    }
}
