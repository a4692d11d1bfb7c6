#![allow(clippy::disallowed_methods)] // an arbitrary base moment; nothing waits for it

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::Health;
use crate::health::outcome::{Failure, Measured};
use crate::health::probe::Target;
use crate::health::weight::AgentWeight;
use crate::model::{self, DialogueProbe, PassiveProbe, Probe, Protocol, VirtualAddress};

fn key(n: u8) -> RealKey {
    let vip = "192.0.2.10:80".parse().unwrap();
    let service = VirtualAddress::Socket { protocol: Protocol::Tcp, address: vip };
    (service, SocketAddr::from(([10, 0, 0, n], 80)))
}

fn check() -> Check {
    let mut check = Check::new(Probe::Tcp(DialogueProbe::default()));
    (check.rise, check.fall) = (1, 1);
    check
}

fn spec(check: &Arc<Check>, n: u8) -> CheckSpec {
    let target = Arc::new(Target::new(key(n).1));
    CheckSpec { check: Arc::clone(check), target, known: Health::Untested }
}

fn specs(
    check: &Arc<Check>,
    servers: impl IntoIterator<Item = u8>,
) -> BTreeMap<RealKey, CheckSpec> {
    servers.into_iter().map(|n| (key(n), spec(check, n))).collect()
}

fn pass() -> Outcome {
    Outcome::passed("connected", Duration::from_millis(1))
}

fn fail() -> Outcome {
    Outcome::failed(Failure::Refused, Duration::from_millis(1))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Begins everything due and gives it these outcomes; which servers that were.
fn turn(board: &mut Board, now: Instant, outcome: &Outcome) -> Vec<RealKey> {
    let mut done = Vec::new();
    while let Some((key, job)) = board.begin_due(now) {
        let (_, run) = job.unwrap();
        board.finish(&key, run, outcome.clone(), now, 0);
        done.push(key);
    }
    done
}

fn changes(board: &mut Board, key: &RealKey) -> Vec<Health> {
    let to = |report| if let Report::Changed(change) = report { Some(change.to) } else { None };
    board.take_news(key).into_iter().filter_map(to).collect()
}

#[test]
fn checks_begin_one_after_the_other_and_keep_their_distance() {
    let now = Instant::now();
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(check()), 0..100), now);
    assert_eq!(turn(&mut board, now, &pass()).len(), 1);
    assert_eq!(turn(&mut board, now + ms(99), &pass()).len(), 99);
    assert_eq!(board.next_due(), Some(now + ms(2000)));
    assert_eq!(turn(&mut board, now + ms(2009), &pass()).len(), 10);
}

#[test]
fn adding_and_removing_servers_touches_no_other() {
    let now = Instant::now();
    let check = Arc::new(check());
    let mut board = Board::new("lb1".into());
    board.replace(specs(&check, 0..10), now);
    turn(&mut board, now + ms(20), &fail());
    let before: Vec<_> = board.queue.iter().copied().filter(|(_, k)| *k != key(3)).collect();
    let equal = Arc::new(Check::clone(&check)); // another document, the same words
    let gone = board.replace(specs(&equal, (0..11).filter(|n| *n != 3)), now + ms(500));
    assert_eq!(gone.into_keys().collect::<Vec<_>>(), [key(3)]);
    let after: Vec<_> = board.queue.iter().copied().filter(|(_, k)| *k != key(10)).collect();
    assert_eq!(before, after);
    assert_eq!(board.entries[&key(0)].fsm.health(), Health::Down, "its verdict too");
    assert_eq!(board.entries[&key(10)].fsm.health(), Health::Untested);
}

#[test]
fn a_new_question_is_asked_at_once_and_the_old_answer_dropped() {
    let now = Instant::now();
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(check()), 0..1), now);
    turn(&mut board, now, &pass());
    let later = now + ms(2000);
    let (_, job) = board.begin_due(later).unwrap();
    let (_, run) = job.unwrap();
    let mut other = check();
    other.probe = Probe::Ping(model::PingProbe { size: 1 });
    board.replace(specs(&Arc::new(other), 0..1), later + ms(10));
    assert!(!board.finish(&key(0), run, fail(), later + ms(20), 0));
    let entry = &board.entries[&key(0)];
    assert_eq!(entry.fsm.health(), Health::Up, "the verdict stands until the new answer");
    assert_eq!(board.next_due(), Some(later + ms(10)));
    assert_eq!(turn(&mut board, later + ms(10), &fail()).len(), 1);
    assert_eq!(board.entries[&key(0)].fsm.health(), Health::Down);
}

