//! An operator commits a document, confirms one, or goes back to one.

use super::shared_configuration::leaves_the_peer_behind;
use crate::compile::{Generation, Situation, compile, steering, virtual_macs};
use crate::model::Document;
use crate::state::{
    Action, InFlight, Outcome, Refusal, State, StoreCommand, Summary, Then, Ticket,
};
use crate::store::Draft;
use dataplane::io::steer::{self, SteeringRules};
use std::sync::Arc;
use std::time::Duration;

/// Whole documents, by operators.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum ConfigurationEvent {
    /// An operator submits a document. With `base`, only onto that version of the configuration: what
    /// others changed meanwhile is not overwritten. With `confirm_within`, it is rolled back unless it
    /// is confirmed in time.
    Applied {
        ticket: Ticket,
        base: Option<u64>,
        document: Arc<Document>,
        author: String,
        comment: String,
        confirm_within: Option<Duration>,
    },
    /// An operator confirms the head revision.
    Confirmed { ticket: Ticket },
    /// An operator goes back to the revision `to`, whose document this is.
    RolledBack { ticket: Ticket, document: Arc<Document>, to: u64, author: String },
}

pub(super) fn decide(state: &mut State, event: ConfigurationEvent, out: &mut Vec<Action>) {
    match event {
        ConfigurationEvent::Applied { ticket, base, document, author, comment, confirm_within } => {
            if base.is_some_and(|base| base != state.version) {
                return State::refuse(ticket, Refusal::Conflict, out);
            }
            let wish = Wish { document, author, comment, confirm_within };
            apply(state, ticket, wish, out);
        }
        ConfigurationEvent::Confirmed { ticket } => confirm(state, ticket, out),
        ConfigurationEvent::RolledBack { ticket, document, to, author } => {
            roll_back(state, ticket, document, to, author, out);
        }
    }
}

/// Changes on their way to the store at most: a disk that is slower than this is in trouble.
const IN_FLIGHT: usize = 4096;

/// What an operator wants.
pub(super) struct Wish {
    pub document: Arc<Document>,
    pub author: String,
    pub comment: String,
    pub confirm_within: Option<Duration>,
}

fn apply(state: &mut State, ticket: Ticket, wish: Wish, out: &mut Vec<Action>) {
    if let Err(refusal) = may_change(state, &wish.document) {
        return State::refuse(ticket, refusal, out);
    }
    if *state.head == *wish.document && wish.confirm_within.is_none() && state.revision > 0 {
        return State::answer(ticket, Outcome::Done, out);
    }
    if let Some(why) = leaves_the_peer_behind(state, &wish.document) {
        return State::refuse(ticket, Refusal::TooLarge(why), out);
    }
    let then = wish.confirm_within.map_or(Then::Tell, Then::Try);
    commit(state, ticket, wish, then, out);
}

fn roll_back(
    state: &mut State,
    ticket: Ticket,
    document: Arc<Document>,
    to: u64,
    author: String,
    out: &mut Vec<Action>,
) {
    // Going back is what a revision on trial is for, so it is allowed during one.
    let trial = state.trial.as_mut().map(|trial| std::mem::replace(&mut trial.ending, true));
    if let Err(refusal) = may_change(state, &document) {
        if let (Some(trial), Some(ending)) = (state.trial.as_mut(), trial) {
            trial.ending = ending;
        }
        return State::refuse(ticket, refusal, out);
    }
    let comment = format!("rollback to revision {to}");
    let wish = Wish { document, author, comment, confirm_within: None };
    commit(state, ticket, wish, Then::Tell, out);
}

/// Whether the document may be changed into this one at all.
pub(super) fn may_change(state: &State, document: &Document) -> Result<(), Refusal> {
    if state.stopping {
        return Err(Refusal::Unavailable("shutting down".to_owned()));
    }
    if let Some(trial) = state.trial.as_ref().filter(|trial| !trial.ending) {
        return Err(Refusal::Unconfirmed(trial.revision));
    }
    if state.in_flight.iter().any(|change| matches!(change.then, Then::Try(_))) {
        return Err(Refusal::Unconfirmed(state.revision + 1));
    }
    if state.in_flight.len() >= IN_FLIGHT {
        return Err(Refusal::Unavailable("waiting for its disk".to_owned()));
    }
    fits(state, document)
}

