//! The daemon and its configuration.

use crate::state::State;
use serde::{Deserialize, Serialize};

/// The daemon as a whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the program.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// The running revision; 0 before the first.
    pub revision: u64,
    /// The revision that is rolled back unless confirmed.
    pub unconfirmed: Option<u64>,
    /// Virtual services.
    pub services: usize,
    /// Real servers, over all services.
    pub reals: usize,
    /// Services below their quorum.
    pub down: usize,
    /// Drained real servers.
    pub drained: usize,
    /// Connections and templates in the table.
    pub connections: u64,
    /// How many it holds.
    pub connections_capacity: u64,
    /// Packet workers.
    pub workers: usize,
    /// The longest turn of the control loop since the start, in seconds.
    pub longest_turn: f64,
    /// Why the store takes no changes, while it does not.
    pub store_trouble: Option<String>,
}

impl StatusView {
    /// The daemon's status. `node` is the host's name, for a document that gives none.
    pub fn of(state: &State, node: &str, connections: u64, version: &str) -> Self {
        let document = &state.running;
        let served = document.services.iter().filter(|service| !service.reals.is_empty());
        Self {
            version: version.to_owned(),
            node: document.node.name.clone().unwrap_or_else(|| node.to_owned()),
            revision: state.revision,
            unconfirmed: state.trial.as_ref().map(|trial| trial.revision),
            services: document.services.len(),
            reals: document.services.iter().map(|service| service.reals.len()).sum(),
            down: served.filter(|service| state.situation.down.contains(&service.address)).count(),
            drained: state.maintenance.len(),
            connections,
            connections_capacity: state.capacity.connections as u64,
            workers: state.capacity.workers,
            longest_turn: state.longest_turn.as_secs_f64(),
            store_trouble: state.store_trouble.clone(),
        }
    }
}
