//! One opinion out of several servers, some of which may lie (Marzullo's intersection, as RFC 5905
//! section 11.2.1 uses it).
//!
//! Each honest server's interval, offset plus or minus error, contains the truth. The largest set of
//! servers whose intervals have a point in common is believed, if it is a majority.

use std::time::Duration;

use super::filter::Estimate;

/// Servers whose distance from the truth is larger say nothing of use (RFC 5905's MAXDIST is 1 s;
/// ntpd takes 1.5 s).
const MAX_ERROR: f64 = 1.5;

/// What the servers say together.
#[derive(Clone, PartialEq, Debug)]
pub enum Opinion {
    /// No server gives the time.
    Unknown,
    /// They contradict each other, without a majority.
    Contradictory,
    /// A majority agrees.
    Known {
        /// Seconds by which true time is ahead of this node.
        offset: f64,
        /// Largest error of that, in seconds.
        error: f64,
        /// How much the believed servers differ (root mean square), in seconds.
        jitter: f64,
        /// Places in the list of those that are believed.
        believed: Vec<usize>,
        /// Places of those that contradict them.
        lying: Vec<usize>,
    },
}

/// Makes one opinion of the servers' estimates; `None` for a server that gives no time.
pub fn opinion(estimates: &[Option<Estimate>]) -> Opinion {
    let heard: Vec<(usize, Estimate)> = estimates
        .iter()
        .enumerate()
        .filter_map(|(place, estimate)| Some((place, (*estimate)?)))
        .filter(|(_, estimate)| estimate.error <= MAX_ERROR)
        .collect();
    if heard.is_empty() {
        return Opinion::Unknown;
    }
    let Some((low, high)) = most_shared(&heard) else { return Opinion::Unknown };
    let agrees =
        |e: &Estimate| e.offset - e.error <= low + EPSILON && e.offset + e.error >= high - EPSILON;
    let (believed, lying): (Vec<_>, Vec<_>) =
        heard.iter().copied().partition(|(_, estimate)| agrees(estimate));
    if believed.len() * 2 <= heard.len() {
        return Opinion::Contradictory;
    }
    let weights: f64 = believed.iter().map(|(_, e)| weight(e)).sum();
    let offset = believed.iter().map(|(_, e)| e.offset * weight(e)).sum::<f64>() / weights;
    // The weighted offset may lie a little outside the shared interval; the truth lies inside.
    let error = (high - offset).max(offset - low).max(0.0);
    let squares: f64 = believed.iter().map(|(_, e)| (e.offset - offset).powi(2)).sum();
    let own: f64 = believed.iter().map(|(_, e)| e.jitter.powi(2)).sum();
    Opinion::Known {
        offset,
        error,
        jitter: ((squares + own) / believed.len() as f64).sqrt(),
        believed: believed.into_iter().map(|(place, _)| place).collect(),
        lying: lying.into_iter().map(|(place, _)| place).collect(),
    }
}

/// Rounding must not put an interval's own end outside it.
const EPSILON: f64 = 1e-9;

fn weight(estimate: &Estimate) -> f64 {
    1.0 / estimate.error.max(1e-6)
}

/// The interval that lies in the most servers' intervals.
fn most_shared(heard: &[(usize, Estimate)]) -> Option<(f64, f64)> {
    // Beginnings sort before ends at the same point, so that touching intervals share it.
    let mut edges: Vec<(f64, bool)> = heard
        .iter()
        .flat_map(|(_, e)| [(e.offset - e.error, false), (e.offset + e.error, true)])
        .collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut depth, mut deepest, mut best) = (0, 0, None);
    for (i, (at, is_end)) in edges.iter().enumerate() {
        if *is_end {
            depth -= 1;
        } else {
            depth += 1;
            if depth > deepest {
                deepest = depth;
                best = edges.get(i + 1).map(|(next, _)| (*at, *next));
            }
        }
    }
    best
}

/// "3.000 s", "12.3 ms", "4 us": an offset as people read it, with its sign.
pub fn signed(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "+" };
    format!("{sign}{}", unsigned(seconds.abs()))
}

