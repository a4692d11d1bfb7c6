//! dh and sh: by the client's or the destination's address.

use super::pool::Pool;
use super::{Flow, Loads};
use crate::table::{Family, Real, SchedulerFlags};
use std::net::IpAddr;
use std::sync::Arc;

const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;

/// 256 buckets, each with the index of a server; empty when there is no server.
#[derive(Clone, Debug)]
pub(super) struct Buckets(Arc<[u8]>);

impl Buckets {
    /// dh: one bucket after the other to one server after the other, whatever the weights.
    pub fn by_destination(reals: &[Real]) -> Self {
        Self::deal(reals, |_| 1)
    }

    /// sh: as many buckets in a row as the weight says, and one to those of weight 0.
    pub fn by_source(reals: &[Real]) -> Self {
        Self::deal(reals, |real| real.weight.max(1) as usize)
    }

    /// The first 256 servers at most get a bucket, so an index fits a byte.
    fn deal(reals: &[Real], run: impl Fn(&Real) -> usize) -> Self {
        let round = || (0u8..=u8::MAX).zip(reals);
        let dealt = std::iter::repeat_with(round)
            .take(if reals.is_empty() { 0 } else { BUCKETS })
            .flatten()
            .flat_map(|(index, real)| std::iter::repeat_n(index, run(real).min(BUCKETS)));
        Self(dealt.take(BUCKETS).collect())
    }

    fn get(&self, bucket: u32) -> Option<usize> {
        self.0.get(bucket as usize % BUCKETS).copied().map(usize::from)
    }

    /// dh: the server of the destination's bucket, or none.
    pub fn dh<L: Loads>(&self, pool: &Pool<'_, L>, flow: &Flow) -> Option<usize> {
        let index = self.get(hash_32(fold(&flow.destination), BITS))?;
        pool.candidate(index).map(|c| c.index)
    }

    /// sh: the server of the client's bucket. When it takes no connections: none, or with
    /// `sh-fallback` the first that does, walking the buckets from twice the hash on.
    pub fn sh<L: Loads>(
        &self,
        pool: &Pool<'_, L>,
        flow: &Flow,
        flags: SchedulerFlags,
    ) -> Option<usize> {
        let port = if flags.flag_2 { flow.client_port } else { 0 };
        let hash = hash_32(fold(&flow.client).wrapping_add(u32::from(port)), BITS);
        let index = self.get(hash)?;
        if pool.candidate(index).is_some() {
            return Some(index);
        }
        if !flags.flag_1 {
            return None;
        }
        (0..BUCKETS as u32)
            .map_while(|offset| self.get(hash + (hash + offset) % BUCKETS as u32))
            .find(|&index| pool.candidate(index).is_some())
    }
}

/// Multiplicative hashing to `bits` bits, by the golden ratio.
pub(super) fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61C8_8647) >> (32 - bits)
}

/// An address as one word: IPv6's four are folded by exclusive or.
pub(super) fn fold(address: &IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => u32::from(*address),
        IpAddr::V6(address) => {
            let bits = u128::from(*address);
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// A real server's address as one word, by the service's family: IPVS takes only the first word of
/// an IPv6 server in an IPv4 service.
pub(super) fn fold_real(family: Family, address: &IpAddr) -> u32 {
    match (family, address) {
        (Family::V4, IpAddr::V6(address)) => (u128::from(*address) >> 96) as u32,
        (Family::V4, IpAddr::V4(_)) | (Family::V6, _) => fold(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn hash_agrees_with_the_kernel() {
        for (address, alone, with_port) in [
            ([10, 0, 0, 1], 39, 134),
            ([10, 0, 0, 2], 137, 232),
            ([192, 168, 1, 100], 89, 184),
            ([203, 0, 113, 7], 124, 219),
        ] {
            let folded = fold(&IpAddr::V4(Ipv4Addr::from(address)));
            assert_eq!(hash_32(folded, BITS), alone);
            assert_eq!(hash_32(folded.wrapping_add(12345), BITS), with_port);
        }
    }

    #[test]
    fn ipv6_folds_by_exclusive_or() {
        let address: IpAddr = "1:2:3:4:5:6:7:8".parse().unwrap();
        assert_eq!(fold(&address), 0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008);
        assert_eq!(fold_real(Family::V6, &address), fold(&address));
        assert_eq!(fold_real(Family::V4, &address), 0x0001_0002);
    }
}
