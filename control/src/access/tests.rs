use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn user(role: Role) -> User {
    User {
        role,
        password: "hash".into(),
        totp: None,
        totp_step: 0,
        recovery: Vec::new(),
        language: None,
        last: None,
    }
}

fn session(user: &str, at: u64) -> Session {
    Session { user: user.into(), since: at, used: at, address: HOME }
}

#[test]
fn what_was_written_is_read_again_and_what_is_damaged_is_named() {
    let mut accounts = Accounts::default();
    accounts.add_user("chen", user(Role::Administrator)).expect("new");
    accounts.add_user("li", user(Role::Viewer)).expect("new");
    accounts.remove_user("li").expect("there");
    let token = Token { secret: [7; 32], role: Role::Operator, since: 9, author: "chen".into() };
    accounts.add_token("backup", token).expect("new");
    let mut stored = std::collections::BTreeMap::new();
    for (key, value) in accounts.changes() {
        match value {
            Some(value) => drop(stored.insert(key, value)),
            None => drop(stored.remove(&key)),
        }
    }
    stored.insert(b"user broken".to_vec(), b"{".to_vec());
    let (read, bad) = Accounts::read(stored);
    assert_eq!(bad, ["user broken"]);
    assert!(read.is_set_up());
    assert_eq!(read.users().map(|(name, _)| name).collect::<Vec<_>>(), ["chen"]);
    assert_eq!(read.token(&[7; 32]), Some(("backup", Role::Operator)));
}

#[test]
fn the_last_administrator_stays_one() {
    let mut accounts = Accounts::default();
    accounts.add_user("chen", user(Role::Administrator)).expect("new");
    assert_eq!(accounts.remove_user("chen"), Err(UserError::LastAdministrator));
    let demote = |user: &mut User| user.role = Role::Viewer;
    assert_eq!(accounts.change_user("chen", None, demote), Err(UserError::LastAdministrator));
    accounts.add_user("li", user(Role::Administrator)).expect("new");
    assert_eq!(accounts.change_user("chen", None, demote), Ok(()));
    assert_eq!(accounts.remove_user("li"), Err(UserError::LastAdministrator));
}

#[test]
fn another_role_or_password_ends_all_other_sessions() {
    let mut accounts = Accounts::default();
    accounts.add_user("chen", user(Role::Administrator)).expect("new");
    accounts.open_session([1; 32], session("chen", 100));
    accounts.open_session([2; 32], session("chen", 100));
    accounts.change_user("chen", None, |user| user.language = Some("en".into())).expect("there");
    assert_eq!(accounts.sessions(100).count(), 2);
    accounts
        .change_user("chen", Some(&[2; 32]), |user| user.password = "another".into())
        .expect("there");
    assert_eq!(accounts.sessions(100).map(|(id, _)| *id).collect::<Vec<_>>(), [[2; 32]]);
}

#[test]
fn a_session_ends_when_idle_when_old_and_with_its_user() {
    let mut accounts = Accounts::default();
    accounts.add_user("chen", user(Role::Administrator)).expect("new");
    accounts.add_user("li", user(Role::Viewer)).expect("new");
    accounts.open_session([1; 32], session("li", 0));
    let idle = IDLE.as_secs();
    assert!(accounts.session(&[1; 32], idle - 1).is_some());
    assert!(accounts.session(&[1; 32], 2 * idle - 2).is_some(), "each use renews it");
    assert!(accounts.session(&[1; 32], 3 * idle).is_none());
    let mut at = 0;
    accounts.open_session([2; 32], session("li", 0));
    while at + idle - 1 < ABSOLUTE.as_secs() {
        at += idle - 1;
        assert!(accounts.session(&[2; 32], at).is_some());
    }
    assert!(accounts.session(&[2; 32], ABSOLUTE.as_secs()).is_none(), "however busy");
    accounts.open_session([3; 32], session("li", at));
    accounts.remove_user("li").expect("there");
    assert!(accounts.session(&[3; 32], at).is_none());
}

#[test]
fn a_user_has_sixteen_sessions_at_most_and_others_are_not_touched() {
    let mut accounts = Accounts::default();
    accounts.open_session([200; 32], session("li", 0));
    for number in 0..40 {
        accounts.open_session([number; 32], session("chen", u64::from(number)));
    }
    let alive: Vec<u8> = accounts.sessions(40).map(|(id, _)| id[0]).collect();
    assert_eq!(alive, (24..40).chain([200]).collect::<Vec<u8>>());
}

#[test]
fn names_that_could_be_taken_for_something_else_are_refused() {
    let mut accounts = Accounts::default();
    for name in ["", "a b", "a\n", "<b>", "../x", &"x".repeat(65)] {
        assert_eq!(
            accounts.add_user(name, user(Role::Viewer)),
            Err(UserError::BadName),
            "{name:?}"
        );
    }
    assert_eq!(accounts.add_user("陈-1.x_y", user(Role::Viewer)), Ok(()));
}

#[test]
fn pauses_grow_and_a_known_network_is_not_locked_out_by_strangers() {
    let (mut throttle, stranger) = (Throttle::default(), "198.51.100.7".parse().expect("good"));
    let mut now = 1000;
    for _ in 0..5 {
        assert_eq!(throttle.may_guess("chen", stranger, false, now), Ok(()));
        throttle.wrong("chen", stranger, now);
    }
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let Err(Wait(pause)) = throttle.may_guess("chen", stranger, false, now) else { break };
        pauses.push(pause);
        now += pause;
        assert_eq!(throttle.may_guess("chen", stranger, false, now), Ok(()));
        throttle.wrong("chen", stranger, now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
    assert!(throttle.may_guess("chen", HOME, false, now).is_err(), "the account is being guessed");
    assert_eq!(throttle.may_guess("chen", HOME, true, now), Ok(()), "its owner is signed in there");
    assert_eq!(throttle.may_guess("li", HOME, false, now), Ok(()));
    throttle.right("chen");
    assert_eq!(throttle.may_guess("chen", HOME, false, now), Ok(()));
    assert!(throttle.may_guess("li", stranger, false, now).is_err(), "the network is not forgiven");
}

#[test]
fn addresses_of_one_ipv6_network_share_their_guesses() {
    let mut throttle = Throttle::default();
    for host in 0..9u16 {
        let address = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        throttle.wrong(&format!("name{host}"), address, 10);
    }
    let same = "2001:db8:0:1::ffff".parse().expect("good");
    let other = "2001:db8:0:2::1".parse().expect("good");
    assert!(throttle.may_guess("any", same, false, 10).is_err());
    assert_eq!(throttle.may_guess("any", other, false, 10), Ok(()));
}

proptest! {
    #[test]
    fn the_throttle_never_grows_beyond_its_bound_and_a_pause_always_ends(
        guesses in prop::collection::vec((any::<u16>(), any::<u32>(), 0u64..100), 1..200)
    ) {
        let (mut throttle, mut now) = (Throttle::default(), 0);
        for (account, address, later) in guesses {
            now += later;
            let (account, address) = (account.to_string(), IpAddr::from(address.to_be_bytes()));
            throttle.wrong(&account, address, now);
            if let Err(Wait(pause)) = throttle.may_guess(&account, address, false, now) {
                prop_assert!(pause <= 900);
                prop_assert!(throttle.may_guess(&account, address, false, now + pause).is_ok());
            }
        }
    }
}