/// The same without a sign.
pub fn unsigned(seconds: f64) -> String {
    if seconds >= 1.0 {
        let whole = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        if seconds >= 86_400.0 * 2.0 {
            format!("{} days", whole.as_secs() / 86_400)
        } else {
            format!("{seconds:.3} s")
        }
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} us", seconds * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::sntp::{Leap, ReferenceId};
    use proptest::prelude::*;

    fn says(offset: f64, error: f64) -> Option<Estimate> {
        Some(Estimate {
            offset,
            delay: error,
            error,
            jitter: 0.001,
            stratum: 2,
            reference_id: ReferenceId([10, 0, 0, 1]),
            leap: Leap::None,
            age: Duration::ZERO,
        })
    }

    #[test]
    fn a_liar_is_outvoted_by_two() {
        let opinion = opinion(&[says(0.001, 0.01), says(3.0, 0.01), says(-0.002, 0.02), None]);
        let Opinion::Known { offset, believed, lying, .. } = opinion else { panic!() };
        assert!(offset.abs() < 0.003);
        assert_eq!((believed, lying), (vec![0, 2], vec![1]));
    }

    #[test]
    fn two_that_contradict_each_other_are_no_majority() {
        assert_eq!(opinion(&[says(0.0, 0.01), says(3.0, 0.01)]), Opinion::Contradictory);
        let two_pairs = [says(0.0, 0.01), says(0.0, 0.01), says(3.0, 0.01), says(3.0, 0.01)];
        assert_eq!(opinion(&two_pairs), Opinion::Contradictory);
    }

    #[test]
    fn one_alone_is_believed_and_silence_is_no_opinion() {
        let Opinion::Known { offset, error, .. } = opinion(&[None, says(3.0, 0.01)]) else {
            panic!()
        };
        assert!((offset - 3.0).abs() < 1e-9 && (error - 0.01).abs() < 1e-9);
        assert_eq!(opinion(&[None, None]), Opinion::Unknown);
        assert_eq!(opinion(&[says(0.0, 9.0)]), Opinion::Unknown, "too far from the truth");
    }

    #[test]
    fn offsets_read_well() {
        assert_eq!(signed(3.0), "+3.000 s");
        assert_eq!(signed(-0.0123), "-12.3 ms");
        assert_eq!(signed(0.000_004), "+4 us");
        assert_eq!(signed(-86_400.0 * 9.5), "-9 days");
        assert_eq!(signed(f64::MAX), format!("+{} days", u64::MAX / 86_400));
    }

    proptest! {
        #[test]
        fn honest_servers_bracket_the_truth(
            truth in -10.0f64..10.0,
            honest in proptest::collection::vec((-1.0f64..1.0, 0.001f64..1.0), 1..8),
            liars in proptest::collection::vec((100.0f64..200.0, 0.001f64..0.2), 0..8),
        ) {
            prop_assume!(liars.len() < honest.len());
            let mut servers: Vec<_> =
                honest.iter().map(|(place, error)| says(truth + place * error, *error)).collect();
            servers.extend(liars.iter().map(|(offset, error)| says(*offset, *error)));
            let Opinion::Known { offset, error, believed, .. } = opinion(&servers) else {
                return Err(TestCaseError::fail("a majority is honest"));
            };
            prop_assert!((offset - truth).abs() <= error + 1e-6, "{offset} {error} {truth}");
            prop_assert!(believed.iter().all(|place| *place < honest.len()));
            prop_assert_eq!(believed.len(), honest.len());
        }

        #[test]
        fn any_estimates_give_an_opinion(
            servers in proptest::collection::vec(
                proptest::option::of((-1e12f64..1e12, 0.0f64..1e12)), 0..10),
        ) {
            let estimates: Vec<_> =
                servers.iter().map(|s| s.and_then(|(offset, error)| says(offset, error))).collect();
            if let Opinion::Known { offset, error, jitter, .. } = opinion(&estimates) {
                prop_assert!(offset.is_finite() && error.is_finite() && jitter.is_finite());
            }
        }
    }
}
