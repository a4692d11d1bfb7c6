//! The configuration as it stood after the last event, for readers outside the loop.

use super::State;
use crate::model::Document;
use crate::store::RevisionInfo;
use std::sync::Arc;

/// The configuration as it stood after the last event.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The running configuration.
    pub document: Arc<Document>,
    /// Its revision; 0 before the first.
    pub revision: u64,
    /// With changes that are on their way to the store.
    pub head: Arc<Document>,
    /// Of `head`, for [`crate::events::EditEvent::Document`].
    pub version: u64,
    /// The kept revisions, oldest first.
    pub history: Arc<Vec<RevisionInfo>>,
    /// The revision that waits for confirmation.
    pub unconfirmed: Option<u64>,
    /// Why the store takes nothing, while it does not.
    pub store_trouble: Option<String>,
}

impl Snapshot {
    pub(crate) fn of(state: &State) -> Self {
        Self {
            document: Arc::clone(&state.running),
            revision: state.revision,
            head: Arc::clone(&state.head),
            version: state.version,
            history: Arc::clone(&state.history),
            unconfirmed: state.trial.as_ref().map(|trial| trial.revision),
            store_trouble: state.store_trouble.clone(),
        }
    }
}
