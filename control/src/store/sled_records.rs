//! sled 0.34.7 with what it lacks: an fsync that is one, an opening that cannot panic, and a
//! replacement for what it cannot open.
//!
//! `flush` alone is `sync_file_range` on Linux, so the database file is synced here as well. Opening
//! a torn database can panic or, after its snapshot is deleted, open empty; so it is opened inside
//! `catch_unwind`, set aside as it is on failure, tried again on a copy, and believed only when it
//! still has the generation mark of the last export. Otherwise the export replaces it.

use super::records::Entry;
use super::{Change, MemoryRecords, Records, StoreError, Tree, backup, files};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const FOLDER: &str = "records";
const FILE: &str = "db";
const EXPORT: &str = "records.export";
const OLDER_EXPORT: &str = "records.export.old";
const GENERATION: &[u8] = b"generation";
const CACHE_BYTES: u64 = 32 << 20;
const FLUSH_EVERY_MS: u64 = 500;

/// Fields are dropped in this order: [`Closing`] waits for what the ones before it leave behind.
struct SledRecords {
    database: sled::Db,
    trees: Vec<sled::Tree>,
    closing: Closing,
}

/// The database file. When this is dropped, sled's threads have let go of the file.
///
/// sled ends a write, a truncation or a failed opening on threads of its own, which hold the file
/// and its lock for a moment after the database itself is gone. Whoever opened it again then would
/// meet the lock and take the database for damaged.
struct Closing {
    file: PathBuf,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if !files::wait_until_unlocked(&self.file) {
            tracing::warn!(file = %self.file.display(), "the record store was not closed in time");
        }
    }
}

/// Opens the database of a state directory, whatever it takes; the second value is the generation
/// of its last export. A database that no disk can hold is replaced by one in memory.
///
/// # Errors
/// When another program has the database open: it is not damaged, and not to be set aside.
pub(super) fn open(
    directory: &Path,
    now: u64,
    warnings: &mut Vec<String>,
) -> Result<(Box<dyn Records>, u64), StoreError> {
    let folder = directory.join(FOLDER);
    // The lock of the state directory is ours, but a process that is just ending may give up that
    // lock before this one.
    if !files::wait_until_unlocked(&folder.join(FILE)) {
        return Err(StoreError::InUse(folder));
    }
    let export = newest_export(directory);
    let generation = export.as_ref().map_or(0, |export| export.generation);
    let fresh = !folder.exists();
    let opened = open_checked(&folder, if fresh { 0 } else { generation });
    let error = match opened {
        Ok(records) => {
            if fresh && let Some(export) = &export {
                warnings.push("the record store was missing; its last export was used".to_owned());
                import(&records, &export.changes, warnings);
            }
            return Ok((Box::new(records), generation));
        }
        Err(error) => error,
    };
    let aside = directory.join(format!("{FOLDER}.bad-{now}"));
    warnings.push(format!("the record store is damaged ({error}); kept as {}", aside.display()));
    let replaced = std::fs::rename(&folder, &aside)
        .map_err(StoreError::io("cannot set aside", &folder))
        .and_then(|()| {
            without_snapshots(&aside, &folder, generation).or_else(|_| {
                let _ = std::fs::remove_dir_all(&folder);
                let records = open_checked(&folder, 0)?;
                if let Some(export) = &export {
                    warnings.push(format!("records are those of export {}", export.generation));
                    import(&records, &export.changes, warnings);
                }
                Ok(records)
            })
        });
    Ok(match replaced {
        Ok(records) => (Box::new(records), generation),
        Err(error) => {
            warnings.push(format!("no record store can be made ({error}): records are not kept"));
            (Box::new(MemoryRecords::default()), generation)
        }
    })
}

/// A damaged snapshot is harmless when the database itself is whole: tries a copy without any.
fn without_snapshots(
    aside: &Path,
    folder: &Path,
    generation: u64,
) -> Result<SledRecords, StoreError> {
    files::copy_directory(aside, folder).map_err(StoreError::io("cannot copy", aside))?;
    for entry in std::fs::read_dir(folder).map_err(StoreError::io("cannot read", folder))? {
        let entry = entry.map_err(StoreError::io("cannot read", folder))?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            files::remove(&entry.path());
        }
    }
    // Never believed without a mark: a torn database opens empty this way.
    open_checked(folder, generation.max(1))
}

