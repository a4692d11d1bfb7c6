//! An operator takes a real server out for maintenance, or puts it back.

use super::{Kind, Severity};
use crate::compile::RealKey;
use crate::engine::{Action, Drain, Moment, Outcome, Refusal, State, StoreCommand, Ticket};
use std::time::Duration;

/// What an operator orders.
pub(super) struct Order {
    pub author: String,
    pub reason: String,
    pub within: Option<Duration>,
}

pub(super) fn drain(
    state: &mut State,
    ticket: Ticket,
    service: &str,
    real: &str,
    order: Order,
    now: Moment,
    out: &mut Vec<Action>,
) {
    let key = match find(state, service, real) {
        Ok(found) => found,
        Err(refusal) => return State::refuse(ticket, refusal, out),
    };
    let deadline = order.within.map(|within| {
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        now.unix_millis().saturating_add(within)
    });
    let since = now.unix_millis();
    let drain =
        Drain { author: order.author.clone(), reason: order.reason.clone(), since, deadline };
    let value = serde_json::to_vec(&drain).ok();
    out.push(Action::Store(StoreCommand::Maintenance { key: store_key(&key), value }));
    state.maintenance.insert(key, drain);
    let why = if order.reason.is_empty() { String::new() } else { format!(": {}", order.reason) };
    let text = format!("{} was drained by {}{why}", key.1, order.author);
    state.record_of(now, (Severity::Info, Kind::Maintenance), &key, text, out);
    state.republish(out);
    State::answer(ticket, Outcome::Done, out);
}

pub(super) fn undrain(
    state: &mut State,
    ticket: Ticket,
    service: &str,
    real: &str,
    author: &str,
    now: Moment,
    out: &mut Vec<Action>,
) {
    let key = match find(state, service, real) {
        Ok(found) => found,
        Err(refusal) => return State::refuse(ticket, refusal, out),
    };
    if state.maintenance.remove(&key).is_none() {
        return State::refuse(ticket, Refusal::NotDrained(key.1), out);
    }
    out.push(Action::Store(StoreCommand::Maintenance { key: store_key(&key), value: None }));
    let text = format!("{} was put back by {author}", key.1);
    state.record_of(now, (Severity::Info, Kind::Maintenance), &key, text, out);
    state.republish(out);
    State::answer(ticket, Outcome::Done, out);
}

fn find(state: &State, service: &str, real: &str) -> Result<RealKey, Refusal> {
    let found = state.find_service(service);
    let found = found.ok_or_else(|| Refusal::NoService(service.to_owned()))?;
    let address = State::find_real(found, real)
        .ok_or_else(|| Refusal::NoReal { service: found.name.clone(), real: real.to_owned() })?;
    Ok((found.address, address))
}

/// Ends the connections of drained servers whose time is up.
pub(super) fn end_overdue(state: &mut State, now: Moment, out: &mut Vec<Action>) {
    let overdue = |drain: &&mut Drain| drain.deadline.is_some_and(|at| at <= now.unix_millis());
    let mut ended = Vec::new();
    for (key, drain) in &mut state.maintenance {
        if let Some(drain) = Some(drain).filter(overdue) {
            drain.deadline = None;
            ended.push((*key, serde_json::to_vec(drain).ok()));
        }
    }
    for (key, value) in ended {
        out.push(Action::Store(StoreCommand::Maintenance { key: store_key(&key), value }));
        out.extend(state.ids.real_id(&key).map(Action::EndConnections));
    }
}

/// The real server that a store's key stands for, if the document has it.
pub fn real_key_of(document: &crate::model::Document, key: &[u8]) -> Option<RealKey> {
    let (service, real) = std::str::from_utf8(key).ok()?.split_once(' ')?;
    let address = real.parse().ok()?;
    let mut services = document.services.iter();
    let found = services.find(|candidate| candidate.address.derived_name() == service)?;
    found.real(&address).map(|real| (found.address, real.address))
}

/// The store's key of a drain.
pub fn store_key(key: &RealKey) -> Vec<u8> {
    format!("{} {}", key.0.derived_name(), key.1).into_bytes()
}
