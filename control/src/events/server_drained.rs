//! An operator takes a real server out for maintenance, or puts it back, on either director.

use super::{Kind, Senses, Severity};
use crate::compile::RealKey;
use crate::model::PersistentClients;
use crate::state::{Action, Drain, Moment, Order, Outcome, Refusal, State, StoreCommand, Ticket};
use crate::sync::message::{DrainOrder, Drained};
use crate::sync::session::Control;
use std::collections::BTreeMap;
use std::time::Duration;

/// Maintenance, by operators. `service` is a name or an address, `real` an address.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum DrainEvent {
    /// An operator takes a real server out. Its connections are ended after `within`, if given.
    Drained {
        ticket: Ticket,
        service: String,
        real: String,
        author: String,
        reason: String,
        within: Option<Duration>,
        persistent: PersistentClients,
    },
    /// An operator puts a real server back.
    PutBack { ticket: Ticket, service: String, real: String, author: String },
    /// A backup was brought back: these real servers are out for maintenance, and no others.
    Restored(BTreeMap<RealKey, Order>),
}

pub(super) fn decide(
    state: &mut State,
    event: DrainEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let now = senses.now;
    match event {
        DrainEvent::Drained { ticket, service, real, author, reason, within, persistent } => {
            let order = Wish { author, reason, within, persistent };
            drain(state, ticket, &service, &real, order, now, out);
        }
        DrainEvent::PutBack { ticket, service, real, author } => {
            undrain(state, ticket, &service, &real, &author, now, out);
        }
        DrainEvent::Restored(orders) => restored(state, &orders, senses, out),
    }
}

/// What an operator orders.
struct Wish {
    author: String,
    reason: String,
    within: Option<Duration>,
    persistent: PersistentClients,
}

fn drain(
    state: &mut State,
    ticket: Ticket,
    service: &str,
    real: &str,
    order: Wish,
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
    let stamp = state.sharing.next_stamp(since);
    let (author, reason) = (order.author.clone(), order.reason.clone());
    let persistent = order.persistent;
    let drain = Drain { author, reason, since, deadline, persistent, stamp };
    keep(state, key, Order::Drained(drain), out);
    tell(state, key, out);
    let why = if order.reason.is_empty() { String::new() } else { format!(": {}", order.reason) };
    let text = format!("{} was drained by {}{why}", key.1, order.author);
    state.record_of(now, (Severity::Info, Kind::Maintenance), &key, text, out);
    state.republish(out);
    State::answer(ticket, Outcome::Done, out);
}

fn undrain(
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
    if !state.maintenance.contains_key(&key) {
        return State::refuse(ticket, Refusal::NotDrained(key.1), out);
    }
    let put_back = state.sharing.next_stamp(now.unix_millis());
    keep(state, key, Order::PutBack { put_back }, out);
    tell(state, key, out);
    let text = format!("{} was put back by {author}", key.1);
    state.record_of(now, (Severity::Info, Kind::Maintenance), &key, text, out);
    state.republish(out);
    State::answer(ticket, Outcome::Done, out);
}

/// An order holds from now on. That a server was put back is remembered only for a peer that may still
/// believe it drained.
fn keep(state: &mut State, key: RealKey, order: Order, out: &mut Vec<Action>) {
    let alone = state.running.peer.is_none() && matches!(order, Order::PutBack { .. });
    let value = if alone { None } else { serde_json::to_vec(&order).ok() };
    out.push(Action::Store(StoreCommand::Maintenance { key: store_key(&key), value }));
    state.maintenance.remove(&key);
    state.put_back.remove(&key);
    match order {
        Order::Drained(drain) => drop(state.maintenance.insert(key, drain)),
        Order::PutBack { .. } if alone => {}
        Order::PutBack { put_back } => drop(state.put_back.insert(key, put_back)),
    }
}

/// Forgets what was ordered about servers that are gone.
pub(super) fn forget(state: &mut State, stays: impl Fn(&RealKey) -> bool, out: &mut Vec<Action>) {
    let known = state.maintenance.keys().chain(state.put_back.keys());
    let gone: Vec<RealKey> = known.filter(|key| !stays(key)).copied().collect();
    for key in gone {
        state.maintenance.remove(&key);
        state.put_back.remove(&key);
        let key = store_key(&key);
        out.push(Action::Store(StoreCommand::Maintenance { key, value: None }));
    }
}

