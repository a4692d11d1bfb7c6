//! What can go wrong with the state directory.

use std::path::PathBuf;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon runs on this directory.
    #[error("{} belongs to another running daemon", .0.display())]
    InUse(PathBuf),
    /// The disk did not take or give something.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried: "cannot write".
        what: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file's checksum or form is wrong.
    #[error("{what} is damaged")]
    Damaged {
        /// The damaged file or record.
        what: String,
    },
    /// No such revision is kept.
    #[error("there is no revision {0}")]
    NoRevision(u64),
    /// The head revision does not wait for confirmation.
    #[error("no revision waits for confirmation")]
    NothingToConfirm,
    /// sled refused.
    #[error("the record store refused: {0}")]
    Records(String),
    /// The store's thread is gone.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// For `map_err` on a file operation.
    pub(super) fn io(
        what: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// A revision that cannot be read back.
    pub(super) fn damaged(number: u64) -> Self {
        Self::Damaged { what: format!("revision {number}") }
    }
}