#[test]
fn new_timing_alone_lets_a_probe_under_way_finish() {
    let now = Instant::now();
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(check()), 0..1), now);
    let (_, job) = board.begin_due(now).unwrap();
    let mut slower = check();
    slower.interval = Duration::from_secs(60);
    board.replace(specs(&Arc::new(slower), 0..1), now);
    assert!(board.finish(&key(0), job.unwrap().1, fail(), now, 0));
    assert_eq!(board.next_due(), Some(now + Duration::from_secs(60)));
}

#[test]
fn a_result_of_a_check_that_was_replaced_is_dropped() {
    let now = Instant::now();
    let check = Arc::new(check());
    let mut board = Board::new("lb1".into());
    board.replace(specs(&check, 0..1), now);
    let (_, job) = board.begin_due(now).unwrap();
    let (_, run) = job.unwrap();
    board.replace(BTreeMap::new(), now);
    assert!(!board.finish(&key(0), run, fail(), now, 0));
    board.replace(specs(&check, 0..1), now);
    assert!(!board.finish(&key(0), run, fail(), now, 0));
    assert_eq!(board.entries[&key(0)].fsm.health(), Health::Untested);
}

#[test]
fn only_changes_are_news() {
    let now = Instant::now();
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(check()), 0..1), now);
    let mut heard = Vec::new();
    for (n, outcome) in [pass(), pass(), fail(), fail(), pass()].iter().enumerate() {
        turn(&mut board, now + ms(2000 * n as u64), outcome);
        heard.extend(changes(&mut board, &key(0)));
    }
    assert_eq!(heard, [Health::Up, Health::Down, Health::Up]);
}

#[test]
fn being_unable_to_check_is_news_once_and_never_a_verdict() {
    let now = Instant::now();
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(check()), 0..1), now);
    let unable = Outcome::unable("too many open files", Duration::ZERO);
    let mut heard = Vec::new();
    for (n, outcome) in [&unable, &unable, &pass(), &pass()].into_iter().enumerate() {
        turn(&mut board, now + ms(2000 * n as u64), outcome);
        heard.extend(
            board
                .take_news(&key(0))
                .into_iter()
                .filter(|report| matches!(report, Report::Unable(_))),
        );
    }
    let why = Some("too many open files".to_owned());
    assert_eq!(heard, [Report::Unable(why), Report::Unable(None)]);
}

#[test]
fn weights_clocks_and_certificates_are_news_when_they_change() {
    let now = Instant::now();
    let mut secure = check();
    let tls = model::Tls { expiry_warning: Duration::from_secs(1000), ..model::Tls::default() };
    secure.probe = Probe::Tcp(DialogueProbe { tls: Some(tls), steps: Vec::new() });
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(secure), 0..1), now);
    let measured = |weight, ends, ahead| {
        let weight = Some(AgentWeight::Percent(weight));
        let clock = Some(crate::health::outcome::ClockReading { ahead, error: 0.5 });
        let measured =
            Measured { weight, clock, certificate_ends: Some(ends), ..Measured::default() };
        Outcome { measured, ..pass() }
    };
    let mut heard = Vec::new();
    for (n, outcome) in [measured(50, 1001, 1.0), measured(50, 999, 2.0), measured(60, 5000, 3.0)]
        .iter()
        .enumerate()
    {
        turn(&mut board, now + ms(2000 * n as u64), outcome);
        heard.extend(board.take_news(&key(0)));
    }
    heard.retain(|report| !matches!(report, Report::Changed(_)));
    let clock = crate::health::outcome::ClockReading { ahead: 1.0, error: 0.5 };
    assert_eq!(
        heard,
        [
            Report::Weighed(Some(AgentWeight::Percent(50))),
            Report::Clock(clock),
            Report::Certificate { ends: 999, soon: true },
            Report::Weighed(Some(AgentWeight::Percent(60))),
            Report::Certificate { ends: 5000, soon: false },
        ],
        "the clock is read again only after ten seconds"
    );
}

