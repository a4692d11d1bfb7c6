#![allow(clippy::disallowed_methods)] // an arbitrary base moment; nothing waits for it

use super::*;
use crate::model::AlertTarget;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn receiver(change: impl FnOnce(&mut Alert)) -> Alert {
    let mut alert = Alert {
        name: "admin".into(),
        target: AlertTarget::Syslog { facility: "daemon".into() },
        events: Vec::new(),
        services: Vec::new(),
        repeat: Duration::ZERO,
        digest: Duration::ZERO,
        during_maintenance: false,
    };
    change(&mut alert);
    alert
}

fn policy(change: impl FnOnce(&mut Alert)) -> (Policy, Instant) {
    let now = Instant::now();
    let mut policy = Policy::default();
    policy.configure(&[receiver(change)], now);
    (policy, now)
}

fn real(event: AlertEvent, n: u8) -> Happening {
    Happening {
        event,
        good: event == AlertEvent::RealUp,
        service: Some("web".into()),
        real: Some(SocketAddr::from(([10, 0, 0, n], 80))),
        text: format!("10.0.0.{n}:80 {}", event_name(event)),
        time: 0,
        maintenance: false,
    }
}

fn texts(messages: &[Message]) -> Vec<Vec<String>> {
    let line = |item: &Item| {
        if item.repeated { format!("again: {}", item.text) } else { item.text.clone() }
    };
    messages.iter().map(|message| message.items.iter().map(line).collect()).collect()
}

#[test]
fn without_a_digest_each_happening_is_told_at_once() {
    let (mut policy, now) = policy(|_| {});
    policy.on_happening(&real(AlertEvent::RealDown, 1), now);
    assert_eq!(texts(&policy.take_due(now)), [["10.0.0.1:80 real_down"]]);
    assert_eq!(policy.next_due(), None, "and not repeated");
    assert!(policy.take_due(now + secs(9999)).is_empty());
}

#[test]
fn a_burst_is_one_message() {
    let (mut policy, now) = policy(|alert| alert.digest = secs(10));
    for n in 1..=3 {
        policy.on_happening(&real(AlertEvent::RealDown, n), now + secs(u64::from(n)));
    }
    assert!(policy.take_due(now + secs(10)).is_empty());
    assert_eq!(policy.next_due(), Some(now + secs(11)), "counted from the first");
    let messages = policy.take_due(now + secs(11));
    assert_eq!((messages.len(), messages[0].items.len()), (1, 3));
}

#[test]
fn a_huge_burst_is_cut_and_says_so() {
    let (mut policy, now) = policy(|alert| alert.digest = secs(1));
    for _ in 0..ITEMS + 7 {
        policy.on_happening(&real(AlertEvent::RealDown, 1), now);
    }
    let messages = policy.take_due(now + secs(1));
    assert_eq!((messages[0].items.len(), messages[0].omitted), (ITEMS, 7));
}

#[test]
fn receivers_hear_only_what_they_want() {
    let (mut policy, now) = policy(|alert| {
        alert.events = vec![AlertEvent::RealDown];
        alert.services = vec!["web".into()];
    });
    policy.on_happening(&real(AlertEvent::RealUp, 1), now);
    let other = Happening { service: Some("mail".into()), ..real(AlertEvent::RealDown, 1) };
    policy.on_happening(&other, now);
    assert!(policy.take_due(now).is_empty());
    policy.on_happening(&Happening { service: None, ..other }, now);
    assert_eq!(policy.take_due(now).len(), 1, "about no service in particular");
}

#[test]
fn a_condition_is_repeated_until_it_ends() {
    let (mut policy, now) = policy(|alert| alert.repeat = secs(60));
    policy.on_happening(&real(AlertEvent::RealDown, 1), now);
    policy.take_due(now);
    assert_eq!(policy.next_due(), Some(now + secs(60)));
    assert_eq!(texts(&policy.take_due(now + secs(60))), [["again: 10.0.0.1:80 real_down"]]);
    assert_eq!(policy.next_due(), Some(now + secs(120)));
    policy.on_happening(&real(AlertEvent::RealUp, 1), now + secs(70));
    assert_eq!(texts(&policy.take_due(now + secs(70))), [["10.0.0.1:80 real_up"]]);
    assert_eq!(policy.next_due(), None);
}

#[test]
fn the_end_counts_even_for_those_who_are_not_told_of_it() {
    let (mut policy, now) = policy(|alert| {
        alert.repeat = secs(60);
        alert.events = vec![AlertEvent::RealDown];
    });
    policy.on_happening(&real(AlertEvent::RealDown, 1), now);
    policy.take_due(now);
    policy.on_happening(&real(AlertEvent::RealUp, 1), now);
    assert_eq!(policy.next_due(), None);
}

#[test]
fn servers_in_maintenance_are_not_talked_about() {
    let down = Happening { maintenance: true, ..real(AlertEvent::RealDown, 1) };
    let (mut quiet, now) = policy(|alert| alert.repeat = secs(60));
    quiet.on_happening(&down, now);
    assert_eq!(quiet.next_due(), None);
    let (mut told, now) = policy(|alert| alert.during_maintenance = true);
    told.on_happening(&down, now);
    assert_eq!(told.take_due(now).len(), 1);
}

#[test]
fn a_changed_receiver_keeps_what_it_has_to_say() {
    let (mut policy, now) = policy(|alert| {
        alert.digest = secs(10);
        alert.repeat = secs(60);
    });
    policy.on_happening(&real(AlertEvent::RealDown, 1), now);
    policy.configure(&[receiver(|alert| alert.digest = secs(99))], now + secs(1));
    assert_eq!(policy.next_due(), Some(now + secs(10)), "no repetition any more");
    assert_eq!(policy.take_due(now + secs(10)).len(), 1);
    policy.configure(&[], now);
    policy.on_happening(&real(AlertEvent::RealDown, 2), now);
    assert_eq!(policy.next_due(), None);
}
