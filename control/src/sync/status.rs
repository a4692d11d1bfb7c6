//! What the peer link looks like from outside.

use super::message::{Body, Hello, Pong, Step};
use super::replica::Lag;
use crate::health::outcome::ClockReading;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// How the link stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// No peer is pinned yet.
    NotPaired,
    /// Dialling or waiting, and why the last link ended or never was.
    Down {
        /// In the operator's words; empty before the first attempt.
        reason: String,
    },
    /// The link is up.
    Up {
        /// The peer's name.
        node: String,
        /// Its program's version.
        program: String,
        /// Chosen by the peer at its start.
        boot: u64,
    },
}

/// The peer's clock against ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerClock {
    /// Nanoseconds that the peer's clock is ahead.
    pub offset: i64,
    /// Nanoseconds that the measurement took on the way; the offset is right to half of it.
    pub round_trip: i64,
}

impl PeerClock {
    /// From the four times of a ping and its answer.
    pub const fn measure(pong: &Pong, now: i64) -> Self {
        let there = pong.received.saturating_sub(pong.sent);
        let back = pong.answered.saturating_sub(now);
        let asked = now.saturating_sub(pong.sent);
        let answering = pong.answered.saturating_sub(pong.received);
        Self {
            offset: (there / 2).saturating_add(back / 2),
            round_trip: asked.saturating_sub(answering),
        }
    }

    /// The same in seconds, as all clocks are compared.
    pub fn reading(self) -> ClockReading {
        let seconds = |nanos: i64| nanos as f64 / 1e9;
        ClockReading { ahead: seconds(self.offset), error: seconds(self.round_trip.abs()) / 2.0 }
    }
}

/// Everything that `show sync` shows.
#[derive(Clone, PartialEq, Debug)]
pub struct SyncStatus {
    /// How the link stands.
    pub state: LinkState,
    /// When the link entered this state.
    pub since: Instant,
    /// How far the peer is behind.
    pub lag: Lag,
    /// Whether this node has everything that the peer had; kept while the link is down.
    pub caught_up: bool,
    /// The peer's clock, once measured.
    pub clock: Option<PeerClock>,
    /// Snapshots that were due because something was missing or too much had changed.
    pub resyncs: u64,
    /// Links so far.
    pub links: u64,
}

/// Counters of all links together.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes inside TLS.
    pub bytes_sent: AtomicU64,
    /// Messages sent.
    pub frames_sent: AtomicU64,
    /// Bytes of connection records received.
    pub record_bytes_received: AtomicU64,
    /// Replication steps received.
    pub steps_received: AtomicU64,
}

impl Traffic {
    /// Counts a step that arrived.
    pub fn count_step(&self, step: &Step) {
        self.steps_received.fetch_add(1, Ordering::Relaxed);
        if let Body::Changes(records) = &step.body {
            self.record_bytes_received.fetch_add(records.len() as u64, Ordering::Relaxed);
        }
    }
}

/// Written by the link, read by anybody.
#[derive(Debug)]
pub struct Shared {
    status: Mutex<SyncStatus>,
    overflow: AtomicBool,
    again: AtomicBool,
    /// Whether everything has come by this link.
    whole: AtomicBool,
    wake: Notify,
    heard: Mutex<Instant>,
    traffic: Arc<Traffic>,
}

impl Shared {
    /// Before the first link.
    pub fn new(now: Instant, paired: bool) -> Self {
        let state =
            if paired { LinkState::Down { reason: String::new() } } else { LinkState::NotPaired };
        let status = SyncStatus {
            state,
            since: now,
            lag: Lag::default(),
            caught_up: false,
            clock: None,
            resyncs: 0,
            links: 0,
        };
        Self {
            status: Mutex::new(status),
            overflow: AtomicBool::new(false),
            again: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            wake: Notify::new(),
            heard: Mutex::new(now),
            traffic: Arc::default(),
        }
    }

    /// A copy of everything.
    pub fn status(&self) -> SyncStatus {
        self.lock().clone()
    }

    /// Returns the link's counters.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Changes could not be queued; the next ones tell the replica.
    pub fn note_overflow(&self) {
        self.overflow.store(true, Ordering::Release);
    }

