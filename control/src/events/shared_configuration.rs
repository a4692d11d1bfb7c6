//! The two directors keep their common configuration the same.
//!
//! A change travels as soon as it is a revision: edits by `ipvsadm` when their burst has ended, a revision
//! on trial when it is confirmed (one that is taken back never does).

use super::config_committed::{Wish, commit, may_change};
use super::{Kind, Moment, Senses, Severity, peer_verdicts, server_drained};
use crate::model::{Document, SharedPart};
use crate::state::{
    Action, Outcome, Refusal, Sharing, State, StoreCommand, Taking, Then, Ticket, Whose,
};
use crate::sync::lineage::{Change, ChangeId, Lineage, Relation};
use crate::sync::message::{Revision, brief};
use crate::sync::revisions::Output;
use crate::sync::session::Control;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// What happens on the link to the other director.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum PeerEvent {
    /// The link is up, and the director called `node` shares its configuration.
    Connected { node: String },
    /// The link is down.
    Disconnected,
    /// The other director sent a message.
    Said(Control),
    /// A message to the other director did not reach the link.
    Unheard,
    /// An operator settles a conflict between the two configurations.
    ConflictSettled { ticket: Ticket, choice: Choice, author: String },
}

pub(super) fn decide(
    state: &mut State,
    event: PeerEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    match event {
        PeerEvent::Connected { node } => connected(state, node, senses, out),
        PeerEvent::Disconnected => disconnected(state),
        PeerEvent::Said(Control::Drains(orders)) => {
            server_drained::heard(state, orders, senses, out);
        }
        PeerEvent::Said(Control::Verdicts(verdicts)) => {
            peer_verdicts::heard(state, verdicts, senses, out);
        }
        PeerEvent::Said(control) => said(state, control, senses.now, out),
        PeerEvent::Unheard => unheard(state, senses.now),
        PeerEvent::ConflictSettled { ticket, choice, author } => {
            chosen(state, ticket, choice, author, senses.now, out);
        }
    }
}

/// After this everything is told again that did not reach the link.
const REPEAT: Duration = Duration::from_secs(1);

/// Whose configuration both directors are to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// That of the director that is told.
    Mine,
    /// That of the other one.
    Theirs,
}

/// The link is up, and the peer shares.
fn connected(state: &mut State, node: String, senses: &Senses<'_>, out: &mut Vec<Action>) {
    state.sharing.peer = Some(node);
    state.sharing.told_settled = None;
    // Before the configuration: a director that has that has everything.
    tell_everything(state, out);
    let (free, mut outputs) = (is_free(state), Vec::new());
    state.sharing.revisions.connected(free, &mut outputs);
    carry_out(state, outputs, senses.now, out);
}

/// What is not configuration: drains and verdicts.
fn tell_everything(state: &mut State, out: &mut Vec<Action>) {
    server_drained::tell_all(state, out);
    peer_verdicts::tell_all(state, out);
}

/// The link is down.
fn disconnected(state: &mut State) {
    state.sharing.peer = None;
    state.sharing.revisions.disconnected();
}

/// The peer said something about its configuration.
fn said(state: &mut State, control: Control, now: Moment, out: &mut Vec<Action>) {
    let (free, mut outputs) = (is_free(state), Vec::new());
    let revisions = &mut state.sharing.revisions;
    match control {
        Control::Heads(heads) => revisions.heads(heads, free, &mut outputs),
        Control::Want(want) => revisions.wanted(want, free, &mut outputs),
        Control::Revision(revision) => revisions.revision(revision, free, &mut outputs),
        Control::Declined(declined) => revisions.declined_by_peer(declined, &mut outputs),
        Control::Roles(_) | Control::Verdicts(_) | Control::Drains(_) => {}
    }
    carry_out(state, outputs, now, out);
}

/// Something that was said did not reach the link.
fn unheard(state: &mut State, now: Moment) {
    state.sharing.repeat_due.get_or_insert(now.steady + REPEAT);
}

/// Tells again what did not reach the link.
pub(super) fn repeat_if_due(state: &mut State, now: Moment, out: &mut Vec<Action>) {
    if state.sharing.repeat_due.is_none_or(|due| due > now.steady) {
        return;
    }
    state.sharing.repeat_due = None;
    if state.sharing.peer.is_some() {
        tell_everything(state, out);
    }
    let (free, mut outputs) = (is_free(state), Vec::new());
    state.sharing.revisions.repeat(free, &mut outputs);
    carry_out(state, outputs, now, out);
}

