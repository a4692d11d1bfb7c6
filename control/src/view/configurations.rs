//! The two directors' configurations beside each other.

use crate::model::{Difference, Document, SharedPart, differences};
use crate::state::State;
use crate::sync::lineage::{Change, Relation};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// How the configuration stands that the two directors have in common.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConfigurationsView {
    /// `same`, `ahead`, `behind` or `conflict`; absent while the peer has not told.
    pub relation: Option<Relation>,
    /// This director's last change; absent without a peer.
    pub own: Option<ChangeView>,
    /// The peer's last change.
    pub peer: Option<ChangeView>,
    /// What taking the peer's configuration would change here; while it is known.
    pub differences: Vec<Difference>,
    /// Why this director does not take the peer's configuration.
    pub declined: Option<String>,
    /// Why the peer does not take this director's.
    pub declined_by_peer: Option<String>,
    /// Real servers whose health the two see differently.
    #[serde(default)]
    pub disagreements: Vec<Disagreement>,
}

/// A real server whose health the two directors see differently.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disagreement {
    /// The service, by name.
    pub service: String,
    /// The real server.
    pub real: SocketAddr,
    /// Whether it works for this director; it is the other way round for the peer.
    pub up: bool,
    /// Why this director believes so.
    pub reason: String,
    /// Why the peer does not.
    pub peer_reason: String,
}

/// A change of the common configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// On which director it was made.
    pub node: String,
    /// Who made the change.
    pub author: String,
    /// The author's comment.
    pub comment: String,
    /// When, in milliseconds since 1970 by that director's clock.
    pub time: u64,
}

/// What has to be compared, between two events; comparing is left to the caller.
pub struct Compared {
    view: ConfigurationsView,
    running: Arc<Document>,
    peer: Option<SharedPart>,
}

impl ConfigurationsView {
    /// What the state says.
    pub fn of(state: &State) -> Compared {
        let revisions = &state.sharing.revisions;
        let running = Arc::clone(&state.running);
        if running.peer.is_none() {
            return Compared { view: Self::default(), running, peer: None };
        }
        let relation = revisions.relation();
        let differ = matches!(relation, Some(Relation::Behind | Relation::Conflict));
        let view = Self {
            relation,
            own: revisions.own().and_then(|own| ChangeView::of(&own.change)),
            peer: revisions.theirs().and_then(|theirs| ChangeView::of(&theirs.change)),
            differences: Vec::new(),
            declined: revisions.why_declined().map(str::to_owned),
            declined_by_peer: revisions.why_declined_by_peer().map(str::to_owned),
            disagreements: Disagreement::all(state),
        };
        Compared { view, running, peer: revisions.content().filter(|_| differ).cloned() }
    }
}

impl Disagreement {
    fn all(state: &State) -> Vec<Self> {
        if state.sharing.peer.is_none() {
            return Vec::new();
        }
        let told = state.peer_health.iter();
        let differ = told.filter_map(|(key, told)| {
            let own = state.health.get(key).filter(|own| own.up != told.up)?;
            Some(Self {
                service: state.running.service_at(&key.0)?.name.clone(),
                real: key.1,
                up: own.up,
                reason: own.reason.clone(),
                peer_reason: told.reason.clone(),
            })
        });
        differ.collect()
    }
}

impl Compared {
    /// Computes the differences and returns the view.
    pub fn compare(self) -> ConfigurationsView {
        let found = self.peer.map(|peer| differences(&self.running, &peer.with(&self.running)));
        ConfigurationsView { differences: found.unwrap_or_default(), ..self.view }
    }
}

impl ChangeView {
    fn of(change: &Change) -> Option<Self> {
        (change.id.number > 0).then(|| Self {
            node: change.node.clone(),
            author: change.author.clone(),
            comment: change.comment.clone(),
            time: change.time.saturating_mul(1000),
        })
    }
}
