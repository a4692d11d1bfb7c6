//! Nothing happened but time.

use super::config_committed::{Wish, commit};
use super::{
    Kind, Senses, Severity, link_changed, peer_verdicts, server_drained, setup_suspected,
    shared_configuration,
};
use crate::ipvs::ESTIMATOR_PERIOD;
use crate::state::{Action, RunningView, State, StoreCommand, Then, Ticket};
use std::sync::Arc;
use std::time::Duration;

/// How often removed real servers and neighbours are looked over.
const LOOK: Duration = Duration::from_secs(10);

/// A removed real server is forgotten when it had no connections for this long, as IPVS's.
const FORGET: Duration = Duration::from_secs(120);

pub(super) fn ticked(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let now = senses.now;
    end_trial(state, senses, out);
    if state.burst.is_some_and(|burst| burst.settles() <= now.steady) {
        state.burst = None;
        out.push(Action::Store(StoreCommand::Settle));
    }
    shared_configuration::repeat_if_due(state, now, out);
    peer_verdicts::tell_if_due(state, now, out);
    if state.warming {
        state.stale = true;
    }
    if state.estimate_due <= now.steady {
        state.estimate_due = now.steady + ESTIMATOR_PERIOD;
        let mut kernel = std::mem::take(&mut state.kernel);
        let view = RunningView::new(state, senses.packets);
        kernel.statistics.estimate(&state.running.services, &view);
        state.kernel = kernel;
        server_drained::end_overdue(state, now, out);
        out.push(Action::ForgetDestinations);
    }
    if state.ids_due <= now.steady {
        state.ids_due = now.steady + LOOK;
        forget(state, senses, out);
        link_changed::arrange(state, now, out);
        link_changed::refresh_neighbours(state, out);
        setup_suspected::expire(state, senses, out);
    }
}

/// A revision that nobody confirmed is taken back.
fn end_trial(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let due = |trial: &&mut crate::state::Trial| !trial.ending && trial.until <= senses.now.steady;
    let Some(trial) = state.trial.as_mut().filter(due) else { return };
    trial.ending = true;
    let (revision, document) = (trial.revision, Arc::clone(&trial.fallback));
    let comment = format!("revision {revision} was not confirmed in time");
    state.record(senses.now, (Severity::Warning, Kind::Configuration), "", comment.clone(), out);
    let author = "viaduct".to_owned();
    let wish = Wish { document, author, comment, confirm_within: None };
    commit(state, Ticket::default(), wish, Then::Tell, out);
}

/// Frees the ids of removed real servers that have been without connections for long enough.
fn forget(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let now = senses.now.steady;
    let mut idle = std::mem::take(&mut state.idle_since);
    let mut gone = Vec::new();
    let parked: Vec<_> = state.ids.parked().map(|(_, slot)| *slot).collect();
    idle.retain(|id, _| parked.iter().any(|slot| slot.id == *id));
    for slot in parked {
        let load = senses.packets.load(slot.id);
        if load.active + load.inactive + load.persistent > 0 {
            idle.remove(&slot.id);
            continue;
        }
        let since = *idle.entry(slot.id).or_insert(now);
        if now >= since + FORGET {
            idle.remove(&slot.id);
            gone.push(slot);
        }
    }
    state.idle_since = idle;
    if gone.is_empty() {
        return;
    }
    for slot in &gone {
        state.ledger.close(slot.id, slot.service, senses.packets);
    }
    state.ids.release(|id| !gone.iter().any(|slot| slot.id == id));
    state.steer(out);
}
