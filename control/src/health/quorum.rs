//! Whether enough of a service's real servers live for it to be offered at all.
//!
//! What is counted (live servers, or their weights) is the caller's business. Between `minimum` and
//! `recover` the verdict stays as it is; nothing alive is always too little.

use serde::{Deserialize, Serialize};

use crate::model;

/// How much must live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuorumLimits {
    /// Below this the quorum is lost.
    pub minimum: u32,
    /// At this it is gained again: at least `minimum`.
    pub recover: u32,
}

impl From<model::Quorum> for QuorumLimits {
    fn from(quorum: model::Quorum) -> Self {
        Self { minimum: quorum.minimum, recover: quorum.recover }
    }
}

/// Whether a service has its quorum, remembered from one change to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorum {
    limits: QuorumLimits,
    held: bool,
}

/// A change of quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QuorumChange {
    /// Enough servers live again.
    Gained,
    /// Too few are left.
    Lost,
}

impl Quorum {
    /// A service whose first verdict is made from `live` and the lower limit.
    pub fn new(limits: QuorumLimits, live: u64) -> Self {
        Self { limits, held: live > 0 && live >= u64::from(limits.minimum) }
    }

    /// Whether the service has its quorum.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes what lives after a change. `Some` only when the verdict changes.
    pub fn on_live(&mut self, live: u64) -> Option<QuorumChange> {
        let wanted = if self.held { self.limits.minimum } else { self.recover() };
        let held = live > 0 && live >= u64::from(wanted);
        if held == self.held {
            return None;
        }
        self.held = held;
        Some(if held { QuorumChange::Gained } else { QuorumChange::Lost })
    }

    /// Takes new limits, judging them against the same servers.
    pub fn reconfigure(&mut self, limits: QuorumLimits, live: u64) -> Option<QuorumChange> {
        self.limits = limits;
        self.on_live(live)
    }

    fn recover(&self) -> u32 {
        self.limits.recover.max(self.limits.minimum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(minimum: u32, recover: u32) -> QuorumLimits {
        QuorumLimits { minimum, recover }
    }

    #[test]
    fn the_band_holds_the_verdict_both_ways() {
        let mut quorum = Quorum::new(limits(3, 7), 5);
        assert!(quorum.is_held());
        assert_eq!(quorum.on_live(3), None, "inside the band");
        assert_eq!(quorum.on_live(2), Some(QuorumChange::Lost));
        assert_eq!(quorum.on_live(6), None, "inside the band");
        assert_eq!(quorum.on_live(7), Some(QuorumChange::Gained));
    }

    #[test]
    fn nothing_alive_is_always_lost() {
        for quorum in [limits(0, 0), limits(1, 5), limits(3, 1)] {
            let mut state = Quorum { limits: quorum, held: true };
            assert_eq!(state.on_live(0), Some(QuorumChange::Lost));
            assert!(!Quorum::new(quorum, 0).is_held());
        }
    }

    #[test]
    fn new_limits_are_judged_at_once() {
        let mut quorum = Quorum::new(limits(1, 1), 2);
        assert_eq!(quorum.reconfigure(limits(3, 3), 2), Some(QuorumChange::Lost));
        assert_eq!(quorum.reconfigure(limits(2, 2), 2), Some(QuorumChange::Gained));
    }

    proptest! {
        #[test]
        fn the_verdict_changes_only_outside_the_band(
            minimum in 0u32..20, band in 0u32..10,
            lives in proptest::collection::vec(0u64..40, 1..60),
        ) {
            let limits = limits(minimum, minimum + band);
            let mut state = Quorum::new(limits, lives[0]);
            for live in lives {
                let before = state.is_held();
                let change = state.on_live(live);
                match change {
                    None => {
                        prop_assert_eq!(before, state.is_held());
                        let low = live == 0 || live < u64::from(limits.minimum);
                        let high = live > 0 && live >= u64::from(limits.recover);
                        let stays = if before { !low } else { !high };
                        prop_assert!(stays);
                    }
                    Some(QuorumChange::Lost) => {
                        prop_assert!(live == 0 || live < u64::from(limits.minimum));
                        prop_assert!(before && !state.is_held());
                    }
                    Some(QuorumChange::Gained) => {
                        prop_assert!(live > 0 && live >= u64::from(limits.recover));
                        prop_assert!(!before && state.is_held());
                    }
                }
            }
        }
    }
}
