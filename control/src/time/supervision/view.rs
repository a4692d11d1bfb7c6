//! The state of all clocks, for people. The field names are part of the JSON contract.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Server, Supervision};
use crate::model::VirtualAddress;
use crate::time::KernelClock;
use crate::time::drift::Drift;
use crate::time::opinion::{Opinion, opinion};

/// Every clock that is compared with this node's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimeView {
    /// Whether this node's clock is off.
    pub drift: Drift,
    /// Seconds by which this node is ahead of what the time servers say, when they say so.
    pub ahead: Option<f64>,
    /// Largest error of that, in seconds.
    pub error: Option<f64>,
    /// How much the believed servers differ, in seconds.
    pub jitter: Option<f64>,
    /// "known", "unknown", "contradictory", or "not asked" without servers.
    pub opinion: String,
    /// What the kernel says of its clock, when it says so.
    pub kernel: Option<KernelClock>,
    /// A difference that is warned about, in seconds.
    pub warn: f64,
    /// One that is critical, in seconds.
    pub critical: f64,
    /// Time servers.
    pub servers: Vec<ServerView>,
    /// Real servers whose clock was read. HTTP tells it to the second only.
    pub reals: Vec<RealView>,
    /// The other director's clock, while there is a link to it.
    #[serde(default)]
    pub peer: Option<PeerView>,
}

/// A time server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name in the configuration.
    pub name: String,
    /// "believed", "lying", "silent", "denied" or "waiting".
    pub state: String,
    /// Which of the last eight requests were answered; the latest is the lowest bit.
    pub reach: u8,
    /// Seconds by which it is ahead of this node.
    pub offset: Option<f64>,
    /// Way there and back, in seconds.
    pub delay: Option<f64>,
    /// How much its answers differ, in seconds.
    pub jitter: Option<f64>,
    /// Largest error of `offset`, in seconds.
    pub error: Option<f64>,
    /// Its distance from a primary source.
    pub stratum: Option<u8>,
    /// Its source.
    pub reference: Option<String>,
    /// Age of the answer that counts, in seconds.
    pub age: Option<f64>,
    /// Why the last request gave no time.
    pub trouble: Option<String>,
}

/// A real server's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RealView {
    /// Its service.
    pub service: String,
    /// Its address.
    pub real: SocketAddr,
    /// Whether it is off.
    pub drift: Drift,
    /// Seconds by which it is ahead of this node.
    pub ahead: f64,
    /// Largest error of that, in seconds.
    pub error: f64,
}

/// The other director's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// Whether it is off.
    pub drift: Drift,
    /// Seconds by which it is ahead of this node.
    pub ahead: f64,
    /// Largest error of that, in seconds.
    pub error: f64,
}

impl Supervision {
    /// The state of all clocks. `name` gives a service's name.
    pub fn view(&self, now: Instant, name: impl Fn(&VirtualAddress) -> String) -> TimeView {
        let estimates: Vec<_> = self.servers.iter().map(|server| server.estimate(now)).collect();
        let (opinion, known) = match opinion(&estimates) {
            Opinion::Known { offset, error, jitter, .. } => {
                ("known", Some((offset, error, jitter)))
            }
            Opinion::Unknown if self.servers.is_empty() => ("not asked", None),
            Opinion::Unknown => ("unknown", None),
            Opinion::Contradictory => ("contradictory", None),
        };
        TimeView {
            drift: self.node.drift(),
            ahead: known.map(|(offset, _, _)| -offset),
            error: known.map(|(_, error, _)| error),
            jitter: known.map(|(_, _, jitter)| jitter),
            opinion: opinion.to_owned(),
            kernel: self.kernel,
            warn: self.limits.warn.as_secs_f64(),
            critical: self.limits.critical.as_secs_f64(),
            servers: self.servers.iter().map(|server| server.view(now)).collect(),
            reals: self
                .reals
                .iter()
                .filter_map(|(real, watch)| {
                    let last = watch.last()?;
                    Some(RealView {
                        service: name(&real.0),
                        real: real.1,
                        drift: watch.drift(),
                        ahead: last.ahead,
                        error: last.error,
                    })
                })
                .collect(),
            peer: self.peer.last().map(|last| PeerView {
                drift: self.peer.drift(),
                ahead: last.ahead,
                error: last.error,
            }),
        }
    }
}

impl Server {
    fn view(&self, now: Instant) -> ServerView {
        let estimate = self.estimate(now);
        let state = match (self.denied, estimate) {
            (true, _) => "denied",
            (false, Some(_)) if self.lying => "lying",
            (false, Some(_)) => "believed",
            (false, None) if self.missed > 0 => "silent",
            (false, None) => "waiting",
        };
        ServerView {
            name: self.name.clone(),
            state: state.to_owned(),
            reach: self.reach,
            offset: estimate.map(|e| e.offset),
            delay: estimate.map(|e| e.delay),
            jitter: estimate.map(|e| e.jitter),
            error: estimate.map(|e| e.error),
            stratum: estimate.map(|e| e.stratum),
            reference: estimate.map(|e| e.reference_id.to_string()),
            age: estimate.map(|e| e.age.as_secs_f64()),
            trouble: self.trouble_text(),
        }
    }
}
