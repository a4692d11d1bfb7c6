//! How two directors keep their common configuration the same. Pure: no clock, no I/O.
//!
//! ```text
//!   both, when the link comes up and after every change:  Heads (the last change, and which were seen)
//!     the common parts are equal            the same: each has seen what the other one has
//!     the peer has seen my last change      behind: Want, the peer answers Revision, it is committed here
//!     I have seen the peer's last change    ahead: the peer asks
//!     neither, or both                      conflict: nothing is applied until an operator chooses
//! ```
//! What an operator chooses is committed as a revision where it is chosen; the own one becomes a change that
//! has seen both. A director whose configuration was chosen on the other one keeps a revision, too, that
//! says so. A revision that does not fit the director's own part is declined, and the peer is told why; it
//! is tried again when either part changes. A revision that is too long for the link is never told; both
//! directors say so.

pub use super::lineage::Relation;
use super::lineage::{Change, ChangeId, Lineage};
use super::message::{Declined, Heads, Revision, Want, brief};
use super::session::Control;
use crate::model::{SharedDigest, SharedPart};

/// What the caller has to do next.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Tell the peer.
    Say(Control),
    /// Tell the peer the common part of what runs: it is this change.
    Tell(ChangeId),
    /// The conflict has ended: on the peer it was chosen to have what this director has. Keep a revision.
    ChosenByPeer,
    /// Commit this, then call [`Revisions::taken`] or [`Revisions::declined`].
    Take(Box<Lineage>, Box<SharedPart>),
    /// Keep the lineage for the next start.
    Remember,
    /// The directors stand differently now.
    Became(Relation),
    /// The peer does not take this director's configuration, and why.
    DeclinedByPeer(String),
    /// This director's configuration cannot be told to the peer, and why.
    Untold(String),
    /// The peer cannot tell its configuration, and why.
    UntoldByPeer(String),
}

/// Why a choice cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoChoice {
    /// There is nothing to choose.
    #[error("the two directors' configurations are not in conflict")]
    NoConflict,
    /// What the peer has is not known yet.
    #[error("the peer's configuration has not arrived yet")]
    NotHere,
}

/// One director's side.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    own: Option<Lineage>,
    link: Option<Link>,
    /// A revision of the peer, or an operator's choice, is being committed.
    taking: bool,
}

/// What is known of the peer while the link is up.
#[derive(Clone, Debug, Default)]
struct Link {
    theirs: Option<Lineage>,
    /// For which change the peer was asked.
    asked: Option<ChangeId>,
    /// The shared configuration that the peer sent.
    content: Option<(ChangeId, SharedPart)>,
    /// What the peer asked for and could not be told yet.
    wanted: Option<ChangeId>,
    declined: Option<(ChangeId, String)>,
    declined_by_peer: Option<(ChangeId, String)>,
    relation: Option<Relation>,
}

impl Link {
    /// Notes why the peer does not get a revision. Whether that is news.
    fn is_declined_by_peer(&mut self, id: ChangeId, why: &str) -> bool {
        let declined = Some((id, why.to_owned()));
        let news = self.declined_by_peer != declined;
        self.declined_by_peer = declined;
        news
    }
}

impl Revisions {
    /// With what was remembered from the last run.
    pub fn new(own: Option<Lineage>) -> Self {
        Self { own, ..Self::default() }
    }

    /// This director's lineage; `None` before the first document was looked at.
    pub const fn own(&self) -> Option<&Lineage> {
        self.own.as_ref()
    }

    /// The peer's lineage, while the link is up.
    pub fn theirs(&self) -> Option<&Lineage> {
        self.link.as_ref()?.theirs.as_ref()
    }

    /// How the two stand; `None` while the link is down or the peer has not spoken.
    pub fn relation(&self) -> Option<Relation> {
        Some(self.own.as_ref()?.relation(self.theirs()?))
    }

    /// The peer's common part, where it was asked for it: behind it or in conflict.
    pub fn content(&self) -> Option<&SharedPart> {
        let theirs = self.theirs()?.change.id;
        let content = self.link.as_ref()?.content.as_ref();
        content.filter(|(id, _)| *id == theirs).map(|(_, part)| part)
    }

    /// Why the peer's configuration is not taken.
    pub fn why_declined(&self) -> Option<&str> {
        let link = self.link.as_ref()?;
        let current = link.theirs.as_ref()?.change.id;
        let declined = link.declined.as_ref().filter(|(id, _)| *id == current);
        declined.map(|(_, why)| why.as_str())
    }

