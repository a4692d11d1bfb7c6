//! This node became master or backup for some addresses.

use super::{Kind, Senses, Severity};
use crate::state::{Action, State};
use crate::vrrp::fsm::State as Standing;

pub(super) fn changed(
    state: &mut State,
    instance: String,
    to: Standing,
    reason: &str,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let was_master = state.masters.contains(&instance);
    let is_master = to == Standing::Master;
    if is_master {
        state.masters.insert(instance.clone());
    } else {
        state.masters.remove(&instance);
    }
    if was_master != is_master {
        // Packets first, people later.
        super::publication::republish(state, senses, out);
        super::setup_suspected::forget_others(state);
    }
    let severity = match to {
        Standing::Master => Severity::Warning,
        Standing::Backup if was_master => Severity::Warning,
        Standing::Backup | Standing::Initialize => Severity::Info,
        Standing::Fault => Severity::Error,
    };
    let text = match to {
        Standing::Master => format!("became master: {reason}"),
        Standing::Backup => format!("became backup: {reason}"),
        Standing::Initialize => format!("stopped: {reason}"),
        Standing::Fault => format!("in fault: {reason}"),
    };
    state.record(senses.now, (severity, Kind::Mastership), instance, text, out);
}
