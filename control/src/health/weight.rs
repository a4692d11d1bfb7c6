//! How much of its weight a healthy server gets: what its agent asks for, and a slow start.
//!
//! A server that has just come back has cold caches; giving it its full share at once can take it
//! down again. So its share grows in a straight line over the slow start period.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::MAX_WEIGHT;

/// A full share, in thousandths.
pub const FULL: u16 = 1000;

/// What a server's agent asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AgentWeight {
    /// This weight instead of the configured one.
    Absolute(u32),
    /// This many percent of the configured weight.
    Percent(u32),
}

impl AgentWeight {
    /// The weight to use for a server configured with `configured`. A share of more than nothing
    /// never rounds down to nothing, because weight 0 means quiesced.
    pub fn of(self, configured: u32) -> u32 {
        match self {
            Self::Absolute(weight) => weight.min(MAX_WEIGHT),
            Self::Percent(0) => 0,
            Self::Percent(percent) => scale(configured, u64::from(percent), 100),
        }
    }
}

/// Thousandths of its share that a server gets `up_for` after coming back, with a slow start of
/// `over`. Never zero: a server that gets nothing would never warm up.
pub fn share(up_for: Duration, over: Duration) -> u16 {
    if up_for >= over {
        return FULL;
    }
    let thousandths = up_for.as_micros() * u128::from(FULL) / over.as_micros().max(1);
    u16::try_from(thousandths).unwrap_or(FULL).clamp(1, FULL)
}

/// The weights to publish for a service's live servers, given each one's weight and share.
///
/// With all shares full these are the weights themselves. While one server is in its slow start all
/// weights of the service are multiplied alike, so that even servers of weight 1 have room to grow;
/// proportions among the others stay what they were.
pub fn published(servers: &[(u32, u16)]) -> Vec<u32> {
    if servers.iter().all(|(_, share)| *share >= FULL) {
        return servers.iter().map(|(weight, _)| (*weight).min(MAX_WEIGHT)).collect();
    }
    let largest = servers.iter().map(|(weight, _)| *weight).max().unwrap_or(1).max(1);
    let factor = (MAX_WEIGHT / largest).clamp(1, 100);
    servers.iter().map(|(weight, share)| ramped(weight.saturating_mul(factor), *share)).collect()
}

fn ramped(weight: u32, share: u16) -> u32 {
    if weight == 0 { 0 } else { scale(weight, u64::from(share.min(FULL)), u64::from(FULL)) }
}

/// `weight * numerator / denominator`, at least 1 for a weight above 0.
fn scale(weight: u32, numerator: u64, denominator: u64) -> u32 {
    if weight == 0 {
        return 0;
    }
    let scaled = u64::from(weight) * numerator / denominator;
    u32::try_from(scaled).unwrap_or(MAX_WEIGHT).clamp(1, MAX_WEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_agent_sets_or_scales_the_weight() {
        assert_eq!(AgentWeight::Absolute(7).of(100), 7);
        assert_eq!(AgentWeight::Absolute(u32::MAX).of(100), MAX_WEIGHT);
        assert_eq!(AgentWeight::Percent(50).of(100), 50);
        assert_eq!(AgentWeight::Percent(150).of(100), 150);
        assert_eq!(AgentWeight::Percent(0).of(100), 0);
        assert_eq!(AgentWeight::Percent(1).of(3), 1, "a share never rounds down to quiesced");
        assert_eq!(AgentWeight::Percent(u32::MAX).of(u32::MAX), MAX_WEIGHT);
    }

    #[test]
    fn the_share_grows_in_a_straight_line() {
        assert_eq!(share(secs(0), secs(60)), 1);
        assert_eq!(share(secs(30), secs(60)), 500);
        assert_eq!(share(secs(60), secs(60)), FULL);
        assert_eq!(share(secs(0), secs(0)), FULL, "no slow start");
    }

    #[test]
    fn servers_of_weight_one_have_room_to_grow() {
        assert_eq!(published(&[(1, FULL), (1, FULL)]), [1, 1]);
        assert_eq!(published(&[(1, FULL), (1, 250)]), [100, 25]);
        assert_eq!(published(&[(1, FULL), (1, 1)]), [100, 1]);
        assert_eq!(
            published(&[(MAX_WEIGHT, FULL), (0, 1)]),
            [MAX_WEIGHT, 0],
            "quiesced stays quiesced"
        );
    }

    proptest! {
        #[test]
        fn a_ramp_never_falls_and_ends_at_the_configured_weights(
            weights in proptest::collection::vec(0u32..=MAX_WEIGHT, 1..8),
            over in 1u64..600_000,
        ) {
            let mut last = vec![0; weights.len()];
            for step in 0..=20u64 {
                let now = share(Duration::from_millis(over * step / 20), Duration::from_millis(over));
                let servers: Vec<_> = weights.iter().map(|w| (*w, now)).collect();
                let out = published(&servers);
                for ((published, configured), before) in out.iter().zip(&weights).zip(&last) {
                    prop_assert_eq!(*published == 0, *configured == 0);
                    prop_assert!(*published <= MAX_WEIGHT);
                    if now < FULL { prop_assert!(published >= before); }
                }
                last = out;
            }
            prop_assert_eq!(last, weights);
        }

        #[test]
        fn shares_at_full_speed_keep_their_proportions(a in 1u32..600, b in 1u32..600) {
            let out = published(&[(a, FULL), (b, FULL), (1, 500)]);
            prop_assert_eq!(u64::from(out[0]) * u64::from(b), u64::from(out[1]) * u64::from(a));
        }
    }
}
