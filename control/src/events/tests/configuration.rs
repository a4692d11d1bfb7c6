//! Commits, trials, bursts, failures of the store.

use super::*;

#[test]
fn nothing_runs_before_it_is_stored() {
    let mut director = Director::new(None);
    let ticket = director.apply(&web(&[1]), None);
    assert!(director.replies.is_empty() && director.table.reals().count() == 0);
    director.store_works();
    assert!(matches!(director.replies[&ticket], Outcome::Committed(ref info) if info.number == 1));
    assert_eq!(director.weights(), [(rip(1), 1)]);
    assert_eq!(*director.state.running, web(&[1]));
}

#[test]
fn what_cannot_be_stored_does_not_run_and_is_said_loudly() {
    let mut director = Director::new(Some(web(&[1])));
    let first = director.apply(&web(&[1, 2]), None);
    let second = director.apply(&web(&[1, 2, 3]), None);
    director.store_fails();
    for ticket in [first, second] {
        assert_eq!(director.refused(ticket), Some(&Refusal::Store("disk full".into())));
    }
    assert_eq!(director.weights(), [(rip(1), 1)]);
    assert_eq!(*director.state.head, web(&[1]));
    assert_eq!(director.said(Kind::System).len(), 1, "said once, not for each");
    // Once the disk is well again, so is everything.
    let third = director.apply(&web(&[3]), None);
    director.store_works();
    assert!(matches!(director.replies[&third], Outcome::Committed(_)));
    assert_eq!(director.weights(), [(rip(3), 1)]);
    assert_eq!(director.said(Kind::System).len(), 2, "and that is said, too");
}

#[test]
fn the_same_document_is_no_revision() {
    let mut director = Director::new(Some(web(&[1])));
    let ticket = director.apply(&web(&[1]), None);
    assert!(matches!(director.replies[&ticket], Outcome::Done));
    assert!(director.store.is_empty());
}

#[test]
fn more_than_the_packet_path_holds_is_refused() {
    let mut director = Director::new(None);
    let ticket = director.apply(&web(&(1..=17).collect::<Vec<_>>()), None);
    assert!(matches!(director.refused(ticket), Some(Refusal::TooLarge(_))));
}

#[test]
fn an_unconfirmed_revision_is_rolled_back_in_time() {
    let mut director = Director::new(Some(web(&[1])));
    director.apply(&web(&[2]), Some(Duration::from_secs(60)));
    director.store_works();
    assert_eq!(director.weights(), [(rip(2), 1)]);
    let meanwhile = director.apply(&web(&[3]), None);
    assert!(matches!(director.refused(meanwhile), Some(Refusal::Unconfirmed(2))));
    director.pass(59);
    director.store_works();
    assert_eq!(director.weights(), [(rip(2), 1)]);
    director.pass(1);
    director.store_works();
    assert_eq!(director.weights(), [(rip(1), 1)]);
    assert!(director.state.trial.is_none());
    let after = director.apply(&web(&[3]), None);
    director.store_works();
    assert!(matches!(director.replies[&after], Outcome::Committed(_)));
}

#[test]
fn a_confirmed_revision_stands() {
    let mut director = Director::new(Some(web(&[1])));
    director.apply(&web(&[2]), Some(Duration::from_secs(60)));
    director.store_works();
    let ticket = director.ticket();
    director.happen(Event::Configuration(ConfigurationEvent::Confirmed { ticket }));
    director.store_works();
    assert!(matches!(director.replies[&ticket], Outcome::Confirmed(_)));
    director.pass(100);
    director.store_works();
    assert_eq!(director.weights(), [(rip(2), 1)]);
    let again = director.ticket();
    director.happen(Event::Configuration(ConfigurationEvent::Confirmed { ticket: again }));
    assert_eq!(director.refused(again), Some(&Refusal::NothingToConfirm));
}

#[test]
fn a_roll_back_that_the_disk_refuses_is_tried_again() {
    let mut director = Director::new(Some(web(&[1])));
    director.apply(&web(&[2]), Some(Duration::from_secs(10)));
    director.store_works();
    director.pass(10);
    director.store_fails();
    assert_eq!(director.weights(), [(rip(2), 1)]);
    director.pass(5);
    director.store_works();
    assert_eq!(director.weights(), [(rip(1), 1)]);
}

