//! Who may do what through the console and the API: users, their sessions, tokens, and how often a wrong
//! password may be tried. Pure: random bytes, hashes and the time are passed in.
//!
//! Secrets are never kept: of a password there is the Argon2 hash, of a session or a token the SHA-256 of
//! what its owner holds.

mod accounts;
mod session;
mod throttle;

pub use accounts::{Accounts, Change, Token, User, UserError};
pub use session::{ABSOLUTE, IDLE, Session};
pub use throttle::{Throttle, Wait};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a user or a token may do. Each role may do what those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything that is no secret, and changes nothing but the own account.
    Viewer,
    /// Drains, puts back, weighs, fails over, captures, ends connections.
    Operator,
    /// Changes the configuration, users and the system.
    Administrator,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Administrator];

    /// Its name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// SHA-256 of a secret that its owner holds.
pub type Fingerprint = [u8; 32];

/// What is kept of a secret. Not for passwords: it is fast, and right for 128 random bits or more only.
pub fn fingerprint(secret: &[u8]) -> Fingerprint {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests;
