//! What two paired directors share, as this one sees it.

use crate::compile::RealKey;
use crate::model::Document;
use crate::state::Drain;
use crate::sync::lineage::{Change, ChangeId, Lineage};
use crate::sync::revisions::Revisions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Where the store keeps the lineage of the common configuration.
pub const LINEAGE_MARK: &[u8] = b"common-configuration";

/// What is shared with the other director.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// The common configuration.
    pub revisions: Revisions,
    /// The peer's name, while the link is up and it shares.
    pub peer: Option<String>,
    /// The document that was looked at last.
    pub looked_at: Option<Arc<Document>>,
    /// Whether a revision of the peer could be committed at the last look.
    pub was_free: bool,
    /// A revision of the peer, or an operator's choice, on its way to the store.
    pub taking: Option<Taking>,
    /// What replication was told of [`Revisions::is_settled`].
    pub told_settled: Option<bool>,
    /// When everything is told again, because something did not reach the link.
    pub repeat_due: Option<Duration>,
    /// Real servers whose verdict changed, for the peer.
    pub verdicts: BTreeSet<RealKey>,
    /// When the peer is told of those.
    pub verdicts_due: Option<Duration>,
    /// The largest stamp of an order to drain or put back that was seen.
    pub stamp: u64,
    /// This director's name, where the document gives none.
    pub host: String,
    /// Of the changes made in this run.
    writer: u64,
    /// How many there were.
    number: u64,
}

/// An operator's last order about a real server, as the store keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Order {
    /// It is drained.
    Drained(Drain),
    /// It was put back.
    PutBack {
        /// The order's stamp.
        put_back: u64,
    },
}

/// A revision of the peer, or an operator's choice, on its way to the store.
#[derive(Clone, Debug)]
pub struct Taking {
    /// Of the change in flight.
    pub version: u64,
    /// The document to come.
    pub document: Arc<Document>,
    /// Whose it is.
    pub whose: Whose,
}

/// Whose configuration is on its way to the store.
#[derive(Clone, Debug)]
pub enum Whose {
    /// The peer's. What this director has seen then.
    Peers(Lineage),
    /// This director's own, chosen by an operator in a conflict.
    Own {
        /// What was chosen against.
        against: Lineage,
        /// By whom.
        author: String,
        /// For the history of both.
        comment: String,
        /// When, in seconds since 1970.
        time: u64,
    },
}

impl Sharing {
    /// At the start of a director. `writer` is to be one that was never there before.
    pub fn new(host: String, writer: u64, remembered: Option<Lineage>) -> Self {
        Self { revisions: Revisions::new(remembered), host, writer, ..Self::default() }
    }

    /// Stamps an order given at this time, in milliseconds since 1970: later than every one that was seen
    /// before, whatever the clocks say.
    pub fn next_stamp(&mut self, now: u64) -> u64 {
        self.stamp = self.stamp.saturating_add(1).max(now);
        self.stamp
    }

    /// Names the next change made here.
    pub fn next_id(&mut self) -> ChangeId {
        self.number += 1;
        ChangeId { writer: self.writer.max(1), number: self.number }
    }

    /// A lineage as the store keeps it.
    pub fn remembered(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self.revisions.own()?).ok()
    }

    /// A lineage that the store kept. One that cannot be read is as good as none: then the document is
    /// a new change, and at worst the operator is asked.
    pub fn read(bytes: &[u8]) -> Option<Lineage> {
        serde_json::from_slice(bytes).ok()
    }

    /// Who made the peer's last change, for the history.
    pub fn author(change: &Change) -> String {
        format!("{} on {}", change.author, change.node)
    }
}
