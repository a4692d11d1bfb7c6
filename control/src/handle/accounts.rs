//! What the console keeps in the store: accounts, and keys of its own.

use super::Handle;
use crate::access::{Accounts, Change as AccountChange};
use crate::state::Refusal;
use crate::store::{Change, StoreError, Tree};

impl Handle {
    /// The stored accounts. Records that cannot be read are left out and named in the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn accounts(&self) -> Result<Accounts, Refusal> {
        let read = self.keeper.with(|store| {
            let mut records = Vec::new();
            let mut show = |key: &[u8], value: &[u8]| records.push((key.to_vec(), value.to_vec()));
            store.records().each(Tree::Users, &mut show).map(|()| records)
        });
        let records = read.await.and_then(|read| read).map_err(refused)?;
        let (accounts, bad) = Accounts::read(records);
        for name in bad {
            tracing::warn!("the stored account \"{name}\" cannot be read and is not used");
        }
        Ok(accounts)
    }

    /// Stores changes of accounts.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub async fn keep_accounts(&self, changes: Vec<AccountChange>) -> Result<(), Refusal> {
        let change = |(key, value): AccountChange| change(Tree::Users, key, value);
        let changes: Vec<Change> = changes.into_iter().map(change).collect();
        let written = self.keeper.with(move |store| store.records().write(&changes)).await;
        written.and_then(|written| written).map_err(refused)
    }

    /// A key of this node, which never leaves it by a backup.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn identity(&self, name: &'static str) -> Result<Option<Vec<u8>>, Refusal> {
        let read = self.keeper.with(|store| store.records().read(Tree::Identity, name.as_bytes()));
        read.await.and_then(|read| read).map_err(refused)
    }

    /// Stores a key of this node.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn keep_identity(&self, name: &'static str, value: Vec<u8>) -> Result<(), Refusal> {
        let change = change(Tree::Identity, name.into(), Some(value));
        let written = self.keeper.with(move |store| store.records().write(&[change])).await;
        written.and_then(|written| written).map_err(refused)
    }
}

fn change(tree: Tree, key: Vec<u8>, value: Option<Vec<u8>>) -> Change {
    match value {
        Some(value) => Change::Put { tree, key, value },
        None => Change::Remove { tree, key },
    }
}

fn refused(error: StoreError) -> Refusal {
    Refusal::Store(error.to_string())
}