    /// Why the peer does not take this director's configuration.
    pub fn why_declined_by_peer(&self) -> Option<&str> {
        let current = self.own.as_ref()?.change.id;
        if self.relation() == Some(Relation::Same) {
            return None;
        }
        let declined = self.link.as_ref()?.declined_by_peer.as_ref();
        declined.filter(|(id, _)| *id == current).map(|(_, why)| why.as_str())
    }

    /// Whether nothing is under way from the peer: this director has what it is going to have.
    pub fn is_settled(&self) -> bool {
        match self.relation() {
            None => false,
            Some(Relation::Same | Relation::Ahead | Relation::Conflict) => !self.taking,
            Some(Relation::Behind) => self.why_declined().is_some(),
        }
    }

    /// The link is up. `free` says here and below whether a revision of the peer could be committed now:
    /// no change is on its way to the store, or waits for more of its kind or for confirmation.
    pub fn connected(&mut self, free: bool, out: &mut Vec<Output>) {
        self.link = Some(Link::default());
        self.say_heads(out);
        self.review(free, out);
    }

    /// The link is down.
    pub fn disconnected(&mut self) {
        self.link = None;
    }

    /// Something of what was said did not reach the link.
    pub fn repeat(&mut self, free: bool, out: &mut Vec<Output>) {
        if let Some(link) = &mut self.link {
            link.asked = None;
            self.say_heads(out);
            self.review(free, out);
        }
    }

    /// The document was looked at for the first time, and nothing was remembered.
    pub fn begin(&mut self, lineage: Lineage, free: bool, out: &mut Vec<Output>) {
        self.own = Some(lineage);
        self.changed(free, out);
    }

    /// The common part was changed here.
    pub fn committed(&mut self, change: Change, free: bool, out: &mut Vec<Output>) {
        match &mut self.own {
            Some(own) => own.advance(change),
            None => self.own = Some(Lineage::starting(change)),
        }
        self.changed(free, out);
    }

    /// The own part was changed: what did not fit may fit now. With other VRRP instances there may be
    /// more, or less, to compare; the digest says so.
    pub fn own_part_changed(&mut self, digest: SharedDigest, free: bool, out: &mut Vec<Output>) {
        // What was not even understood will not be now.
        if let Some(link) = self.link.as_mut().filter(|link| link.content.is_some()) {
            link.declined = None;
        }
        match self.own.as_mut().filter(|own| own.change.digest != digest) {
            Some(own) => {
                own.change.digest = digest;
                self.changed(free, out);
            }
            None => self.review(free, out),
        }
    }

    /// A revision of the peer was committed; the document's common part is this now.
    pub fn taken(&mut self, lineage: Lineage, free: bool, out: &mut Vec<Output>) {
        self.taking = false;
        self.own = Some(lineage);
        self.changed(free, out);
    }

    /// A revision of the peer was not committed.
    pub fn declined(&mut self, id: ChangeId, why: String, out: &mut Vec<Output>) {
        self.taking = false;
        if let Some(link) = &mut self.link {
            let brief = brief(&why);
            link.declined = Some((id, why));
            out.push(Output::Say(Control::Declined(Declined { id, why: brief })));
        }
    }

    /// The peer said what it has.
    pub fn heads(&mut self, Heads { lineage }: Heads, free: bool, out: &mut Vec<Output>) {
        let Some(link) = &mut self.link else { return };
        link.theirs = Some(lineage);
        let before = link.relation;
        self.review(free, out);
        let choice = [Some(Relation::Conflict), Some(Relation::Same)];
        if [before, self.relation()] == choice && !self.taking {
            out.push(Output::ChosenByPeer);
        }
    }

    /// The peer asks for a revision.
    pub fn wanted(&mut self, Want { id }: Want, free: bool, out: &mut Vec<Output>) {
        if let Some(link) = &mut self.link {
            link.wanted = Some(id);
            self.review(free, out);
        }
    }

    /// The peer told a revision.
    pub fn revision(&mut self, revision: Revision, free: bool, out: &mut Vec<Output>) {
        let Some(link) = &mut self.link else { return };
        if link.asked != Some(revision.id) {
            return;
        }
        match SharedPart::from_text(revision.part) {
            Ok(part) => {
                link.content = Some((revision.id, part));
                self.review(free, out);
            }
            Err(why) => self.declined(revision.id, why, out),
        }
    }

    /// The peer does not take a revision, or cannot tell the one that it was asked for.
    pub fn declined_by_peer(&mut self, Declined { id, why }: Declined, out: &mut Vec<Output>) {
        let current = self.own.as_ref().map(|own| own.change.id);
        let Some(link) = &mut self.link else { return };
        if current == Some(id) {
            if link.is_declined_by_peer(id, &why) {
                out.push(Output::DeclinedByPeer(why));
            }
        } else if link.asked == Some(id) {
            link.declined = Some((id, why.clone()));
            out.push(Output::UntoldByPeer(why));
        }
    }

