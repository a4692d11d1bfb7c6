//! When a difference between two clocks is worth a word.
//!
//! A clock is said to drift only when it does beyond the reading's own error, twice in a row; and to
//! be right again when the reading is within the limit. Between the two nothing changes, so that a
//! reading of a second's resolution does not flap around a limit of a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::outcome::ClockReading;

/// Readings in a row that must say the same.
const CONFIRM: u8 = 2;

/// Differences that matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Beyond this it is warned about.
    pub warn: Duration,
    /// Beyond this it is critical.
    pub critical: Duration,
}

/// How far off a clock is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// Not known to be off.
    #[default]
    Fine,
    /// Off by more than the warning limit.
    Warn,
    /// Off by more than the critical limit.
    Critical,
}

/// One clock under supervision.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Watch {
    drift: Drift,
    /// What the last readings in a row say instead, and how many.
    contrary: Option<(Drift, u8)>,
    /// The last reading.
    last: Option<ClockReading>,
}

impl Watch {
    /// Returns the drift that is believed now.
    pub fn drift(&self) -> Drift {
        self.drift
    }

    /// The last reading.
    pub fn last(&self) -> Option<ClockReading> {
        self.last
    }

    /// Whether the last reading disagrees with what is believed.
    pub fn is_in_doubt(&self) -> bool {
        self.contrary.is_some()
    }

    /// Takes a reading. `Some` only when what is believed changes.
    pub fn on_reading(&mut self, reading: ClockReading, limits: Limits) -> Option<Drift> {
        self.last = Some(reading);
        let seen = self.judge(reading, limits);
        if seen == self.drift {
            self.contrary = None;
            return None;
        }
        let count = match self.contrary {
            Some((before, count)) if before == seen => count + 1,
            Some(_) | None => 1,
        };
        if count < CONFIRM {
            self.contrary = Some((seen, count));
            return None;
        }
        self.contrary = None;
        self.drift = seen;
        Some(seen)
    }

    fn judge(&self, reading: ClockReading, limits: Limits) -> Drift {
        let (off, error) = (reading.ahead.abs(), reading.error);
        let beyond = |level: Drift, limit: Duration| {
            let limit = limit.as_secs_f64();
            // Certainly beyond; or beyond by the best guess, when it is known to be so already.
            off - error > limit || (self.drift >= level && off > limit)
        };
        if beyond(Drift::Critical, limits.critical) {
            Drift::Critical
        } else if beyond(Drift::Warn, limits.warn) {
            Drift::Warn
        } else {
            Drift::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits =
        Limits { warn: Duration::from_secs(1), critical: Duration::from_secs(10) };

    fn reading(ahead: f64, error: f64) -> ClockReading {
        ClockReading { ahead, error }
    }

    fn heard(readings: &[(f64, f64)]) -> Vec<Option<Drift>> {
        let mut watch = Watch::default();
        readings
            .iter()
            .map(|(ahead, error)| watch.on_reading(reading(*ahead, *error), LIMITS))
            .collect()
    }

    #[test]
    fn a_drift_is_said_once_and_its_end_once() {
        use Drift::{Critical, Fine, Warn};
        let said = heard(&[
            (0.0, 0.5),
            (3.0, 0.5),
            (3.0, 0.5),
            (3.0, 0.5),
            (-20.0, 0.5),
            (-20.0, 0.5),
            (3.0, 0.5),
            (3.0, 0.5),
            (0.4, 0.5),
            (0.4, 0.5),
            (0.4, 0.5),
        ]);
        assert_eq!(
            said,
            [
                None,
                None,
                Some(Warn),
                None,
                None,
                Some(Critical),
                None,
                Some(Warn),
                None,
                Some(Fine),
                None,
            ]
        );
    }

    #[test]
    fn one_odd_reading_says_nothing() {
        assert_eq!(heard(&[(5.0, 0.1), (0.0, 0.1), (5.0, 0.1), (0.0, 0.1)]), [None; 4]);
    }

    #[test]
    fn a_coarse_reading_near_the_limit_does_not_flap() {
        assert_eq!(heard(&[(1.2, 0.5), (1.4, 0.5), (1.2, 0.5), (0.9, 0.5)]), [None; 4]);
        let mut watch = Watch { drift: Drift::Warn, ..Watch::default() };
        for ahead in [1.2, 1.1, 1.4, 1.2] {
            assert_eq!(watch.on_reading(reading(ahead, 0.5), LIMITS), None);
        }
    }

    proptest! {
        #[test]
        fn a_certain_drift_is_always_found_and_a_right_clock_always_cleared(
            noise in proptest::collection::vec((-30.0f64..30.0, 0.0f64..2.0), 0..20),
        ) {
            let mut watch = Watch::default();
            for (ahead, error) in noise {
                let before = watch.drift();
                let change = watch.on_reading(reading(ahead, error), LIMITS);
                prop_assert_eq!(change, (watch.drift() != before).then_some(watch.drift()));
            }
            for _ in 0..2 { watch.on_reading(reading(12.0, 0.5), LIMITS); }
            prop_assert_eq!(watch.drift(), Drift::Critical);
            for _ in 0..2 { watch.on_reading(reading(0.3, 0.5), LIMITS); }
            prop_assert_eq!(watch.drift(), Drift::Fine);
        }
    }
}