/// An operator settles a conflict.
fn chosen(
    state: &mut State,
    ticket: Ticket,
    choice: Choice,
    author: String,
    now: Moment,
    out: &mut Vec<Action>,
) {
    if let Err(refusal) = may_change(state, &state.running) {
        return State::refuse(ticket, refusal, out);
    }
    if !is_free(state) {
        let text = "storing other changes, try again".to_owned();
        return State::refuse(ticket, Refusal::Unavailable(text), out);
    }
    let peer = state.sharing.peer.clone().unwrap_or_default();
    let mut outputs = Vec::new();
    let (whose, done) = match choice {
        Choice::Mine => (node(state), state.sharing.revisions.keep_mine().map(Some)),
        Choice::Theirs => {
            let done = state.sharing.revisions.keep_theirs(&mut outputs);
            (peer.clone(), done.map(|()| None))
        }
    };
    let against = match done {
        Ok(against) => against,
        Err(no) => return State::refuse(ticket, Refusal::Peer(no.to_string()), out),
    };
    let text = format!("{author} keeps the configuration of {whose}");
    state.record(now, (Severity::Info, Kind::Peer), "peer", text, out);
    if let Some(against) = against {
        let comment = format!("kept instead of what {peer} had");
        return keep(state, ticket, (author, comment), against, now, out);
    }
    let mut waiting = Some(Chooser { ticket, author });
    carry_out_for(state, &mut waiting, outputs, now, out);
    if let Some(chooser) = waiting {
        State::answer(chooser.ticket, Outcome::Done, out);
    }
}

/// Who chose the peer's configuration, and waits for an answer.
struct Chooser {
    ticket: Ticket,
    author: String,
}

/// Commits what runs once more: the choice is a revision, and holds when that is stored.
fn keep(
    state: &mut State,
    ticket: Ticket,
    (author, comment): (String, String),
    against: Lineage,
    now: Moment,
    out: &mut Vec<Action>,
) {
    // Not the same allocation: it shows whether this is what was stored.
    let document = Arc::new(Document::clone(&state.running));
    let wish = Wish {
        document: Arc::clone(&document),
        author: author.clone(),
        comment: comment.clone(),
        confirm_within: None,
    };
    commit(state, ticket, wish, Then::Tell, out);
    let time = now.wall.as_secs();
    let whose = Whose::Own { against, author: brief(&author), comment: brief(&comment), time };
    state.sharing.taking = Some(Taking { version: state.version, document, whose });
}

/// Sees whether the common part was changed, and whether there is something to do that had to wait.
pub(super) fn look(state: &mut State, now: Moment, out: &mut Vec<Action>) {
    if state.running.peer.is_none() || state.stopping {
        return;
    }
    let mut outputs = Vec::new();
    finish_taking(state, &mut outputs);
    let free = is_free(state);
    if free {
        let seen = state.sharing.looked_at.as_ref();
        if seen.is_none_or(|seen| !Arc::ptr_eq(seen, &state.running)) {
            changed(state, &mut outputs);
        } else if !state.sharing.was_free {
            state.sharing.revisions.review(true, &mut outputs);
        }
    }
    state.sharing.was_free = free;
    carry_out(state, outputs, now, out);
}

/// Whether a document would take a director from one that can be told to its peer to one that cannot, and
/// why. Edits by `ipvsadm`, a way back and a file at the start are not asked: those are told of when the
/// peer asks for them.
pub(super) fn leaves_the_peer_behind(state: &State, document: &Document) -> Option<String> {
    let why_untold = |document: &Document| {
        document.peer.as_ref()?;
        let part = SharedPart::of(document).to_text();
        Revision { id: ChangeId::NOTHING, part }.too_long()
    };
    let why = why_untold(document)?;
    // Who is behind already is not left behind: the director must stay usable.
    why_untold(&state.running).is_none().then_some(why)
}

/// Whether a revision of the peer could be committed now, and what runs is a revision.
fn is_free(state: &State) -> bool {
    state.in_flight.is_empty()
        && state.burst.is_none()
        && state.trial.is_none()
        && state.sharing.taking.is_none()
        && !state.stopping
}

