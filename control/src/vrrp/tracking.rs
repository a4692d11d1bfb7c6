//! What an instance depends on: interfaces, services and scripts that lower its priority, or stop it.

use super::Priority;
use std::collections::BTreeMap;

/// What a tracked thing does to the priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// While it is down the instance is in fault.
    Fault,
    /// Added while it is up when positive, while it is down when negative: -253 to 253, not 0.
    Priority(i16),
}

impl Weight {
    /// keepalived's number: 0 means fault; the rest is cut to -253..253.
    pub const fn from_number(weight: i16) -> Self {
        match weight {
            0 => Self::Fault,
            -253..=253 => Self::Priority(weight),
            i16::MIN..=-254 => Self::Priority(-253),
            254..=i16::MAX => Self::Priority(253),
        }
    }
}

/// A tracked thing and how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tracked {
    /// What it does to the priority.
    pub weight: Weight,
    /// Whether up counts as down and down as up.
    pub reverse: bool,
    /// How it stands now; at first, what to assume.
    pub up: bool,
}

/// Everything that one instance tracks, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracking {
    base: Priority,
    things: BTreeMap<String, Tracked>,
}

impl Tracking {
    /// An instance of priority `base` that depends on `things`.
    pub const fn new(base: Priority, things: BTreeMap<String, Tracked>) -> Self {
        Self { base, things }
    }

    /// Notes how a thing stands. Names that are not tracked are ignored.
    pub fn set(&mut self, name: &str, up: bool) {
        if let Some(thing) = self.things.get_mut(name) {
            thing.up = up;
        }
    }

    /// Takes over how things stand from an earlier configuration.
    pub fn inherit(&mut self, earlier: &Self) {
        for (name, thing) in &mut self.things {
            if let Some(known) = earlier.things.get(name) {
                thing.up = known.up;
            }
        }
    }

    /// What is down and stops the instance.
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        let stops = |thing: &Tracked| thing.weight == Weight::Fault && thing.up == thing.reverse;
        self.things.iter().filter(move |(_, thing)| stops(thing)).map(|(name, _)| name.as_str())
    }

    /// The priority after all weights: never the owner's unless it was, and never below 1.
    pub fn priority(&self) -> Priority {
        if self.base == Priority::OWNER {
            return self.base;
        }
        let share = |thing: &Tracked| match thing.weight {
            Weight::Fault => 0,
            Weight::Priority(weight) if (thing.up != thing.reverse) == (weight > 0) => {
                i32::from(weight)
            }
            Weight::Priority(_) => 0,
        };
        let sum: i32 = self.things.values().map(share).sum();
        Priority::clamped(i32::from(self.base.get()).saturating_add(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracking(base: u8, things: &[(&str, i16, bool, bool)]) -> Tracking {
        let thing = |&(name, weight, reverse, up): &(&str, i16, bool, bool)| {
            (name.to_owned(), Tracked { weight: Weight::from_number(weight), reverse, up })
        };
        Tracking::new(Priority::new(base).unwrap(), things.iter().map(thing).collect())
    }

    #[test]
    fn weights_follow_keepalived() {
        for (weight, reverse, up, expected) in [
            (20, false, true, 120),
            (20, false, false, 100),
            (-20, false, true, 100),
            (-20, false, false, 80),
            (20, true, true, 100),
            (20, true, false, 120),
            (-20, true, true, 80),
            (-20, true, false, 100),
        ] {
            let tracking = tracking(100, &[("eth1", weight, reverse, up)]);
            assert_eq!(tracking.priority().get(), expected, "{weight} {reverse} {up}");
            assert_eq!(tracking.faults().count(), 0);
        }
    }

    #[test]
    fn weight_zero_is_a_fault() {
        let mut tracking =
            tracking(100, &[("check", 0, false, true), ("maintenance", 0, true, false)]);
        assert_eq!(tracking.faults().count(), 0);
        tracking.set("check", false);
        assert_eq!(tracking.faults().collect::<Vec<_>>(), ["check"]);
        tracking.set("maintenance", true);
        assert_eq!(tracking.faults().collect::<Vec<_>>(), ["check", "maintenance"]);
        assert_eq!(tracking.priority().get(), 100);
    }

    #[test]
    fn the_sum_stays_between_1_and_254() {
        let all = [("a", -200, false, false), ("b", -200, false, false), ("c", 253, false, false)];
        let mut tracking = tracking(100, &all);
        assert_eq!(tracking.priority().get(), 1);
        for name in ["a", "b", "c"] {
            tracking.set(name, true);
        }
        assert_eq!(tracking.priority().get(), 254);
    }

    #[test]
    fn an_owner_is_never_lowered() {
        let tracking = tracking(255, &[("a", -200, false, false)]);
        assert_eq!(tracking.priority(), Priority::OWNER);
    }

    #[test]
    fn unknown_names_are_ignored_and_known_ones_inherited() {
        let mut before = tracking(100, &[("a", 10, false, false), ("b", 10, false, false)]);
        before.set("a", true);
        before.set("nobody", true);
        let mut after = tracking(50, &[("a", 10, false, false), ("c", 1, false, false)]);
        after.inherit(&before);
        assert_eq!(after.priority().get(), 60);
    }

    #[test]
    fn weights_beyond_the_range_are_cut() {
        assert_eq!(Weight::from_number(i16::MAX), Weight::Priority(253));
        assert_eq!(Weight::from_number(i16::MIN), Weight::Priority(-253));
    }
}
