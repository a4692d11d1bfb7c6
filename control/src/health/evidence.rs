//! What a real server's traffic says about it: connections that it refuses, and setups that only
//! clients suffer from, because checks of the server itself pass.
//!
//! With NAT every reply passes the director; when none does, the server sends them another way: the
//! director is not its gateway. With direct routing or tunnelling no reply is seen, but clients
//! confirm every connection that they got an answer for; when none does, the server does not take what
//! is forwarded to it.

use super::passive::Tally;
use std::time::{Duration, Instant};

/// Connections in vain before anything is concluded.
const ENOUGH: u64 = 3;

/// How long they have to have been in vain: a server may be slow, and a client may be gone.
const LONG_ENOUGH: Duration = Duration::from_secs(6);

/// What lasts is said again after this.
const AGAIN: Duration = Duration::from_secs(30);

/// What the packet path has counted of one real server since some beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections that it was given.
    pub connections: u64,
    /// Packets that came back through the director.
    pub replies: u64,
    /// TCP connections that the client confirmed.
    pub completed: u64,
    /// TCP connections that the server reset before they were open.
    pub refused: u64,
}

/// Which way replies go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    /// Through the director.
    Pass,
    /// Past it.
    Bypass,
}

/// What is new about a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// So many connections, and not one was answered as it should be.
    InVain(u64),
    /// They are answered again.
    Answered,
}

/// What one server's traffic has said so far.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Counts when a connection was last answered.
    base: Counts,
    /// When the first connection after that was seen.
    waiting: Option<Instant>,
    /// When it was last said that connections are in vain.
    told: Option<Instant>,
    last: Counts,
    tallied: Counts,
    /// Connections of the last interval without a reply, in case none comes in this one either.
    silent: u64,
    tally: Tally,
}

impl Evidence {
    /// Nothing is held against a server for what was before.
    pub fn new(counts: Counts) -> Self {
        Self {
            base: counts,
            waiting: None,
            told: None,
            last: counts,
            tallied: counts,
            silent: 0,
            tally: Tally::default(),
        }
    }

    /// Takes the counts. Whether connections were refused since the last time: then the server should
    /// be checked at once.
    pub fn is_refusing(&mut self, counts: Counts) -> bool {
        let before = std::mem::replace(&mut self.last, counts);
        counts.refused > before.refused
    }

    /// What the counts say about a TCP service's server.
    pub fn judge(&mut self, counts: Counts, replies: Replies, now: Instant) -> Option<Finding> {
        let answered = match replies {
            Replies::Pass => counts.replies != self.base.replies,
            Replies::Bypass => counts.completed != self.base.completed,
        };
        // Counters that went back belong to a new beginning.
        if answered || counts.connections < self.base.connections {
            self.base = counts;
            self.waiting = None;
            return self.told.take().map(|_| Finding::Answered);
        }
        let vain = counts.connections - self.base.connections;
        if vain == 0 {
            return None;
        }
        let since = *self.waiting.get_or_insert(now);
        let due = self.told.is_none_or(|told| now >= told + AGAIN);
        if vain < ENOUGH || now < since + LONG_ENOUGH || !due {
            return None;
        }
        self.told = Some(now);
        Some(Finding::InVain(vain))
    }

    /// The tally for passive checks, once an interval. Connections count as failed that were refused,
    /// or that were given to a server which said nothing at all in this interval and the next: a flood
    /// of half-open connections must not make a server that answers look dead.
    pub fn tally(&mut self, counts: Counts, replies: Replies) -> Tally {
        let before = std::mem::replace(&mut self.tallied, counts);
        let new = |of: fn(&Counts) -> u64| of(&counts).saturating_sub(of(&before));
        let (given, refused) = (new(|c| c.connections), new(|c| c.refused));
        let heard = match replies {
            Replies::Pass => new(|c| c.replies),
            Replies::Bypass => new(|c| c.completed),
        };
        let silent = std::mem::replace(&mut self.silent, if heard == 0 { given } else { 0 });
        self.tally.opened += given;
        self.tally.failed += refused;
        if heard == 0 && replies == Replies::Pass {
            self.tally.failed += silent;
        }
        self.tally
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // an arbitrary base moment

    use super::*;
    use proptest::prelude::*;

    fn counts(connections: u64, replies: u64, completed: u64) -> Counts {
        Counts { connections, replies, completed, refused: 0 }
    }

    #[test]
    fn nat_without_a_single_reply_is_found_and_its_repair_too() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut evidence = Evidence::new(counts(100, 900, 90));
        assert_eq!(evidence.judge(counts(101, 900, 90), Replies::Pass, start), None);
        assert_eq!(evidence.judge(counts(105, 900, 90), Replies::Pass, after(5)), None, "too soon");
        let found = evidence.judge(counts(105, 900, 90), Replies::Pass, after(6));
        assert_eq!(found, Some(Finding::InVain(5)));
        assert_eq!(evidence.judge(counts(109, 900, 90), Replies::Pass, after(20)), None, "said");
        let again = evidence.judge(counts(109, 900, 90), Replies::Pass, after(36));
        assert_eq!(again, Some(Finding::InVain(9)));
        let repaired = evidence.judge(counts(110, 901, 90), Replies::Pass, after(40));
        assert_eq!(repaired, Some(Finding::Answered));
        assert_eq!(evidence.judge(counts(110, 901, 90), Replies::Pass, after(80)), None, "idle");
    }

    #[test]
    fn where_replies_bypass_the_director_clients_confirm() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut evidence = Evidence::new(Counts::default());
        for second in 0..20 {
            let seen = counts(second * 2, 0, second);
            assert_eq!(evidence.judge(seen, Replies::Bypass, after(second)), None);
        }
        assert_eq!(evidence.judge(counts(50, 0, 19), Replies::Bypass, after(20)), None);
        let found = evidence.judge(counts(50, 0, 19), Replies::Bypass, after(26));
        assert_eq!(found, Some(Finding::InVain(12)));
    }

    #[test]
    fn a_refusal_is_noticed_once() {
        let mut evidence = Evidence::new(Counts::default());
        let refused = Counts { refused: 2, ..Counts::default() };
        assert!(evidence.is_refusing(refused));
        assert!(!evidence.is_refusing(refused));
    }

    #[test]
    fn passive_checks_count_refusals_and_utter_silence() {
        let mut evidence = Evidence::new(Counts::default());
        let refused = Counts { connections: 10, replies: 30, completed: 6, refused: 4 };
        assert_eq!(evidence.tally(refused, Replies::Pass), Tally { opened: 10, failed: 4 });
        let silent = Counts { connections: 15, ..refused };
        let tally = evidence.tally(silent, Replies::Pass);
        assert_eq!(tally, Tally { opened: 15, failed: 4 }, "the answers may be on their way");
        let tally = evidence.tally(silent, Replies::Pass);
        assert_eq!(tally, Tally { opened: 15, failed: 9 });
    }

    proptest! {
        #[test]
        fn a_flood_of_half_open_connections_is_no_failure_of_a_server_that_answers(
            steps in proptest::collection::vec((0u64..10_000, 1u64..100), 1..30),
        ) {
            let (mut evidence, mut seen) = (Evidence::new(Counts::default()), Counts::default());
            let start = Instant::now();
            for (second, (given, replies)) in steps.into_iter().enumerate() {
                seen.connections += given;
                seen.replies += replies;
                prop_assert_eq!(evidence.tally(seen, Replies::Pass).failed, 0);
                let now = start + Duration::from_secs(10 * second as u64);
                prop_assert_eq!(evidence.judge(seen, Replies::Pass, now), None);
            }
        }
    }
}
