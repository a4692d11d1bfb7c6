//! Files that are there whole or not at all, also after a power cut.

use super::StoreError;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory for the daemon alone, with its parents.
pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(StoreError::io("cannot make", path))
}

/// Writes a whole file: a reader sees the old one or the new one, and so does the next start.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_parent(path));
    if written.is_err() {
        remove(&temporary);
    }
    written.map_err(StoreError::io("cannot write", path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes sure that a name in a directory is on disk.
pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a file; `None` when there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("cannot read", path)(error)),
    }
}

/// Removes a file that may be absent. Failure leaves garbage, not damage, so it is only logged.
pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove"),
    }
}

/// Copies a directory of plain files.
pub(super) fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// How often, in milliseconds, a lock is tried that is about to be given up.
const LOCK_TRIES: u32 = 3000;

/// Waits until nobody holds a lock on a file, for three seconds at most. Whether that came.
#[allow(clippy::disallowed_methods, reason = "the store has a thread of its own and may block it")]
pub(super) fn wait_until_unlocked(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return true };
    for _ in 0..LOCK_TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
            // A file that cannot be locked cannot be waited for either.
            Ok(_) | Err(_) => return true,
        };
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    false
}

/// One daemon for each directory. The kernel gives the lock up when the process ends, however.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: Flock<File>,
}

impl DirLock {
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("cannot open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                Err(StoreError::InUse(directory.to_owned()))
            }
            Err((_, errno)) => Err(StoreError::io("cannot lock", &path)(errno.into())),
        }
    }
}
