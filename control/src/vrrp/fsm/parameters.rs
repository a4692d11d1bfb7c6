//! How an instance behaves; keepalived's defaults.

use crate::vrrp::{Priority, Version};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

/// How often addresses are announced. keepalived's `garp_*` keywords.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcements {
    /// Rounds at once on becoming master.
    pub repeat: u8,
    /// Until as many rounds again; zero for never.
    pub delay: Duration,
    /// Between later refreshes; zero for never.
    pub refresh: Duration,
    /// Rounds at each refresh.
    pub refresh_repeat: u8,
    /// Rounds after a lower master was heard: some switch or host may have followed it.
    pub lower_repeat: u8,
    /// Until as many again; zero for never.
    pub lower_delay: Duration,
}

impl Default for Announcements {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_repeat: 5,
            lower_delay: Duration::from_secs(5),
        }
    }
}

/// How an instance behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Decides how the skew is computed.
    pub version: Version,
    /// Priority to start with; tracking changes it later.
    pub priority: Priority,
    /// Own advert interval.
    pub interval: Duration,
    /// Address that own adverts come from; breaks ties.
    pub source: IpAddr,
    /// Whether a lower master is replaced.
    pub preempt: bool,
    /// How long a lower master is tolerated first.
    pub preempt_delay: Duration,
    /// Adverts that must be missing before the master is given up; 3 in the RFC.
    pub down_adverts: NonZeroU8,
    /// Waits one interval instead of the master-down interval at start; keepalived's `state MASTER`.
    pub eager: bool,
    /// How much longer than usual a router that has just started waits before it calls the master
    /// silent; keepalived's `vrrp_startup_delay`, but an advert ends it.
    pub startup_delay: Duration,
    /// Whether a lower master is answered with an advert at once, so it leaves sooner.
    pub answer_lower: bool,
    /// Whether a higher master gets a last advert before this one leaves.
    pub answer_higher: bool,
    /// Whether a master that did not run for a master-down interval goes back to backup, as another node
    /// has surely taken over.
    pub yield_when_late: bool,
    /// How often addresses are announced.
    pub announcements: Announcements,
}

impl Parameters {
    /// keepalived's defaults.
    pub fn new(version: Version, priority: Priority, interval: Duration, source: IpAddr) -> Self {
        Self {
            version,
            priority,
            interval,
            source,
            preempt: true,
            preempt_delay: Duration::ZERO,
            down_adverts: NonZeroU8::MIN.saturating_add(2),
            eager: false,
            startup_delay: Duration::ZERO,
            answer_lower: true,
            answer_higher: false,
            yield_when_late: true,
            announcements: Announcements::default(),
        }
    }
}
