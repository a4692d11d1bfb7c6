//! A real server dies, comes back, or gets another weight.

use super::{Kind, Senses, Severity, peer_verdicts};
use crate::compile::RealKey;
use crate::health::weight::AgentWeight;
use crate::model::{ConnectionsOnDown, Service};
use crate::state::{Action, HealthView, Moment, State};
use std::sync::Arc;

/// What checks, agents and evidence say of a real server.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum RealEvent {
    /// A health check marked the server down.
    Down { real: RealKey, reason: String },
    /// A health check marked the server up.
    Up { real: RealKey, reason: String },
    /// The server's agent asks for another weight; `None`: no longer for one.
    Weighed { real: RealKey, agent: Option<AgentWeight> },
    /// For the record; decides nothing.
    Noticed { real: RealKey, kind: Kind, severity: Severity, text: String },
}

pub(super) fn decide(
    state: &mut State,
    event: RealEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    match event {
        RealEvent::Down { real, reason } => down(state, real, reason, senses, out),
        RealEvent::Up { real, reason } => up(state, real, reason, senses, out),
        RealEvent::Weighed { real, agent } => weighed(state, &real, agent, senses, out),
        RealEvent::Noticed { real, kind, severity, text } => {
            noticed(state, &real, (severity, kind), text, senses.now, out);
        }
    }
}

fn down(
    state: &mut State,
    real: RealKey,
    reason: String,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let Some(service) = service_of(state, &real) else { return };
    let since = senses.now.unix_millis();
    let before = state.health.get(&real);
    let (was_up, agent) = (before.is_none_or(|b| b.up), before.and_then(|b| b.agent));
    let text = format!("{} is down: {reason}", real.1);
    let view = HealthView { up: false, reason, since, agent, warming_since: None };
    state.health.insert(real, view);
    peer_verdicts::changed(state, real, senses.now);
    if was_up {
        state.record_of(senses.now, (Severity::Warning, Kind::RealDown), &real, text, out);
        state.stale = true;
        end_connections(state, &service, &real);
    }
}

fn up(
    state: &mut State,
    real: RealKey,
    reason: String,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    if service_of(state, &real).is_none() {
        return;
    }
    let since = senses.now.unix_millis();
    let before = state.health.get(&real);
    let agent = before.and_then(|before| before.agent);
    // By the peer's word, if this director had none of its own.
    let was_down = state.believed(&real) == Some(false);
    let text = format!("{} is up: {reason}", real.1);
    // A server that works from the start has nothing to recover from.
    let warming_since = was_down.then_some(senses.now.steady);
    state.health.insert(real, HealthView { up: true, reason, since, agent, warming_since });
    peer_verdicts::changed(state, real, senses.now);
    if was_down {
        state.record_of(senses.now, (Severity::Info, Kind::RealUp), &real, text, out);
    }
    // The first word about a new server may be what a dead service waits for.
    if was_down || state.situation.down.contains(&real.0) {
        state.stale = true;
    }
}

fn weighed(
    state: &mut State,
    real: &RealKey,
    agent: Option<AgentWeight>,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    if service_of(state, real).is_none() {
        return;
    }
    let since = senses.now.unix_millis();
    let view = state.health.entry(*real).or_insert_with(|| HealthView {
        up: true,
        reason: "its agent answers".to_owned(),
        since,
        agent: None,
        warming_since: None,
    });
    if view.agent != agent {
        view.agent = agent;
        let text = match agent {
            Some(AgentWeight::Absolute(weight)) => format!("{} asks for weight {weight}", real.1),
            Some(AgentWeight::Percent(percent)) => {
                format!("{} asks for {percent} % of its weight", real.1)
            }
            None => format!("{} asks for no weight of its own any more", real.1),
        };
        state.record_of(senses.now, (Severity::Info, Kind::Weight), real, text, out);
        state.stale = true;
    }
}

/// Something that decides nothing. What is known of a server that is gone is of no use any more.
fn noticed(
    state: &mut State,
    real: &RealKey,
    kind: (Severity, Kind),
    text: String,
    now: Moment,
    out: &mut Vec<Action>,
) {
    if service_of(state, real).is_some() {
        state.record_of(now, kind, real, text, out);
    }
}

fn service_of(state: &State, real: &RealKey) -> Option<Arc<Service>> {
    let service = state.running.service_at(&real.0)?;
    service.real(&real.1)?;
    Some(Arc::clone(service))
}

/// What becomes of the connections of a server that died, once new ones go to others.
fn end_connections(state: &mut State, service: &Service, real: &RealKey) {
    let check = service.real(&real.1).and_then(|real| service.check_of(real));
    let Some(id) = state.ids.real_id(real) else { return };
    match check.map(|check| check.connections) {
        Some(ConnectionsOnDown::Reset) => {
            state.after_publication.push(Action::ResetConnections(id));
        }
        Some(ConnectionsOnDown::Reschedule) => {
            state.after_publication.push(Action::EndConnections(id));
        }
        Some(ConnectionsOnDown::Keep) | None => {}
    }
}
