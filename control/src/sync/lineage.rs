//! Which changes of the common configuration a director has seen. Pure.
//!
//! Every change has a writer, which is one run of one director, and a number. A writer's changes build on
//! one another, so a set of changes is a number for each writer; nothing has to be remembered of the
//! changes themselves.

use crate::model::SharedDigest;
use serde::{Deserialize, Serialize};

/// Writers that are remembered. One that was forgotten, after so many restarts, can only make a
/// conflict out of what was none.
const WRITERS: usize = 256;

/// Names a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct ChangeId {
    /// Chosen at random at each start of a director.
    pub writer: u64,
    /// Counts a writer's changes, from 1.
    pub number: u64,
}

impl ChangeId {
    /// What a director begins with that has nothing yet. Every director has seen it.
    pub const NOTHING: Self = Self { writer: 0, number: 0 };
}

/// A change of the common configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Change {
    /// Identity of the change.
    pub id: ChangeId,
    /// On which director it was made.
    pub node: String,
    /// Who made the change.
    pub author: String,
    /// The author's comment.
    pub comment: String,
    /// When, in seconds since 1970 by that director's clock.
    pub time: u64,
    /// What the common part is since.
    pub digest: SharedDigest,
}

/// A set of changes: each entry stands for that change and those that its writer made before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Seen(Vec<ChangeId>);

impl Seen {
    /// Whether a change is among them.
    pub fn contains(&self, id: ChangeId) -> bool {
        let mut known = self.0.iter();
        id == ChangeId::NOTHING
            || known.any(|known| known.writer == id.writer && known.number >= id.number)
    }

    /// Adds a change. Whether that is news.
    pub fn add(&mut self, id: ChangeId) -> bool {
        if self.contains(id) {
            return false;
        }
        self.0.retain(|known| known.writer != id.writer);
        self.0.insert(0, id);
        self.0.truncate(WRITERS);
        true
    }

    /// Adds others. Whether that is news.
    pub fn add_all(&mut self, others: &Self) -> bool {
        // The newest last, so that it is at the front.
        let news: Vec<bool> = others.0.iter().rev().map(|id| self.add(*id)).collect();
        news.contains(&true)
    }
}

/// The common configuration as a director has it: the last change, and all that went before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// The last change.
    pub change: Change,
    /// With the last one.
    pub seen: Seen,
}

/// How a director's common configuration relates to its peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Both have the same.
    Same,
    /// The peer has seen less.
    Ahead,
    /// The peer has seen more.
    Behind,
    /// Each has changes that the other one has not seen.
    Conflict,
}

impl Lineage {
    /// Nothing but a change.
    pub fn starting(change: Change) -> Self {
        let mut seen = Seen::default();
        seen.add(change.id);
        Self { change, seen }
    }

    /// One more change.
    pub fn advance(&mut self, change: Change) {
        self.seen.add(change.id);
        self.change = change;
    }

    /// How this one relates to the peer's.
    pub fn relation(&self, peer: &Self) -> Relation {
        if self.change.digest.agrees(&peer.change.digest) {
            return Relation::Same;
        }
        match (self.seen.contains(peer.change.id), peer.seen.contains(self.change.id)) {
            (true, false) => Relation::Ahead,
            (false, true) => Relation::Behind,
            // Both: each operator has chosen the other one's at once, or instances were added whose
            // addresses differ.
            (false, false) | (true, true) => Relation::Conflict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn id(writer: u64, number: u64) -> ChangeId {
        ChangeId { writer, number }
    }

    proptest! {
        #[test]
        fn a_set_of_changes_is_what_a_plain_set_is(
            adds in prop::collection::vec((1_u64..5, 1_u64..6), 0..20),
            others in prop::collection::vec((1_u64..5, 1_u64..6), 0..20),
        ) {
            let fill = |adds: &[(u64, u64)]| {
                let (mut seen, mut plain) = (Seen::default(), BTreeSet::new());
                for (writer, number) in adds {
                    let news = seen.add(id(*writer, *number));
                    assert_eq!(news, !plain.contains(&(*writer, *number)));
                    plain.extend((1..=*number).map(|number| (*writer, number)));
                }
                (seen, plain)
            };
            let ((mut seen, mut plain), (more, plain_more)) = (fill(&adds), fill(&others));
            prop_assert_eq!(seen.add_all(&more), !plain_more.is_subset(&plain));
            plain.extend(plain_more);
            for writer in 1..5 {
                for number in 1..7 {
                    let expected = plain.contains(&(writer, number));
                    prop_assert_eq!(seen.contains(id(writer, number)), expected);
                }
            }
            prop_assert!(seen.contains(ChangeId::NOTHING));
        }
    }

    #[test]
    fn forgotten_writers_are_not_claimed_to_be_known() {
        let mut seen = Seen::default();
        for writer in 1..=1000 {
            seen.add(id(writer, 1));
        }
        assert_eq!(seen.0.len(), WRITERS);
        assert!(!seen.contains(id(1, 1)) && seen.contains(id(1000, 1)));
    }
}