fn node(state: &State) -> String {
    state.running.node.name.clone().unwrap_or_else(|| state.sharing.host.clone())
}

/// Another document runs.
fn changed(state: &mut State, outputs: &mut Vec<Output>) {
    state.sharing.looked_at = Some(Arc::clone(&state.running));
    let digest = SharedPart::of(&state.running).digest();
    let known = state.sharing.revisions.own().map(|own| own.change.digest.agrees(&digest));
    if known == Some(true) {
        return state.sharing.revisions.own_part_changed(digest, true, outputs);
    }
    let last = state.history.last();
    let (author, comment, time) = last.map_or_else(Default::default, |info| {
        (brief(&info.author), brief(&info.comment), info.time)
    });
    // A director that was just set up has seen nothing that could be lost.
    let fresh = known.is_none() && digest.is_empty();
    let id = if fresh { ChangeId::NOTHING } else { state.sharing.next_id() };
    let change = Change { id, node: node(state), author, comment, time, digest };
    let revisions = &mut state.sharing.revisions;
    match known {
        Some(_) => revisions.committed(change, true, outputs),
        None => revisions.begin(Lineage::starting(change), true, outputs),
    }
}

/// A revision of the peer, or an operator's choice, is stored, or is not.
fn finish_taking(state: &mut State, outputs: &mut Vec<Output>) {
    let under_way =
        |taking: &Taking| state.in_flight.iter().any(|change| change.version == taking.version);
    if state.sharing.taking.as_ref().is_none_or(under_way) {
        return;
    }
    let Some(taking) = state.sharing.taking.take() else { return };
    let stored = Arc::ptr_eq(&state.running, &taking.document);
    match taking.whose {
        Whose::Peers(lineage) if stored => adopt(state, lineage, outputs),
        Whose::Peers(lineage) => {
            let why = "it could not be stored".to_owned();
            state.sharing.revisions.declined(lineage.change.id, why, outputs);
        }
        Whose::Own { against, author, comment, time } if stored => {
            let id = state.sharing.next_id();
            let digest = SharedPart::of(&state.running).digest();
            let change = Change { id, node: node(state), author, comment, time, digest };
            state.sharing.looked_at = Some(Arc::clone(&state.running));
            let free = is_free(state);
            state.sharing.revisions.kept(&against, change, free, outputs);
        }
        Whose::Own { .. } => {
            let free = is_free(state);
            state.sharing.revisions.not_kept(free, outputs);
        }
    }
}

/// What runs is the peer's.
fn adopt(state: &mut State, mut lineage: Lineage, outputs: &mut Vec<Output>) {
    lineage.change.digest = SharedPart::of(&state.running).digest();
    state.sharing.looked_at = Some(Arc::clone(&state.running));
    let free = is_free(state);
    state.sharing.revisions.taken(lineage, free, outputs);
}

fn carry_out(state: &mut State, outputs: Vec<Output>, now: Moment, out: &mut Vec<Action>) {
    carry_out_for(state, &mut None, outputs, now, out);
}

/// `waiting` is told when the peer's revision is taken.
fn carry_out_for(
    state: &mut State,
    waiting: &mut Option<Chooser>,
    mut outputs: Vec<Output>,
    now: Moment,
    out: &mut Vec<Action>,
) {
    while !outputs.is_empty() {
        for output in std::mem::take(&mut outputs) {
            match output {
                Output::Say(control) => out.push(Action::Say(control)),
                Output::Tell(id) => {
                    let part = SharedPart::of(&state.running).to_text();
                    let revision = Revision { id, part };
                    match revision.too_long() {
                        None => out.push(Action::Say(Control::Revision(revision))),
                        Some(why) => state.sharing.revisions.untold(id, why, &mut outputs),
                    }
                }
                Output::Take(lineage, part) => {
                    take(state, waiting, (*lineage, *part), &mut outputs, now, out);
                }
                Output::Remember => {
                    let lineage = state.sharing.remembered();
                    out.extend(lineage.map(|bytes| Action::Store(StoreCommand::Lineage(bytes))));
                }
                Output::Became(relation) => became(state, relation, now, out),
                Output::ChosenByPeer => chosen_by_peer(state, out),
                Output::DeclinedByPeer(why) => {
                    let peer = state.sharing.peer.clone().unwrap_or_default();
                    let text = format!("{peer} does not take this configuration: {why}");
                    state.record(now, (Severity::Warning, Kind::Peer), "peer", text, out);
                }
                Output::Untold(why) => {
                    let peer = state.sharing.peer.clone().unwrap_or_default();
                    let text = format!(
                        "this configuration is not sent to {peer}, which keeps an older one: {why}"
                    );
                    state.record(now, (Severity::Error, Kind::Peer), "peer", text, out);
                }
                Output::UntoldByPeer(why) => {
                    let peer = state.sharing.peer.clone().unwrap_or_default();
                    let text =
                        format!("{peer} cannot send its configuration, this one stays: {why}");
                    state.record(now, (Severity::Error, Kind::Peer), "peer", text, out);
                }
            }
        }
    }
    let settled = state.sharing.revisions.is_settled();
    if state.sharing.peer.is_some() && state.sharing.told_settled != Some(settled) {
        state.sharing.told_settled = Some(settled);
        out.push(Action::Settled(settled));
    }
}

