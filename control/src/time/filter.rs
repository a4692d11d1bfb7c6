//! The best of one server's last answers (RFC 5905 section 10).
//!
//! The answer with the shortest way is the truest: queues only ever add to a way. But when the latest
//! answer cannot be reconciled with it, a clock was set meanwhile, and only the latest counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sntp::{Leap, ReferenceId, Sample};

/// Answers kept.
const KEPT: usize = 8;

/// How fast an answer goes stale: the largest error of a clock's rate (PHI), in seconds per second.
const STALENESS: f64 = 15e-6;

/// One server's last answers, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Filter(VecDeque<(Sample, Instant)>);

/// What a server says, as far as it can be trusted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// Seconds by which the server is ahead of this node.
    pub offset: f64,
    /// Way there and back, in seconds.
    pub delay: f64,
    /// Largest error of `offset`, in seconds, if the server is honest.
    pub error: f64,
    /// How much its answers differ from the best one, in seconds (root mean square).
    pub jitter: f64,
    /// Its distance from a primary source.
    pub stratum: u8,
    /// Its source.
    pub reference_id: ReferenceId,
    /// Leap second announced.
    pub leap: Leap,
    /// How old the answer is.
    pub age: Duration,
}

impl Filter {
    /// Takes an answer.
    pub fn add(&mut self, sample: Sample, now: Instant) {
        let best = self.best(now);
        let stepped = best
            .is_some_and(|best| (best.offset - sample.offset).abs() > best.error + sample.error);
        if stepped {
            self.0.clear();
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((sample, now));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The best of the answers; `None` before the first.
    pub fn best(&self, now: Instant) -> Option<Estimate> {
        let aged = |(sample, at): &(Sample, Instant)| {
            let age = now.saturating_duration_since(*at);
            (*sample, age, sample.error + STALENESS * age.as_secs_f64())
        };
        let (sample, age, error) =
            self.0.iter().map(aged).min_by(|(_, _, a), (_, _, b)| a.total_cmp(b))?;
        let squares = self.0.iter().map(|(other, _)| (other.offset - sample.offset).powi(2));
        let others = (self.0.len() - 1).max(1) as f64;
        Some(Estimate {
            offset: sample.offset,
            delay: sample.delay,
            error,
            jitter: (squares.sum::<f64>() / others).sqrt(),
            stratum: sample.stratum,
            reference_id: sample.reference_id,
            leap: sample.leap,
            age,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // an arbitrary base moment

    use super::*;
    use proptest::prelude::*;

    fn sample(offset: f64, delay: f64) -> Sample {
        Sample {
            offset,
            delay,
            error: delay / 2.0 + 0.001,
            stratum: 2,
            reference_id: ReferenceId([10, 0, 0, 1]),
            leap: Leap::None,
        }
    }

    #[test]
    fn the_shortest_way_wins() {
        let now = Instant::now();
        let mut filter = Filter::default();
        assert_eq!(filter.best(now), None);
        for (offset, delay) in [(0.020, 0.060), (0.001, 0.004), (-0.030, 0.080)] {
            filter.add(sample(offset, delay), now);
        }
        let best = filter.best(now).unwrap();
        assert_eq!((best.offset, best.delay), (0.001, 0.004));
        let expected = ((0.019f64.powi(2) + 0.031f64.powi(2)) / 2.0).sqrt();
        assert!((best.jitter - expected).abs() < 1e-12);
    }

    #[test]
    fn a_stepped_clock_is_believed_at_once() {
        let now = Instant::now();
        let mut filter = Filter::default();
        for _ in 0..8 {
            filter.add(sample(0.0, 0.001), now);
        }
        filter.add(sample(3.0, 0.050), now);
        assert_eq!(filter.best(now).unwrap().offset, 3.0);
        filter.add(sample(0.0, 0.050), now);
        assert_eq!(filter.best(now).unwrap().offset, 0.0);
    }

    #[test]
    fn old_answers_grow_stale_and_fall_out() {
        let start = Instant::now();
        let mut filter = Filter::default();
        filter.add(sample(0.0, 0.002), start);
        let later = start + Duration::from_secs(1000);
        assert!((filter.best(later).unwrap().error - 0.002 - 0.015).abs() < 1e-9);
        for n in 0..8 {
            filter.add(sample(0.001, 0.010), start + Duration::from_secs(n));
        }
        assert_eq!(filter.best(start).unwrap().offset, 0.001, "the first has fallen out");
    }

    proptest! {
        #[test]
        fn the_best_is_one_of_the_answers(
            samples in proptest::collection::vec((-5.0f64..5.0, 0.0f64..3.0), 1..30),
        ) {
            let now = Instant::now();
            let mut filter = Filter::default();
            for (offset, delay) in &samples {
                filter.add(sample(*offset, *delay), now);
                let best = filter.best(now).unwrap();
                prop_assert!(samples.iter().any(|(o, _)| *o == best.offset));
                // The latest answer is never contradicted.
                prop_assert!((best.offset - offset).abs() <= best.error + delay / 2.0 + 0.001 + 1e-9);
                prop_assert!(filter.0.len() <= KEPT && best.jitter.is_finite());
            }
        }
    }
}
