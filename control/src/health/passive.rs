//! Checks that send nothing: what the packet path saw of a server's connections.
//!
//! A server that is down gets no new connections, so nothing can be seen of its recovery. After a
//! wait it is simply given another chance.

use std::time::Duration;

use crate::health::fsm::Health;
use crate::health::outcome::{Failure, Outcome};
use crate::model::PassiveProbe;

/// How long a server that passive checks took down is left alone, unless the check says otherwise.
pub const CHANCE_AFTER: Duration = Duration::from_secs(30);

/// What became of a server's new connections, counted since some beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Connections of which it is known whether the server took them.
    pub opened: u64,
    /// Those that got no answer or were reset before any data.
    pub failed: u64,
}

/// A passive check of one server.
#[derive(Clone, Copy, Debug)]
pub struct Passive {
    limits: PassiveProbe,
    judged: Option<Tally>,
}

impl Passive {
    /// A check that has seen nothing yet.
    pub fn new(limits: PassiveProbe) -> Self {
        Self { limits, judged: None }
    }

    /// Judges what came since the last judgement. `None` while there is too little to say anything;
    /// that little counts next time.
    pub fn judge(&mut self, health: Health, tally: Tally) -> Option<Outcome> {
        let Some(before) = self.judged else {
            self.judged = Some(tally);
            return None;
        };
        if health == Health::Down {
            self.judged = Some(tally);
            return Some(Outcome::passed("given another chance", Duration::ZERO));
        }
        // Counters that went back belong to a new beginning.
        let opened = tally.opened.checked_sub(before.opened);
        let failed = tally.failed.checked_sub(before.failed);
        let (Some(opened), Some(failed)) = (opened, failed) else {
            self.judged = Some(tally);
            return None;
        };
        if opened < u64::from(self.limits.min_connections) {
            return None;
        }
        self.judged = Some(tally);
        let said = format!("{failed} of {opened} connections failed");
        let limit = u64::from(self.limits.max_failed_percent);
        if failed.saturating_mul(100) > opened.saturating_mul(limit) {
            let wanted = format!("at most {limit} %");
            Some(Outcome::failed(Failure::unexpected(said, wanted), Duration::ZERO))
        } else {
            Some(Outcome::passed(said, Duration::ZERO))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::outcome::Verdict;

    fn check() -> Passive {
        let limits = PassiveProbe { max_failed_percent: 50, min_connections: 10 };
        let mut check = Passive::new(limits);
        assert_eq!(
            check.judge(Health::Up, tally(1000, 900)),
            None,
            "what was before is not judged"
        );
        check
    }

    fn tally(opened: u64, failed: u64) -> Tally {
        Tally { opened, failed }
    }

    fn up(outcome: Option<Outcome>) -> Option<bool> {
        outcome.map(|outcome| matches!(outcome.verdict, Verdict::Passed(_)))
    }

    #[test]
    fn the_share_of_failures_decides() {
        assert_eq!(up(check().judge(Health::Up, tally(1010, 905))), Some(true));
        let bad = check().judge(Health::Up, tally(1010, 906)).unwrap();
        assert_eq!(bad.reason(), "6 of 10 connections failed after 0.0 ms; expected at most 50 %");
    }

    #[test]
    fn little_traffic_is_added_up_until_it_says_something() {
        let mut check = check();
        assert_eq!(check.judge(Health::Up, tally(1004, 904)), None);
        assert_eq!(up(check.judge(Health::Up, tally(1010, 910))), Some(false));
        assert_eq!(check.judge(Health::Up, tally(1010, 910)), None, "judged once");
    }

    #[test]
    fn a_server_that_is_down_gets_another_chance_and_a_clean_slate() {
        let mut check = check();
        assert_eq!(up(check.judge(Health::Down, tally(1010, 910))), Some(true));
        assert_eq!(up(check.judge(Health::Up, tally(1020, 910))), Some(true));
    }

    #[test]
    fn counters_that_go_back_begin_anew() {
        let mut check = check();
        assert_eq!(check.judge(Health::Up, tally(5, 5)), None);
        assert_eq!(up(check.judge(Health::Up, tally(20, 5))), Some(true));
    }
}
