//! When a real server has enough connections, and when it takes new ones again.
//!
//! At `upper` connections the server stops taking new ones, and it resumes when fewer than `lower`
//! remain, so that it does not flap around one number. New limits are applied at once, as IPVS does
//! since the `totalconns` counter (Debian 12's kernel has it; older ones wait for the next
//! connection). The caller keeps the flag per real server. `total` counts active and inactive connections, without templates, after
//! the change.

/// The limits of one real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Thresholds {
    /// Connections at which it stops taking new ones; 0 for no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 for three quarters of `upper`.
    pub lower: u32,
}

impl Thresholds {
    /// Whether the server is overloaded once a connection was added.
    pub fn after_bind(self, overloaded: bool, total: u32) -> bool {
        overloaded || (self.upper != 0 && total >= self.upper)
    }

    /// Whether the server is overloaded once a connection was removed.
    pub fn after_unbind(self, overloaded: bool, total: u32) -> bool {
        let resumes = if self.lower != 0 {
            total < self.lower
        } else if self.upper != 0 {
            u64::from(total) * 4 < u64::from(self.upper) * 3
        } else {
            true
        };
        overloaded && !resumes
    }

    /// Whether the server is overloaded once its limits were changed from `self` to `new`: between
    /// the new limits it stays as it was.
    pub fn after_edit(self, new: Thresholds, overloaded: bool, total: u32) -> bool {
        if new == self {
            overloaded
        } else {
            new.after_bind(new.after_unbind(overloaded, total), total)
        }
    }
}

impl From<&crate::table::Real> for Thresholds {
    fn from(real: &crate::table::Real) -> Self {
        Self { upper: real.upper, lower: real.lower }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts at which the flag turns while connections come one by one and leave one by one.
    fn turns(limits: Thresholds, peak: u32) -> (Option<u32>, Option<u32>) {
        let mut overloaded = false;
        let mut set = None;
        for total in 1..=peak {
            let next = limits.after_bind(overloaded, total);
            if next && !overloaded {
                set = Some(total);
            }
            overloaded = next;
        }
        let mut cleared = None;
        for total in (0..peak).rev() {
            let next = limits.after_unbind(overloaded, total);
            if !next && overloaded {
                cleared = Some(total);
            }
            overloaded = next;
        }
        (set, cleared)
    }

    #[test]
    fn stops_at_upper_and_resumes_below_lower() {
        assert_eq!(turns(Thresholds { upper: 10, lower: 4 }, 12), (Some(10), Some(3)));
    }

    #[test]
    fn without_lower_resumes_below_three_quarters() {
        assert_eq!(turns(Thresholds { upper: 100, lower: 0 }, 100), (Some(100), Some(74)));
        assert_eq!(turns(Thresholds { upper: 10, lower: 0 }, 10), (Some(10), Some(7)));
        assert_eq!(turns(Thresholds { upper: 1, lower: 0 }, 1), (Some(1), Some(0)));
    }

    #[test]
    fn lower_equal_to_upper_leaves_no_gap() {
        assert_eq!(turns(Thresholds { upper: 5, lower: 5 }, 6), (Some(5), Some(4)));
    }

    #[test]
    fn without_upper_is_never_overloaded() {
        assert_eq!(turns(Thresholds::default(), 1000), (None, None));
        assert!(!Thresholds::default().after_unbind(true, 1000));
    }

    #[test]
    fn binding_never_clears_and_unbinding_never_sets() {
        for (upper, lower) in [(0, 0), (10, 0), (10, 5), (10, 10)] {
            let limits = Thresholds { upper, lower };
            for total in 0..20 {
                assert!(limits.after_bind(true, total));
                assert!(!limits.after_unbind(false, total));
            }
        }
    }

    #[test]
    fn an_edit_applies_the_new_limits_at_once() {
        let old = Thresholds { upper: 10, lower: 0 };
        for (upper, total, was, is) in [
            (0, 12, true, false),
            (20, 10, true, false),
            (12, 10, true, true),
            (12, 10, false, false),
            (12, 8, true, false),
            (5, 5, false, true),
            (5, 4, false, false),
        ] {
            let new = Thresholds { upper, lower: 0 };
            assert_eq!(old.after_edit(new, was, total), is, "upper {upper}, {total} connections");
        }
        assert!(old.after_edit(old, true, 0), "the same limits change nothing");
        assert!(!old.after_edit(old, false, 99), "the same limits change nothing");
    }

    #[test]
    fn largest_numbers_do_not_overflow() {
        let limits = Thresholds { upper: u32::MAX, lower: 0 };
        assert!(limits.after_bind(false, u32::MAX));
        assert!(limits.after_unbind(true, u32::MAX));
    }
}
