//! A small key-value store with several trees: all that control asks of a database.

use super::StoreError;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One tree of records. Keys are bytes in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Tree {
    /// The store's own marks.
    Marks = 0,
    /// Second copies of revisions, by number.
    Revisions = 1,
    /// Events, by sequence number.
    Events = 2,
    /// Drains and other maintenance, by service and real server.
    Maintenance = 3,
    /// Counters that go on after a restart.
    Counters = 4,
    /// Keys and identities of this node.
    Identity = 5,
    /// Users, their sessions and tokens.
    Users = 6,
}

impl Tree {
    /// Every tree.
    pub const ALL: [Self; 7] = [
        Self::Marks,
        Self::Revisions,
        Self::Events,
        Self::Maintenance,
        Self::Counters,
        Self::Identity,
        Self::Users,
    ];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Marks => "marks",
            Self::Revisions => "revisions",
            Self::Events => "events",
            Self::Maintenance => "maintenance",
            Self::Counters => "counters",
            Self::Identity => "identity",
            Self::Users => "users",
        }
    }

    /// The tree with this number in an export.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| *tree as u8 == number)
    }
}

/// One change of the records.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Change {
    /// The key has this value from now on.
    Put { tree: Tree, key: Vec<u8>, value: Vec<u8> },
    /// The key is gone.
    Remove { tree: Tree, key: Vec<u8> },
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The database.
pub trait Records: Send {
    /// Makes changes; on return they would survive a power cut.
    ///
    /// # Errors
    /// When the disk does not take them.
    fn write(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Makes changes that may be lost when the power fails within half a second.
    ///
    /// # Errors
    /// When the database refuses.
    fn write_soon(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// The value of a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The last `limit` entries of a tree, the last one first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn last(&self, tree: Tree, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Shows every entry of a tree, in order.
    ///
    /// # Errors
    /// When they cannot be read.
    fn each(&self, tree: Tree, show: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError>;

    /// Whether what is written survives a restart.
    fn is_durable(&self) -> bool;
}

/// Records that live as long as the process: for tests, and for a daemon whose disk is broken.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    trees: Mutex<BTreeMap<Tree, Entries>>,
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

impl Records for MemoryRecords {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put { tree, key, value } => {
                    trees.entry(*tree).or_default().insert(key.clone(), value.clone());
                }
                Change::Remove { tree, key } => {
                    trees.entry(*tree).or_default().remove(key);
                }
            }
        }
        Ok(())
    }

    fn write_soon(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(changes)
    }

    fn read(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(trees.get(&tree).and_then(|entries| entries.get(key)).cloned())
    }

    fn last(&self, tree: Tree, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = trees.get(&tree).into_iter().flatten().rev().take(limit);
        Ok(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn each(&self, tree: Tree, show: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.get(&tree).into_iter().flatten().for_each(|(key, value)| show(key, value));
        Ok(())
    }

    fn is_durable(&self) -> bool {
        false
    }
}
