//! The two directors tell each other what their probes see.
//!
//! A director's own probes always win. Until they have said something about a real server, after a start
//! or when the server is new, the peer's last word counts instead of none.

use super::{Kind, Senses, Severity, server_drained};
use crate::compile::RealKey;
use crate::state::{Action, Moment, PeerVerdict, State};
use crate::sync::message::{Verdict, Verdicts};
use crate::sync::session::Control;
use std::time::Duration;

/// Verdicts that change within so long of one another are told together.
const GATHER: Duration = Duration::from_millis(100);

/// A verdict of this director has changed.
pub(super) fn changed(state: &mut State, real: RealKey, now: Moment) {
    if state.sharing.peer.is_some() {
        state.sharing.verdicts.insert(real);
        state.sharing.verdicts_due.get_or_insert(now.steady + GATHER);
    }
}

/// Tells the peer what has changed, if it is time.
pub(super) fn tell_if_due(state: &mut State, now: Moment, out: &mut Vec<Action>) {
    if state.sharing.verdicts_due.is_none_or(|due| due > now.steady) {
        return;
    }
    state.sharing.verdicts_due = None;
    let changed = std::mem::take(&mut state.sharing.verdicts);
    if state.sharing.peer.is_some() {
        let verdicts = changed.iter().filter_map(|real| verdict(state, real)).collect();
        out.push(Action::Say(Control::Verdicts(Verdicts { whole: false, verdicts })));
    }
}

/// Tells the peer everything.
pub(super) fn tell_all(state: &mut State, out: &mut Vec<Action>) {
    state.sharing.verdicts.clear();
    state.sharing.verdicts_due = None;
    let verdicts = state.health.keys().filter_map(|real| verdict(state, real)).collect();
    out.push(Action::Say(Control::Verdicts(Verdicts { whole: true, verdicts })));
}

fn verdict(state: &State, real: &RealKey) -> Option<Verdict> {
    let health = state.health.get(real)?;
    Some(Verdict {
        service: real.0.derived_name(),
        real: real.1,
        up: health.up,
        reason: health.reason.clone(),
    })
}

/// The peer told what its probes see.
pub(super) fn heard(
    state: &mut State,
    Verdicts { whole, verdicts }: Verdicts,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    if whole {
        state.peer_health.clear();
    }
    let mut down = Vec::new();
    let mut counts = false;
    for Verdict { service, real, up, reason } in verdicts {
        let name = format!("{service} {real}");
        let Some(key) = server_drained::real_key_of(&state.running, name.as_bytes()) else {
            continue;
        };
        if !state.health.contains_key(&key) {
            counts = true;
            down.extend((!up).then(|| real.to_string()));
        }
        state.peer_health.insert(key, PeerVerdict { up, reason });
    }
    if !down.is_empty() {
        let peer = state.sharing.peer.clone().unwrap_or_default();
        let text = format!("not yet asked here, but down by what {peer} says: {}", down.join(", "));
        state.record(senses.now, (Severity::Info, Kind::Peer), "peer", text, out);
    }
    if counts || whole {
        state.stale = true;
    }
}