#[test]
fn passive_checks_are_judged_from_tallies_without_a_job() {
    let now = Instant::now();
    let mut passive = check();
    passive.probe = Probe::Passive(PassiveProbe { max_failed_percent: 50, min_connections: 10 });
    let mut board = Board::new("lb1".into());
    board.replace(specs(&Arc::new(passive), 0..1), now);
    let mut heard = Vec::new();
    for (n, failed) in [0u64, 0, 10, 10].into_iter().enumerate() {
        let tally = Tally { opened: 10 * n as u64, failed };
        board.tallies([(key(0), tally)].into());
        let at = now + ms(2000 * n as u64);
        let (begun, job) = board.begin_due(at).unwrap();
        assert!(begun == key(0) && job.is_none());
        heard.extend(changes(&mut board, &key(0)));
        if board.entries[&key(0)].fsm.health() == Health::Down {
            break;
        }
    }
    assert_eq!(heard, [Health::Up, Health::Down]);
    let chance = board.next_due().unwrap();
    assert!(chance > now + Duration::from_secs(30), "left alone for a while");
    assert!(board.begin_due(chance).is_some());
    assert_eq!(changes(&mut board, &key(0)), [Health::Up], "another chance");
}

proptest! {
    /// Against the obvious model: every check that exists is queued exactly once unless it runs.
    #[test]
    fn the_queue_holds_what_waits(
        steps in proptest::collection::vec((0u8..5, 0u8..6, any::<bool>()), 1..80),
    ) {
        let start = Instant::now();
        let check = Arc::new(check());
        let mut board = Board::new("lb1".into());
        let mut wanted: std::collections::BTreeSet<u8> = Default::default();
        let mut running: Vec<(RealKey, u64)> = Vec::new();
        for (n, (action, server, flag)) in steps.into_iter().enumerate() {
            let now = start + ms(700 * n as u64);
            match action {
                0 => {
                    if flag { wanted.insert(server); } else { wanted.remove(&server); }
                    board.replace(specs(&check, wanted.iter().copied()), now);
                }
                1 => board.hurry(&key(server), now),
                2 => {
                    let mut other = (*check).clone();
                    other.probe = Probe::Ping(model::PingProbe { size: u16::from(server) });
                    let check = Arc::new(other);
                    board.replace(specs(&check, wanted.iter().copied()), now);
                    running.clear();
                }
                3 => if let Some((key, Some((_, run)))) = board.begin_due(now) {
                    running.push((key, run));
                },
                _ => if let Some((key, run)) = running.pop() {
                    let outcome = if flag { pass() } else { fail() };
                    board.finish(&key, run, outcome, now, 0);
                },
            }
            let waiting: Vec<_> = board.entries.iter()
                .filter_map(|(key, entry)| Some((entry.fsm.due()?, *key))).collect();
            let mut queued: Vec<_> = board.queue.iter().copied().collect();
            let mut expected = waiting;
            expected.sort();
            queued.sort();
            prop_assert_eq!(queued, expected);
        }
    }
}

#[test]
fn checks_that_only_an_icmp_error_fails_take_turns_on_one_host() {
    let start = Instant::now();
    let silent = model::UdpProbe {
        payload: Vec::new(),
        expect: model::Expectation::default(),
        reply: false,
    };
    let check = Arc::new(Check { probe: Probe::Udp(silent), ..check() });
    let of_one_host = |n: u8| {
        let address = SocketAddr::from(([10, 0, 0, 1], 5000 + u16::from(n)));
        (key(n), CheckSpec { target: Arc::new(Target::new(address)), ..spec(&check, n) })
    };
    let mut board = Board::new("lb1".into());
    board.replace((0..5).map(of_one_host).collect(), start);
    let mut begun = Vec::new();
    for at in (0..60_000).step_by(50) {
        for key in turn(&mut board, start + ms(at), &pass()) {
            begun.push((at, key));
        }
    }
    assert!(begun.windows(2).all(|two| two[1].0 >= two[0].0 + 1100), "{begun:?}");
    for n in 0..5 {
        let turns = begun.iter().filter(|(_, begun)| *begun == key(n)).count();
        assert!((9..=11).contains(&turns), "{n}: {turns}");
    }
}
