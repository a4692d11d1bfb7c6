//! Revisions as plain files: TOML that an operator can read, with one line of who and when.

use super::{StoreError, files};
use crate::model::Document;
use std::fs;
use std::path::{Path, PathBuf};

/// One revision with its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// Author, time and comment.
    pub info: RevisionInfo,
    /// The document as TOML.
    pub text: String,
}

/// Who made a revision, when and why.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct RevisionInfo {
    /// 1, 2, 3 and on.
    pub number: u64,
    /// Who committed it.
    pub author: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// The author's comment.
    pub comment: String,
    /// Whether it is committed, confirmed or still a trial.
    pub standing: Standing,
}

/// Whether a revision stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Committed without a trial.
    Committed,
    /// Until this many seconds since 1970 unless confirmed; it was given `within` seconds.
    Unconfirmed {
        /// When it is rolled back.
        until: u64,
        /// The time that it was given.
        within: u64,
    },
    /// A trial that was confirmed.
    Confirmed,
}

impl Standing {
    /// Whether it waits for confirmation.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Unconfirmed { .. })
    }
}

/// What a new revision is to say of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Draft {
    /// Who committed it.
    pub author: String,
    /// The author's comment.
    pub comment: String,
    /// Seconds within which it has to be confirmed.
    pub confirm_within: Option<u64>,
}

/// The first line of a file after its `# `.
#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    viaduct: RevisionInfo,
    crc32: u32,
}

impl Revision {
    /// Creates a revision from a draft.
    pub fn new(number: u64, text: String, draft: &Draft, now: u64) -> Self {
        let standing = draft.confirm_within.map_or(Standing::Committed, |within| {
            Standing::Unconfirmed { until: now.saturating_add(within), within }
        });
        let info = RevisionInfo {
            number,
            author: draft.author.clone(),
            time: now,
            comment: draft.comment.clone(),
            standing,
        };
        Self { info, text }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let header = Header { viaduct: self.info.clone(), crc32: self.checksum() };
        let header = serde_json::to_string(&header).unwrap_or_default();
        format!("# {header}\n{}", self.text)
    }

    /// Covers the text and everything said about it.
    fn checksum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(serde_json::to_string(&self.info).unwrap_or_default().as_bytes());
        crc.update(self.text.as_bytes());
        crc.finalize()
    }

    /// Reads a file's text.
    pub fn from_text(text: &str) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged { what: "a revision".to_owned() };
        let (header, text) = text.split_once('\n').ok_or_else(damaged)?;
        let header = header.strip_prefix("# ").ok_or_else(damaged)?;
        let header: Header = serde_json::from_str(header).map_err(|_| damaged())?;
        let revision = Self { info: header.viaduct, text: text.to_owned() };
        if revision.checksum() == header.crc32 { Ok(revision) } else { Err(damaged()) }
    }

    /// The document in it.
    pub fn document(&self) -> Result<Document, StoreError> {
        Document::parse(&self.text, "revision").map_err(|_| StoreError::damaged(self.info.number))
    }
}

/// The folder of revisions.
#[derive(Debug)]
pub(super) struct Revisions {
    folder: PathBuf,
    /// The kept revisions, in ascending order.
    known: Vec<RevisionInfo>,
}

impl Revisions {
    /// Opens the folder and reads the newest revision that is whole. Damaged ones are set aside.
    pub fn open(
        folder: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<(Self, Option<Revision>), StoreError> {
        files::make_directory(folder)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder).map_err(StoreError::io("cannot read", folder))? {
            let entry = entry.map_err(StoreError::io("cannot read", folder))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".toml"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let mut revisions = Self { folder: folder.to_owned(), known: Vec::new() };
        let mut head = None;
        for number in numbers {
            match revisions.read(number) {
                Ok(revision) if revision.document().is_ok() => {
                    revisions.known.push(revision.info.clone());
                    head = Some(revision);
                }
                Ok(_) | Err(StoreError::Damaged { .. }) => {
                    revisions.set_aside(number, warnings);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((revisions, head))
    }

    fn set_aside(&self, number: u64, warnings: &mut Vec<String>) {
        let path = self.path(number);
        let bad = path.with_extension("bad");
        let moved = fs::rename(&path, &bad);
        let kept = if moved.is_ok() { bad } else { path };
        warnings.push(format!("revision {number} is damaged; it was kept as {}", kept.display()));
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.toml"))
    }

    /// Writes a revision; on return it would survive a power cut.
    pub fn write(&mut self, revision: &Revision) -> Result<(), StoreError> {
        let number = revision.info.number;
        let written = files::write_whole(&self.path(number), revision.to_text().as_bytes());
        let known = self.known.iter_mut().find(|info| info.number == number);
        match (written, known) {
            (Ok(()), Some(info)) => *info = revision.info.clone(),
            (Ok(()), None) => self.known.push(revision.info.clone()),
            (Err(error), Some(_)) => return Err(error),
            (Err(error), None) => {
                // Refused, so it must not be there after a restart.
                files::remove(&self.path(number));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads a revision.
    pub fn read(&self, number: u64) -> Result<Revision, StoreError> {
        let bytes = files::read_if_there(&self.path(number))?;
        let bytes = bytes.ok_or(StoreError::NoRevision(number))?;
        let text = String::from_utf8(bytes).map_err(|_| StoreError::damaged(number))?;
        let revision = Revision::from_text(&text).map_err(|_| StoreError::damaged(number))?;
        // A file under another's name would bring old configurations back.
        if revision.info.number == number { Ok(revision) } else { Err(StoreError::damaged(number)) }
    }

    /// Marks a revision as confirmed.
    pub fn confirm(&mut self, number: u64) -> Result<Revision, StoreError> {
        let mut revision = self.read(number)?;
        revision.info.standing = Standing::Confirmed;
        self.write(&revision)?;
        Ok(revision)
    }

    pub fn last(&self) -> Option<&RevisionInfo> {
        self.known.last()
    }

    pub fn all(&self) -> &[RevisionInfo] {
        &self.known
    }

    /// Deletes the oldest beyond `keep`, and says which.
    pub fn prune(&mut self, keep: usize) -> Vec<u64> {
        let surplus = self.known.len().saturating_sub(keep);
        let gone: Vec<u64> = self.known.drain(..surplus).map(|info| info.number).collect();
        for number in &gone {
            files::remove(&self.path(*number));
        }
        gone
    }
}
