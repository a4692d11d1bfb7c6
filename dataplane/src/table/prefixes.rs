//! Prefixes with numbers that change one at a time, and the map that packets look them up in.
//!
//! A full Internet table has most of a million prefixes, of which some change every second. The
//! address space is cut into equal chunks; a change makes only its own chunk's leaf anew.

use super::ranges::{Bits, Block, Levels, Starts};
use super::{Family, Prefix, Ranges};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Up to this many prefixes one level is as good as two.
const FLAT: usize = 4_096;
/// Chunks are of so many leading bits: IPv4, IPv6.
const CHUNK_BITS: [u32; 2] = [12, 20];

/// The prefixes of both families.
#[derive(Debug)]
pub struct Prefixes {
    v4: Chunks<u32>,
    v6: Chunks<u128>,
}

/// A prefix within its family: its first address and its length.
type Key = (u128, u8);

#[derive(Debug)]
struct Chunks<A> {
    bits: u32,
    /// Prefixes within chunks, by chunk.
    chunks: BTreeMap<u128, Chunk<A>>,
    /// Prefixes that cover several chunks.
    short: BTreeMap<Key, u32>,
    count: usize,
    /// Chunks whose leaf is no longer right.
    stale: BTreeSet<u128>,
}

#[derive(Debug)]
struct Chunk<A> {
    prefixes: BTreeMap<Key, u32>,
    leaf: Option<Arc<Starts<A>>>,
}

impl Default for Prefixes {
    fn default() -> Self {
        let [v4, v6] = CHUNK_BITS;
        Self { v4: Chunks::new(v4), v6: Chunks::new(v6) }
    }
}

impl Prefixes {
    /// Gives a prefix a number, or takes it out.
    pub fn set(&mut self, prefix: &Prefix, number: Option<u32>) {
        let block = Block::of(prefix, number.unwrap_or(0));
        match Family::of(&prefix.address) {
            Family::V4 => self.v4.set(block, prefix.length, number),
            Family::V6 => self.v6.set(block, prefix.length, number),
        }
    }

    /// How many prefixes there are.
    pub const fn count(&self) -> usize {
        self.v4.count + self.v6.count
    }

    /// The map. It shares with the last one what has not changed since.
    pub fn ranges(&mut self) -> Ranges {
        Ranges { v4: self.v4.levels(), v6: self.v6.levels() }
    }
}

impl<A: Bits> Chunks<A> {
    const fn new(bits: u32) -> Self {
        Self {
            bits,
            chunks: BTreeMap::new(),
            short: BTreeMap::new(),
            count: 0,
            stale: BTreeSet::new(),
        }
    }

    /// The first and last address of a chunk.
    const fn bounds(&self, chunk: u128) -> (u128, u128) {
        let shift = A::WIDTH - self.bits;
        let first = chunk << shift;
        (first, first | ((1 << shift) - 1))
    }

