//! The store took a change, or did not.
//!
//! A change is *in flight* from the moment it is accepted until the store answers for its version. Then
//! it is either *running* or *refused*:
//!
//! ```text
//!  accepted                        the store's thread              here
//!  head = new document             Commit, Append or Confirm,
//!  version += 1                    in the order they were sent
//!      |
//!      v                           taken:  Stored(version)     ->  running; `Then` says what the
//!  in flight (in_flight, Then) ->                                  caller is told
//!                                  failed: NotStored(version)  ->  all in flight are refused,
//!                                          and it is *refusing*    head = running, Resume is sent
//! ```
//!
//! * An answer covers every change up to its version: the store writes `Append`s that follow one another
//!   with one wait for the disk, and answers with the version of the last.
//! * Refusing, the store answers everything with `NotStored` until it reads `Resume`: what was sent before
//!   was built on what failed. Those answers name changes that are no longer in flight, and are ignored.
//!
//! Edits become a revision together, as a *burst* ([`crate::state::Burst`]):
//!
//! ```text
//!  no burst  --Append-->  open: edits run, and are safe in the store's journal
//!     ^                     |  quiet for long enough, or open for too long (Burst::settles)
//!     |                     v
//!  settled  <--Stored(0)--  settling: Settle is sent
//! ```
//!
//! Version 0 means the burst: `Stored(0)` brings its revision, and `NotStored(0)` refuses nothing, because
//! the edits stay in the journal and become a revision later. The store may also settle by itself when its
//! journal is full, so `Stored(0)` may come unasked.

use super::{Kind, Senses, Severity};
use crate::state::{Action, InFlight, Moment, Outcome, Refusal, State, StoreCommand, Then, Trial};
use crate::store::RevisionInfo;
use std::sync::Arc;

/// Answers of the store. `version` is the one that it was sent; 0 means the burst.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum StoreEvent {
    /// Everything up to `version` is on disk, as `revision` or a part of it. `history` is the list of
    /// kept revisions where it has changed.
    Stored { version: u64, revision: RevisionInfo, history: Option<Arc<Vec<RevisionInfo>>> },
    /// The change is not on disk.
    NotStored { version: u64, error: String },
}

pub(super) fn decide(
    state: &mut State,
    event: StoreEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    match event {
        StoreEvent::Stored { version, revision, history } => {
            stored(state, version, revision, history, senses, out);
        }
        StoreEvent::NotStored { version, error } => {
            not_stored(state, version, &error, senses.now, out);
        }
    }
}

fn stored(
    state: &mut State,
    version: u64,
    revision: RevisionInfo,
    history: Option<Arc<Vec<RevisionInfo>>>,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    if let Some(history) = history {
        state.history = history;
    }
    if state.store_trouble.take().is_some() {
        let text = "the store takes changes again";
        state.record(senses.now, (Severity::Info, Kind::System), "", text, out);
    }
    let before = Arc::clone(&state.running);
    let mut settled = version == 0;
    while state.in_flight.front().is_some_and(|change| change.version <= version) {
        if let Some(change) = state.in_flight.pop_front() {
            settled |= !change.summary.burst;
            take_effect(state, change, &revision, senses.now, out);
        }
    }
    state.revision = revision.number;
    if settled && version == 0 {
        let text =
            format!("revision {} by {}: {}", revision.number, revision.author, revision.comment);
        state.record(senses.now, (Severity::Info, Kind::Configuration), "", text, out);
    }
    if !Arc::ptr_eq(&before, &state.running) {
        run(state, senses, out);
    }
}

/// The stored document is what packets meet from now on.
fn run(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let running = Arc::clone(&state.running);
    let keep = |key: &crate::compile::RealKey| {
        running.service_at(&key.0).is_some_and(|service| service.real(&key.1).is_some())
    };
    state.health.retain(|key, _| keep(key));
    state.suspects.retain(|key, _| keep(key));
    state.peer_health.retain(|key, _| keep(key));
    super::server_drained::forget(state, keep, out);
    super::link_changed::arrange(state, senses.now, out);
    super::publication::republish(state, senses, out);
    super::link_changed::refresh_neighbours(state, out);
    out.push(Action::Follow(running));
}

fn take_effect(
    state: &mut State,
    change: InFlight,
    revision: &RevisionInfo,
    now: Moment,
    out: &mut Vec<Action>,
) {
    let fallback = std::mem::replace(&mut state.running, change.document);
    let summary = change.summary;
    match change.then {
        Then::Confirm => {
            state.trial = None;
            let text = format!("revision {} was confirmed", revision.number);
            state.record(now, (Severity::Info, Kind::Configuration), "", text, out);
            return State::answer(change.ticket, Outcome::Confirmed(revision.clone()), out);
        }
        Then::Tell => {
            state.trial = None;
            State::answer(change.ticket, Outcome::Committed(revision.clone()), out);
        }
        Then::Try(within) => {
            let until = now.steady + within;
            state.trial = Some(Trial { revision: revision.number, until, fallback, ending: false });
            State::answer(change.ticket, Outcome::Committed(revision.clone()), out);
        }
        Then::Answer(reply) => State::answer(change.ticket, Outcome::Ipvs(reply), out),
    }
    if !summary.burst {
        let text = format!("revision {} by {}: {}", revision.number, summary.author, summary.text);
        state.record(now, (Severity::Info, Kind::Configuration), "", text, out);
    }
}

fn not_stored(state: &mut State, version: u64, error: &str, now: Moment, out: &mut Vec<Action>) {
    if version == 0 {
        // The edits are safe in the journal; they become a revision later.
        return trouble(state, error, now, out);
    }
    // What came after was built on what failed, and the store has refused it as well.
    if !state.in_flight.iter().any(|change| change.version == version) {
        return;
    }
    let refused: Vec<_> = state.in_flight.drain(..).collect();
    for change in refused {
        if matches!(change.then, Then::Confirm) || state.trial.is_some() {
            revive_trial(state, now);
        }
        match change.then {
            Then::Answer(_) => {
                let reply = crate::ipvs::Reply::Refused(format!("change not saved: {error}"));
                State::answer(change.ticket, Outcome::Ipvs(reply), out);
            }
            Then::Tell | Then::Try(_) | Then::Confirm => {
                State::refuse(change.ticket, Refusal::Store(error.to_owned()), out);
            }
        }
    }
    state.head = Arc::clone(&state.running);
    state.version += 1;
    out.push(Action::Store(StoreCommand::Resume));
    trouble(state, error, now, out);
}

/// A way back that failed is tried again.
fn revive_trial(state: &mut State, now: Moment) {
    /// Between two tries.
    const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);
    if let Some(trial) = &mut state.trial {
        trial.ending = false;
        trial.until = trial.until.max(now.steady + AGAIN);
    }
}

fn trouble(state: &mut State, error: &str, now: Moment, out: &mut Vec<Action>) {
    if state.store_trouble.as_deref() != Some(error) {
        let text = format!("changes are refused, because the store does not take them: {error}");
        state.record(now, (Severity::Error, Kind::System), "", text, out);
        state.store_trouble = Some(error.to_owned());
    }
}
