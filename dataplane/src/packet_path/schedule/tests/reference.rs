//! The schedulers once more: slow, literal, one list step at a time.

use super::list::{Dest, HEAD, List};
use super::{Flow, SchedulerFlags};
use crate::packet_path::schedule::siphash::hsiphash;
use std::net::IpAddr;

/// What a scheduler keeps between calls, pointers being nodes.
#[derive(Debug)]
pub enum Reference {
    None,
    Rr { last: usize },
    Wrr { cl: usize, cw: i64, mw: i64, di: i64 },
    Lc,
    Wlc,
    Sed,
    Nq,
    Fo,
    Ovf,
    Twos,
    Dh { buckets: Vec<usize> },
    Sh { buckets: Vec<usize> },
    Mh { table: Vec<usize> },
    Lblc(super::reference_locality::Lblc),
    Lblcr(super::reference_locality::Lblcr),
}

/// One call of a scheduler.
pub struct Call<'a> {
    pub list: &'a List,
    pub flow: &'a Flow,
    pub flags: SchedulerFlags,
    pub seconds: u64,
    pub random: [u32; 2],
}

impl Reference {
    /// A server was added, edited or removed; a removed one's links are still what they were.
    pub fn dest_changed(&mut self, list: &List, removed: Option<usize>) {
        match self {
            Self::Rr { last } => {
                if removed == Some(*last) {
                    *last = list.nodes[*last].prev;
                }
            }
            Self::Wrr { cl, cw, mw, di } => {
                *cl = HEAD;
                *di = gcd_of(list.order().iter().map(|n| list.nodes[*n].weight)).max(1);
                let max = list.order().iter().map(|n| list.nodes[*n].weight).max().unwrap_or(0);
                *mw = max - (*di - 1);
                if *cw > *mw || *cw == 0 {
                    *cw = *mw;
                } else if *di > 1 {
                    *cw = (*cw / *di) * *di + 1;
                }
            }
            Self::Dh { buckets } => *buckets = fill(list, |_| 1),
            Self::Sh { buckets } => *buckets = fill(list, |dest| dest.weight),
            Self::Mh { table } => *table = maglev(list),
            Self::None
            | Self::Lc
            | Self::Wlc
            | Self::Sed
            | Self::Nq
            | Self::Fo
            | Self::Ovf
            | Self::Twos
            | Self::Lblc(_)
            | Self::Lblcr(_) => {}
        }
    }

    /// Viaduct forgets a removed server at once, where the kernel marks it until it is back.
    pub fn forget(&mut self, node: usize) {
        if let Self::Lblc(lblc) = self {
            lblc.removed(node);
        } else if let Self::Lblcr(lblcr) = self {
            lblcr.removed(node);
        }
    }

    /// The minute timer of lblc and lblcr.
    pub fn check_expire(&mut self, seconds: u64) {
        if let Self::Lblc(lblc) = self {
            lblc.table.check_expire(seconds);
        } else if let Self::Lblcr(lblcr) = self {
            lblcr.table.check_expire(seconds);
        }
    }

    pub fn choose(&mut self, call: &Call<'_>) -> Option<usize> {
        let list = call.list;
        match self {
            Self::None => None,
            Self::Rr { last } => rr(list, last),
            Self::Wrr { cl, cw, mw, di } => wrr(list, cl, cw, *mw, *di),
            Self::Lc => lc(list),
            Self::Wlc => weighted_least(list, Dest::overhead),
            Self::Sed => weighted_least(list, |dest| dest.active + 1),
            Self::Nq => nq(list),
            Self::Fo => heaviest(list, |_| true),
            Self::Ovf => heaviest(list, |dest| dest.active <= dest.weight),
            Self::Twos => twos(list, call.random),
            Self::Dh { buckets } => dh(list, buckets, call.flow),
            Self::Sh { buckets } => sh(call, buckets),
            Self::Mh { table } => mh(call, table),
            Self::Lblc(lblc) => lblc.choose(call),
            Self::Lblcr(lblcr) => lblcr.choose(call),
        }
    }
}

