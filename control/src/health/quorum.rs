//! Whether enough of a service's real servers live for it to be offered at all.
//!
//! The sum of the live servers' weights is compared with a quorum, with a band around it in which
//! the verdict stays as it is, as keepalived does: lost below `quorum - hysteresis`, gained at
//! `quorum + hysteresis`, and always lost when nothing is left.

use serde::{Deserialize, Serialize};

/// How much live weight a service needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuorumLimits {
    /// Sum of live weights needed.
    pub quorum: u32,
    /// Half width of the band in which nothing changes.
    pub hysteresis: u32,
}

impl Default for QuorumLimits {
    /// One live server of any weight is enough.
    fn default() -> Self {
        Self { quorum: 1, hysteresis: 0 }
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
    /// A service whose first verdict is made from `live_weight` alone, without the band.
    pub fn new(limits: QuorumLimits, live_weight: u64) -> Self {
        let held = live_weight > 0 && live_weight >= u64::from(limits.quorum);
        Self { limits, held }
    }

    /// Whether the service has its quorum.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes the sum of live weights after a change. `Some` only when the verdict changes.
    pub fn on_live_weight(&mut self, live_weight: u64) -> Option<QuorumChange> {
        let held = live_weight > 0 && live_weight >= self.threshold();
        if held == self.held {
            return None;
        }
        self.held = held;
        Some(if held { QuorumChange::Gained } else { QuorumChange::Lost })
    }

    /// Takes new limits, judging them against the same live weight.
    pub fn reconfigure(&mut self, limits: QuorumLimits, live_weight: u64) -> Option<QuorumChange> {
        self.limits = limits;
        self.on_live_weight(live_weight)
    }

    /// Live weight at which the verdict holds or comes back.
    fn threshold(&self) -> u64 {
        let (quorum, band) = (u64::from(self.limits.quorum), u64::from(self.limits.hysteresis));
        if self.held { quorum.saturating_sub(band) } else { quorum + band }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(quorum: u32, hysteresis: u32) -> QuorumLimits {
        QuorumLimits { quorum, hysteresis }
    }

    #[test]
    fn the_band_holds_the_verdict_both_ways() {
        let mut quorum = Quorum::new(limits(5, 2), 5);
        assert!(quorum.is_held());
        assert_eq!(quorum.on_live_weight(3), None, "inside the band");
        assert_eq!(quorum.on_live_weight(2), Some(QuorumChange::Lost));
        assert_eq!(quorum.on_live_weight(6), None, "inside the band");
        assert_eq!(quorum.on_live_weight(7), Some(QuorumChange::Gained));
    }

    #[test]
    fn nothing_alive_is_always_lost() {
        for quorum in [limits(0, 0), limits(1, 5), limits(3, 3)] {
            let mut state = Quorum { limits: quorum, held: true };
            assert_eq!(state.on_live_weight(0), Some(QuorumChange::Lost));
            assert!(!Quorum::new(quorum, 0).is_held());
        }
    }

    #[test]
    fn new_limits_are_judged_at_once() {
        let mut quorum = Quorum::new(limits(1, 0), 2);
        assert_eq!(quorum.reconfigure(limits(3, 0), 2), Some(QuorumChange::Lost));
        assert_eq!(quorum.reconfigure(limits(2, 0), 2), Some(QuorumChange::Gained));
    }

    proptest! {
        #[test]
        fn the_verdict_changes_only_outside_the_band(
            quorum in 0u32..20, hysteresis in 0u32..10,
            weights in proptest::collection::vec(0u64..40, 1..60),
        ) {
            let mut state = Quorum::new(limits(quorum, hysteresis), weights[0]);
            for weight in weights {
                let before = state.is_held();
                let change = state.on_live_weight(weight);
                let low = i64::from(quorum) - i64::from(hysteresis);
                let high = i64::from(quorum) + i64::from(hysteresis);
                match change {
                    None => prop_assert_eq!(before, state.is_held()),
                    Some(QuorumChange::Lost) => {
                        prop_assert!(weight == 0 || (weight as i64) < low);
                        prop_assert!(before && !state.is_held());
                    }
                    Some(QuorumChange::Gained) => {
                        prop_assert!(weight > 0 && weight as i64 >= high);
                        prop_assert!(!before && state.is_held());
                    }
                }
            }
        }
    }
}
