use super::*;
use crate::vrrp::Version;
use crate::vrrp::fsm::{Heard, Reason};
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

#[allow(clippy::disallowed_methods, reason = "any base will do; all else is relative to it")]
fn epoch() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

fn parameters(priority: u8) -> Parameters {
    let source = IpAddr::from([192, 0, 2, 5]);
    Parameters::new(Version::V3, Priority::new(priority).unwrap(), SECOND, source)
}

fn pair() -> Group {
    Group::new([parameters(100), parameters(100)])
}

fn heard(priority: u8) -> Heard {
    Heard { priority, interval: SECOND, source: PEER }
}

fn states(group: &Group) -> Vec<State> {
    group.members.iter().map(|member| member.vrrp.state()).collect()
}

fn started(now: Instant) -> Group {
    let mut group = pair();
    group.startup(now, &mut Vec::new());
    group
}

fn master(start: Instant) -> (Group, Instant) {
    let mut group = started(start);
    let now = start + 4 * SECOND;
    group.timeout(now, &mut Vec::new());
    assert_eq!(states(&group), [State::Master; 2]);
    (group, now)
}

#[test]
fn members_become_master_together() {
    let start = epoch();
    let mut group = started(start);
    let mut out = Vec::new();
    group.advert(1, heard(200), start + 3 * SECOND, &mut out);
    group.timeout(start + 4 * SECOND, &mut out);
    assert_eq!(states(&group), [State::Backup; 2], "the second still hears a master");
    assert!(out.is_empty());
    group.timeout(start + 7 * SECOND, &mut out);
    assert_eq!(states(&group), [State::Master; 2]);
    let reason = Reason::MasterSilent;
    let change = Action::Changed { from: State::Backup, to: State::Master, reason };
    assert_eq!(out.iter().filter(|(_, action)| *action == change).count(), 2);
}

#[test]
fn a_member_that_hears_a_higher_master_takes_the_others_along() {
    let (mut group, now) = master(epoch());
    let mut out = Vec::new();
    group.advert(1, heard(200), now, &mut out);
    assert_eq!(states(&group), [State::Backup; 2]);
    assert!(
        out.contains(&(0, Action::ReleaseAddresses))
            && out.contains(&(1, Action::ReleaseAddresses))
    );
    assert!(!out.iter().any(|(_, action)| matches!(action, Action::Advertise { .. })));
}

#[test]
fn one_fault_is_everybodys_and_all_must_recover() {
    let (mut group, now) = master(epoch());
    let mut out = Vec::new();
    group.set_faulty(0, true, now, &mut out);
    assert_eq!(states(&group), [State::Fault; 2]);
    let resigned = out.iter().filter(|(_, a)| *a == Action::Advertise { priority: 0 }).count();
    assert_eq!(resigned, 2);
    group.set_faulty(1, true, now, &mut out);
    group.set_faulty(0, false, now, &mut out);
    assert_eq!(states(&group), [State::Fault; 2]);
    group.set_faulty(1, false, now, &mut out);
    assert_eq!(states(&group), [State::Backup; 2]);
}

#[test]
fn a_fault_before_the_start_counts() {
    let mut group = pair();
    group.set_faulty(1, true, epoch(), &mut Vec::new());
    group.startup(epoch(), &mut Vec::new());
    assert_eq!(states(&group), [State::Fault; 2]);
}

#[test]
fn a_lower_master_on_one_link_makes_all_links_announce() {
    let (mut group, now) = master(epoch());
    let now = now + 2 * SECOND;
    let mut out = Vec::new();
    group.timeout(now, &mut out);
    out.clear();
    group.advert(0, heard(50), now, &mut out);
    for member in [0, 1] {
        assert!(out.contains(&(member, Action::Announce { rounds: 5 })), "{member}: {out:?}");
    }
}

#[test]
fn owners_in_a_group_start_as_masters() {
    let mut group = Group::new([parameters(255), parameters(255)]);
    group.startup(epoch(), &mut Vec::new());
    assert_eq!(states(&group), [State::Master; 2]);
}

#[test]
fn a_stopped_node_demotes_the_whole_group() {
    let (mut group, now) = master(epoch());
    group.advert(0, heard(50), now + 10 * SECOND, &mut Vec::new());
    assert_eq!(states(&group), [State::Backup; 2]);
}

#[test]
fn resigning_moves_the_group() {
    let (mut group, now) = master(epoch());
    let mut out = Vec::new();
    group.resign(now, &mut out);
    assert_eq!(states(&group), [State::Backup; 2]);
    assert_eq!(out.iter().filter(|(_, a)| *a == Action::Advertise { priority: 0 }).count(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Advert(usize, u8),
    Timeout,
    Faulty(usize, bool),
    Resign,
    Priority(usize, i32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, any::<u8>()).prop_map(|(member, p)| Step::Advert(member, p)),
        4 => Just(Step::Timeout),
        1 => (0usize..3, any::<bool>()).prop_map(|(member, down)| Step::Faulty(member, down)),
        1 => Just(Step::Resign),
        1 => (0usize..3, -300..300).prop_map(|(member, p)| Step::Priority(member, p)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn members_always_agree(
        history in prop::collection::vec((step(), 0u64..5_000_000), 1..80),
    ) {
        let mut group = Group::new([parameters(100), parameters(120), parameters(90)]);
        let mut now = epoch();
        let mut out = Vec::new();
        group.startup(now, &mut out);
        for (step, micros) in history {
            now += Duration::from_micros(micros);
            match step {
                Step::Advert(member, priority) => group.advert(member, heard(priority), now, &mut out),
                Step::Timeout => group.timeout(now, &mut out),
                Step::Faulty(member, down) => group.set_faulty(member, down, now, &mut out),
                Step::Resign => group.resign(now, &mut out),
                Step::Priority(member, p) => group.set_priority(member, Priority::clamped(p)),
            }
            let states = states(&group);
            prop_assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "{states:?}");
        }
    }
}
