use super::*;
use std::net::IpAddr;

mod histories;

const SECOND: Duration = Duration::from_secs(1);
const LOW: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 5));
const HIGH: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

#[allow(clippy::disallowed_methods, reason = "any base will do; all else is relative to it")]
pub(crate) fn epoch() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

fn parameters(priority: u8) -> Parameters {
    Parameters::new(Version::V3, Priority::new(priority).unwrap(), SECOND, OWN)
}

fn instance(priority: u8) -> Vrrp {
    Vrrp::new(parameters(priority), Membership::Alone)
}

fn feed(vrrp: &mut Vrrp, event: Event, now: Instant) -> Vec<Action> {
    let mut out = Vec::new();
    vrrp.on(event, now, &mut out);
    out
}

fn heard(priority: u8, source: IpAddr) -> Event {
    Event::Advert(Heard { priority, interval: SECOND, source })
}

/// An instance of priority 100 brought into `state`.
fn in_state(state: State, now: Instant) -> Vrrp {
    let mut vrrp = instance(100);
    match state {
        State::Initialize => {}
        State::Backup => drop(feed(&mut vrrp, Event::Startup, now)),
        State::Master => {
            feed(&mut vrrp, Event::Startup, now);
            feed(&mut vrrp, Event::Promote, now);
        }
        State::Fault => drop(feed(&mut vrrp, Event::Fault, now)),
    }
    assert_eq!(vrrp.state(), state);
    vrrp
}

/// Runs to the deadline and returns it with what happens there.
fn expire(vrrp: &mut Vrrp) -> (Instant, Vec<Action>) {
    let at = vrrp.deadline().unwrap();
    (at, feed(vrrp, Event::Timeout, at))
}

#[test]
fn the_transition_table_is_complete() {
    use State::{Backup, Fault, Initialize, Master};
    let events = [
        Event::Startup,
        Event::Shutdown,
        Event::Timeout,
        Event::Fault,
        Event::Recovered,
        Event::Resign,
        Event::Promote,
        Event::Demote,
        Event::Announce,
        heard(200, LOW),
        heard(100, HIGH),
        heard(100, LOW),
        heard(50, HIGH),
        heard(0, HIGH),
    ];
    #[rustfmt::skip]
    let table = [
        //            startup     shutdown    timeout     fault  recovered   resign      promote     demote      announce    higher      equal high  equal low   lower       resigned
        (Initialize, [Backup,     Initialize, Initialize, Fault, Initialize, Initialize, Initialize, Initialize, Initialize, Initialize, Initialize, Initialize, Initialize, Initialize]),
        (Backup,     [Backup,     Initialize, Master,     Fault, Backup,     Backup,     Master,     Backup,     Backup,     Backup,     Backup,     Backup,     Backup,     Backup]),
        (Master,     [Master,     Initialize, Master,     Fault, Master,     Backup,     Master,     Backup,     Master,     Backup,     Backup,     Master,     Master,     Master]),
        (Fault,      [Fault,      Initialize, Fault,      Fault, Backup,     Fault,      Fault,      Fault,      Fault,      Fault,      Fault,      Fault,      Fault,      Fault]),
    ];
    let start = epoch();
    for (from, row) in table {
        for (event, to) in events.into_iter().zip(row) {
            let mut vrrp = in_state(from, start);
            let now = vrrp.deadline().unwrap_or(start);
            let actions = feed(&mut vrrp, event, now);
            assert_eq!(vrrp.state(), to, "{from:?} on {event:?}");
            let changes = actions.iter().filter(|a| matches!(a, Action::Changed { .. })).count();
            assert_eq!(changes, usize::from(from != to), "{from:?} on {event:?}: {actions:?}");
            let takes = actions.contains(&Action::TakeAddresses);
            assert_eq!(takes, from != Master && to == Master, "{from:?} on {event:?}");
            let releases = actions.contains(&Action::ReleaseAddresses);
            assert_eq!(releases, from == Master && to != Master, "{from:?} on {event:?}");
            let waits = matches!(to, Backup | Master);
            assert_eq!(vrrp.deadline().is_some(), waits, "{from:?} on {event:?}");
        }
    }
}