    /// Whether changes were lost since the last call.
    pub fn take_overflow(&self) -> bool {
        self.overflow.swap(false, Ordering::AcqRel)
    }

    /// The peer is to tell everything again.
    pub fn ask_again(&self) {
        self.again.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Whether the peer is to tell everything again.
    pub fn is_asked_again(&self) -> bool {
        self.again.load(Ordering::SeqCst)
    }

    /// The peer was told to tell everything again.
    pub fn has_asked_again(&self) {
        self.set_caught_up(false);
        self.again.store(false, Ordering::SeqCst);
    }

    /// Waits until there is something to ask.
    pub async fn asked(&self) {
        self.wake.notified().await;
    }

    /// Whether this node has everything that the peer has told by this link, and waits for nothing more.
    pub fn is_caught_up(&self) -> bool {
        self.whole.load(Ordering::SeqCst) && !self.is_asked_again()
    }

    /// Something came by the link.
    pub fn note_heard(&self, now: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// When something came by the link last.
    pub fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a link.
    pub fn is_up(&self) -> bool {
        matches!(self.lock().state, LinkState::Up { .. })
    }

    /// The link is up.
    pub fn set_up(&self, peer: &Hello, now: Instant) {
        self.whole.store(false, Ordering::SeqCst);
        let mut status = self.lock();
        status.since = now;
        status.links += 1;
        // Another clock may be behind this link; it is measured within a moment.
        status.clock = None;
        status.state = LinkState::Up {
            node: peer.node.clone(),
            program: peer.program.clone(),
            boot: peer.boot,
        };
    }

    /// The link is down, or another attempt failed. `true` when that is news.
    pub fn set_down(&self, reason: String, now: Instant) -> bool {
        self.whole.store(false, Ordering::SeqCst);
        let mut status = self.lock();
        let state = LinkState::Down { reason };
        if status.state == state {
            return false;
        }
        if !matches!(status.state, LinkState::Down { .. }) {
            status.since = now;
        }
        status.state = state;
        status.lag = Lag::default();
        true
    }

    /// Sets how far the peer is behind.
    pub fn set_lag(&self, lag: Lag, resyncs: u64) {
        let mut status = self.lock();
        status.lag = lag;
        status.resyncs = resyncs;
    }

    /// Sets whether this node has caught up.
    pub fn set_caught_up(&self, caught_up: bool) {
        self.whole.store(caught_up, Ordering::SeqCst);
        self.lock().caught_up = caught_up;
    }

    /// Sets the peer's clock from an answered ping.
    pub fn set_clock(&self, pong: &Pong, now: i64) {
        self.lock().clock = Some(PeerClock::measure(pong, now));
    }

    fn lock(&self) -> MutexGuard<'_, SyncStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn being_caught_up_ends_with_the_link_and_when_everything_is_asked_for_again() {
        let now = crate::sync::task::clock();
        let shared = Shared::new(now, true);
        let hello =
            Hello { versions: (1, 2), node: String::new(), boot: 0, program: String::new() };
        shared.set_up(&hello, now);
        assert!(!shared.is_caught_up());
        shared.set_caught_up(true);
        assert!(shared.is_caught_up());
        shared.set_down("cut".to_owned(), now);
        assert!(!shared.is_caught_up() && shared.status().caught_up, "still what it once had");
        shared.set_up(&hello, now);
        assert!(!shared.is_caught_up(), "nothing has come by this link");
        shared.set_caught_up(true);
        shared.ask_again();
        assert!(!shared.is_caught_up());
        shared.has_asked_again();
        assert!(!shared.is_caught_up() && !shared.is_asked_again());
    }

    #[test]
    fn the_clock_offset_is_measured_to_half_the_round_trip() {
        // The peer is 1000 ahead; 30 there, 10 answering, 50 back.
        let pong = Pong { sent: 0, received: 1030, answered: 1040 };
        let clock = PeerClock::measure(&pong, 90);
        assert_eq!(clock.round_trip, 80);
        assert!((clock.offset - 1000).abs() <= clock.round_trip / 2, "{clock:?}");
    }

    proptest! {
        #[test]
        fn no_answer_overflows(sent: i64, received: i64, answered: i64, now: i64) {
            PeerClock::measure(&Pong { sent, received, answered }, now);
        }
    }
}
