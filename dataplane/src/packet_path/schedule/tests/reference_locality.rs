//! lblc and lblcr once more, with their cache as 1024 plain buckets.

use super::list::{Dest, List};
use super::reference::{Call, fold, weighted_least};
use std::net::IpAddr;

const DAY: u64 = 86_400;

/// One remembered destination.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    pub address: IpAddr,
    pub last_use: u64,
    pub value: T,
}

/// The hash table and its minute timer.
#[derive(Debug)]
pub struct Table<T> {
    pub buckets: Vec<Vec<Entry<T>>>,
    pub rover: usize,
    pub counter: u32,
}

impl<T> Table<T> {
    pub fn new() -> Self {
        Self { buckets: (0..1024).map(|_| vec![]).collect(), rover: 0, counter: 1 }
    }

    fn bucket(address: IpAddr) -> usize {
        ((u64::from(fold(address)) * 0x61C8_8647 % (1 << 32)) >> 22) as usize
    }

    pub fn get(&mut self, address: IpAddr) -> Option<&mut Entry<T>> {
        self.buckets[Self::bucket(address)].iter_mut().find(|entry| entry.address == address)
    }

    pub fn entries(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }

    pub fn set(&mut self, address: IpAddr, value: T, now: u64) {
        let known = self.get(address).is_some();
        if known || self.entries() < 24_576 {
            let bucket = &mut self.buckets[Self::bucket(address)];
            bucket.retain(|entry| entry.address != address);
            bucket.insert(0, Entry { address, last_use: now, value });
        }
    }

    /// What the timer does, each 60 s.
    pub fn check_expire(&mut self, now: u64) {
        let entries = self.entries() as i64;
        if self.counter.is_multiple_of(30) {
            for bucket in &mut self.buckets {
                bucket.retain(|entry| now < entry.last_use + DAY);
            }
            self.counter = 1;
        } else if entries <= 16_384 {
            self.counter += 1;
        } else {
            let mut goal = ((entries - 16_384) * 4 / 3).min(8_192);
            for _ in 0..1024 {
                self.rover = (self.rover + 1) & 1023;
                let bucket = &mut self.buckets[self.rover];
                let before = bucket.len() as i64;
                bucket.retain(|entry| now < entry.last_use + 360);
                goal -= before - bucket.len() as i64;
                if goal <= 0 {
                    break;
                }
            }
        }
    }
}

/// lblc: a node per destination.
#[derive(Debug)]
pub struct Lblc {
    pub table: Table<usize>,
}

impl Lblc {
    pub fn choose(&mut self, call: &Call<'_>) -> Option<usize> {
        let list = call.list;
        if let Some(entry) = self.table.get(call.flow.destination) {
            entry.last_use = call.seconds;
            let dest = &list.nodes[entry.value];
            if dest.available && dest.weight > 0 && !is_overloaded(list, dest) {
                return Some(entry.value);
            }
        }
        let node = weighted_least(list, Dest::overhead)?;
        self.table.set(call.flow.destination, node, call.seconds);
        Some(node)
    }

    pub fn removed(&mut self, node: usize) {
        for bucket in &mut self.table.buckets {
            bucket.retain(|entry| entry.value != node);
        }
    }
}

/// A destination's servers, newest first.
#[derive(Clone, Debug)]
pub struct Set {
    pub nodes: Vec<usize>,
    pub last_mod: u64,
}

/// lblcr: a set of nodes per destination.
#[derive(Debug)]
pub struct Lblcr {
    pub table: Table<Set>,
}

impl Lblcr {
    pub fn choose(&mut self, call: &Call<'_>) -> Option<usize> {
        let (list, now) = (call.list, call.seconds);
        let Some(entry) = self.table.get(call.flow.destination) else {
            let node = weighted_least(list, Dest::overhead)?;
            let set = Set { nodes: vec![node], last_mod: now };
            self.table.set(call.flow.destination, set, now);
            return Some(node);
        };
        entry.last_use = now;
        let set = &mut entry.value;
        let node = least_of(list, &set.nodes);
        let is_stable = set.nodes.len() > 1 && now > set.last_mod + DAY;
        if let Some(most) = most_of(list, &set.nodes).filter(|_| is_stable) {
            set.nodes.retain(|n| *n != most);
            set.last_mod = now;
        }
        if let Some(node) = node
            && !is_overloaded(list, &list.nodes[node])
        {
            return Some(node);
        }
        let node = weighted_least(list, Dest::overhead)?;
        if !set.nodes.contains(&node) {
            set.nodes.insert(0, node);
            set.last_mod = now;
        }
        Some(node)
    }

    pub fn removed(&mut self, node: usize) {
        for bucket in &mut self.table.buckets {
            for entry in bucket.iter_mut() {
                entry.value.nodes.retain(|n| *n != node);
            }
            bucket.retain(|entry| !entry.value.nodes.is_empty());
        }
    }
}

fn least_of(list: &List, nodes: &[usize]) -> Option<usize> {
    let mut least: Option<usize> = None;
    for &node in nodes {
        let dest = &list.nodes[node];
        if dest.is_out() || !dest.available {
            continue;
        }
        let better = least.is_none_or(|least| {
            let best = &list.nodes[least];
            best.overhead() * dest.weight > dest.overhead() * best.weight
        });
        if better {
            least = Some(node);
        }
    }
    least
}

fn most_of(list: &List, nodes: &[usize]) -> Option<usize> {
    let mut most: Option<usize> = None;
    for &node in nodes {
        let dest = &list.nodes[node];
        if dest.weight == 0 {
            continue;
        }
        let busier = most.is_none_or(|most| {
            let best = &list.nodes[most];
            best.overhead() * dest.weight < dest.overhead() * best.weight
        });
        if busier {
            most = Some(node);
        }
    }
    most
}

fn is_overloaded(list: &List, dest: &Dest) -> bool {
    dest.active > dest.weight
        && list.order().iter().any(|n| list.nodes[*n].active * 2 < list.nodes[*n].weight)
}
