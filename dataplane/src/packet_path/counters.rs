//! What is counted. Each worker has its own counters and is their only writer; readers add them up.

use super::verdict::DropReason;
use crate::table::RealId;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Traffic of one real server, as one worker saw it. Bytes are IP packet lengths.
#[repr(align(64))]
#[derive(Debug, Default)]
struct RealCounters {
    connections: AtomicU64,
    in_packets: AtomicU64,
    in_bytes: AtomicU64,
    out_packets: AtomicU64,
    out_bytes: AtomicU64,
    completed: AtomicU64,
    refused: AtomicU64,
}

/// How a real server took its connections since the id was first used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handshakes {
    /// TCP connections that the client confirmed: both sides had heard each other.
    pub completed: u64,
    /// TCP connections that the server reset before they were open. Not seen where replies bypass the
    /// director.
    pub refused: u64,
}

/// Totals of one real server since the id was first used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    /// Connections scheduled; each datagram with one-packet scheduling; templates not.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from the real server.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from the real server.
    pub out_bytes: u64,
}

impl Traffic {
    /// Adds another server's or worker's share.
    pub fn add(&mut self, other: Self) {
        self.connections = self.connections.wrapping_add(other.connections);
        self.in_packets = self.in_packets.wrapping_add(other.in_packets);
        self.out_packets = self.out_packets.wrapping_add(other.out_packets);
        self.in_bytes = self.in_bytes.wrapping_add(other.in_bytes);
        self.out_bytes = self.out_bytes.wrapping_add(other.out_bytes);
    }
}

/// Counters of one worker.
#[derive(Debug)]
pub struct Counters {
    reals: Box<[RealCounters]>,
    drops: Box<[AtomicU64]>,
    /// Frames received.
    pub received: AtomicU64,
    /// Frames sent.
    pub sent: AtomicU64,
    /// Frames that were the host's.
    pub host: AtomicU64,
    /// Connections given up to make room for others.
    pub shed: AtomicU64,
}

/// Adds without a locked instruction: the worker is the only writer.
#[inline]
pub fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Counters {
    /// Counters for this many real servers.
    pub fn new(reals: usize) -> Self {
        Self {
            reals: std::iter::repeat_with(RealCounters::default).take(reals).collect(),
            drops: DropReason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            host: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        }
    }

    /// A packet went to a real server.
    #[inline]
    pub fn count_in(&self, id: RealId, bytes: usize) {
        if let Some(real) = self.reals.get(id.0 as usize) {
            bump(&real.in_packets, 1);
            bump(&real.in_bytes, bytes as u64);
        }
    }

    /// A packet came from a real server.
    #[inline]
    pub fn count_out(&self, id: RealId, bytes: usize) {
        if let Some(real) = self.reals.get(id.0 as usize) {
            bump(&real.out_packets, 1);
            bump(&real.out_bytes, bytes as u64);
        }
    }

    /// A connection was scheduled.
    pub fn count_connection(&self, id: RealId) {
        if let Some(real) = self.reals.get(id.0 as usize) {
            bump(&real.connections, 1);
        }
    }

    /// A handshake ended: the connection is open, or the server refused it.
    pub fn count_handshake(&self, id: RealId, completed: bool) {
        if let Some(real) = self.reals.get(id.0 as usize) {
            bump(if completed { &real.completed } else { &real.refused }, 1);
        }
    }

    /// How one real server took its connections.
    pub fn handshakes(&self, id: RealId) -> Handshakes {
        self.reals.get(id.0 as usize).map_or_else(Handshakes::default, |real| Handshakes {
            completed: real.completed.load(Relaxed),
            refused: real.refused.load(Relaxed),
        })
    }

    /// So many packets died.
    pub fn count_drops(&self, reason: DropReason, many: u64) {
        if let Some(counter) = self.drops.get(reason as usize) {
            bump(counter, many);
        }
    }

    /// How many packets died of this.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, |counter| counter.load(Relaxed))
    }

    /// What one real server has seen.
    pub fn traffic(&self, id: RealId) -> Traffic {
        self.reals.get(id.0 as usize).map_or_else(Traffic::default, |real| Traffic {
            connections: real.connections.load(Relaxed),
            in_packets: real.in_packets.load(Relaxed),
            out_packets: real.out_packets.load(Relaxed),
            in_bytes: real.in_bytes.load(Relaxed),
            out_bytes: real.out_bytes.load(Relaxed),
        })
    }
}
