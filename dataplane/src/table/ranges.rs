//! Longest-prefix match by binary search.
//!
//! Prefixes that overlap are cut into disjoint ranges when the map is built, so that a lookup costs
//! one binary search over their first addresses: no hashing, no pointers, a few steps for the routes
//! of an ordinary host and about twenty for those of the whole Internet. Most
//! clients of an ordinary host lie in one or two ranges, so that [`Span`] saves the next search.

use super::{Address, Family, Prefix};
use std::net::IpAddr;

/// A number for every address: that of the longest prefix which contains it, or 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranges {
    v4: Starts<u32>,
    v6: Starts<u128>,
}

/// The ranges of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Starts<A> {
    /// The first address of each range, ascending from 0.
    starts: Box<[A]>,
    numbers: Box<[u32]>,
}

/// Addresses that follow each other and have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    first: u128,
    /// How many addresses follow the first one.
    more: u128,
}

impl Span {
    /// Whether an address is one of them.
    #[inline(always)]
    pub fn contains(&self, address: Address) -> bool {
        address.0.wrapping_sub(self.first) <= self.more
    }
}

/// One prefix as the range that it covers.
#[derive(Clone, Copy)]
struct Block {
    first: u128,
    last: u128,
    number: u32,
}

impl Default for Ranges {
    fn default() -> Self {
        Self::new([])
    }
}

impl Ranges {
    /// Of several entries with the same prefix the first counts.
    pub fn new(entries: impl IntoIterator<Item = (Prefix, u32)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, number) in entries {
            match Family::of(&prefix.address) {
                Family::V4 => v4.push(Block::of(&prefix, number)),
                Family::V6 => v6.push(Block::of(&prefix, number)),
            }
        }
        let (v4, v6) = (cut(v4, u128::from(u32::MAX)), cut(v6, u128::MAX));
        let v4_starts = v4.0.into_iter().map(|start| start as u32);
        Self {
            v4: Starts { starts: v4_starts.collect(), numbers: v4.1.into() },
            v6: Starts { starts: v6.0.into(), numbers: v6.1.into() },
        }
    }

    /// The number of an address.
    pub fn number(&self, address: Address) -> u32 {
        self.find(address).0
    }

    /// The number of an address, and which addresses around it have the same one.
    pub fn find(&self, address: Address) -> (u32, Span) {
        if address.is_v4() {
            let (number, first, next) = self.v4.find(address.low());
            let span = |first, last| {
                let (first, last) = (Address::v4(first).0, Address::v4(last).0);
                Span { first, more: last - first }
            };
            (number, span(first, next.map_or(u32::MAX, |next| next - 1)))
        } else {
            let (number, first, next) = self.v6.find(address.0);
            (number, Span { first, more: next.map_or(u128::MAX, |next| next - 1) - first })
        }
    }
}

impl<A: Ord + Copy + Default> Starts<A> {
    /// The number of an address, where its range starts, and where the next one does.
    fn find(&self, address: A) -> (u32, A, Option<A>) {
        let next = self.starts.partition_point(|start| *start <= address);
        let at = next.wrapping_sub(1);
        let number = self.numbers.get(at).copied().unwrap_or(0);
        (number, self.starts.get(at).copied().unwrap_or_default(), self.starts.get(next).copied())
    }
}

impl Block {
    fn of(prefix: &Prefix, number: u32) -> Self {
        let (bits, width) = match prefix.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let free = width - u32::from(prefix.length).min(width);
        let host = 1u128.checked_shl(free).unwrap_or(0).wrapping_sub(1);
        Self { first: bits & !host, last: bits | host, number }
    }
}

/// Cuts nested blocks into ranges up to `end`: the first address and the number of each.
fn cut(mut blocks: Vec<Block>, end: u128) -> (Vec<u128>, Vec<u32>) {
    // Outer blocks come before the inner ones that begin with them; the sort is stable, so of equal
    // blocks the first stays first.
    blocks.sort_by_key(|block| (block.first, std::cmp::Reverse(block.last)));
    blocks.dedup_by_key(|block| (block.first, block.last));
    let mut open: Vec<Block> = vec![Block { first: 0, last: end, number: 0 }];
    let mut ranges = (vec![0], vec![0]);
    for block in blocks {
        close(&mut open, &mut ranges, Some(block.first));
        begin(&mut ranges, block.first, block.number);
        open.push(block);
    }
    close(&mut open, &mut ranges, None);
    ranges
}

/// Closes the blocks that end before `next`: what follows each belongs to the one around it.
fn close(open: &mut Vec<Block>, ranges: &mut (Vec<u128>, Vec<u32>), next: Option<u128>) {
    while let Some(inner) = open.pop_if(|block| next.is_none_or(|next| block.last < next)) {
        let Some(outer) = open.last().filter(|outer| inner.last < outer.last) else { continue };
        begin(ranges, inner.last + 1, outer.number);
    }
}

fn begin((starts, numbers): &mut (Vec<u128>, Vec<u32>), start: u128, number: u32) {
    match (starts.last(), numbers.last_mut()) {
        (Some(last), Some(known)) if *last == start => *known = number,
        _ => {
            starts.push(start);
            numbers.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// A few bits at both ends, so that prefixes nest, touch and repeat.
    fn address() -> impl Strategy<Value = IpAddr> {
        let bits = (0u128..8, 0u32..=125).prop_map(|(bits, shift)| bits << shift);
        let all = (any::<bool>(), any::<bool>(), bits);
        all.prop_map(|(v4, inverted, bits)| {
            let bits = if inverted { !bits } else { bits };
            if v4 {
                Ipv4Addr::from_bits((bits >> 96) as u32 ^ bits as u32).into()
            } else {
                Ipv6Addr::from_bits(bits).into()
            }
        })
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), 0u8..=128).prop_map(|(address, length)| Prefix {
            address,
            length: if address.is_ipv4() { length % 33 } else { length },
        })
    }

    /// The number by looking at every prefix.
    fn slow(entries: &[(Prefix, u32)], address: &IpAddr) -> u32 {
        let fitting = entries.iter().filter(|(prefix, _)| prefix.contains(address));
        // Of equal lengths the first wins; `max_by_key` would take the last.
        fitting.rev().max_by_key(|(prefix, _)| prefix.length).map_or(0, |(_, number)| *number)
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins(
            prefixes in proptest::collection::vec(prefix(), 0..40),
            asked in proptest::collection::vec(address(), 1..40),
        ) {
            let entries: Vec<_> = prefixes.into_iter().zip(1..).collect();
            let ranges = Ranges::new(entries.iter().copied());
            let edges = entries.iter().flat_map(|(prefix, _)| {
                let Block { first, last, .. } = Block::of(prefix, 0);
                let v4 = prefix.address.is_ipv4();
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| {
                    if v4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
                })
            });
            let asked: Vec<IpAddr> = asked.into_iter().chain(edges).collect();
            for address in asked {
                // An IPv4-mapped address is IPv4 to the packet path.
                if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
                    continue;
                }
                let (number, span) = ranges.find(address.into());
                prop_assert_eq!(number, slow(&entries, &address), "{}", address);
                prop_assert!(span.contains(address.into()));
                for (other, _) in &entries {
                    if span.contains(other.address.into()) && other.address.is_ipv4() == address.is_ipv4() {
                        prop_assert_eq!(number, slow(&entries, &other.address), "{}", other.address);
                    }
                }
            }
        }
    }
}
