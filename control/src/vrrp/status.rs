//! What an instance looks like from outside, and its counters.

use super::fsm::{Reason, State};
use super::packet::{Differences, Rejected};
use super::{Priority, Version, Vrid};
use dataplane::table::Mac;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A change of state, for whoever owns the addresses.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Name of the instance.
    pub instance: String,
    /// State before the first change that was not told yet.
    pub from: State,
    /// State now. The addresses are this node's exactly while it is [`State::Master`].
    pub to: State,
    /// The reason for the change.
    pub reason: Reason,
    /// What is down, when that is why.
    pub faults: Vec<String>,
    /// When it changed.
    pub at: Instant,
}

/// How one instance stands.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// Name of the instance.
    pub name: String,
    /// Its sync group.
    pub group: Option<String>,
    /// Interface that carries its advertisements.
    pub interface: String,
    /// Virtual router id.
    pub vrid: Vrid,
    /// Protocol version.
    pub version: Version,
    /// Current state.
    pub state: State,
    /// When it entered the state.
    pub since: Instant,
    /// Why; `None` before the start.
    pub reason: Option<Reason>,
    /// Effective priority.
    pub priority: Priority,
    /// Whether the virtual MAC is used.
    pub virtual_mac: bool,
    /// What it answers with on its interface while it is master; `None` while that is not there.
    pub mac: Option<Mac>,
    /// Source of own adverts, once known.
    pub source: Option<IpAddr>,
    /// The master that a backup follows, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// What is down and keeps the instance in fault.
    pub faults: Vec<String>,
    /// How the last accepted advert differed from this node's configuration.
    pub differences: Differences,
    /// Sender of the last advert that listed none of the instance's addresses.
    pub foreign: Option<IpAddr>,
    /// Counters, live.
    pub counters: Arc<Counters>,
}

/// What an instance has sent and received since it was created.
#[derive(Debug, Default)]
pub struct Counters {
    /// Adverts sent, resignations included; one for all peers.
    pub adverts_sent: AtomicU64,
    /// Resignations sent.
    pub resignations_sent: AtomicU64,
    /// Valid adverts received.
    pub adverts_received: AtomicU64,
    /// Announcements sent.
    pub announcements_sent: AtomicU64,
    /// Packets that the kernel refused to send.
    pub send_errors: AtomicU64,
    /// Times that this node became master.
    pub became_master: AtomicU64,
    /// Adverts rejected, by [`Rejected::index`].
    pub rejected: [AtomicU64; Rejected::ALL.len()],
    /// How late periodic adverts left.
    pub jitter: Jitter,
}

impl Counters {
    /// Counts a rejected packet.
    pub fn reject(&self, reason: Rejected) {
        if let Some(counter) = self.rejected.get(reason.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rejected packets of one kind.
    pub fn rejected(&self, reason: Rejected) -> u64 {
        self.rejected.get(reason.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// Lateness of adverts: from the moment one was due until the kernel had it.
#[derive(Debug, Default)]
pub struct Jitter {
    /// Adverts per bucket; the last holds all that were later than the last bound.
    buckets: [AtomicU64; Jitter::BOUNDS.len() + 1],
    sum_micros: AtomicU64,
    max_micros: AtomicU64,
}

impl Jitter {
    /// Upper bounds of the buckets in microseconds.
    pub const BOUNDS: [u64; 8] = [50, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];

    /// Notes one advert.
    pub fn record(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.max_micros.fetch_max(micros, Ordering::Relaxed);
    }

    /// Adverts per bucket, not accumulated.
    pub fn buckets(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|at| self.buckets.get(at).map_or(0, |b| b.load(Ordering::Relaxed)))
    }

    /// Adverts noted.
    pub fn count(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// Sum of all lateness.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.load(Ordering::Relaxed))
    }

    /// The latest advert.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_falls_into_its_bucket() {
        let jitter = Jitter::default();
        for micros in [0, 50, 51, 100, 100_000, 100_001, 5_000_000] {
            jitter.record(Duration::from_micros(micros));
        }
        assert_eq!(jitter.buckets(), [2, 2, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(jitter.count(), 7);
        assert_eq!(jitter.max(), Duration::from_secs(5));
        assert_eq!(jitter.sum(), Duration::from_micros(5_200_202));
    }

    #[test]
    fn rejections_are_counted_by_reason() {
        let counters = Counters::default();
        counters.reject(Rejected::Ttl);
        counters.reject(Rejected::HmacReplay);
        counters.reject(Rejected::HmacReplay);
        assert_eq!(counters.rejected(Rejected::Ttl), 1);
        assert_eq!(counters.rejected(Rejected::HmacReplay), 2);
        assert_eq!(counters.rejected(Rejected::Checksum), 0);
    }
}
