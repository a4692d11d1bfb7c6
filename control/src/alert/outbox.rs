//! Messages on their way: tried again with growing waits, given up in the end, never too many.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::policy::Message;

/// Messages that wait. When there are more, the oldest is dropped: the newest matters most.
const WAITING: usize = 100;

/// The first wait after a failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Failures after which a message is given up: about two and a half hours.
const TRIES: u32 = 20;

/// What became of a failed delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is tried again.
    Again,
    /// It was given up.
    GivenUp,
}

/// One receiver's messages on their way, oldest first. One is delivered at a time, so that they
/// arrive in order.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Message>,
    under_way: bool,
    failures: u32,
    not_before: Option<Instant>,
    dropped: u64,
}

impl Outbox {
    /// Takes a message.
    pub fn push(&mut self, message: Message) {
        if self.waiting.len() >= WAITING {
            // The first may be under way just now and must stay to be answered for.
            let oldest = usize::from(self.under_way);
            self.waiting.remove(oldest);
            self.dropped += 1;
        }
        self.waiting.push_back(message);
    }

    /// When the next message may be delivered; `None` while one is under way or nothing waits.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let idle = !self.under_way && !self.waiting.is_empty();
        idle.then(|| self.not_before.unwrap_or(now))
    }

    /// The message to deliver now. [`Outbox::delivered`] or [`Outbox::failed`] must follow.
    pub fn begin(&mut self, now: Instant) -> Option<Message> {
        self.next_due(now).filter(|due| *due <= now)?;
        self.under_way = true;
        self.waiting.front().cloned()
    }

    /// The message under way arrived.
    pub fn delivered(&mut self) {
        self.end();
        self.waiting.pop_front();
    }

    /// The message under way did not arrive.
    pub fn failed(&mut self, now: Instant) -> Fate {
        let failures = self.failures + 1;
        self.end();
        if failures >= TRIES {
            self.waiting.pop_front();
            return Fate::GivenUp;
        }
        self.failures = failures;
        let doublings = (failures - 1).min(16);
        self.not_before = Some(now + (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT));
        Fate::Again
    }

    /// How often the message that is next has failed already.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Messages that were dropped for want of room so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Messages that wait, the one under way included.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no message is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn end(&mut self) {
        self.under_way = false;
        self.failures = 0;
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // an arbitrary base moment; nothing waits for it

    use super::*;
    use proptest::prelude::*;

    fn message(n: usize) -> Message {
        Message { receiver: n.to_string(), items: Vec::new(), omitted: 0 }
    }

    #[test]
    fn a_message_is_tried_again_with_growing_waits_and_given_up() {
        let mut now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.push(message(1));
        let mut waits = Vec::new();
        while outbox.begin(now).is_some() {
            assert_eq!(outbox.begin(now), None, "one at a time");
            if outbox.failed(now) == Fate::GivenUp {
                break;
            }
            let due = outbox.next_due(now).unwrap();
            waits.push(due.duration_since(now).as_secs());
            now = due;
        }
        assert_eq!(waits[..9], [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(waits.len() as u32, TRIES - 1);
        assert!(outbox.is_empty());
    }

    #[test]
    fn one_that_was_given_up_does_not_slow_the_next() {
        let mut now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.push(message(1));
        outbox.push(message(2));
        for _ in 0..TRIES {
            now = outbox.next_due(now).unwrap();
            outbox.begin(now);
            outbox.failed(now);
        }
        assert_eq!(outbox.begin(now), Some(message(2)));
        outbox.delivered();
        assert!(outbox.is_empty());
    }

    proptest! {
        #[test]
        fn messages_keep_their_order_and_never_pile_up(
            steps in proptest::collection::vec(0u8..4, 0..600),
        ) {
            let mut now = Instant::now();
            let mut outbox = Outbox::default();
            let (mut pushed, mut under_way, mut last) = (0usize, None, None);
            for step in steps {
                match step {
                    0 | 1 => { outbox.push(message(pushed)); pushed += 1; }
                    2 => if let Some(message) = outbox.begin(now) {
                        let number: usize = message.receiver.parse().unwrap();
                        under_way = Some(number);
                        prop_assert!(last.is_none_or(|last| number > last));
                    },
                    _ => if let Some(number) = under_way.take() {
                        outbox.delivered();
                        last = Some(number);
                        now += Duration::from_secs(1);
                    },
                }
                prop_assert!(outbox.len() <= WAITING);
            }
        }
    }
}
