//! How an operator takes a real server out.

use serde::{Deserialize, Serialize};

/// What becomes of the persistent clients of a server that is drained.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersistentClients {
    /// Their next connection goes to another server.
    #[default]
    Move,
    /// They stay until their template expires.
    Keep,
}
