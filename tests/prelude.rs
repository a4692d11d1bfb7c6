//! What most scenarios begin with.

pub use anyhow::{Result, ensure};
pub use harness::{Director, Host, Site};

use std::path::Path;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");

/// Starts `viaduct run` on a host with this configuration, and waits until it answers.
///
/// # Errors
/// When it does not start; what it said is in the message.
pub fn director_on(host: &Host, config: &str) -> Result<Director> {
    Director::start(host, Path::new(BINARY), Some(config))
}
