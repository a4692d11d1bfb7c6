//! Match rules: how a packet gets the mark of a mark service.
//!
//! They stand in for the nftables marks that IPVS reads; the first rule that matches wins.

use super::Protocol;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// An address block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// Any address of the block.
    pub address: IpAddr,
    /// Leading bits that count: at most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// The block of one address.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `address` lies in the block. Families never match each other.
    pub fn contains(&self, address: &IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.length.min(32));
                let difference = u32::from(block) ^ u32::from(*address);
                difference.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.length.min(128));
                let difference = u128::from(block) ^ u128::from(*address);
                difference.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Packets that match every given field get `mark`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkRule {
    /// The mark to set, 1 or more.
    pub mark: u32,
    /// Client addresses; `None` for all.
    pub source: Option<Prefix>,
    /// Destination addresses, all of them owned by the director while the rule stands.
    pub destination: Prefix,
    /// Transport protocol; `None` for all three.
    pub protocol: Option<Protocol>,
    /// Destination ports, host order; `None` for all.
    pub ports: Option<RangeInclusive<u16>>,
}

impl MarkRule {
    /// Whether a packet from `source` to `destination` gets this rule's mark.
    pub fn matches(
        &self,
        protocol: Protocol,
        source: &IpAddr,
        destination: &IpAddr,
        port: u16,
    ) -> bool {
        self.destination.contains(destination)
            && self.source.is_none_or(|block| block.contains(source))
            && self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }
}