    fn set(&mut self, block: Block, length: u8, number: Option<u32>) {
        let shift = A::WIDTH - self.bits;
        let chunk = block.first >> shift;
        let key = (block.first, length);
        let inner = u32::from(length) >= self.bits;
        let of = if inner {
            self.stale.insert(chunk);
            let new = || Chunk { prefixes: BTreeMap::new(), leaf: None };
            &mut self.chunks.entry(chunk).or_insert_with(new).prefixes
        } else {
            self.stale.extend(self.chunks.range(chunk..=block.last >> shift).map(|(at, _)| *at));
            &mut self.short
        };
        let before = match number {
            Some(number) => of.insert(key, number),
            None => of.remove(&key),
        };
        match (before, number) {
            (None, Some(_)) => self.count += 1,
            (Some(_), None) => self.count -= 1,
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    fn levels(&mut self) -> Levels<A> {
        let last = |(first, length): &Key| {
            let free = A::WIDTH - u32::from(*length).min(A::WIDTH);
            first | 1u128.checked_shl(free).unwrap_or(0).wrapping_sub(1)
        };
        let block =
            |(key, number): (&Key, &u32)| Block { first: key.0, last: last(key), number: *number };
        let mut blocks: Vec<Block> = self.short.iter().map(block).collect();
        if self.count <= FLAT {
            // They are stale as soon as there are two levels again.
            self.stale.extend(self.chunks.keys());
            blocks.extend(self.chunks.values().flat_map(|chunk| chunk.prefixes.iter().map(block)));
            return Levels::new(blocks, []);
        }
        for at in std::mem::take(&mut self.stale) {
            let (first, last) = self.bounds(at);
            let Some(chunk) = self.chunks.get_mut(&at) else { continue };
            if chunk.prefixes.is_empty() {
                self.chunks.remove(&at);
                continue;
            }
            let number = covering(&self.short, self.bits, A::WIDTH, first);
            let inner = chunk.prefixes.iter().map(block).collect();
            chunk.leaf = Some(Arc::new(Starts::new(inner, Block { first, last, number })));
        }
        let leaves = self.chunks.iter().filter_map(|(at, chunk)| {
            let (first, last) = self.bounds(*at);
            Some((first, last, Arc::clone(chunk.leaf.as_ref()?)))
        });
        Levels::new(blocks, leaves)
    }
}

/// The number of the longest prefix of fewer bits that covers an address.
fn covering(short: &BTreeMap<Key, u32>, bits: u32, width: u32, address: u128) -> u32 {
    let of_length = |length: u32| {
        let host = 1u128.checked_shl(width - length).unwrap_or(0).wrapping_sub(1);
        short.get(&(address & !host, u8::try_from(length).unwrap_or(u8::MAX))).copied()
    };
    (0..bits).rev().find_map(of_length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Address;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// Few enough addresses that prefixes nest and repeat, in a handful of chunks.
    fn prefix() -> impl Strategy<Value = Prefix> {
        (any::<bool>(), 0u32..4, 0u32..8, 0u8..=128).prop_map(|(v4, chunk, low, length)| {
            let (bits, length) = (chunk << 19 | low, if v4 { length % 33 } else { length });
            let block = if v4 {
                let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                IpAddr::from(Ipv4Addr::from_bits((0x0a00_0000 | bits) & !host))
            } else {
                let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let bits = 0x2a01 << 112 | u128::from(bits) << 88 | u128::from(low);
                IpAddr::from(Ipv6Addr::from_bits(bits & !host))
            };
            Prefix { address: block, length }
        })
    }

    fn many(prefixes: &mut Prefixes) {
        for number in 0..=u32::try_from(FLAT).unwrap() {
            let v4 = Prefix::host(Ipv4Addr::from_bits(0xc000_0000 + number * 3).into());
            let v6 = Prefix::host(Ipv6Addr::from_bits(7 << 100 | u128::from(number * 3)).into());
            prefixes.set(&v4, Some(number + 1_000));
            prefixes.set(&v6, Some(number + 1_000));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn one_change_at_a_time_gives_the_map_of_all_prefixes(
            large in any::<bool>(),
            changes in proptest::collection::vec((prefix(), proptest::option::of(1u32..9)), 1..80),
        ) {
            let mut prefixes = Prefixes::default();
            if large {
                many(&mut prefixes);
            }
            let mut model = BTreeMap::new();
            for (at, (prefix, number)) in changes.iter().enumerate() {
                prefixes.set(prefix, *number);
                let key = (prefix.address, prefix.length);
                match number {
                    Some(number) => model.insert(key, *number),
                    None => model.remove(&key),
                };
                if at % 5 != 0 && at + 1 != changes.len() {
                    continue;
                }
                let ranges = prefixes.ranges();
                let slow = |address: &IpAddr| {
                    let of = |((block, length), number): (&(IpAddr, u8), &u32)| {
                        let prefix = Prefix { address: *block, length: *length };
                        prefix.contains(address).then_some((*length, *number))
                    };
                    model.iter().filter_map(of).max().map_or(0, |(_, number)| number)
                };
                for (asked, _) in &changes {
                    let block = Block::of(asked, 0);
                    let ends = [block.first, block.last, block.last.wrapping_add(1)];
                    for bits in ends {
                        let address: IpAddr = if asked.address.is_ipv4() {
                            Ipv4Addr::from_bits(bits as u32).into()
                        } else {
                            Ipv6Addr::from_bits(bits).into()
                        };
                        if large && slow(&address) == 0 {
                            continue;
                        }
                        let (number, span) = ranges.find(Address::from(address));
                        prop_assert_eq!(number, slow(&address), "{}", address);
                        prop_assert!(span.contains(address.into()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_change_makes_one_leaf_anew_and_the_rest_is_shared() {
        let mut prefixes = Prefixes::default();
        many(&mut prefixes);
        let far = Prefix { address: [203, 0, 113, 0].into(), length: 24 };
        prefixes.set(&far, Some(7));
        let before = prefixes.ranges();
        prefixes.set(&far, Some(8));
        let after = prefixes.ranges();
        let shared = before.v4.shared_with(&after.v4);
        assert_eq!((shared, before.v6.shared_with(&after.v6)), (1, 1), "of two leaves and one");
        assert_eq!(after.number(IpAddr::from([203, 0, 113, 9]).into()), 8);
        prefixes.set(&far, None);
        assert_eq!(prefixes.ranges().number(IpAddr::from([203, 0, 113, 9]).into()), 0);
    }
}