fn rr(list: &List, last: &mut usize) -> Option<usize> {
    let start = *last;
    let mut node = start;
    let mut passes = 0;
    while passes < 2 {
        node = list.next(node);
        if node == HEAD {
            passes += 1;
            continue;
        }
        if !list.nodes[node].is_out() {
            *last = node;
            return Some(node);
        }
        if node == start {
            return None;
        }
    }
    None
}

fn wrr(list: &List, cl: &mut usize, cw: &mut i64, mw: i64, di: i64) -> Option<usize> {
    if mw == 0 {
        return None;
    }
    let last = *cl;
    let mut dest = *cl;
    let mut stop = None;
    let (mut last_pass, mut restarted) = (false, false);
    loop {
        dest = list.next(dest);
        while dest != HEAD {
            if !list.nodes[dest].overload && list.nodes[dest].weight >= *cw {
                *cl = dest;
                return Some(dest);
            }
            if Some(dest) == stop {
                *cl = dest;
                return None;
            }
            dest = list.next(dest);
        }
        *cw -= di;
        if *cw <= 0 {
            *cw = mw;
            if last_pass || last == HEAD {
                *cl = HEAD;
                return None;
            }
            restarted = true;
        }
        last_pass = *cw <= di;
        if last_pass && restarted && last != HEAD {
            stop = Some(last);
        }
    }
}

fn lc(list: &List) -> Option<usize> {
    let mut least = None;
    let mut least_overhead = 0;
    for node in list.order() {
        let dest = &list.nodes[node];
        if dest.is_out() {
            continue;
        }
        if least.is_none() || dest.overhead() < least_overhead {
            least = Some(node);
            least_overhead = dest.overhead();
        }
    }
    least
}

/// wlc and sed: the first eligible one, then any later one that is not overloaded and better.
pub fn weighted_least(list: &List, overhead: impl Fn(&Dest) -> i64) -> Option<usize> {
    let order = list.order();
    let first = order.iter().position(|n| !list.nodes[*n].is_out())?;
    let mut least = order[first];
    for &node in &order[first + 1..] {
        let (dest, best) = (&list.nodes[node], &list.nodes[least]);
        if !dest.overload && overhead(best) * dest.weight > overhead(dest) * best.weight {
            least = node;
        }
    }
    Some(least)
}

fn nq(list: &List) -> Option<usize> {
    let mut least: Option<usize> = None;
    for node in list.order() {
        let dest = &list.nodes[node];
        if dest.is_out() {
            continue;
        }
        if dest.active == 0 {
            return Some(node);
        }
        let better = least.is_none_or(|least| {
            let best = &list.nodes[least];
            (best.active + 1) * dest.weight > (dest.active + 1) * best.weight
        });
        if better {
            least = Some(node);
        }
    }
    least
}

fn heaviest(list: &List, may: impl Fn(&Dest) -> bool) -> Option<usize> {
    let mut best = None;
    let mut most = 0;
    for node in list.order() {
        let dest = &list.nodes[node];
        if !dest.is_out() && may(dest) && dest.weight > most {
            best = Some(node);
            most = dest.weight;
        }
    }
    best
}

fn twos(list: &List, random: [u32; 2]) -> Option<usize> {
    let eligible: Vec<_> = list.order().into_iter().filter(|n| !list.nodes[*n].is_out()).collect();
    let total: i64 = eligible.iter().map(|n| list.nodes[*n].weight).sum();
    let draw = |random: u32| {
        let mut left = ((i128::from(random) * i128::from(total + 1)) >> 32) as i64;
        eligible.iter().copied().find(|n| {
            left -= list.nodes[*n].weight;
            left <= 0
        })
    };
    let (one, two) = (draw(random[0])?, draw(random[1])?);
    let (a, b) = (&list.nodes[one], &list.nodes[two]);
    Some(if b.weight * a.overhead() > a.weight * b.overhead() { two } else { one })
}

/// 256 buckets, `run(dest)` in a row, at least one, over and over.
fn fill(list: &List, run: impl Fn(&Dest) -> i64) -> Vec<usize> {
    let mut buckets = vec![];
    let mut node = HEAD;
    let mut count = 0;
    if list.next(HEAD) == HEAD {
        return buckets;
    }
    while buckets.len() < 256 {
        if node == HEAD {
            node = list.next(node);
        }
        buckets.push(node);
        count += 1;
        if count >= run(&list.nodes[node]) {
            node = list.next(node);
            count = 0;
        }
    }
    buckets
}

