//! The document is edited piece by piece: by `ipvsadm`, by the console.

use super::Senses;
use super::config_committed::may_change;
use crate::ipvs;
use crate::model::Document;
use crate::state::{
    Action, Burst, InFlight, Moment, Outcome, Refusal, RunningView, State, StoreCommand, Summary,
    Then, Ticket,
};
use crate::store::Patch;
use std::sync::Arc;

/// Edits. Those that follow one another become one revision.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum EditEvent {
    /// Somebody made `document` of the one that was there at `version`.
    Document {
        ticket: Ticket,
        version: u64,
        document: Arc<Document>,
        author: String,
        comment: String,
    },
    /// A request of `ipvsadm`.
    Ipvs { ticket: Ticket, request: Box<ipvs::Request>, author: String },
}

pub(super) fn decide(
    state: &mut State,
    event: EditEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    match event {
        EditEvent::Document { ticket, version, document, author, comment } => {
            edit(state, ticket, version, Edit { document, author, comment }, senses.now, out);
        }
        EditEvent::Ipvs { ticket, request, author } => {
            ipvs(state, ticket, &request, author, senses, out);
        }
    }
}

struct Edit {
    document: Arc<Document>,
    author: String,
    comment: String,
}

fn edit(
    state: &mut State,
    ticket: Ticket,
    version: u64,
    edit: Edit,
    now: Moment,
    out: &mut Vec<Action>,
) {
    if let Err(refusal) = may_change(state, &edit.document) {
        return State::refuse(ticket, refusal, out);
    }
    if version != state.version {
        return State::refuse(ticket, Refusal::Conflict, out);
    }
    if *state.head == *edit.document {
        return State::answer(ticket, Outcome::Done, out);
    }
    append(state, ticket, edit, Then::Tell, now, out);
}

fn ipvs(
    state: &mut State,
    ticket: Ticket,
    request: &ipvs::Request,
    author: String,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    if request.edits()
        && let Err(refusal) = may_change(state, &state.head)
    {
        let reply = ipvs::Reply::Refused(refusal.to_string());
        return State::answer(ticket, Outcome::Ipvs(reply), out);
    }
    let mut document = Document::clone(&state.head);
    let mut kernel = std::mem::take(&mut state.kernel);
    let daemons_before = kernel.daemons.clone();
    let view = RunningView::new(state, senses.packets);
    let executed = ipvs::execute(request, &mut document, &mut kernel, &view, senses.host);
    let daemons = daemons_before != kernel.daemons;
    state.kernel = kernel;
    if daemons {
        out.push(Action::SyncDaemons(state.kernel.daemons.clone()));
    }
    if !executed.changed {
        return State::answer(ticket, Outcome::Ipvs(executed.reply), out);
    }
    if let Err(refusal) = may_change(state, &document) {
        let reply = ipvs::Reply::Refused(refusal.to_string());
        return State::answer(ticket, Outcome::Ipvs(reply), out);
    }
    let edit = Edit { document: Arc::new(document), author, comment: "ipvsadm".to_owned() };
    append(state, ticket, edit, Then::Answer(executed.reply), senses.now, out);
}

fn append(
    state: &mut State,
    ticket: Ticket,
    edit: Edit,
    then: Then,
    now: Moment,
    out: &mut Vec<Action>,
) {
    state.version += 1;
    let version = state.version;
    out.push(Action::Store(StoreCommand::Append {
        version,
        patch: Patch::between(&state.head, &edit.document),
        author: edit.author.clone(),
        comment: edit.comment.clone(),
    }));
    state.head = Arc::clone(&edit.document);
    let burst = state.burst.get_or_insert(Burst { first: now.steady, last: now.steady, edits: 0 });
    burst.last = now.steady;
    burst.edits += 1;
    let summary = Summary { author: edit.author, text: edit.comment, burst: true };
    state.in_flight.push_back(InFlight { version, document: edit.document, ticket, then, summary });
}
