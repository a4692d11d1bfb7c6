//! The order in which the kernel lists services.

use crate::model::{Service, VirtualAddress};
use std::net::IpAddr;
use std::sync::Arc;

const TABLE_BITS: u32 = 8;
const TABLE_MASK: u32 = (1 << TABLE_BITS) - 1;

/// Services as the kernel walks its hash tables: those with an address first, then those with a
/// mark; by bucket; within a bucket the newest first. `services` are oldest first.
///
/// The kernel mixes the memory address of its own state into the bucket, so that real orders differ
/// from boot to boot by an exclusive-or of the bucket number; here that number is 0.
pub(super) fn kernel_order(services: &[Arc<Service>]) -> Vec<&Arc<Service>> {
    let mut ordered: Vec<_> = services.iter().rev().collect();
    ordered.sort_by_key(|service| bucket(&service.address));
    ordered
}

/// Which table (addresses, marks) and which bucket of it.
pub(super) fn bucket(address: &VirtualAddress) -> (u8, u32) {
    match address {
        VirtualAddress::Socket { protocol, address } => {
            let port = u32::from(address.port());
            let fold = match address.ip() {
                IpAddr::V4(ip) => u32::from(ip),
                IpAddr::V6(ip) => {
                    let bits = u128::from(ip);
                    [96, 64, 32, 0].into_iter().fold(0, |fold, shift| fold ^ (bits >> shift) as u32)
                }
            };
            let hash = u32::from(protocol.number()) ^ fold ^ (port >> TABLE_BITS) ^ port;
            (0, hash & TABLE_MASK)
        }
        VirtualAddress::Mark { mark, .. } => (1, mark & TABLE_MASK),
    }
}