#[test]
fn a_master_that_leaves_resigns_unless_another_is_master() {
    let start = epoch();
    let resigns = |event| {
        feed(&mut in_state(State::Master, start), event, start)
            .contains(&Action::Advertise { priority: 0 })
    };
    assert!(resigns(Event::Shutdown));
    assert!(resigns(Event::Fault));
    assert!(resigns(Event::Resign));
    assert!(!resigns(Event::Demote));
    assert!(!resigns(heard(200, LOW)));
    assert!(feed(&mut in_state(State::Backup, start), Event::Shutdown, start).len() == 1);
}

#[test]
fn a_new_master_advertises_before_it_takes_and_announces() {
    let mut vrrp = in_state(State::Backup, epoch());
    let (at, actions) = expire(&mut vrrp);
    assert_eq!(
        actions,
        [
            Action::Changed {
                from: State::Backup,
                to: State::Master,
                reason: Reason::MasterSilent
            },
            Action::Advertise { priority: 100 },
            Action::TakeAddresses,
            Action::Announce { rounds: 5 },
        ]
    );
    assert_eq!(vrrp.deadline(), Some(at + SECOND));
}

#[test]
fn master_down_interval_is_three_adverts_and_the_skew() {
    let start = epoch();
    let mut vrrp = in_state(State::Backup, start);
    assert_eq!(vrrp.deadline(), Some(start + 3 * SECOND + SECOND * 156 / 256));
    // Version 3 adopts the master's interval, and its skew shrinks with it.
    let fast = Heard { priority: 200, interval: Duration::from_millis(10), source: HIGH };
    feed(&mut vrrp, Event::Advert(fast), start);
    let tenth = Duration::from_millis(10);
    assert_eq!(vrrp.deadline(), Some(start + 3 * tenth + tenth * 156 / 256));
    // Version 2 keeps its own.
    let v2 = Parameters { version: Version::V2, interval: 2 * SECOND, ..parameters(100) };
    let mut vrrp = Vrrp::new(v2, Membership::Alone);
    feed(&mut vrrp, Event::Startup, start);
    feed(&mut vrrp, Event::Advert(fast), start);
    assert_eq!(vrrp.deadline(), Some(start + 6 * SECOND + SECOND * 156 / 256));
}

#[test]
fn own_interval_returns_with_mastership() {
    let start = epoch();
    let mut vrrp = in_state(State::Backup, start);
    let fast = Heard { priority: 200, interval: Duration::from_millis(10), source: HIGH };
    feed(&mut vrrp, Event::Advert(fast), start);
    let (at, _) = expire(&mut vrrp);
    assert_eq!(vrrp.deadline(), Some(at + SECOND));
}

#[test]
fn a_resigning_master_is_replaced_after_the_skew() {
    let start = epoch();
    let mut vrrp = in_state(State::Backup, start);
    feed(&mut vrrp, heard(200, HIGH), start);
    feed(&mut vrrp, heard(0, HIGH), start);
    assert_eq!(vrrp.deadline(), Some(start + SECOND * 156 / 256));
    let (_, actions) = expire(&mut vrrp);
    assert!(matches!(actions[0], Action::Changed { reason: Reason::MasterResigned, .. }));
}

#[test]
fn the_owner_waits_for_nobody() {
    let mut vrrp = instance(255);
    let actions = feed(&mut vrrp, Event::Startup, epoch());
    assert_eq!(vrrp.state(), State::Master);
    assert!(actions.contains(&Action::Advertise { priority: 255 }));
}

#[test]
fn an_eager_instance_waits_one_interval_but_not_over_a_living_master() {
    let start = epoch();
    let eager = Parameters { eager: true, ..parameters(100) };
    let mut vrrp = Vrrp::new(eager, Membership::Alone);
    feed(&mut vrrp, Event::Startup, start);
    assert_eq!(vrrp.deadline(), Some(start + SECOND + SECOND * 156 / 256));
    feed(&mut vrrp, heard(200, HIGH), start);
    assert_eq!(vrrp.deadline(), Some(start + 3 * SECOND + SECOND * 156 / 256));
}

