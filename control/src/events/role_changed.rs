//! This node became master or backup for some addresses.

use super::{Kind, Senses, Severity};
use crate::compile::Role;
use crate::engine::{Action, State};
use dataplane::table::Mac;
use std::net::IpAddr;

/// What VRRP says.
pub(super) struct Change {
    pub instance: String,
    pub interface: String,
    pub macs: Vec<Mac>,
    pub roles: Vec<(IpAddr, Role)>,
    pub reason: String,
}

pub(super) fn changed(
    state: &mut State,
    change: Change,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let is_master = change.roles.iter().any(|(_, role)| matches!(role, Role::Master(_)));
    for mac in &change.macs {
        let entry = (change.interface.clone(), *mac);
        if is_master {
            state.virtual_macs.insert(entry);
        } else {
            state.virtual_macs.remove(&entry);
        }
    }
    state.situation.roles.extend(change.roles);
    let role = if is_master { "master" } else { "backup" };
    let text = format!("became {role}: {}", change.reason);
    state.record(senses.now, (Severity::Warning, Kind::Mastership), change.instance, text, out);
    super::real_changed::republish(state, senses, out);
}
