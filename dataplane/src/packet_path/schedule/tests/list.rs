//! The reference's servers: a doubly linked list with a head that is no server, new ones in front.

use crate::table::{Real, RealId};
use std::net::IpAddr;

/// The list's head.
pub const HEAD: usize = 0;

/// A server. It keeps its node, and so its identity and counters, when it is removed and added
/// again.
#[derive(Clone, Debug)]
pub struct Dest {
    pub address: IpAddr,
    pub port: u16,
    pub weight: i64,
    pub last_weight: i64,
    pub active: i64,
    pub inactive: i64,
    pub overload: bool,
    pub available: bool,
    pub prev: usize,
    pub next: usize,
}

impl Dest {
    pub fn overhead(&self) -> i64 {
        let total = self.active + self.inactive;
        self.active * 256 + total
    }

    pub fn is_out(&self) -> bool {
        self.overload || self.weight == 0
    }
}

/// All servers that ever were, by node, and the list of those that are.
#[derive(Debug)]
pub struct List {
    pub nodes: Vec<Dest>,
}

impl List {
    pub fn new() -> Self {
        let address = IpAddr::from([0, 0, 0, 0]);
        Self { nodes: vec![dest(address, 0, 0)] }
    }

    pub fn next(&self, node: usize) -> usize {
        self.nodes[node].next
    }

    /// Nodes in list order.
    pub fn order(&self) -> Vec<usize> {
        let mut order = vec![];
        let mut node = self.next(HEAD);
        while node != HEAD {
            order.push(node);
            node = self.next(node);
        }
        order
    }

    pub fn add(&mut self, address: IpAddr, port: u16, weight: i64) -> usize {
        self.nodes.push(dest(address, port, weight));
        let node = self.nodes.len() - 1;
        self.link(node);
        node
    }

    pub fn add_again(&mut self, node: usize, weight: i64) {
        self.link(node);
        self.edit(node, weight);
    }

    fn link(&mut self, node: usize) {
        let first = self.next(HEAD);
        self.nodes[node].prev = HEAD;
        self.nodes[node].next = first;
        self.nodes[first].prev = node;
        self.nodes[HEAD].next = node;
        self.nodes[node].available = true;
    }

    pub fn remove(&mut self, node: usize) {
        let (prev, next) = (self.nodes[node].prev, self.nodes[node].next);
        self.nodes[prev].next = next;
        self.nodes[next].prev = prev;
        self.nodes[node].available = false;
    }

    pub fn edit(&mut self, node: usize, weight: i64) {
        self.nodes[node].weight = weight;
        if weight != 0 {
            self.nodes[node].last_weight = weight;
        }
    }

    /// What the scheduler under test is told.
    pub fn reals(&self) -> Vec<Real> {
        self.order().into_iter().map(|node| real(node, &self.nodes[node])).collect()
    }
}

fn dest(address: IpAddr, port: u16, weight: i64) -> Dest {
    Dest {
        address,
        port,
        weight,
        last_weight: weight,
        active: 0,
        inactive: 0,
        overload: false,
        available: false,
        prev: HEAD,
        next: HEAD,
    }
}

fn real(node: usize, dest: &Dest) -> Real {
    Real {
        address: dest.address,
        port: dest.port,
        availability: crate::table::Availability::Serving,
        last_weight: dest.last_weight as u32,
        ..super::real(node as u32, dest.weight as u32)
    }
}

/// The node that a real server's id stands for.
pub fn node_of(id: RealId) -> usize {
    id.0 as usize
}