#[test]
fn a_lower_master_does_not_hold_a_preempting_backup_back() {
    let start = epoch();
    let mut vrrp = in_state(State::Backup, start);
    let due = vrrp.deadline();
    for after in 0..3 {
        feed(&mut vrrp, heard(50, HIGH), start + after * SECOND);
        assert_eq!(vrrp.deadline(), due);
    }
    let (_, actions) = expire(&mut vrrp);
    let reason = Reason::Preempted { from: HIGH, priority: 50 };
    assert_eq!(actions[0], Action::Changed { from: State::Backup, to: State::Master, reason });
}

#[test]
fn without_preemption_a_lower_master_stays_until_it_is_silent() {
    let start = epoch();
    let patient = Parameters { preempt: false, ..parameters(100) };
    let mut vrrp = Vrrp::new(patient, Membership::Alone);
    feed(&mut vrrp, Event::Startup, start);
    for after in 0..100 {
        let now = start + after * SECOND;
        feed(&mut vrrp, heard(50, HIGH), now);
        feed(&mut vrrp, Event::Timeout, now);
        assert_eq!(vrrp.state(), State::Backup);
    }
    assert_eq!(expire(&mut vrrp).0, start + 102 * SECOND + SECOND * 156 / 256);
    assert_eq!(vrrp.state(), State::Master);
}

#[test]
fn the_preemption_delay_counts_from_the_first_lower_advert() {
    let start = epoch();
    let delayed = Parameters { preempt_delay: 10 * SECOND, ..parameters(100) };
    let mut vrrp = Vrrp::new(delayed, Membership::Alone);
    feed(&mut vrrp, Event::Startup, start);
    let mut now = start;
    while vrrp.state() == State::Backup {
        feed(&mut vrrp, heard(50, HIGH), now);
        feed(&mut vrrp, Event::Timeout, now);
        now += SECOND;
        assert!(now < start + 20 * SECOND, "never preempted");
    }
    let waited = now - start;
    assert!(waited > 12 * SECOND && waited < 15 * SECOND, "{waited:?}");
}

#[test]
fn a_rightful_advert_starts_the_preemption_delay_anew() {
    let start = epoch();
    let delayed = Parameters { preempt_delay: 10 * SECOND, ..parameters(100) };
    let mut vrrp = Vrrp::new(delayed, Membership::Alone);
    feed(&mut vrrp, Event::Startup, start);
    feed(&mut vrrp, heard(50, HIGH), start);
    feed(&mut vrrp, heard(100, HIGH), start + 9 * SECOND);
    let later = start + 11 * SECOND;
    feed(&mut vrrp, heard(50, HIGH), later);
    assert_eq!(vrrp.deadline(), Some(later + vrrp.master_down()));
}

#[test]
fn a_held_instance_replaces_only_a_silent_master() {
    let start = epoch();
    let mut vrrp = instance(255);
    vrrp.hold(true);
    feed(&mut vrrp, Event::Startup, start);
    assert_eq!(vrrp.state(), State::Backup, "not even an owner");
    feed(&mut vrrp, heard(50, HIGH), start + 3 * SECOND);
    assert_eq!(vrrp.deadline(), Some(start + 3 * SECOND + vrrp.master_down()));
    vrrp.hold(false);
    feed(&mut vrrp, heard(50, HIGH), start + 4 * SECOND);
    assert_eq!(vrrp.deadline(), Some(start + 3 * SECOND + vrrp.master_down()));
}

#[test]
fn who_resigned_does_not_preempt_but_replaces_a_dead_master() {
    let start = epoch();
    let mut vrrp = in_state(State::Master, start);
    feed(&mut vrrp, Event::Resign, start);
    for after in 1..20 {
        feed(&mut vrrp, heard(50, HIGH), start + after * SECOND);
        feed(&mut vrrp, Event::Timeout, start + after * SECOND);
        assert_eq!(vrrp.state(), State::Backup);
    }
    expire(&mut vrrp);
    assert_eq!(vrrp.state(), State::Master);
}

