//! Values of options that have a grammar of their own.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// Where the web console listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAddress {
    /// The console is off.
    Off,
    /// The console listens on this address.
    At(SocketAddr),
}

impl FromStr for ConsoleAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wanted = "should be an address and port, such as 127.0.0.1:8443, or off";
        text.parse().map(Self::At).map_err(|_| wanted.to_owned())
    }
}

/// A duration with its unit.
///
/// # Errors
/// Says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    control::model::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "should be a duration with its unit, such as 60s or 10m".to_owned())
}
