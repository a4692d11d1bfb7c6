//! Time as an argument.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A moment on two clocks. Deadlines use the steady one, records the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Since the engine started; never jumps.
    pub steady: Duration,
    /// Since 1970; jumps when the clock is set.
    pub wall: Duration,
}

impl Moment {
    /// Seconds since 1970.
    pub const fn unix(self) -> u64 {
        self.wall.as_secs()
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX)
    }
}
