//! What packets look up follows the state.
//!
//! A story that changes real servers only marks the state as stale; the loop calls
//! [`publish_if_stale`] when it has decided on everything that was waiting, so that a rack of real
//! servers that goes down at once is compiled once. What packets must not wait for, such as a change of
//! mastership or of the configuration, calls [`republish`] itself.

use super::{Kind, Senses, Severity};
use crate::model::{Service, VirtualAddress};
use crate::state::{Action, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Publishes what has changed since the last publication, if anything has.
pub fn publish_if_stale(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    if state.stale {
        republish(state, senses, out);
    }
}

/// Publishes anew and notes which services went down or came up by it.
pub(super) fn republish(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let before = state.situation.down.clone();
    state.republish(out);
    let after = &state.situation.down;
    let lost: Vec<_> = after.difference(&before).copied().collect();
    let gained: Vec<_> = before.difference(after).copied().collect();
    for service in named(state, &lost.into_iter().collect()) {
        let text = match &service.sorry {
            Some(_) => "too few real servers are left; the sorry server answers",
            None => "too few real servers are left",
        };
        state.record(senses.now, (Severity::Error, Kind::ServiceDown), &service.name, text, out);
    }
    for service in named(state, &gained.into_iter().collect()) {
        let text = "enough real servers again";
        state.record(senses.now, (Severity::Info, Kind::ServiceUp), &service.name, text, out);
    }
}

/// Services without real servers are being set up, not in trouble.
fn named(state: &State, addresses: &BTreeSet<VirtualAddress>) -> Vec<Arc<Service>> {
    let services = state.running.services.iter();
    let matching = services
        .filter(|service| addresses.contains(&service.address) && !service.reals.is_empty());
    matching.cloned().collect()
}
