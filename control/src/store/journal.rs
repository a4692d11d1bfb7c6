//! Edits of the revision that is being made, appended one by one.

use super::{Patch, StoreError, files, framed};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    heading: Heading,
    patches: Vec<Patch>,
    /// Bytes that are known to be whole on disk.
    length: u64,
}

/// The first record of a journal.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Heading {
    revision: u64,
    author: String,
    comment: String,
}

/// What a daemon that died left behind.
#[derive(Debug)]
pub(super) struct Left {
    pub author: String,
    pub comment: String,
    pub patches: Vec<Patch>,
}

impl Journal {
    /// Starts the journal of revision `number`.
    pub fn begin(
        path: &Path,
        number: u64,
        author: &str,
        comment: &str,
    ) -> Result<Self, StoreError> {
        let heading =
            Heading { revision: number, author: author.to_owned(), comment: comment.to_owned() };
        let mut bytes = Vec::new();
        framed::push(&mut bytes, &json(&heading)?);
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io("cannot open", path))?;
        let mut journal =
            Self { file: opened, path: path.to_owned(), heading, patches: Vec::new(), length: 0 };
        journal.write(&bytes)?;
        files::sync_parent(path).map_err(StoreError::io("cannot write", path))?;
        Ok(journal)
    }

    /// Adds edits with one wait for the disk; on return they would survive a power cut.
    pub fn append(&mut self, patches: &[Patch]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        for patch in patches {
            framed::push(&mut bytes, &json(patch)?);
        }
        self.write(&bytes)?;
        self.patches.extend_from_slice(patches);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was refused must leave no trace: cut it off again. Should that fail too, the
                // torn record's checksum ends the journal before it.
                let cut = self.file.set_len(self.length);
                let back = self.file.seek(SeekFrom::Start(self.length));
                if let Err(error) = cut.and(back.map(|_| ())) {
                    tracing::error!(%error, "the journal cannot be cut back");
                }
                Err(StoreError::io("cannot write", &self.path)(error))
            }
        }
    }

    pub const fn length(&self) -> usize {
        self.patches.len()
    }

    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    pub fn author(&self) -> &str {
        &self.heading.author
    }

    pub fn comment(&self) -> &str {
        &self.heading.comment
    }

    /// Reads a journal that was left behind for revision `number`. One for another revision was
    /// made a revision before its removal, and is ignored.
    pub fn recover(path: &Path, number: u64) -> Result<Option<Left>, StoreError> {
        let Some(bytes) = files::read_if_there(path)? else { return Ok(None) };
        let mut rest = &bytes[..];
        let heading = framed::split(&mut rest)
            .and_then(|payload| serde_json::from_slice::<Heading>(payload).ok())
            .filter(|heading| heading.revision == number);
        let Some(heading) = heading else {
            files::remove(path);
            return Ok(None);
        };
        let mut patches = Vec::new();
        while let Some(payload) = framed::split(&mut rest) {
            let Ok(patch) = serde_json::from_slice(payload) else { break };
            patches.push(patch);
        }
        if patches.is_empty() {
            files::remove(path);
            return Ok(None);
        }
        Ok(Some(Left { author: heading.author, comment: heading.comment, patches }))
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Records(error.to_string()))
}