#[test]
fn equal_priorities_are_decided_by_the_address() {
    let start = epoch();
    let mut vrrp = in_state(State::Master, start);
    assert!(feed(&mut vrrp, heard(100, OWN), start).is_empty(), "own packet");
    feed(&mut vrrp, heard(100, LOW), start);
    assert_eq!(vrrp.state(), State::Master);
    let actions = feed(&mut vrrp, heard(100, HIGH), start);
    assert_eq!(vrrp.state(), State::Backup);
    let reason = Reason::HigherAddress { from: HIGH };
    assert!(actions.contains(&Action::Changed { from: State::Master, to: State::Backup, reason }));
}

#[test]
fn a_lower_master_is_answered_and_addresses_are_announced_again() {
    let start = epoch();
    let mut vrrp = in_state(State::Master, start);
    // The split heals 100 s later.
    let mut now = start;
    while now < start + 100 * SECOND {
        now = expire(&mut vrrp).0;
    }
    let actions = feed(&mut vrrp, heard(50, HIGH), now);
    assert_eq!(actions, [Action::Advertise { priority: 100 }, Action::Announce { rounds: 5 }]);
    let mut later = Vec::new();
    while now < start + 110 * SECOND {
        let (at, actions) = expire(&mut vrrp);
        now = at;
        later.extend(actions);
    }
    let again = later.iter().filter(|a| matches!(a, Action::Announce { .. })).count();
    assert_eq!(again, 1, "once more after the delay");
}

#[test]
fn a_flood_of_lower_adverts_is_not_answered_by_a_flood() {
    let start = epoch();
    let mut vrrp = in_state(State::Master, start);
    let mut sent = Vec::new();
    for micros in 0..100_000 {
        let now = start + Duration::from_micros(micros * 100);
        sent.extend(feed(&mut vrrp, heard(50, HIGH), now));
        sent.extend(feed(&mut vrrp, Event::Timeout, now));
    }
    let adverts = sent.iter().filter(|a| matches!(a, Action::Advertise { .. })).count();
    let bursts = sent.iter().filter(|a| matches!(a, Action::Announce { .. })).count();
    assert!(adverts <= 41, "{adverts} adverts in 10 s");
    assert!((2..=11).contains(&bursts), "{bursts} bursts in 10 s");
}

#[test]
fn announcements_repeat_and_refresh() {
    let start = epoch();
    let announcements =
        Announcements { refresh: 30 * SECOND, refresh_repeat: 2, ..Announcements::default() };
    let mut vrrp = Vrrp::new(Parameters { announcements, ..parameters(255) }, Membership::Alone);
    let mut seen = Vec::new();
    let mut now = start;
    let mut actions = feed(&mut vrrp, Event::Startup, now);
    while now <= start + 61 * SECOND {
        for action in actions {
            if let Action::Announce { rounds } = action {
                seen.push(((now - start).as_secs(), rounds));
            }
        }
        (now, actions) = expire(&mut vrrp);
    }
    assert_eq!(seen, [(0, 5), (5, 5), (30, 2), (60, 2)]);
}

#[test]
fn a_stopped_master_goes_back_to_backup_when_it_runs_again() {
    let start = epoch();
    let mut vrrp = in_state(State::Master, start);
    let resumed = start + 6 * SECOND;
    let actions = feed(&mut vrrp, heard(50, HIGH), resumed);
    let reason = Reason::Late { by: 5 * SECOND };
    assert_eq!(
        actions,
        [
            Action::ReleaseAddresses,
            Action::Changed { from: State::Master, to: State::Backup, reason }
        ]
    );
    assert_eq!(vrrp.deadline(), Some(resumed + vrrp.master_down()));
    let stubborn = Parameters { yield_when_late: false, ..parameters(100) };
    let mut vrrp = Vrrp::new(stubborn, Membership::Alone);
    feed(&mut vrrp, Event::Startup, start);
    feed(&mut vrrp, Event::Promote, start);
    feed(&mut vrrp, Event::Timeout, resumed);
    assert_eq!(vrrp.state(), State::Master);
}