/// A backup was brought back: its orders are given anew, so that they hold on both directors.
fn restored(
    state: &mut State,
    orders: &BTreeMap<RealKey, Order>,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let now = senses.now.unix_millis();
    let mut wanted: BTreeMap<RealKey, Option<Drain>> =
        state.maintenance.keys().map(|key| (*key, None)).collect();
    for (key, order) in orders {
        if let Order::Drained(drain) = order {
            wanted.insert(*key, Some(drain.clone()));
        }
    }
    for (key, drain) in wanted {
        let stamp = state.sharing.next_stamp(now);
        let order = match drain {
            Some(drain) => Order::Drained(Drain { stamp, ..drain }),
            None => Order::PutBack { put_back: stamp },
        };
        keep(state, key, order, out);
        tell(state, key, out);
    }
    // What the backup said of it was of another time.
    let lineage = state.sharing.remembered();
    out.extend(lineage.map(|bytes| Action::Store(StoreCommand::Lineage(bytes))));
    super::publication::republish(state, senses, out);
}

/// The last order about a real server, for the peer.
fn order_of(state: &State, key: RealKey) -> Option<DrainOrder> {
    let (service, real) = (key.0.derived_name(), key.1);
    let (stamp, drain) = match state.maintenance.get(&key) {
        Some(Drain { author, reason, since, deadline, persistent, stamp }) => {
            let (author, reason) = (author.clone(), reason.clone());
            let (since, deadline, persistent) = (*since, *deadline, *persistent);
            (*stamp, Some(Drained { author, reason, since, deadline, persistent }))
        }
        None => (*state.put_back.get(&key)?, None),
    };
    Some(DrainOrder { service, real, stamp, drain })
}

fn tell(state: &State, key: RealKey, out: &mut Vec<Action>) {
    if state.sharing.peer.is_some() {
        let orders = order_of(state, key).into_iter().collect();
        out.push(Action::Say(Control::Drains(orders)));
    }
}

/// Tells the peer every order.
pub(super) fn tell_all(state: &State, out: &mut Vec<Action>) {
    let known = state.maintenance.keys().chain(state.put_back.keys());
    let orders = known.filter_map(|key| order_of(state, *key)).collect();
    out.push(Action::Say(Control::Drains(orders)));
}

/// The peer told orders: those that are newer than this director's hold here, too.
pub(super) fn heard(
    state: &mut State,
    orders: Vec<DrainOrder>,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let peer = state.sharing.peer.clone().unwrap_or_default();
    let mut news = false;
    for order in orders {
        state.sharing.stamp = state.sharing.stamp.max(order.stamp);
        let name = format!("{} {}", order.service, order.real);
        // One that this director does not have yet is told again when the configuration is here.
        let Some(key) = real_key_of(&state.running, name.as_bytes()) else { continue };
        if order_of(state, key).is_some_and(|own| rank(&own) >= rank(&order)) {
            continue;
        }
        news = true;
        let was_drained = state.maintenance.contains_key(&key);
        let text = match &order.drain {
            Some(Drained { author, reason, .. }) => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                Some(format!("{} was drained by {author} on {peer}{why}", key.1))
            }
            None => was_drained.then(|| format!("{} was put back on {peer}", key.1)),
        };
        let stamp = order.stamp;
        let order = match order.drain {
            Some(Drained { author, reason, since, deadline, persistent }) => {
                Order::Drained(Drain { author, reason, since, deadline, persistent, stamp })
            }
            None => Order::PutBack { put_back: stamp },
        };
        keep(state, key, order, out);
        if let Some(text) = text {
            state.record_of(senses.now, (Severity::Info, Kind::Maintenance), &key, text, out);
        }
    }
    if news {
        super::publication::republish(state, senses, out);
    }
}

/// Which of two orders holds, the same on both directors. A deadline that has passed is none any more, on
/// whichever looked first, so it does not count.
fn rank(order: &DrainOrder) -> (u64, Option<(&str, &str, u64)>) {
    let drain = order.drain.as_ref();
    (order.stamp, drain.map(|drain| (&*drain.author, &*drain.reason, drain.since)))
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
