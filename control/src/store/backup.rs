//! Everything in one file: exports for the daemon itself, backups for the operator.
//!
//! A magic, framed records with a CRC each (a JSON heading, then one for each change), and the
//! SHA-256 of all that at the end.

use super::{Change, Records, Store, StoreError, Tree, framed};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"VIADUCT1";
const HASH: usize = 32;

/// The first record.
#[derive(serde::Serialize, serde::Deserialize)]
struct Heading {
    schema: u32,
    generation: u64,
    records: u64,
    /// The configuration, in a backup.
    configuration: Option<String>,
}

/// What a file contained.
#[derive(Debug)]
pub(super) struct Contents {
    pub generation: u64,
    pub configuration: Option<String>,
    pub changes: Vec<Change>,
}

/// An operator's backup, read.
#[derive(Debug)]
pub struct Backup {
    /// The configuration as TOML.
    pub configuration: String,
    pub(super) changes: Vec<Change>,
}

impl Backup {
    /// Reads a backup file.
    ///
    /// # Errors
    /// When it is none, or damaged anywhere.
    pub fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let contents = read(bytes)?;
        let configuration = contents.configuration.ok_or_else(damaged)?;
        // Identity and the store's own marks belong to the node, not to the backup's reader.
        let foreign = |change: &Change| match change {
            Change::Put { tree, .. } | Change::Remove { tree, .. } => {
                matches!(tree, Tree::Marks | Tree::Identity | Tree::Revisions)
            }
        };
        let changes = contents.changes.into_iter().filter(|change| !foreign(change)).collect();
        Ok(Self { configuration, changes })
    }
}

/// A backup of the whole store.
pub(super) fn make(store: &Store) -> Result<Vec<u8>, StoreError> {
    let configuration = match store.revisions.last() {
        Some(info) => store.revision(info.number)?.text,
        None => String::new(),
    };
    write(store.generation, store.records(), Some(configuration))
}

/// Writes records to a file's bytes.
pub(super) fn write(
    generation: u64,
    records: &dyn Records,
    configuration: Option<String>,
) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    let mut count = 0;
    for tree in Tree::ALL {
        let mut payload = Vec::new();
        records.each(tree, &mut |key, value| {
            payload.clear();
            payload.push(tree as u8);
            payload.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
            payload.extend_from_slice(key);
            payload.extend_from_slice(value);
            framed::push(&mut body, &payload);
            count += 1;
        })?;
    }
    let heading = Heading { schema: 1, generation, records: count, configuration };
    let heading =
        serde_json::to_vec(&heading).map_err(|error| StoreError::Records(error.to_string()))?;
    let mut bytes = MAGIC.to_vec();
    framed::push(&mut bytes, &heading);
    bytes.extend_from_slice(&body);
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    Ok(bytes)
}

/// Reads a file's bytes; all or nothing.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, StoreError> {
    let (body, hash) = bytes.split_last_chunk::<HASH>().ok_or_else(damaged)?;
    if Sha256::digest(body).as_slice() != hash {
        return Err(damaged());
    }
    let mut rest = body.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let heading = framed::split(&mut rest).ok_or_else(damaged)?;
    let heading: Heading = serde_json::from_slice(heading).map_err(|_| damaged())?;
    let mut changes = Vec::new();
    while let Some(payload) = framed::split(&mut rest) {
        changes.push(change(payload).ok_or_else(damaged)?);
    }
    if !rest.is_empty() || heading.schema != 1 || heading.records != changes.len() as u64 {
        return Err(damaged());
    }
    Ok(Contents { generation: heading.generation, configuration: heading.configuration, changes })
}

fn change(payload: &[u8]) -> Option<Change> {
    let (tree, rest) = payload.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Change::Put { tree: Tree::from_number(*tree)?, key: key.to_vec(), value: value.to_vec() })
}

fn damaged() -> StoreError {
    StoreError::Damaged { what: "the file".to_owned() }
}