/// Commits what the peer has, if it fits.
fn take(
    state: &mut State,
    waiting: &mut Option<Chooser>,
    (lineage, part): (Lineage, SharedPart),
    outputs: &mut Vec<Output>,
    now: Moment,
    out: &mut Vec<Action>,
) {
    let fitting = part.fit(&state.running).map(Arc::new).and_then(|document| {
        let may = may_change(state, &document).map_err(|refusal| refusal.to_string());
        may.map(|()| document)
    });
    let change = &lineage.change;
    match fitting {
        Ok(document) if *document == *state.running => adopt(state, lineage, outputs),
        Ok(document) => {
            let (author, comment) = (Sharing::author(change), change.comment.clone());
            let (ticket, comment) = match waiting.take() {
                Some(chooser) => {
                    let by = chooser.author;
                    let comment = format!("{comment} (kept by {by} instead of the own one)");
                    (chooser.ticket, comment.trim_start().to_owned())
                }
                None => (Ticket::default(), comment),
            };
            let wish =
                Wish { document: Arc::clone(&document), author, comment, confirm_within: None };
            commit(state, ticket, wish, Then::Tell, out);
            let whose = Whose::Peers(lineage);
            state.sharing.taking = Some(Taking { version: state.version, document, whose });
        }
        Err(why) => {
            let text = format!("the configuration of {} does not fit here: {why}", change.node);
            state.record(now, (Severity::Warning, Kind::Peer), "peer", text.clone(), out);
            state.sharing.revisions.declined(change.id, why, outputs);
            if let Some(chooser) = waiting.take() {
                State::refuse(chooser.ticket, Refusal::Peer(text), out);
            }
        }
    }
}

/// What runs was chosen on the other director: that is a revision here, too, though it changes nothing.
/// While something else is under way there is only the record of the end of the conflict.
fn chosen_by_peer(state: &mut State, out: &mut Vec<Action>) {
    if !is_free(state) || may_change(state, &state.running).is_err() {
        return;
    }
    let peer = state.sharing.peer.clone().unwrap_or_default();
    let wish = Wish {
        document: Arc::clone(&state.running),
        author: format!("operator on {peer}"),
        comment: format!("kept instead of what {peer} had"),
        confirm_within: None,
    };
    commit(state, Ticket::default(), wish, Then::Tell, out);
}

/// The two stand differently now.
fn became(state: &mut State, relation: Relation, now: Moment, out: &mut Vec<Action>) {
    let peer = state.sharing.peer.clone().unwrap_or_default();
    if relation == Relation::Same {
        // The peer may have servers now that it did not know what to do with before.
        tell_everything(state, out);
    }
    let (severity, text) = match relation {
        Relation::Same => (Severity::Info, format!("has the same configuration as {peer}")),
        // What follows is told when it has happened.
        Relation::Ahead | Relation::Behind => return,
        Relation::Conflict => (
            Severity::Error,
            format!(
                "this configuration and that of {peer} were both changed, and neither is applied to \
                 the other: `viaduct show sync` shows the differences, `viaduct sync keep \
                 mine|theirs` chooses"
            ),
        ),
    };
    state.record(now, (severity, Kind::Peer), "peer", text, out);
}
