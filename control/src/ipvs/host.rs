//! What IPVS asks the host before it takes an address or an interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host's addresses and interfaces, as far as IPVS's checks need them.
#[derive(Clone, Debug, Default)]
pub struct Host {
    local: BTreeSet<IpAddr>,
    broadcasts: BTreeSet<Ipv4Addr>,
    interfaces: BTreeMap<String, u32>,
}

impl Host {
    /// Builds it from every interface (name, MTU in bytes) and every address with its prefix
    /// length.
    pub fn new(
        interfaces: impl IntoIterator<Item = (String, u32)>,
        addresses: impl IntoIterator<Item = (IpAddr, u8)>,
    ) -> Self {
        let mut host = Self { interfaces: interfaces.into_iter().collect(), ..Self::default() };
        for (address, length) in addresses {
            host.local.insert(address);
            if let (IpAddr::V4(address), 0..=30) = (address, length) {
                let wildcard = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                host.broadcasts.insert(Ipv4Addr::from(u32::from(address) | wildcard));
            }
        }
        host
    }

    /// The MTU of an interface, in bytes.
    pub fn mtu(&self, interface: &str) -> Option<u32> {
        self.interfaces.get(interface).copied()
    }

    /// Whether IPVS takes this address for a real server: unicast or the host's own.
    pub fn accepts_real(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.is_unicast(address),
            IpAddr::V6(v6) => {
                let link_local = (v6.segments()[0] & 0xffc0) == 0xfe80;
                (is_unicast_v6(v6) && !link_local) || self.local.contains(address)
            }
        }
    }

    fn is_unicast(&self, address: &Ipv4Addr) -> bool {
        let zero_net = address.octets()[0] == 0;
        !zero_net
            && !address.is_broadcast()
            && !address.is_multicast()
            && !self.broadcasts.contains(address)
    }
}

/// Unicast in the sense of the kernel's `ipv6_addr_type`, which leaves out the unspecified and the
/// IPv4-mapped addresses.
fn is_unicast_v6(address: &Ipv6Addr) -> bool {
    !address.is_multicast() && !address.is_unspecified() && address.to_ipv4_mapped().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(address: &str) -> bool {
        let addresses = [("10.1.0.5", 16), ("192.0.2.1", 31), ("fe80::1", 64)];
        let host = Host::new(
            [("eth0".to_owned(), 1500)],
            addresses.map(|(address, length)| (address.parse().unwrap(), length)),
        );
        host.accepts_real(&address.parse().unwrap())
    }

    #[test]
    fn only_unicast_and_own_addresses_are_real_servers() {
        for good in ["10.1.0.6", "10.1.0.5", "127.0.0.1", "192.0.2.0", "240.0.0.1", "10.1.0.255"] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "10.1.255.255"] {
            assert!(!accepts(bad), "{bad}");
        }
        for good in ["2001:db8::1", "::1", "fe80::1", "fec0::1", "::1.2.3.4"] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["::", "fe80::2", "ff02::1", "::ffff:10.0.0.1"] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_with_prefix_zero_makes_no_overflow() {
        let host = Host::new([], [(IpAddr::from([10, 0, 0, 1]), 0)]);
        assert!(!host.accepts_real(&IpAddr::from([255, 255, 255, 255])));
    }
}
