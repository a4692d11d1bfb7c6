#![allow(clippy::disallowed_methods)] // an arbitrary base moment; nothing waits for it

use proptest::prelude::*;

use super::*;
use crate::health::outcome::Failure;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn cadence(rise: u32, fall: u32) -> Cadence {
    Cadence {
        interval: secs(2),
        rise: NonZeroU32::new(rise).unwrap(),
        fall: NonZeroU32::new(fall).unwrap(),
        ..Cadence::default()
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Answer {
    Pass,
    Fail,
    Unable,
}

fn outcome(answer: Answer) -> Outcome {
    let took = Duration::from_millis(12);
    match answer {
        Answer::Pass => Outcome::passed("HTTP 200", took),
        Answer::Fail => Outcome::failed(Failure::unexpected("HTTP 500", "200-399"), took),
        Answer::Unable => Outcome::unable("too many open files", took),
    }
}

/// Runs one probe that begins when due and ends at once.
fn probe(fsm: &mut Fsm, answer: Answer) -> Option<Transition> {
    let now = fsm.due().unwrap();
    fsm.start(now);
    fsm.finish(&outcome(answer), now)
}

/// A machine brought to a state with a number of contrary results already counted.
fn machine(health: Health, contrary: u32, rise: u32, fall: u32) -> Fsm {
    let mut fsm = Fsm::new(cadence(rise, fall), health, 0, Instant::now());
    let against = if health == Health::Up { Answer::Fail } else { Answer::Pass };
    for _ in 0..contrary {
        assert_eq!(probe(&mut fsm, against), None);
    }
    assert_eq!((fsm.health(), fsm.contrary()), (health, contrary));
    fsm
}

#[test]
fn transition_table_is_exhaustive_and_correct() {
    use Answer::{Fail, Pass, Unable};
    use Health::{Down, Untested, Up};
    // With rise 2 and fall 3: state, contrary results so far, answer; then state and count.
    let table = [
        (Untested, 0, Pass, Up, 0),
        (Untested, 0, Fail, Down, 0),
        (Untested, 0, Unable, Untested, 0),
        (Up, 0, Pass, Up, 0),
        (Up, 0, Fail, Up, 1),
        (Up, 0, Unable, Up, 0),
        (Up, 1, Pass, Up, 0),
        (Up, 1, Fail, Up, 2),
        (Up, 1, Unable, Up, 1),
        (Up, 2, Pass, Up, 0),
        (Up, 2, Fail, Down, 0),
        (Up, 2, Unable, Up, 2),
        (Down, 0, Pass, Down, 1),
        (Down, 0, Fail, Down, 0),
        (Down, 0, Unable, Down, 0),
        (Down, 1, Pass, Up, 0),
        (Down, 1, Fail, Down, 0),
        (Down, 1, Unable, Down, 1),
    ];
    for (health, contrary, answer, then, count) in table {
        let mut fsm = machine(health, contrary, 2, 3);
        let transition = probe(&mut fsm, answer);
        let row = (health, contrary, answer);
        assert_eq!((fsm.health(), fsm.contrary()), (then, count), "{row:?}");
        assert_eq!(transition.map(|t| (t.from, t.to)), (then != health).then_some((health, then)));
    }
}

#[test]
fn a_transition_says_why_and_how_long_the_old_verdict_stood() {
    let start = Instant::now();
    let mut fsm = Fsm::new(cadence(1, 2), Health::Up, 0, start);
    assert_eq!(probe(&mut fsm, Answer::Fail), None);
    let transition = probe(&mut fsm, Answer::Fail).unwrap();
    assert_eq!(transition.reason, "HTTP 500 after 12 ms; expected 200-399");
    assert_eq!(transition.lasted, secs(2));
    assert_eq!(transition.results, 2);
    assert_eq!(fsm.since(), start + secs(2));
}

#[test]
fn starts_are_spread_and_delayed() {
    let now = Instant::now();
    let spec = Cadence { start_delay: secs(30), ..cadence(1, 1) };
    let due = |position| {
        Fsm::new(spec.clone(), Health::Untested, position, now).due().unwrap().duration_since(now)
    };
    assert_eq!(due(0), secs(30));
    assert_eq!(due(1), secs(30) + Duration::from_millis(1));
    assert_eq!(due(1999), secs(30) + Duration::from_millis(1999));
    assert_eq!(due(2000), secs(30), "wraps within the interval");
}

#[test]
fn intervals_count_from_start_to_start_and_late_probes_keep_the_grid() {
    let start = Instant::now();
    let mut fsm = Fsm::new(cadence(1, 5), Health::Up, 0, start);
    fsm.start(start);
    assert_eq!(fsm.due(), None, "one probe at a time");
    fsm.finish(&outcome(Answer::Pass), start + Duration::from_millis(700));
    assert_eq!(fsm.due(), Some(start + secs(2)));
    fsm.start(start + secs(2));
    fsm.finish(&outcome(Answer::Fail), start + secs(2) + Duration::from_millis(5_100));
    assert_eq!(fsm.due(), Some(start + secs(8)), "two missed turns are skipped, not caught up");
    fsm.start(start + secs(8));
    fsm.finish(&outcome(Answer::Fail), start + secs(10));
    assert_eq!(fsm.due(), Some(start + secs(12)), "a probe that ends on the grid waits a turn");
}

#[test]
fn a_late_start_does_not_make_the_next_turn_late() {
    let start = Instant::now();
    let mut fsm = Fsm::new(cadence(1, 5), Health::Up, 0, start);
    fsm.start(start + Duration::from_millis(900));
    fsm.finish(&outcome(Answer::Pass), start + secs(1));
    assert_eq!(fsm.due(), Some(start + secs(2)));
}

#[test]
fn down_and_doubtful_servers_have_their_own_intervals() {
    let start = Instant::now();
    let spec =
        Cadence { interval_down: Some(secs(10)), interval_retry: Some(secs(1)), ..cadence(2, 2) };
    let mut fsm = Fsm::new(spec, Health::Up, 0, start);
    let mut gaps = Vec::new();
    for answer in
        [Answer::Pass, Answer::Fail, Answer::Fail, Answer::Fail, Answer::Pass, Answer::Pass]
    {
        let began = fsm.due().unwrap();
        probe(&mut fsm, answer);
        gaps.push(fsm.due().unwrap().duration_since(began).as_secs());
    }
    assert_eq!(gaps, [2, 1, 10, 10, 10, 2]);
}

#[test]
fn connects_stand_in_for_full_probes_only_while_all_is_well() {
    let spec = Cadence { connects: 2, ..cadence(1, 2) };
    let mut fsm = Fsm::new(spec, Health::Untested, 0, Instant::now());
    let mut depths = String::new();
    for answer in "ppppppfpppffpp".chars() {
        let now = fsm.due().unwrap();
        depths.push(if fsm.start(now) == Depth::Full { 'F' } else { 'c' });
        let answer = if answer == 'p' { Answer::Pass } else { Answer::Fail };
        fsm.finish(&outcome(answer), now);
    }
    // Results: p p p p p p f p p p f f p p. After each failure the next probe is a full one.
    assert_eq!(depths, "FccFccFFccFFFc");
}

#[test]
fn a_failed_connect_is_followed_by_a_full_probe() {
    let spec = Cadence { connects: 9, ..cadence(1, 3) };
    let mut fsm = Fsm::new(spec, Health::Untested, 0, Instant::now());
    probe(&mut fsm, Answer::Pass);
    let now = fsm.due().unwrap();
    assert_eq!(fsm.start(now), Depth::Connect);
    fsm.finish(&outcome(Answer::Fail), now);
    assert_eq!(fsm.start(fsm.due().unwrap()), Depth::Full);
}

#[test]
fn new_timing_keeps_the_verdict_and_the_place_in_the_schedule() {
    let start = Instant::now();
    let mut fsm = machine(Health::Up, 1, 1, 3);
    let began = fsm.due().unwrap() - secs(2);
    fsm.reconfigure(Cadence { interval: secs(60), ..cadence(1, 2) }, began + secs(1));
    assert_eq!(fsm.due(), Some(began + secs(2)), "a longer interval does not put off the next one");
    assert_eq!((fsm.health(), fsm.contrary()), (Health::Up, 1));
    assert!(probe(&mut fsm, Answer::Fail).is_some(), "the counted failure still counts");
    fsm.reconfigure(cadence(1, 2), fsm.due().unwrap() - secs(50));
    assert!(fsm.due().unwrap() < start + secs(60), "a shorter interval takes effect at once");
}

#[test]
fn a_result_nobody_waits_for_is_dropped() {
    let now = Instant::now();
    let mut fsm = Fsm::new(cadence(1, 1), Health::Up, 0, now);
    assert_eq!(fsm.finish(&outcome(Answer::Fail), now), None);
    assert_eq!(fsm.health(), Health::Up);
}

#[test]
fn hurrying_moves_a_waiting_probe_to_now_and_never_later() {
    let now = Instant::now();
    let mut fsm = Fsm::new(Cadence { start_delay: secs(9), ..cadence(1, 1) }, Health::Up, 0, now);
    fsm.hurry(now + secs(1));
    assert_eq!(fsm.due(), Some(now + secs(1)));
    fsm.hurry(now + secs(5));
    assert_eq!(fsm.due(), Some(now + secs(1)));
}

#[test]
fn absurd_durations_do_not_overflow() {
    let spec = Cadence {
        interval: Duration::MAX,
        interval_down: Some(Duration::ZERO),
        start_delay: Duration::MAX,
        ..cadence(1, 1)
    };
    let now = Instant::now();
    let mut fsm = Fsm::new(spec, Health::Untested, u32::MAX, now);
    probe(&mut fsm, Answer::Pass);
    probe(&mut fsm, Answer::Fail);
    let began = fsm.due().unwrap();
    probe(&mut fsm, Answer::Fail);
    assert_eq!(fsm.due().unwrap(), began + SHORTEST_INTERVAL);
}

#[test]
fn a_server_that_cannot_be_asked_is_down_after_fall_turns_from_any_state() {
    let unsent = |fsm: &mut Fsm| {
        let now = fsm.due().unwrap();
        fsm.start(now);
        let why = Outcome::unsent("no route", Duration::ZERO);
        fsm.finish(&why, now).map(|change| (change.to, change.reason))
    };
    for known in [Health::Untested, Health::Up] {
        let mut fsm = machine(known, 0, 2, 3);
        assert_eq!(unsent(&mut fsm), None);
        assert_eq!(unsent(&mut fsm), None);
        let down = Some((Health::Down, "could not check: no route".into()));
        assert_eq!(unsent(&mut fsm), down, "{known:?}");
        assert_eq!(unsent(&mut fsm), None, "no news");
    }
    let mut fsm = machine(Health::Up, 0, 2, 3);
    fsm.reconfigure(Cadence { unsent_fails: false, ..fsm.cadence().clone() }, Instant::now());
    for _ in 0..10 {
        assert_eq!(unsent(&mut fsm), None);
    }
    assert_eq!((fsm.health(), fsm.contrary()), (Health::Up, 0));
}

/// The slow model: keeps every counted result and looks back at them.
fn model(answers: &[Answer], rise: usize, fall: usize) -> Vec<Health> {
    let mut verdicts = Vec::new();
    let mut health = Health::Untested;
    let mut since_change: Vec<bool> = Vec::new();
    for answer in answers {
        if *answer != Answer::Unable {
            since_change.push(*answer == Answer::Pass);
        }
        let last = |n: usize, wanted: bool| {
            since_change.len() >= n && since_change.iter().rev().take(n).all(|r| *r == wanted)
        };
        let next = match health {
            Health::Untested if last(1, true) => Health::Up,
            Health::Untested if last(1, false) => Health::Down,
            Health::Up if last(fall, false) => Health::Down,
            Health::Down if last(rise, true) => Health::Up,
            same @ (Health::Untested | Health::Up | Health::Down) => same,
        };
        if next != health {
            since_change.clear();
        }
        health = next;
        verdicts.push(health);
    }
    verdicts
}

proptest! {
    #[test]
    fn verdicts_agree_with_a_model_that_looks_back_at_all_results(
        answers in proptest::collection::vec(
            prop_oneof![Just(Answer::Pass), Just(Answer::Fail), Just(Answer::Unable)], 1..120),
        rise in 1u32..6, fall in 1u32..6,
    ) {
        let mut fsm = Fsm::new(cadence(rise, fall), Health::Untested, 0, Instant::now());
        let expected = model(&answers, rise as usize, fall as usize);
        let mut before = Health::Untested;
        for (answer, health) in answers.iter().zip(expected) {
            let transition = probe(&mut fsm, *answer);
            prop_assert_eq!(fsm.health(), health);
            prop_assert_eq!(transition.map(|t| t.to), (health != before).then_some(health));
            before = health;
        }
    }

    #[test]
    fn the_next_probe_is_always_in_the_future_and_within_one_interval(
        interval in 1u64..5_000, gone in 0u64..60_000,
    ) {
        let started = Instant::now();
        let interval = Duration::from_millis(interval);
        let now = started + Duration::from_millis(gone);
        let due = next_on_grid(started, interval, now);
        prop_assert!(due > now && due <= now + interval);
        let from_start = due.duration_since(started).as_nanos();
        prop_assert_eq!(from_start % interval.as_nanos(), 0);
    }

    #[test]
    fn a_thousand_starts_fall_evenly_over_the_interval(interval in 10u64..3_000) {
        let mut per_slot = std::collections::BTreeMap::new();
        for position in 0..1000 {
            *per_slot.entry(stagger(position, Duration::from_millis(interval))).or_insert(0u64) += 1;
        }
        let most = per_slot.values().max().copied().unwrap_or(0);
        prop_assert!(most <= 1000 / interval + 1);
    }
}
