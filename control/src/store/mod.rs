//! What survives: revisions of the configuration, events, maintenance.
//!
//! Revisions are plain files, one each, and the truth; a journal beside them holds edits that are
//! not yet a revision. Everything else is in sled behind [`Records`], and so is a second copy of
//! every revision. sled's files are never repaired in place: what cannot be opened is set aside and
//! replaced by the last checksummed export.
//!
//! Everything here blocks: one thread owns the [`Store`].

mod backup;
mod error;
mod files;
mod framed;
mod journal;
mod patch;
mod records;
mod revisions;
mod sled_records;

pub use backup::Backup;
pub use error::StoreError;
pub use patch::Patch;
pub use records::{Change, MemoryRecords, Records, Tree};
pub use revisions::{Draft, Revision, RevisionInfo, Standing};

use crate::model::Document;
use files::DirLock;
use journal::Journal;
use revisions::Revisions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The daemon's state directory, open and locked.
pub struct Store {
    directory: PathBuf,
    revisions: Revisions,
    journal: Option<Journal>,
    records: Box<dyn Records>,
    /// Counts exports; the records carry it too, see [`sled_records`].
    generation: u64,
    _lock: DirLock,
}

/// What was found on opening.
#[derive(Debug)]
pub struct Found {
    /// The configuration to run, journal included; `None` in a new directory.
    pub document: Option<Arc<Document>>,
    /// Its revision: the last one written, or the one that the journal will become.
    pub revision: u64,
    /// When the head revision waits for confirmation.
    pub unconfirmed: Option<RevisionInfo>,
    /// What was wrong and what was done about it, to be told loudly.
    pub warnings: Vec<String>,
}

/// Kept revisions; older ones are deleted.
const KEPT_REVISIONS: usize = 1000;

/// Edits that a journal holds before it has to become a revision.
pub const JOURNAL_LIMIT: usize = 4096;

impl Store {
    /// Opens or makes the state directory. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When another daemon has it, or it cannot be read at all. Damaged parts are no error: they
    /// are set aside and named in [`Found::warnings`].
    pub fn open(directory: &Path, now: u64) -> Result<(Self, Found), StoreError> {
        files::make_directory(directory)?;
        let lock = DirLock::take(directory)?;
        let mut warnings = Vec::new();
        let (revisions, head) = Revisions::open(&directory.join("revisions"), &mut warnings)?;
        let (records, generation) = sled_records::open(directory, now, &mut warnings)?;
        let mut store = Self {
            directory: directory.to_owned(),
            revisions,
            journal: None,
            records,
            generation,
            _lock: lock,
        };
        let head = store.head_or_copy(head, &mut warnings);
        let document = store.with_journal(head, now, &mut warnings)?;
        let last = store.revisions.last();
        let found = Found {
            revision: last.map_or(0, |info| info.number),
            unconfirmed: last.filter(|info| info.standing.waits()).cloned(),
            document,
            warnings,
        };
        Ok((store, found))
    }

    /// The head revision's document, from its file or from the records' copy.
    fn head_or_copy(
        &mut self,
        head: Option<Revision>,
        warnings: &mut Vec<String>,
    ) -> Option<Arc<Document>> {
        let copy = self.newest_copy();
        let file = head.as_ref().map_or(0, |revision| revision.info.number);
        match copy {
            // The file was lost after it had been acknowledged: the copy is as good.
            Some(copy) if copy.info.number > file => {
                let number = copy.info.number;
                let document = copy.document().ok();
                if document.is_some() && self.revisions.write(&copy).is_ok() {
                    warnings.push(format!("revision {number} was restored from its second copy"));
                    return document.map(Arc::new);
                }
                head.and_then(|revision| revision.document().ok()).map(Arc::new)
            }
            Some(_) | None => head.and_then(|revision| revision.document().ok()).map(Arc::new),
        }
    }

    fn newest_copy(&self) -> Option<Revision> {
        let copies = self.records.last(Tree::Revisions, 1).ok()?;
        let (_, bytes) = copies.into_iter().next()?;
        Revision::from_text(std::str::from_utf8(&bytes).ok()?).ok()
    }

    /// Replays a journal that was left by a daemon that died, and makes it a revision.
    fn with_journal(
        &mut self,
        head: Option<Arc<Document>>,
        now: u64,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        let number = self.next_number();
        let Some(left) = Journal::recover(&self.journal_path(), number)? else {
            return Ok(head);
        };
        let mut document = head.map_or_else(Document::default, |head| Document::clone(&head));
        for patch in &left.patches {
            if let Err(error) = patch.apply(&mut document) {
                warnings.push(format!("the journal of revision {number} ends early: {error}"));
                break;
            }
        }
        let document = Arc::new(document);
        let draft = Draft { author: left.author, comment: left.comment, confirm_within: None };
        self.write_revision(&document, &draft, now)?;
        Ok(Some(document))
    }

    fn journal_path(&self) -> PathBuf {
        self.directory.join("revisions").join("journal")
    }