/// Opens and believes only a database that has been exported as `generation` or later.
fn open_checked(folder: &Path, generation: u64) -> Result<SledRecords, StoreError> {
    let records = SledRecords::open(folder)?;
    let mark = records.read(Tree::Marks, GENERATION)?;
    let mark = mark.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
    if mark.unwrap_or(0) < generation {
        return Err(StoreError::Damaged { what: "the record store's mark".to_owned() });
    }
    Ok(records)
}

fn newest_export(directory: &Path) -> Option<backup::Contents> {
    [EXPORT, OLDER_EXPORT].iter().find_map(|name| {
        let bytes = files::read_if_there(&directory.join(name)).ok()??;
        backup::read(&bytes).ok()
    })
}

fn import(records: &SledRecords, changes: &[Change], warnings: &mut Vec<String>) {
    if let Err(error) = records.write(changes) {
        warnings.push(format!("the export could not be read in: {error}"));
    }
}

/// Writes the export that replaces a damaged database, and marks the database with its number.
pub(super) fn export(
    directory: &Path,
    records: &dyn Records,
    generation: u64,
) -> Result<(), StoreError> {
    let mark = Change::Put {
        tree: Tree::Marks,
        key: GENERATION.to_vec(),
        value: generation.to_be_bytes().to_vec(),
    };
    records.write(&[mark])?;
    let bytes = backup::write(generation, records, None)?;
    let (newest, older) = (directory.join(EXPORT), directory.join(OLDER_EXPORT));
    if newest.exists() {
        let kept = std::fs::rename(&newest, &older);
        kept.map_err(StoreError::io("cannot keep", &newest))?;
    }
    files::write_whole(&newest, &bytes)
}

impl SledRecords {
    fn open(folder: &Path) -> Result<Self, StoreError> {
        // Outside, so that it comes last also when opening fails or panics.
        let closing = Closing { file: folder.join(FILE) };
        let (database, trees) = guarded(|| {
            let database = sled::Config::new()
                .path(folder)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()?;
            let trees: sled::Result<Vec<sled::Tree>> =
                Tree::ALL.iter().map(|tree| database.open_tree(tree.name())).collect();
            Ok((database, trees?))
        })?;
        Ok(Self { database, trees, closing })
    }

    fn tree(&self, tree: Tree) -> Result<&sled::Tree, StoreError> {
        let open = self.trees.get(tree as usize);
        open.ok_or_else(|| StoreError::Records(format!("no tree {}", tree.name())))
    }
}

/// sled panics where it should return an error.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(StoreError::Records(error.to_string())),
        Err(_) => Err(StoreError::Records("it panicked".to_owned())),
    }
}

impl Records for SledRecords {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write_soon(changes)?;
        guarded(|| self.database.flush())?;
        let file = &self.closing.file;
        let synced = File::open(file).and_then(|file| file.sync_all());
        synced.map_err(StoreError::io("cannot sync", file))
    }

    fn write_soon(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut batches: Vec<sled::Batch> =
            Tree::ALL.iter().map(|_| sled::Batch::default()).collect();
        let mut touched = [false; Tree::ALL.len()];
        for change in changes {
            let tree = match change {
                Change::Put { tree, .. } | Change::Remove { tree, .. } => *tree as usize,
            };
            let (Some(batch), Some(touched)) = (batches.get_mut(tree), touched.get_mut(tree))
            else {
                continue;
            };
            *touched = true;
            match change {
                Change::Put { key, value, .. } => batch.insert(key.as_slice(), value.as_slice()),
                Change::Remove { key, .. } => batch.remove(key.as_slice()),
            }
        }
        let work = self.trees.iter().zip(batches).zip(touched);
        for ((tree, batch), _) in work.filter(|(_, touched)| *touched) {
            guarded(|| tree.apply_batch(batch))?;
        }
        Ok(())
    }

    fn read(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let tree = self.tree(tree)?;
        Ok(guarded(|| tree.get(key))?.map(|value| value.to_vec()))
    }

    fn last(&self, tree: Tree, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let tree = self.tree(tree)?;
        guarded(|| {
            let entries = tree.iter().rev().take(limit);
            entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
    }

    fn each(&self, tree: Tree, show: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let tree = self.tree(tree)?;
        guarded(|| {
            for entry in tree.iter() {
                let (key, value) = entry?;
                show(&key, &value);
            }
            Ok(())
        })
    }

    fn is_durable(&self) -> bool {
        true
    }
}