fn hash_32(value: u32) -> usize {
    ((u64::from(value) * 0x61C8_8647 % (1 << 32)) >> 24) as usize
}

pub fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => u32::from_be_bytes(address.octets()),
        IpAddr::V6(address) => address
            .octets()
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .fold(0, |a, b| a ^ b),
    }
}

fn dh(list: &List, buckets: &[usize], flow: &Flow) -> Option<usize> {
    let node = *buckets.get(hash_32(fold(flow.destination)))?;
    (!list.nodes[node].is_out()).then_some(node)
}

fn client_value(call: &Call<'_>) -> u32 {
    let port = if call.flags.flag_2 { call.flow.client_port } else { 0 };
    fold(call.flow.client).wrapping_add(u32::from(port))
}

fn sh(call: &Call<'_>, buckets: &[usize]) -> Option<usize> {
    let hash = |offset: usize| (offset + hash_32(client_value(call))) & 255;
    let node = *buckets.get(hash(0))?;
    if !call.list.nodes[node].is_out() {
        return Some(node);
    }
    if !call.flags.flag_1 {
        return None;
    }
    for offset in 0..256 {
        let node = buckets[hash((offset + hash(0)) % 256)];
        if !call.list.nodes[node].is_out() {
            return Some(node);
        }
    }
    None
}

const KEY_1: [u64; 2] = [2_654_435_761, 2_654_435_761];
const KEY_2: [u64; 2] = [2_654_446_892, 2_654_446_892];

fn maglev(list: &List) -> Vec<usize> {
    let order = list.order();
    let weights = || order.iter().map(|n| list.nodes[*n].last_weight);
    let gcd = gcd_of(weights());
    if gcd < 1 {
        return vec![];
    }
    let mut occupied = 0;
    while (weights().max().unwrap() / gcd) >> occupied != 0 {
        occupied += 1;
    }
    let shift = (occupied - 6).max(0);
    let mut table = vec![HEAD; 4093];
    let mut positions: Vec<_> = order
        .iter()
        .map(|n| {
            let dest = &list.nodes[*n];
            let word = fold(dest.address).wrapping_add(u32::from(dest.port));
            let turns = match (dest.last_weight / gcd) >> shift {
                0 => i64::from(dest.last_weight != 0),
                turns => turns,
            };
            (hsiphash(word, KEY_1) % 4093, hsiphash(word, KEY_2) % 4092 + 1, turns)
        })
        .collect();
    let mut filled = 0;
    loop {
        for (node, (perm, skip, turns)) in order.iter().zip(&mut positions) {
            for _ in 0..*turns {
                while table[*perm as usize] != HEAD {
                    *perm += *skip;
                    if *perm >= 4093 {
                        *perm -= 4093;
                    }
                }
                table[*perm as usize] = *node;
                filled += 1;
                if filled == 4093 {
                    return table;
                }
            }
        }
    }
}

fn mh(call: &Call<'_>, table: &[usize]) -> Option<usize> {
    if table.is_empty() {
        return None;
    }
    let hash = |offset: u32| hsiphash(offset.wrapping_add(client_value(call)), KEY_1) % 4093;
    let node = table[hash(0) as usize];
    if !call.list.nodes[node].is_out() {
        return Some(node);
    }
    if !call.flags.flag_1 {
        return None;
    }
    for offset in 0..4093 {
        let node = table[hash((offset + hash(0)) % 4093) as usize];
        if !call.list.nodes[node].is_out() {
            return Some(node);
        }
    }
    None
}

/// The greatest number that divides all that are not 0; 0 if there is none. By trial.
fn gcd_of(weights: impl Iterator<Item = i64>) -> i64 {
    let weights: Vec<_> = weights.filter(|w| *w > 0).collect();
    let Some(least) = weights.iter().copied().min() else { return 0 };
    (1..=least).rev().find(|d| weights.iter().all(|w| w % d == 0)).unwrap()
}