/// Whether the packet path holds that much.
fn fits(state: &State, document: &Document) -> Result<(), Refusal> {
    let parked = state.ids.parked().count();
    let sorry = document.services.iter().filter(|service| service.sorry.is_some()).count();
    let reals: usize = document.services.iter().map(|service| service.reals.len()).sum();
    let (services, capacity) = (document.services.len(), &state.capacity);
    if services > capacity.services {
        return Err(Refusal::TooLarge(format!(
            "{services} services are more than the {} that this node holds",
            capacity.services
        )));
    }
    if reals + sorry + parked > capacity.reals {
        return Err(Refusal::TooLarge(format!(
            "{reals} real servers (and {parked} removed ones with connections) are more than the {} \
             that this node holds",
            capacity.reals
        )));
    }
    let parts = reals + sorry + parked;
    match is_much(document, parts).then(|| rules(state, document).fit()) {
        Some(Err(full)) => Err(Refusal::TooLarge(full.to_string())),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Whether the steering rules may be more than the kernel's maps hold. Counted roughly, as edits come
/// often: `parts` are all real servers, each of which makes a few entries.
fn is_much(document: &Document, parts: usize) -> bool {
    let services = &document.services;
    let rules: usize = services.iter().map(|service| service.rules.len()).sum();
    let pools: usize = services.iter().map(|service| service.source_pool.len()).sum();
    let macs: usize = document.vrrp.iter().map(|own| 1 + own.inside_addresses.len()).sum();
    let addresses: usize = document.vrrp.iter().map(|own| own.addresses.len()).sum();
    let entries = 4 * parts + 2 * services.len() + rules + pools + addresses + macs;
    // Twice as many endpoints as addresses fit; the rest is for what the host has.
    entries > steer::ADDRESSES as usize / 2
        || rules >= steer::PREFIXES as usize
        || macs > steer::MACS as usize / 2
}

/// The steering rules that a document needs at most: when this node is master everywhere.
fn rules(state: &State, document: &Document) -> SteeringRules {
    let mut ids = state.ids.clone();
    let situation = Situation::default();
    let generation = compile(document, &situation, &mut ids, &Generation::default());
    let masters = document.vrrp.iter().map(|instance| instance.name.clone()).collect();
    let macs = virtual_macs(document, &masters).into_iter();
    let macs = macs.filter_map(|(name, mac)| Some((state.host.link_named(&name)?, mac)));
    steering(&generation, &ids, &state.host, macs.collect())
}

pub(super) fn commit(
    state: &mut State,
    ticket: Ticket,
    wish: Wish,
    then: Then,
    out: &mut Vec<Action>,
) {
    state.version += 1;
    state.head = Arc::clone(&wish.document);
    // An open burst becomes a revision of its own before this one.
    state.burst = None;
    out.push(Action::Store(StoreCommand::Commit {
        version: state.version,
        document: Arc::clone(&wish.document),
        draft: Draft {
            author: wish.author.clone(),
            comment: wish.comment.clone(),
            confirm_within: wish.confirm_within.map(|within| within.as_secs()),
        },
    }));
    let summary = Summary { author: wish.author, text: wish.comment, burst: false };
    let version = state.version;
    state.in_flight.push_back(InFlight { version, document: wish.document, ticket, then, summary });
}

fn confirm(state: &mut State, ticket: Ticket, out: &mut Vec<Action>) {
    if state.trial.as_ref().is_none_or(|trial| trial.ending) {
        return State::refuse(ticket, Refusal::NothingToConfirm, out);
    }
    state.version += 1;
    let version = state.version;
    out.push(Action::Store(StoreCommand::Confirm { version }));
    let summary = Summary { author: String::new(), text: "confirmed".to_owned(), burst: false };
    state.in_flight.push_back(InFlight {
        version,
        document: Arc::clone(&state.head),
        ticket,
        then: Then::Confirm,
        summary,
    });
}

/// The daemon is to end: edits that are not yet a revision become one, and nothing new is taken.
pub(super) fn stop(state: &mut State, out: &mut Vec<Action>) {
    state.stopping = true;
    if state.burst.take().is_some() {
        out.push(Action::Store(StoreCommand::Settle));
    }
    for (port, _) in state.ports.all() {
        out.push(Action::Detach(port));
    }
    out.push(Action::Stop);
}
