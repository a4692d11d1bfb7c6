//! Coarse time: 1/256 s, wrapping after 194 days.
//!
//! The packet path never reads a clock; a worker stamps each batch with one `Tick`.

use std::time::Duration;

/// Ticks in one second.
pub const PER_SECOND: u32 = 256;

/// A moment, in 1/256 s since an arbitrary start. Comparisons wrap, so only moments at most 97 days
/// apart order correctly: whatever keeps a moment for longer has to forget it in time. There is no
/// default, as no moment can stand for "never".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick(pub u32);

/// A span of time in 1/256 s. The longest that Viaduct uses is IPVS's 31 days of persistence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Ticks(pub u32);

impl Ticks {
    /// A span of whole seconds; saturates at 97 days.
    pub const fn from_secs(seconds: u32) -> Self {
        let ticks = seconds.saturating_mul(PER_SECOND);
        Self(if ticks > i32::MAX as u32 { i32::MAX as u32 } else { ticks })
    }

    /// Whole seconds, rounded down as the kernel prints them.
    pub const fn as_secs(self) -> u32 {
        self.0 / PER_SECOND
    }
}

impl From<Duration> for Ticks {
    fn from(duration: Duration) -> Self {
        let ticks = duration.as_nanos() * u128::from(PER_SECOND) / 1_000_000_000;
        Self(u32::try_from(ticks).map_or(i32::MAX as u32, |t| t.min(i32::MAX as u32)))
    }
}

impl Tick {
    /// Where the clock of a process starts: five minutes before the count wraps, as Linux's jiffies
    /// do, so that code that cannot bear the wrap fails on its first day.
    pub const START: Self = Self(0_u32.wrapping_sub(300 * PER_SECOND));

    /// The moment `span` later.
    #[must_use]
    pub const fn after(self, span: Ticks) -> Self {
        Self(self.0.wrapping_add(span.0))
    }

    /// Whether `self` is at or before `now`.
    pub const fn is_due(self, now: Tick) -> bool {
        now.0.wrapping_sub(self.0) as i32 >= 0
    }

    /// Time left from `now` until `self`; zero once past.
    pub const fn remaining(self, now: Tick) -> Ticks {
        let left = self.0.wrapping_sub(now.0) as i32;
        Ticks(if left > 0 { left as u32 } else { 0 })
    }

    /// Time gone by from `earlier` until `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Tick) -> Ticks {
        earlier_to(earlier, self)
    }
}

const fn earlier_to(earlier: Tick, later: Tick) -> Ticks {
    let gone = later.0.wrapping_sub(earlier.0) as i32;
    Ticks(if gone > 0 { gone as u32 } else { 0 })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::OnceLock;

    /// Names the tick at which the clock of the tests starts.
    pub const START_VARIABLE: &str = "VIADUCT_TEST_START";

    /// Where the clock of the tests starts.
    pub fn start() -> Tick {
        static START: OnceLock<u32> = OnceLock::new();
        Tick(*START.get_or_init(|| match std::env::var(START_VARIABLE) {
            Ok(number) => number.parse().unwrap(),
            Err(_) => 0,
        }))
    }

    /// The moment `ticks` after the start of the tests' clock.
    pub fn moment(ticks: u32) -> Tick {
        start().after(Ticks(ticks))
    }

    #[test]
    fn order_survives_the_wrap() {
        let before = Tick(u32::MAX - 10);
        let after = before.after(Ticks(20));
        assert!(before.is_due(after));
        assert!(!after.is_due(before));
        assert_eq!(after.remaining(before), Ticks(20));
        assert_eq!(after.since(before), Ticks(20));
        assert_eq!(before.remaining(after), Ticks(0));
    }

    #[test]
    fn thirty_one_days_fit() {
        let span = Ticks::from_secs(2_678_400);
        let now = Tick(123);
        assert_eq!(now.after(span).remaining(now).as_secs(), 2_678_400);
    }
}