    fn next_number(&self) -> u64 {
        self.revisions.last().map_or(0, |info| info.number) + 1
    }

    /// Writes a new revision and returns when it would survive a power cut. An open journal is made
    /// a revision first.
    ///
    /// # Errors
    /// When the disk does not take it; the revision before stays the last one.
    pub fn commit(
        &mut self,
        document: &Arc<Document>,
        draft: &Draft,
        now: u64,
    ) -> Result<RevisionInfo, StoreError> {
        self.settle(now)?;
        self.write_revision(document, draft, now)
    }

    fn write_revision(
        &mut self,
        document: &Document,
        draft: &Draft,
        now: u64,
    ) -> Result<RevisionInfo, StoreError> {
        let revision = Revision::new(self.next_number(), document.to_toml(), draft, now);
        self.revisions.write(&revision)?;
        // The journal's edits are in the revision now. Should its removal fail, it is for another
        // number and ignored.
        self.journal = None;
        files::remove(&self.journal_path());
        self.copy_revision(&revision);
        for gone in self.revisions.prune(KEPT_REVISIONS) {
            let key = gone.to_be_bytes().to_vec();
            self.quietly(&[Change::Remove { tree: Tree::Revisions, key }]);
        }
        Ok(revision.info)
    }

    /// The second copy is a convenience: its failure is logged, not returned.
    fn copy_revision(&self, revision: &Revision) {
        let key = revision.info.number.to_be_bytes().to_vec();
        let value = revision.to_text().into_bytes();
        self.quietly(&[Change::Put { tree: Tree::Revisions, key, value }]);
    }

    fn quietly(&self, changes: &[Change]) {
        if let Err(error) = self.records.write(changes) {
            tracing::warn!(%error, "the record of a revision was not written");
        }
    }

    /// Adds edits to the revision that is being made, and returns when they would survive a power
    /// cut.
    ///
    /// # Errors
    /// When the disk does not take them; then they leave no trace.
    pub fn append(
        &mut self,
        patches: &[Patch],
        author: &str,
        comment: &str,
    ) -> Result<u64, StoreError> {
        let number = self.next_number();
        let path = self.journal_path();
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => none.insert(Journal::begin(&path, number, author, comment)?),
        };
        journal.append(patches)?;
        Ok(number)
    }

    /// Edits in the journal.
    pub fn journal_length(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::length)
    }

    /// Makes the journal's edits a revision, if there are any.
    ///
    /// # Errors
    /// When the disk does not take it; the journal stays.
    pub fn settle(&mut self, now: u64) -> Result<Option<RevisionInfo>, StoreError> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let head = self.revisions.last().map(|info| info.number);
        let mut document = match head {
            Some(number) => self.revisions.read(number)?.document()?,
            None => Document::default(),
        };
        for patch in journal.patches() {
            patch.apply(&mut document)?;
        }
        let draft = Draft {
            author: journal.author().to_owned(),
            comment: journal.comment().to_owned(),
            confirm_within: None,
        };
        self.write_revision(&document, &draft, now).map(Some)
    }

    /// Marks the head revision as confirmed.
    ///
    /// # Errors
    /// When it does not wait for confirmation, or the disk does not take the mark.
    pub fn confirm(&mut self) -> Result<RevisionInfo, StoreError> {
        let last = self.revisions.last().ok_or(StoreError::NothingToConfirm)?;
        if !last.standing.waits() {
            return Err(StoreError::NothingToConfirm);
        }
        let revision = self.revisions.confirm(last.number)?;
        self.copy_revision(&revision);
        Ok(revision.info)
    }

    /// The kept revisions, oldest first.
    pub fn history(&self) -> &[RevisionInfo] {
        self.revisions.all()
    }

    /// A kept revision with its text.
    ///
    /// # Errors
    /// When it is not kept, or both its file and its second copy are damaged.
    pub fn revision(&self, number: u64) -> Result<Revision, StoreError> {
        self.revisions.read(number).or_else(|error| {
            let key = number.to_be_bytes();
            let copy = self.records.read(Tree::Revisions, &key)?.ok_or(error)?;
            let text = String::from_utf8(copy).map_err(|_| StoreError::damaged(number))?;
            Revision::from_text(&text)
        })
    }

    /// Events, maintenance and whatever else is not configuration.
    pub fn records(&self) -> &dyn Records {
        &*self.records
    }

    /// Writes the checksummed export that a damaged sled is replaced by.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn export(&mut self) -> Result<(), StoreError> {
        self.generation += 1;
        sled_records::export(&self.directory, &*self.records, self.generation)
    }

    /// Everything as one file's bytes.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn backup(&self) -> Result<Vec<u8>, StoreError> {
        backup::make(self)
    }

    /// Brings a backup's records back. Its configuration is for the caller to commit as a revision.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn restore_records(&mut self, backup: &Backup) -> Result<(), StoreError> {
        self.records.write(&backup.changes)
    }
}

#[cfg(test)]
mod tests;
