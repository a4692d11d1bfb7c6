//! Spreads the probes of one host whose only bad news is an ICMP error.
//!
//! Linux sends one such error a second to each asker (`net.ipv4.icmp_ratelimit`). Probes that come faster
//! get silence from a closed port, as from an open one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two such probes of one host: a little more than the kernel's limit.
pub(super) const SPACING: Duration = Duration::from_millis(1100);

/// When each host may be asked next.
#[derive(Default)]
pub(super) struct Pace(BTreeMap<IpAddr, Instant>);

impl Pace {
    /// Reserves the first moment from `now` on that leaves room after the last reserved one.
    pub fn reserve(&mut self, host: IpAddr, now: Instant) -> Instant {
        let turn = self.0.get(&host).map_or(now, |free| now.max(*free));
        self.0.insert(host, turn + SPACING);
        turn
    }

    /// Forgets hosts that nobody has reserved a moment of for long.
    pub fn forget(&mut self, now: Instant) {
        self.0.retain(|_, free| *free > now);
    }
}