#[test]
fn an_operator_may_roll_back_during_a_trial() {
    let mut director = Director::new(Some(web(&[1])));
    director.apply(&web(&[2]), Some(Duration::from_secs(60)));
    director.store_works();
    let ticket = director.ticket();
    let document = Arc::new(web(&[1]));
    director.happen(Event::Configuration(ConfigurationEvent::RolledBack {
        ticket,
        document,
        to: 1,
        author: "root".into(),
    }));
    director.store_works();
    assert!(matches!(director.replies[&ticket], Outcome::Committed(_)));
    assert_eq!(director.weights(), [(rip(1), 1)]);
    assert!(director.state.trial.is_none());
}

fn add_server(last: u8) -> Request {
    let spec = ipvs::ServerSpec { method: Method::Nat, weight: 1, upper: 0, lower: 0 };
    Request::AddServer { service: vip(), server: rip(last), spec }
}

#[test]
fn a_burst_of_ipvsadm_is_one_revision() {
    let mut director = Director::new(Some(web(&[])));
    for last in 1..=5 {
        let ticket = director.ipvs(add_server(last));
        assert!(!director.replies.contains_key(&ticket), "not acknowledged before it is stored");
        director.store_works();
        assert!(matches!(director.replies[&ticket], Outcome::Ipvs(Reply::Done)));
        director.pass(1);
    }
    assert_eq!(director.revision, 1, "still the same burst");
    assert_eq!(director.weights().len(), 5);
    director.pass(2);
    director.store_works();
    assert_eq!(director.revision, 2);
    assert_eq!(director.said(Kind::Configuration).len(), 1);
    director.pass(60);
    assert!(director.store.is_empty(), "and no more");
}

#[test]
fn a_burst_that_never_rests_is_a_revision_all_the_same() {
    let mut director = Director::new(Some(web(&[])));
    for turn in 0..40 {
        let last = (turn % 5) + 1;
        director.ipvs(add_server(last));
        director.ipvs(Request::DeleteServer { service: vip(), server: rip(last) });
        director.pass(1);
        director.store_works();
    }
    assert!(director.revision >= 2, "{}", director.revision);
}

#[test]
fn ipvsadm_gets_the_kernel_s_errors_and_they_change_nothing() {
    let mut director = Director::new(Some(web(&[1])));
    let ticket = director.ipvs(add_server(1));
    assert!(matches!(director.replies[&ticket], Outcome::Ipvs(Reply::Failed(ipvs::Errno::Eexist))));
    assert!(director.store.is_empty());
    director.apply(&web(&[1, 2]), Some(Duration::from_secs(60)));
    director.store_works();
    let ticket = director.ipvs(add_server(3));
    assert!(matches!(director.replies[&ticket], Outcome::Ipvs(Reply::Refused(_))), "on trial");
    let ticket = director.ipvs(Request::Info);
    assert!(matches!(director.replies[&ticket], Outcome::Ipvs(Reply::Info(_))), "reading goes on");
}

#[test]
fn edits_see_one_another_before_they_are_stored() {
    let mut director = Director::new(Some(web(&[])));
    let first = director.ipvs(add_server(1));
    let second = director.ipvs(add_server(1));
    assert!(matches!(director.replies[&second], Outcome::Ipvs(Reply::Failed(ipvs::Errno::Eexist))));
    director.store_works();
    assert!(matches!(director.replies[&first], Outcome::Ipvs(Reply::Done)));
}

#[test]
fn an_edit_of_an_old_document_is_a_conflict() {
    let mut director = Director::new(Some(web(&[1])));
    let version = director.state.version;
    let edit = |director: &mut Director, reals: &[u8]| {
        let ticket = director.ticket();
        let document = Arc::new(web(reals));
        let (author, comment) = ("console".to_owned(), "edit".to_owned());
        director.happen(Event::Edit(EditEvent::Document {
            ticket,
            version,
            document,
            author,
            comment,
        }));
        ticket
    };
    let first = edit(&mut director, &[1, 2]);
    let second = edit(&mut director, &[1, 3]);
    assert_eq!(director.refused(second), Some(&Refusal::Conflict));
    director.store_works();
    assert!(matches!(director.replies[&first], Outcome::Committed(_)));
}

#[test]
fn stopping_settles_the_burst_and_takes_nothing_more() {
    let mut director = Director::new(Some(web(&[])));
    director.ipvs(add_server(1));
    director.store_works();
    director.happen(Event::StopAsked);
    assert!(director.store.iter().any(|command| matches!(command, StoreCommand::Settle)));
    assert!(director.others.iter().any(|action| matches!(action, Action::Stop)));
    let late = director.apply(&web(&[9]), None);
    assert!(matches!(director.refused(late), Some(Refusal::Unavailable(_))));
}
