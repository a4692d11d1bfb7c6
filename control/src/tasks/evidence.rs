//! Between the packet path's counters and the checks: a server that refuses connections is checked
//! at once, passive checks get their numbers, and setups that only clients suffer from are found.

use crate::compile::RealKey;
use crate::events::{Event, SetupEvent};
use crate::health::evidence::{Counts, Evidence, Finding, Replies};
use crate::health::passive::Tally;
use crate::health::task::Checker;
use crate::inbox::Message;
use crate::model::VirtualAddress;
use crate::state::Flaw;
use dataplane::table::{Family, Method, Protocol, RealId, ServiceKey, ServiceTable};
use dataplane::worker::Dataplane;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often counters are read.
const LOOK: Duration = Duration::from_millis(250);

/// Looks between two judgements and tallies: a second.
const SELDOM: u32 = 4;

/// A server whose check passes though it refuses connections is not checked more often than this.
const HURRY_EVERY: Duration = Duration::from_secs(1);

struct Watched {
    id: RealId,
    method: Method,
    evidence: Evidence,
    hurried: Option<Instant>,
}

/// Watches until the engine ends.
pub(crate) async fn run(dataplane: Arc<Dataplane>, checker: Checker, inbox: mpsc::Sender<Message>) {
    let mut watched: BTreeMap<RealKey, Watched> = BTreeMap::new();
    let mut table: Arc<ServiceTable> = Arc::default();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for look in 0u32.. {
        looks.tick().await;
        if inbox.is_closed() {
            return;
        }
        let published = dataplane.director().table().clone();
        if !Arc::ptr_eq(&published, &table) {
            table = published;
            follow(&mut watched, &table, &dataplane);
        }
        let now = now();
        for (real, watched) in &mut watched {
            let counts = counts(&dataplane, watched.id);
            let rested = watched.hurried.is_none_or(|at| now >= at + HURRY_EVERY);
            if watched.evidence.is_refusing(counts) && rested {
                watched.hurried = Some(now);
                checker.hurry(*real).await;
            }
        }
        if look % SELDOM == 0 {
            for event in judge(&mut watched, &dataplane, &checker, now).await {
                if inbox.send(Message::Event(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Servers that are in use now; what is known of those that stay is kept.
fn follow(watched: &mut BTreeMap<RealKey, Watched>, table: &ServiceTable, dataplane: &Dataplane) {
    let mut before = std::mem::take(watched);
    for (service, real) in table.reals() {
        // Datagrams need no answer.
        let Some(address) = tcp_service(service.key) else { continue };
        let key = (address, SocketAddr::new(real.address, real.port));
        let known = before.remove(&key).filter(|known| known.id == real.id);
        let mut entry = known.unwrap_or_else(|| Watched {
            id: real.id,
            method: real.method,
            evidence: Evidence::new(counts(dataplane, real.id)),
            hurried: None,
        });
        entry.method = real.method;
        watched.insert(key, entry);
    }
}

fn tcp_service(key: ServiceKey) -> Option<VirtualAddress> {
    match key {
        ServiceKey::Address { protocol: Protocol::Tcp, address, port } => {
            let address = SocketAddr::new(address, port);
            Some(VirtualAddress::Socket { protocol: Protocol::Tcp, address })
        }
        ServiceKey::Address { protocol: Protocol::Udp | Protocol::Sctp, .. }
        | ServiceKey::Mark { family: Family::V4 | Family::V6, .. } => None,
    }
}

fn counts(dataplane: &Dataplane, id: RealId) -> Counts {
    let (traffic, shakes) = (dataplane.director().traffic(id), dataplane.director().handshakes(id));
    Counts {
        connections: traffic.connections,
        replies: traffic.out_packets,
        completed: shakes.completed,
        refused: shakes.refused,
    }
}

const fn replies(method: Method) -> Replies {
    match method {
        Method::Nat | Method::FullNat | Method::Local => Replies::Pass,
        Method::DirectRouting | Method::Tunnel(_) => Replies::Bypass,
    }
}

async fn judge(
    watched: &mut BTreeMap<RealKey, Watched>,
    dataplane: &Dataplane,
    checker: &Checker,
    now: Instant,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tallies: BTreeMap<RealKey, Tally> = BTreeMap::new();
    for (real, watched) in watched {
        let (counts, replies) = (counts(dataplane, watched.id), replies(watched.method));
        tallies.insert(*real, watched.evidence.tally(counts, replies));
        let Some(finding) = watched.evidence.judge(counts, replies, now) else { continue };
        let text = match finding {
            Finding::InVain(connections) => Some(suspicion(watched.method, connections)),
            Finding::Answered => None,
        };
        events.push(Event::Setup(SetupEvent::Suspected { real: *real, flaw: Flaw::Replies, text }));
    }
    checker.tallies(tallies).await;
    events
}

/// What is probably wrong, in an operator's words.
fn suspicion(method: Method, connections: u64) -> String {
    let seen = match method {
        Method::Nat | Method::FullNat | Method::Local => {
            format!("none of its last {connections} connections was answered through this director")
        }
        Method::DirectRouting | Method::Tunnel(_) => {
            format!("none of its last {connections} connections came about")
        }
    };
    let guess = match method {
        Method::Nat => "is this director its default gateway?",
        Method::FullNat | Method::Local => "is a firewall in the way?",
        Method::DirectRouting => {
            "does it have the VIP on loopback (viaduct real-server check --method dr), and a way to \
             the clients?"
        }
        Method::Tunnel(_) => {
            "does it unwrap tunnelled packets and have the VIP (viaduct real-server check --method \
             tun), and a way to the clients?"
        }
    };
    format!("{seen}: {guess}")
}

#[allow(clippy::disallowed_methods)] // the edge where counters meet the clock
fn now() -> Instant {
    Instant::now()
}
