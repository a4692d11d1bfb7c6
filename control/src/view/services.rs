//! Virtual services with their real servers.

use crate::model::{Method, Real, Service, method_name, protocol_name, scheduler_name};
use crate::model::{Persistence, PersistentClients, VirtualAddress};
use crate::state::Packets;
use crate::state::State as EngineState;
use dataplane::packet_path::counters::Traffic;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One virtual service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// VIP and port; absent for mark services.
    pub address: Option<SocketAddr>,
    /// `tcp`, `udp` or `sctp`; absent for mark services.
    pub protocol: Option<String>,
    /// The mark of a mark service.
    pub mark: Option<u32>,
    /// The scheduler's name.
    pub scheduler: String,
    /// The usual forwarding method.
    pub method: String,
    /// Seconds that a client stays with its real server; absent without persistence.
    pub persistence: Option<u64>,
    /// Whether it has its quorum.
    pub up: bool,
    /// Whether its sorry server answers.
    pub sorry: bool,
    /// Since the service was made.
    pub traffic: TrafficView,
    /// Real servers in the order of the document, a sorry server that serves at the end.
    pub reals: Vec<RealView>,
}

/// One real server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RealView {
    /// RIP and port.
    pub address: SocketAddr,
    /// Forwarding method.
    pub method: String,
    /// What it is doing.
    pub state: State,
    /// Its weight in the document.
    pub weight: u32,
    /// Its weight for packets.
    pub effective_weight: u32,
    /// Established connections.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Whether it takes no new connections because it has too many.
    pub overloaded: bool,
    /// Why it is up or down.
    pub reason: Option<String>,
    /// Since when it is, in milliseconds since 1970.
    pub since: Option<u64>,
    /// What the other director's probes see, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerVerdictView>,
    /// What seems to be wrong with its setup.
    #[serde(default)]
    pub suspicions: Vec<String>,
    /// Who drained it, and why.
    pub drain: Option<DrainView>,
    /// Since it was added.
    pub traffic: TrafficView,
}

/// What the other director's probes see of a real server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerVerdictView {
    /// Whether the peer's checks pass.
    pub up: bool,
    /// Why it is believed so.
    pub reason: String,
}

/// What a real server is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is checked, and works.
    Up,
    /// It is checked, and does not.
    Down,
    /// It is checked, and no result is in yet.
    Untested,
    /// Nobody checks it.
    Unchecked,
    /// An operator took it out.
    Drained,
    /// It is the sorry server, and serves.
    Sorry,
}

/// A drain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DrainView {
    /// Who took it out.
    pub author: String,
    /// The reason given.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub since: u64,
    /// When the rest of its connections is ended, in milliseconds since 1970.
    pub deadline: Option<u64>,
    /// What becomes of its persistent clients.
    pub persistent: PersistentClients,
}

/// Counters. Bytes are those of whole IP packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TrafficView {
    pub connections: u64,
    pub in_packets: u64,
    pub out_packets: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
}

impl From<Traffic> for TrafficView {
    fn from(traffic: Traffic) -> Self {
        Self {
            connections: traffic.connections,
            in_packets: traffic.in_packets,
            out_packets: traffic.out_packets,
            in_bytes: traffic.in_bytes,
            out_bytes: traffic.out_bytes,
        }
    }
}

impl ServiceView {
    /// All services of the running document, in its order.
    pub fn all(state: &EngineState, packets: &dyn Packets) -> Vec<Self> {
        state.running.services.iter().map(|service| Self::of(state, packets, service)).collect()
    }

