//! Longest-prefix match by binary search.
//!
//! Prefixes that overlap are cut into disjoint ranges when the map is built, so that a lookup costs
//! one binary search over their first addresses: no hashing, no pointers, a few steps for the routes
//! of an ordinary host and about twenty for those of the whole Internet. Most
//! clients of an ordinary host lie in one or two ranges, so that [`Span`] saves the next search.
//!
//! A large map is in two levels: a range may stand for a leaf, which is searched in turn. Maps that
//! differ in few prefixes share all other leaves; [`super::Prefixes`] makes such maps.

use super::{Address, Family, Prefix};
use std::net::IpAddr;
use std::sync::Arc;

/// Marks a number of the upper level that is the index of a leaf.
const LEAF: u32 = 1 << 31;

/// A number below 2^31 for every address: that of the longest prefix which contains it, or 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranges {
    pub(super) v4: Levels<u32>,
    pub(super) v6: Levels<u128>,
}

/// The ranges of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Levels<A> {
    top: Starts<A>,
    leaves: Box<[Arc<Starts<A>>]>,
}

/// Ranges that follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Starts<A> {
    /// The first address of each range, ascending.
    starts: Box<[A]>,
    numbers: Box<[u32]>,
}

/// The bits of an address of one family.
pub(super) trait Bits: Ord + Copy + Default {
    /// How many there are.
    const WIDTH: u32;

    /// The lowest of these bits.
    fn of(bits: u128) -> Self;
}

impl Bits for u32 {
    const WIDTH: u32 = 32;

    fn of(bits: u128) -> Self {
        bits as Self
    }
}

impl Bits for u128 {
    const WIDTH: u32 = 128;

    fn of(bits: u128) -> Self {
        bits
    }
}

/// Addresses that follow each other and have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    first: u128,
    /// How many addresses follow the first one.
    more: u128,
}

impl Span {
    /// The addresses that a prefix covers.
    pub fn of(prefix: &Prefix) -> Self {
        let Block { first, last, .. } = Block::of(prefix, 0);
        let address = |bits: u128| match prefix.address {
            IpAddr::V4(_) => Address::v4(bits as u32).0,
            IpAddr::V6(_) => bits,
        };
        let (first, last) = (address(first), address(last));
        Self { first, more: last - first }
    }

    /// Whether an address is one of them.
    #[inline(always)]
    pub fn contains(&self, address: Address) -> bool {
        address.0.wrapping_sub(self.first) <= self.more
    }
}

/// One prefix as the range that it covers.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub first: u128,
    pub last: u128,
    pub number: u32,
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
        Self { v4: Levels::new(v4, []), v6: Levels::new(v6, []) }
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

impl<A: Bits> Levels<A> {
    /// Blocks that may nest, and the leaves that stand for some more: the first and last address of
    /// each, and what is in it.
    pub fn new(
        mut blocks: Vec<Block>,
        leaves: impl IntoIterator<Item = (u128, u128, Arc<Starts<A>>)>,
    ) -> Self {
        let leaves: Box<[_]> = leaves
            .into_iter()
            .zip(LEAF..)
            .map(|((first, last, leaf), number)| {
                blocks.push(Block { first, last, number });
                leaf
            })
            .collect();
        let end = u128::MAX >> (128 - A::WIDTH);
        Self { top: Starts::new(blocks, Block { first: 0, last: end, number: 0 }), leaves }
    }

    /// The number of an address, where its range starts, and where the next one does.
    fn find(&self, address: A) -> (u32, A, Option<A>) {
        let (number, first, next) = self.top.find(address);
        if number & LEAF == 0 {
            return (number, first, next);
        }
        let Some(leaf) = self.leaves.get((number & !LEAF) as usize) else {
            return (0, first, next);
        };
        let (number, first, inner_next) = leaf.find(address);
        (number, first, inner_next.or(next))
    }
}

#[cfg(test)]
impl<A> Levels<A> {
    /// How many leaves another map has, too.
    pub fn shared_with(&self, other: &Self) -> usize {
        let of = |leaf: &&Arc<Starts<A>>| other.leaves.iter().any(|one| Arc::ptr_eq(one, leaf));
        self.leaves.iter().filter(of).count()
    }
}

impl<A: Bits> Starts<A> {
    /// Cuts nested blocks, all of them within `around`, which has what they leave over.
    pub fn new(blocks: Vec<Block>, around: Block) -> Self {
        let (starts, numbers) = cut(blocks, around);
        Self { starts: starts.into_iter().map(A::of).collect(), numbers: numbers.into() }
    }

    /// The number of an address, where its range starts, and where the next one does.
    fn find(&self, address: A) -> (u32, A, Option<A>) {
        let next = self.starts.partition_point(|start| *start <= address);
        let at = next.wrapping_sub(1);
        let number = self.numbers.get(at).copied().unwrap_or(0);
        (number, self.starts.get(at).copied().unwrap_or_default(), self.starts.get(next).copied())
    }
}

impl Block {
    pub fn of(prefix: &Prefix, number: u32) -> Self {
        let (bits, width) = match prefix.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let free = width - u32::from(prefix.length).min(width);
        let host = 1u128.checked_shl(free).unwrap_or(0).wrapping_sub(1);
        Self { first: bits & !host, last: bits | host, number }
    }
}

/// Cuts nested blocks into ranges: the first address and the number of each.
fn cut(mut blocks: Vec<Block>, around: Block) -> (Vec<u128>, Vec<u32>) {
    // Outer blocks come before the inner ones that begin with them; the sort is stable, so of equal
    // blocks the first stays first.
    blocks.sort_by_key(|block| (block.first, std::cmp::Reverse(block.last)));
    blocks.dedup_by_key(|block| (block.first, block.last));
    let mut open: Vec<Block> = vec![around];
    let mut ranges = (vec![around.first], vec![around.number]);
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
mod tests;