    /// The peer asked for this revision, and it cannot be told.
    pub fn untold(&mut self, id: ChangeId, why: String, out: &mut Vec<Output>) {
        let Some(link) = &mut self.link else { return };
        out.push(Output::Say(Control::Declined(Declined { id, why: why.clone() })));
        if link.is_declined_by_peer(id, &why) {
            out.push(Output::Untold(why));
        }
    }

    /// This director is free for a revision of the peer, or can tell its own, as far as `free` says.
    pub fn review(&mut self, free: bool, out: &mut Vec<Output>) {
        let (Some(own), Some(link)) = (&mut self.own, &mut self.link) else { return };
        if let Some(id) = link.wanted.filter(|_| free && !self.taking) {
            link.wanted = None;
            if id == own.change.id {
                out.push(Output::Tell(id));
            }
        }
        let Some(theirs) = &link.theirs else { return };
        let relation = own.relation(theirs);
        let id = theirs.change.id;
        let here = link.content.as_ref().filter(|(known, _)| *known == id);
        match relation {
            Relation::Same => {
                if own.seen.add_all(&theirs.seen) {
                    out.push(Output::Remember);
                }
            }
            Relation::Ahead => {}
            Relation::Behind | Relation::Conflict => {
                let declined = link.declined.as_ref().is_some_and(|(known, _)| *known == id);
                if let Some((_, part)) = here {
                    if relation == Relation::Behind && free && !self.taking && !declined {
                        let mut lineage = theirs.clone();
                        lineage.seen.add_all(&own.seen);
                        self.taking = true;
                        out.push(Output::Take(Box::new(lineage), Box::new(part.clone())));
                    }
                } else if link.asked != Some(id) {
                    link.asked = Some(id);
                    out.push(Output::Say(Control::Want(Want { id })));
                }
            }
        }
        if link.relation.replace(relation) != Some(relation) {
            out.push(Output::Became(relation));
        }
    }

    /// In a conflict the operator chooses what this director has. Commit it once more, for the history, then
    /// call [`Revisions::kept`] with what this returns: what is chosen against; or [`Revisions::not_kept`].
    ///
    /// # Errors
    /// When there is no conflict.
    pub fn keep_mine(&mut self) -> Result<Lineage, NoChoice> {
        let against = self.in_conflict()?.clone();
        self.taking = true;
        Ok(against)
    }

    /// The operator's choice was committed. `change` is the choice, with the digest of what runs. What the
    /// peer has changed since then is not chosen against: the conflict stays.
    pub fn kept(&mut self, against: &Lineage, change: Change, free: bool, out: &mut Vec<Output>) {
        self.taking = false;
        if let Some(own) = &mut self.own {
            own.seen.add_all(&against.seen);
            own.advance(change);
        }
        self.changed(free, out);
    }

    /// The operator's choice was not committed: the conflict stays.
    pub fn not_kept(&mut self, free: bool, out: &mut Vec<Output>) {
        self.taking = false;
        self.review(free, out);
    }

    /// In a conflict the operator chooses what the peer has: it is to be taken.
    ///
    /// # Errors
    /// When there is no conflict, or the peer's part has not arrived.
    pub fn keep_theirs(&mut self, out: &mut Vec<Output>) -> Result<(), NoChoice> {
        let mut lineage = self.in_conflict()?.clone();
        let part = self.content().cloned().ok_or(NoChoice::NotHere)?;
        if let Some(own) = &self.own {
            lineage.seen.add_all(&own.seen);
        }
        self.taking = true;
        out.push(Output::Take(Box::new(lineage), Box::new(part)));
        Ok(())
    }

    fn in_conflict(&self) -> Result<&Lineage, NoChoice> {
        if self.relation() != Some(Relation::Conflict) || self.taking {
            return Err(NoChoice::NoConflict);
        }
        self.theirs().ok_or(NoChoice::NoConflict)
    }

    fn changed(&mut self, free: bool, out: &mut Vec<Output>) {
        out.push(Output::Remember);
        self.say_heads(out);
        self.review(free, out);
    }

    fn say_heads(&self, out: &mut Vec<Output>) {
        if let (Some(own), Some(_)) = (&self.own, &self.link) {
            out.push(Output::Say(Control::Heads(Heads { lineage: own.clone() })));
        }
    }
}

#[cfg(test)]
mod tests;
