//! Clock supervision, as the operator means it.

use std::time::Duration;

/// Which clocks are compared, and what difference is too much.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeKeeping {
    /// NTP servers: address or name, with a port if not 123.
    pub servers: Vec<String>,
    /// Between two requests to one server: 1 s or more.
    pub interval: Duration,
    /// A larger difference is warned about.
    pub warn: Duration,
    /// A larger difference is critical: at least `warn`.
    pub critical: Duration,
}

impl Default for TimeKeeping {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            interval: Duration::from_secs(64),
            warn: Duration::from_secs(1),
            critical: Duration::from_secs(10),
        }
    }
}
