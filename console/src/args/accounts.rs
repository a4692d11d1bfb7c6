//! `user` and `token`.

use clap::{Subcommand, ValueEnum};
use control::access;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Reads everything that is no secret.
    Viewer,
    /// Drains, weighs, fails over, ends connections.
    Operator,
    /// Changes the configuration, users and the system.
    Administrator,
}

impl From<Role> for access::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Administrator => Self::Administrator,
        }
    }
}

/// What to do with users of the console.
#[derive(Debug, Subcommand)]
pub enum UserAction {
    /// Print the code that makes the first administrator.
    SetupCode,
    /// List the users.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a user; the password is read from standard input.
    Add {
        /// The name.
        name: String,
        /// What the user may do.
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
    },
    /// Change a user's password, which is read from standard input, and end their sessions.
    Password {
        /// The name.
        name: String,
    },
    /// Remove a user and end their sessions.
    Remove {
        /// The name.
        name: String,
    },
}

/// What to do with tokens of the API.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// List the tokens.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a token and print it; it cannot be shown again.
    Add {
        /// The name.
        name: String,
        /// What the token may do.
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
    },
    /// Remove a token.
    Remove {
        /// The name.
        name: String,
    },
}