    fn of(state: &EngineState, packets: &dyn Packets, service: &Service) -> Self {
        let (address, protocol, mark) = match service.address {
            VirtualAddress::Socket { protocol, address } => {
                (Some(address), Some(protocol_name(protocol).to_owned()), None)
            }
            VirtualAddress::Mark { mark, .. } => (None, None, Some(mark)),
        };
        let mut reals: Vec<RealView> =
            service.reals.iter().map(|real| real_view(state, packets, service, real)).collect();
        let sorry = sorry_view(state, packets, service);
        let has_sorry = sorry.is_some();
        reals.extend(sorry);
        Self {
            name: service.name.clone(),
            address,
            protocol,
            mark,
            scheduler: scheduler_name(service.scheduler).to_owned(),
            method: method_name(service.method).to_owned(),
            persistence: service.persistence.map(|Persistence { timeout, .. }| timeout.as_secs()),
            up: !state.situation.down.contains(&service.address),
            sorry: has_sorry,
            traffic: state.ledger.service(&service.address, &state.ids, packets).into(),
            reals,
        }
    }
}

fn real_view(
    state: &EngineState,
    packets: &dyn Packets,
    service: &Service,
    real: &Real,
) -> RealView {
    let key = (service.address, real.address);
    let id = state.ids.real_id(&key);
    let load = id.map(|id| packets.load(id)).unwrap_or_default();
    let health = state.health.get(&key);
    let told = state.peer_health.get(&key);
    let drain = state.maintenance.get(&key);
    let checked = service.check_of(real).is_some();
    let status = match (drain, checked, health) {
        (Some(_), _, _) => State::Drained,
        (None, false, _) => State::Unchecked,
        (None, true, None) if told.is_some_and(|told| !told.up) => State::Down,
        (None, true, None) => State::Untested,
        (None, true, Some(health)) if health.up => State::Up,
        (None, true, Some(_)) => State::Down,
    };
    RealView {
        address: real.address,
        method: method_name(service.method_of(real)).to_owned(),
        state: status,
        weight: real.weight,
        effective_weight: effective_weight(state, service, real.address).unwrap_or(0),
        active: load.active,
        inactive: load.inactive,
        persistent: load.persistent,
        overloaded: load.overloaded,
        reason: health.map(|health| health.reason.clone()).or_else(|| {
            let told = told.filter(|_| checked)?;
            let state = if told.up { "up" } else { "down" };
            Some(format!("not probed yet; {state} according to the peer: {}", told.reason))
        }),
        since: health.map(|health| health.since),
        peer: told
            .filter(|told| checked && health.is_some_and(|health| health.up != told.up))
            .filter(|_| state.sharing.peer.is_some())
            .map(|told| PeerVerdictView { up: told.up, reason: told.reason.clone() }),
        suspicions: state
            .suspects
            .get(&key)
            .map(|flaws| flaws.values().cloned().collect())
            .unwrap_or_default(),
        drain: drain.map(|drain| DrainView {
            author: drain.author.clone(),
            reason: drain.reason.clone(),
            since: drain.since,
            deadline: drain.deadline,
            persistent: drain.persistent,
        }),
        traffic: id.map(|id| state.ledger.real(id, packets).into()).unwrap_or_default(),
    }
}

/// The weight that packets meet; `None` for a server that is taken out.
fn effective_weight(state: &EngineState, service: &Service, address: SocketAddr) -> Option<u32> {
    let compiled = state.generation.service(&service.address)?;
    let mut reals = compiled.reals.iter();
    let real = reals.find(|real| SocketAddr::new(real.address, real.port) == address);
    real.map(|real| real.weight)
}

/// The sorry server, when it serves and is none of the document's real servers.
fn sorry_view(state: &EngineState, packets: &dyn Packets, service: &Service) -> Option<RealView> {
    let compiled = state.generation.service(&service.address)?;
    let mut strangers = compiled.reals.iter().filter(|real| {
        let address = SocketAddr::new(real.address, real.port);
        service.real(&address).is_none()
    });
    let real = strangers.next()?;
    let load = packets.load(real.id);
    let method: Method = real.method;
    Some(RealView {
        address: SocketAddr::new(real.address, real.port),
        method: method_name(method).to_owned(),
        state: State::Sorry,
        weight: real.weight,
        effective_weight: real.weight,
        active: load.active,
        inactive: load.inactive,
        persistent: load.persistent,
        overloaded: load.overloaded,
        reason: None,
        since: None,
        peer: None,
        suspicions: Vec::new(),
        drain: None,
        traffic: state.ledger.real(real.id, packets).into(),
    })
}
