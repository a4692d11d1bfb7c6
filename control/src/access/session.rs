//! A browser that is signed in.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// A session ends this long after sign-in.
pub const ABSOLUTE: Duration = Duration::from_secs(12 * 3600);

/// A session ends this long after its last request.
pub const IDLE: Duration = Duration::from_secs(30 * 60);

/// A session. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Whose it is.
    pub user: String,
    /// Sign-in.
    pub since: u64,
    /// The last request.
    pub used: u64,
    /// Where it was opened from.
    pub address: IpAddr,
}

impl Session {
    /// Whether it is still good. A clock that was set back ends nothing.
    pub fn is_alive(&self, now: u64) -> bool {
        now.saturating_sub(self.since) < ABSOLUTE.as_secs()
            && now.saturating_sub(self.used) < IDLE.as_secs()
    }
}
