//! When the other director is to be switched off: it is silent on both paths, and this one is not the
//! one that is cut off. Pure.
//!
//! A dead link is noticed seconds after lost adverts, so the two silences are compared by when they
//! began, not by when they are noticed.

use std::time::{Duration, Instant};

/// A link that carries on for so long after a take-over has had the time to settle who is master:
/// that it is lost later is another fault.
const SETTLED: Duration = Duration::from_secs(3);

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Whether this node is master of some instance.
    pub master: bool,
    /// Whether it is so because the other one fell silent.
    pub by_silence: bool,
    /// Whether the peer link is up.
    pub link: bool,
    /// When something came by it last.
    pub heard: Option<Instant>,
    /// When a witness answered last; `None` without witnesses.
    pub witnessed: Option<Instant>,
    /// Now.
    pub now: Instant,
}

/// What was seen so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fencing {
    was_master: bool,
    /// When this node took over because the other one fell silent, until that is settled.
    took_over: Option<Instant>,
}

impl Fencing {
    /// Whether the other director is to be switched off now. True once for each take-over.
    pub fn is_due(&mut self, facts: &Facts) -> bool {
        if facts.by_silence && !self.was_master {
            self.took_over = Some(facts.now);
        }
        self.was_master = facts.master;
        let Some(since) = self.took_over.filter(|_| facts.by_silence) else {
            self.took_over = None;
            return false;
        };
        if facts.heard.is_some_and(|heard| heard > since + SETTLED) {
            self.took_over = None;
            return false;
        }
        // An answer from before may be from before this node was cut off.
        let due = !facts.link && facts.witnessed.is_none_or(|answered| answered > since);
        if due {
            self.took_over = None;
        }
        due
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // an arbitrary base moment; nothing waits for it
mod tests {
    use super::*;

    /// A backup that looks every 100 ms. `link` and `heard` come from when the link carried something
    /// last, as it is declared dead 2.5 s later; `witnesses` says when one answered last.
    struct Backup {
        start: Instant,
        fencing: Fencing,
    }

    impl Backup {
        fn new() -> Self {
            Self { start: Instant::now(), fencing: Fencing::default() }
        }

        /// When the order comes, in milliseconds: master from 300 ms on, for ten seconds.
        fn fences(
            &mut self,
            heard: impl Fn(u64) -> u64,
            witnessed: impl Fn(u64) -> Option<u64>,
        ) -> Vec<u64> {
            let at = |ms: u64| self.start + Duration::from_millis(ms);
            let mut ordered = Vec::new();
            for now in (0..10_000).step_by(100) {
                let facts = Facts {
                    master: now >= 300,
                    by_silence: now >= 300,
                    link: now < heard(now) + 2500,
                    heard: Some(at(heard(now))),
                    witnessed: witnessed(now).map(at),
                    now: at(now),
                };
                if self.fencing.is_due(&facts) {
                    ordered.push(now);
                }
            }
            ordered
        }
    }

    #[test]
    fn a_peer_that_falls_silent_on_both_paths_is_fenced_once_when_the_link_is_given_up() {
        assert_eq!(Backup::new().fences(|_| 0, |_| None), [2500]);
    }

    #[test]
    fn a_link_that_is_lost_soon_after_the_adverts_counts_as_the_same_silence() {
        assert_eq!(Backup::new().fences(|now| now.min(1500), |_| None), [4000]);
    }

    #[test]
    fn a_link_that_is_lost_long_after_a_take_over_is_no_reason() {
        assert!(Backup::new().fences(|now| now.min(5000), |_| None).is_empty());
    }

    #[test]
    fn a_working_link_is_no_reason() {
        assert!(Backup::new().fences(|now| now, |_| None).is_empty());
    }

    #[test]
    fn a_director_whose_witnesses_are_silent_too_fences_nobody() {
        assert!(Backup::new().fences(|_| 0, |_| Some(200)).is_empty());
    }

    #[test]
    fn an_answer_of_a_witness_since_the_take_over_is_waited_for() {
        let late = |now| Some(if now < 4000 { 0 } else { 4000 });
        assert_eq!(Backup::new().fences(|_| 0, late), [4000]);
    }

    #[test]
    fn a_master_by_priority_fences_nobody() {
        let start = Instant::now();
        let mut fencing = Fencing::default();
        for by_silence in [false, true] {
            // Already master when the reason would be silence: that is no take-over.
            let facts = Facts {
                master: true,
                by_silence,
                link: false,
                heard: None,
                witnessed: None,
                now: start,
            };
            assert!(!fencing.is_due(&facts));
        }
    }
}
