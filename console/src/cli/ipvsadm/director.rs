//! How requests reach the director.

use crate::client::{Client, ClientError};
use control::ipvs::{Reply, Request};
use std::io;
use std::path::PathBuf;

/// Whoever answers requests: the daemon, or a stand-in in tests.
pub trait Director {
    /// Carries out one request.
    ///
    /// # Errors
    /// The request did not arrive, or its answer did not. A refusal is a [`Reply`].
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable>;
}

/// Why the director could not be asked.
#[derive(Debug)]
pub enum Unreachable {
    /// Nobody listens on the socket.
    NotRunning(PathBuf, io::Error),
    /// The socket may not be opened.
    Forbidden,
    /// The daemon broke off, or answered something else.
    Broken(String),
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning(socket, error) => {
                let error = error.to_string();
                // Without the number that Rust appends.
                let error = error.split(" (os error").next().unwrap_or_default();
                write!(f, "Viaduct is not running ({}: {error})", socket.display())
            }
            Self::Forbidden => write!(f, "Permission denied (you must be root)"),
            Self::Broken(what) => write!(f, "Viaduct did not answer ({what})"),
        }
    }
}

impl Director for Client {
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable> {
        self.post("/v1/ipvs", request).map_err(|error| match error {
            ClientError::NotRunning(_, error)
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                Unreachable::Forbidden
            }
            ClientError::NotRunning(socket, error) => Unreachable::NotRunning(socket, error),
            ClientError::Broken(what) => Unreachable::Broken(what),
            ClientError::Refused(failure) => Unreachable::Broken(failure.error),
        })
    }
}
