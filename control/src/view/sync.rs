//! The link to the other director.

use super::ConfigurationsView;
use crate::sync::identity::Fingerprint;
use crate::sync::status::{LinkState, SyncStatus, Traffic};
use crate::tasks::LinkReport;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How the link to the other director stands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SyncView {
    /// `none` without a peer in the configuration, `not_paired`, `down` or `up`.
    pub state: String,
    /// Seconds in this state.
    pub seconds: u64,
    /// Why there is no link.
    pub reason: Option<String>,
    /// The peer's name, while connected.
    pub peer: Option<String>,
    /// Where the peer listens.
    pub address: Option<SocketAddr>,
    /// This node's key, shortened.
    pub key: Option<String>,
    /// Whether everything that the peer had has arrived at least once.
    pub caught_up: bool,
    /// Whether this node lets a lower master be because it has not caught up.
    pub waiting: bool,
    /// Changed connections that the peer has not confirmed.
    pub lag_connections: usize,
    /// Milliseconds that the oldest of them has waited.
    pub lag_milliseconds: u64,
    /// Whether everything is being told.
    pub snapshot: bool,
    /// Milliseconds that the peer's clock is ahead; absent until measured.
    pub clock_offset: Option<f64>,
    /// Milliseconds to the peer and back.
    pub round_trip: Option<f64>,
    /// Links so far.
    pub links: u64,
    /// Times that everything had to be told anew though the link was up.
    pub resyncs: u64,
    /// Connections of the peer taken in or brought up to date.
    pub adopted: u64,
    /// Connections of the peer that do not fit this node's configuration or table.
    pub refused: u64,
    /// The configuration that both have in common.
    #[serde(default)]
    pub configuration: ConfigurationsView,
    /// Bytes sent, inside the encryption.
    pub bytes_sent: u64,
    /// Messages sent.
    pub frames_sent: u64,
}

impl SyncView {
    /// From what the link says, if there is one.
    pub fn of(report: LinkReport) -> Self {
        let LinkReport { peer, trouble, link, taken, waiting, now } = report;
        let mut view = Self {
            state: if peer.is_some() { "down" } else { "none" }.to_owned(),
            reason: trouble,
            address: peer.as_ref().map(|peer| peer.address),
            waiting,
            adopted: taken.adopted.load(Ordering::Relaxed),
            refused: taken.refused.load(Ordering::Relaxed),
            ..Self::default()
        };
        if let Some((status, traffic, key)) = link {
            view.fill(status, &traffic, key, now);
        }
        view
    }

    fn fill(&mut self, status: SyncStatus, traffic: &Traffic, key: Fingerprint, now: Instant) {
        match status.state {
            LinkState::NotPaired => "not_paired".clone_into(&mut self.state),
            LinkState::Down { reason } => {
                self.reason = Some(reason).filter(|reason| !reason.is_empty());
            }
            LinkState::Up { node, .. } => {
                "up".clone_into(&mut self.state);
                self.peer = Some(node);
            }
        }
        let millis = |nanos: i64| nanos as f64 / 1e6;
        self.seconds = now.saturating_duration_since(status.since).as_secs();
        self.key = Some(key.short());
        self.caught_up = status.caught_up;
        self.lag_connections = status.lag.connections;
        self.lag_milliseconds = u64::try_from(status.lag.age.as_millis()).unwrap_or(u64::MAX);
        self.snapshot = status.lag.snapshot;
        self.clock_offset = status.clock.map(|clock| millis(clock.offset));
        self.round_trip = status.clock.map(|clock| millis(clock.round_trip));
        self.links = status.links;
        self.resyncs = status.resyncs;
        self.bytes_sent = traffic.bytes_sent.load(Ordering::Relaxed);
        self.frames_sent = traffic.frames_sent.load(Ordering::Relaxed);
    }
}