#[test]
fn lateness_does_not_add_up_and_never_causes_a_burst() {
    let start = epoch();
    let mut vrrp = in_state(State::Master, start);
    for round in 1..1000 {
        let due = vrrp.deadline().unwrap();
        assert_eq!(due, start + round * SECOND);
        feed(&mut vrrp, Event::Timeout, due + Duration::from_millis(3));
    }
    let missed = vrrp.deadline().unwrap() + 2 * SECOND;
    let actions = feed(&mut vrrp, Event::Timeout, missed);
    assert_eq!(actions.len(), 1, "one advert for two missed: {actions:?}");
    assert!(vrrp.advert_due().unwrap() > missed);
}

#[test]
fn a_changed_priority_shifts_the_running_timer() {
    let start = epoch();
    let mut vrrp = in_state(State::Backup, start);
    vrrp.set_priority(Priority::new(200).unwrap());
    assert_eq!(vrrp.deadline(), Some(start + vrrp.master_down()));
    vrrp.set_priority(Priority::new(50).unwrap());
    assert_eq!(vrrp.deadline(), Some(start + vrrp.master_down()));
    let mut vrrp = in_state(State::Master, start);
    let due = vrrp.deadline();
    vrrp.set_priority(Priority::new(50).unwrap());
    assert_eq!(vrrp.deadline(), due);
    assert_eq!(expire(&mut vrrp).1, [Action::Advertise { priority: 50 }]);
}

#[test]
fn a_late_advert_after_shutdown_is_harmless() {
    let start = epoch();
    for state in [State::Backup, State::Master, State::Fault] {
        let mut vrrp = in_state(state, start);
        feed(&mut vrrp, Event::Shutdown, start);
        assert!(feed(&mut vrrp, heard(200, HIGH), start).is_empty());
        assert!(feed(&mut vrrp, Event::Timeout, start + 9 * SECOND).is_empty());
        assert_eq!((vrrp.state(), vrrp.deadline()), (State::Initialize, None));
    }
}

#[test]
fn a_higher_priority_always_times_out_first() {
    let start = epoch();
    for version in [Version::V2, Version::V3] {
        for interval in [Duration::from_millis(10), SECOND, Duration::from_millis(40_950)] {
            let mut earlier = None;
            for priority in (1..=254).rev() {
                let parameters = Parameters { version, interval, ..parameters(priority) };
                let mut vrrp = Vrrp::new(parameters, Membership::Alone);
                feed(&mut vrrp, Event::Startup, start);
                let master = Heard { priority: 255, interval, source: HIGH };
                feed(&mut vrrp, Event::Advert(master), start);
                let silent = vrrp.deadline().unwrap();
                feed(&mut vrrp, Event::Advert(Heard { priority: 0, ..master }), start);
                let resigned = vrrp.deadline().unwrap();
                if let Some((silent_above, resigned_above)) = earlier {
                    assert!(silent > silent_above, "{version:?} {interval:?} {priority}");
                    assert!(resigned > resigned_above, "{version:?} {interval:?} {priority}");
                }
                earlier = Some((silent, resigned));
            }
        }
    }
}

#[test]
fn a_router_that_has_just_started_waits_longer_but_only_then() {
    let now = epoch();
    let delay = Duration::from_secs(2);
    let parameters = Parameters { startup_delay: delay, ..parameters(100) };
    let mut vrrp = Vrrp::new(parameters, Membership::Alone);
    let mut out = Vec::new();
    vrrp.on(Event::Startup, now, &mut out);
    assert_eq!(vrrp.deadline(), Some(now + vrrp.master_down() + delay));
    vrrp.on(Event::Fault, now, &mut out);
    vrrp.on(Event::Recovered, now, &mut out);
    assert_eq!(vrrp.deadline(), Some(now + vrrp.master_down()));
}
