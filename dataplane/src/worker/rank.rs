//! Whether a worker runs before everyday threads.
//!
//! While the machine keeps up, a worker is one thread among others: what sends on the same processor
//! goes on until it has something to wait for, and the worker then finds many frames at once instead
//! of being woken for each. Under overload that would starve it (see
//! [`run_before_everyday_threads`]), so it goes before everyday threads from the first sign of it,
//! and longer each time that it comes back.

use crate::io::{Precedence, run_among_everyday_threads, run_before_everyday_threads};
use crate::tick::{Tick, Ticks};

/// So many full batches without a pause mean that frames arrive faster than they are taken: 512
/// frames, of a ring with room for 2,048 or more. Fewer than the 16 turns after which XDP sockets
/// look elsewhere first.
const FULL_BATCHES: u32 = 8;

/// Seconds before everyday threads after the first sign of overload, and at most.
const FIRST_HOLD: u32 = 8;
const LONGEST_HOLD: u32 = 64;

/// What a worker has seen of overload.
#[derive(Debug)]
pub(super) struct Rank {
    /// Full batches in a row.
    full: u32,
    state: State,
    /// Seconds of the last hold; 0 once it is long past.
    hold: u32,
    /// Whether there is no use in trying.
    refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// One thread among others, since then.
    Everyday(Tick),
    /// Before them, until then.
    First(Tick),
}

impl Rank {
    /// An everyday thread. Tries whether it may be more, and logs when not.
    pub fn new(now: Tick) -> Self {
        let precedence = run_before_everyday_threads();
        run_among_everyday_threads();
        if precedence != Precedence::RealTime {
            tracing::info!(?precedence, "no real-time priority: overload may cost throughput");
        }
        let refused = precedence == Precedence::Everyday;
        Self { full: 0, state: State::Everyday(now), hold: 0, refused }
    }

    /// After every turn: whether a batch was full, and whether frames were lost for want of room.
    #[inline]
    pub fn look(&mut self, full: bool, lost: bool, now: Tick) {
        self.full = if full { self.full.saturating_add(1) } else { 0 };
        // A worker that goes first is quick enough to be done between two portions of a flood, so
        // that each of its full batches counts.
        let enough = if matches!(self.state, State::First(_)) { 1 } else { FULL_BATCHES };
        let overloaded = lost || self.full >= enough;
        let Some(next) = self.next(overloaded, now) else { return };
        let was = std::mem::replace(&mut self.state, next);
        match (was, next) {
            (State::Everyday(_), State::First(_)) => {
                run_before_everyday_threads();
            }
            (State::First(_), State::Everyday(_)) => run_among_everyday_threads(),
            (State::Everyday(_), State::Everyday(_)) | (State::First(_), State::First(_)) => {}
        }
    }

    /// The state to go to; `None` to stay. Does nothing but count.
    fn next(&mut self, overloaded: bool, now: Tick) -> Option<State> {
        match self.state {
            State::Everyday(_) if !overloaded && self.hold == 0 || self.refused => None,
            State::Everyday(since) => {
                // Forgotten in time: a moment of 97 days ago would look like the future.
                if now.since(since) >= Ticks::from_secs(LONGEST_HOLD) {
                    self.hold = 0;
                }
                if !overloaded {
                    return None;
                }
                self.hold = (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD);
                Some(State::First(now.after(Ticks::from_secs(self.hold))))
            }
            State::First(_) if overloaded => {
                Some(State::First(now.after(Ticks::from_secs(self.hold))))
            }
            State::First(until) => until.is_due(now).then_some(State::Everyday(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::PER_SECOND;
    use crate::tick::tests::moment;

    fn rank() -> Rank {
        Rank { full: 0, state: State::Everyday(moment(0)), hold: 0, refused: false }
    }

    /// Looks, without asking the scheduler for anything.
    fn see(rank: &mut Rank, overloaded: bool, seconds: u32) -> bool {
        let now = moment(seconds.wrapping_mul(PER_SECOND));
        if let Some(next) = rank.next(overloaded, now) {
            rank.state = next;
        }
        matches!(rank.state, State::First(_))
    }

    #[test]
    fn a_worker_goes_first_while_there_is_overload_and_a_little_longer() {
        let mut rank = rank();
        assert!(!see(&mut rank, false, 1));
        assert!(see(&mut rank, true, 2));
        assert!(see(&mut rank, true, 9));
        assert!(see(&mut rank, false, 9 + FIRST_HOLD - 1));
        assert!(!see(&mut rank, false, 9 + FIRST_HOLD));
        assert!(!see(&mut rank, false, 9 + FIRST_HOLD + 1));
    }

    #[test]
    fn overload_that_comes_back_is_held_longer_and_longer() {
        let mut rank = rank();
        let mut now = 1;
        for expected in [8, 16, 32, 64, 64] {
            assert!(see(&mut rank, true, now));
            assert!(see(&mut rank, false, now + expected - 1));
            assert!(!see(&mut rank, false, now + expected));
            now += expected;
        }
        now += LONGEST_HOLD;
        assert!(see(&mut rank, true, now));
        assert!(!see(&mut rank, false, now + FIRST_HOLD), "after a long rest it starts anew");
    }

    #[test]
    fn overload_after_a_hundred_quiet_days_is_a_first_sign() {
        let mut rank = Rank { hold: LONGEST_HOLD, ..rank() };
        for day in 0..100 {
            assert!(!see(&mut rank, false, LONGEST_HOLD + day * 86_400));
        }
        assert!(see(&mut rank, true, 100 * 86_400));
        assert!(!see(&mut rank, false, 100 * 86_400 + FIRST_HOLD));
    }

    #[test]
    fn full_batches_with_pauses_are_no_overload() {
        let mut rank = Rank { refused: true, ..rank() };
        for _ in 0..100 {
            for _ in 1..FULL_BATCHES {
                rank.look(true, false, moment(0));
            }
            assert!(rank.full < FULL_BATCHES);
            rank.look(false, false, moment(0));
        }
        assert_eq!(rank.full, 0);
        assert_eq!(rank.state, State::Everyday(moment(0)));
    }

    #[test]
    fn a_worker_that_may_not_go_first_does_not_try() {
        let mut rank = Rank { refused: true, ..rank() };
        assert!(!see(&mut rank, true, 1));
    }
}
