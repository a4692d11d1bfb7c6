//! Real servers die, come back, are drained; services lose and gain their quorum.

use super::*;
use crate::model::{ConnectionsOnDown, OnDown, PersistentClients, Quorum, QuorumUnit};
use dataplane::table::Availability;

fn down(director: &mut Director, last: u8) {
    director.happen(Event::Real(RealEvent::Down {
        real: (vip(), rip(last)),
        reason: "HTTP 500".into(),
    }));
}

fn up(director: &mut Director, last: u8) {
    director
        .happen(Event::Real(RealEvent::Up { real: (vip(), rip(last)), reason: "HTTP 200".into() }));
}

fn changed(mut document: Document, change: impl FnOnce(&mut Service)) -> Document {
    change(document.service_at_mut(&vip()).expect("there"));
    document
}

#[test]
fn a_dead_server_is_quiesced_and_comes_back() {
    let mut director = Director::new(Some(web(&[1, 2])));
    down(&mut director, 1);
    assert_eq!(director.weights(), [(rip(2), 1), (rip(1), 0)]);
    assert_eq!(director.said(Kind::RealDown), ["10.0.0.1:80 is down: HTTP 500"]);
    let before = director.publications;
    down(&mut director, 1);
    assert_eq!(director.publications, before, "no news");
    up(&mut director, 1);
    assert!(director.weights().iter().all(|(_, weight)| *weight == 1));
    assert_eq!(director.said(Kind::RealUp), ["10.0.0.1:80 is up: HTTP 200"]);
}

#[test]
fn a_dead_server_is_removed_where_the_check_says_so() {
    let document = changed(web(&[1, 2]), |service| {
        service.check.as_mut().expect("checked").on_down = OnDown::Remove;
    });
    let mut director = Director::new(Some(document));
    down(&mut director, 1);
    assert_eq!(director.weights(), [(rip(2), 1)]);
    let key = (vip(), rip(1));
    assert_eq!(director.state.situation.standings.get(&key), Some(&Standing::Removed));
    up(&mut director, 1);
    assert_eq!(director.weights().len(), 2);
}

#[test]
fn connections_of_a_dead_server_are_ended_where_the_check_says_so() {
    let mut kept = Director::new(Some(web(&[1])));
    down(&mut kept, 1);
    assert!(!kept.others.iter().any(|action| matches!(action, Action::EndConnections(_))));
    let document = changed(web(&[1]), |service| {
        service.check.as_mut().expect("checked").connections = ConnectionsOnDown::Reset;
    });
    let mut ended = Director::new(Some(document));
    down(&mut ended, 1);
    let id = ended.state.ids.real_id(&(vip(), rip(1))).expect("there");
    let resets = |action: &Action| matches!(action, Action::ResetConnections(of) if *of == id);
    assert!(ended.others.iter().any(resets));
}

#[test]
fn the_sorry_server_answers_when_all_are_dead() {
    let sorry: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let document = changed(web(&[1, 2]), |service| {
        service.sorry = Some(Sorry::Server { address: sorry, method: None });
    });
    let mut director = Director::new(Some(document));
    down(&mut director, 1);
    assert!(director.said(Kind::ServiceDown).is_empty());
    down(&mut director, 2);
    assert!(director.weights().contains(&(sorry, 1)));
    assert_eq!(director.said(Kind::ServiceDown).len(), 1);
    up(&mut director, 2);
    assert!(!director.weights().iter().any(|(address, _)| *address == sorry));
    assert_eq!(director.said(Kind::ServiceUp).len(), 1);
}

#[test]
fn a_quorum_is_lost_and_gained_at_different_counts() {
    let document = changed(web(&[1, 2, 3]), |service| {
        service.quorum =
            Quorum { minimum: 2, recover: 3, unit: QuorumUnit::Servers, withdraw: true };
    });
    let mut director = Director::new(Some(document));
    let owned = |director: &Director| director.table.owned(&[192, 0, 2, 1].into()).is_some();
    (1..=3).for_each(|last| up(&mut director, last));
    down(&mut director, 1);
    assert!(owned(&director), "two are enough to stay");
    down(&mut director, 2);
    assert!(!owned(&director), "withdrawn");
    up(&mut director, 2);
    assert!(!owned(&director), "two are not enough to come back");
    up(&mut director, 1);
    assert!(owned(&director));
}

#[test]
fn news_of_servers_that_are_gone_is_ignored() {
    let mut director = Director::new(Some(web(&[1])));
    down(&mut director, 9);
    assert!(director.state.health.is_empty() && director.said(Kind::RealDown).is_empty());
    down(&mut director, 1);
    director.apply(&web(&[2]), None);
    director.store_works();
    assert!(director.state.health.is_empty(), "forgotten with its server");
}

#[test]
fn a_server_has_the_weight_that_its_agent_asks_for() {
    let mut director = Director::new(Some(web(&[1])));
    let real = (vip(), rip(1));
    let agent = Some(AgentWeight::Absolute(40));
    director.happen(Event::Real(RealEvent::Weighed { real, agent }));
    assert_eq!(director.weights(), [(rip(1), 40)]);
    down(&mut director, 1);
    assert_eq!(director.weights(), [(rip(1), 0)]);
    up(&mut director, 1);
    assert_eq!(director.weights(), [(rip(1), 40)], "remembered");
    director.happen(Event::Real(RealEvent::Weighed { real, agent: None }));
    assert_eq!(director.weights(), [(rip(1), 1)]);
}

#[test]
fn a_server_that_came_back_starts_slowly() {
    let document = changed(web(&[1, 2]), |service| {
        service.check.as_mut().expect("checked").slow_start = Duration::from_secs(10);
    });
    let mut director = Director::new(Some(document));
    up(&mut director, 1);
    assert!(director.weights().iter().all(|(_, weight)| *weight == 1), "it never was away");
    down(&mut director, 1);
    up(&mut director, 1);
    let share = |director: &Director| {
        let weights: BTreeMap<_, _> = director.weights().into_iter().collect();
        f64::from(weights[&rip(1)]) / f64::from(weights[&rip(2)])
    };
    assert!(share(&director) < 0.02);
    director.pass(5);
    assert!((share(&director) - 0.5).abs() < 0.02, "{}", share(&director));
    director.pass(5);
    assert_eq!(director.weights(), [(rip(2), 1), (rip(1), 1)]);
    let before = director.publications;
    director.pass(30);
    assert_eq!(director.publications, before, "warm is warm");
}

fn drain(director: &mut Director, real: &str, within: Option<Duration>) -> Ticket {
    let ticket = director.ticket();
    director.happen(Event::Drain(DrainEvent::Drained {
        ticket,
        service: "web".into(),
        real: real.into(),
        author: "root".into(),
        reason: "new disk".into(),
        within,
        persistent: PersistentClients::Move,
    }));
    ticket
}

/// Whether clients that persistence leads to the service's real server 1 move.
fn persistent_clients_move(director: &Director) -> bool {
    let service = director.state.generation.service(&vip()).expect("compiled");
    let real = service.reals.iter().find(|real| real.address == rip(1).ip()).expect("in it");
    assert_eq!(real.weight, 0);
    real.availability == Availability::Withdrawn
}

#[test]
fn persistent_clients_leave_a_dead_server_and_stay_with_one_of_weight_0() {
    let mut director = Director::new(Some(web(&[1, 2])));
    up(&mut director, 1);
    down(&mut director, 1);
    assert!(persistent_clients_move(&director));
    let mut weightless = web(&[1, 2]);
    Arc::make_mut(&mut weightless.services[0]).reals[0].weight = 0;
    let director = Director::new(Some(weightless));
    assert!(!persistent_clients_move(&director), "as in IPVS");
}

#[test]
fn at_a_drain_persistent_clients_move_unless_they_are_to_stay() {
    for (persistent, moves) in [(PersistentClients::Move, true), (PersistentClients::Keep, false)] {
        let mut director = Director::new(Some(web(&[1, 2])));
        let ticket = director.ticket();
        director.happen(Event::Drain(DrainEvent::Drained {
            ticket,
            service: "web".into(),
            real: "10.0.0.1".into(),
            author: "root".into(),
            reason: String::new(),
            within: None,
            persistent,
        }));
        assert_eq!(persistent_clients_move(&director), moves, "{persistent:?}");
    }
}

#[test]
fn a_drained_server_stays_out_whatever_its_health() {
    let mut director = Director::new(Some(web(&[1, 2])));
    let ticket = drain(&mut director, "10.0.0.1", None);
    assert!(matches!(director.replies[&ticket], Outcome::Done));
    assert!(director.weights().contains(&(rip(1), 0)));
    up(&mut director, 1);
    assert!(director.weights().contains(&(rip(1), 0)));
    let kept = director.store.iter().find_map(|command| match command {
        StoreCommand::Maintenance { key, value } => Some((key.clone(), value.clone())),
        _ => None,
    });
    let (key, value) = kept.expect("survives restarts");
    assert_eq!(real_key_of(&web(&[1, 2]), &key), Some((vip(), rip(1))));
    assert!(value.is_some());
    let ticket = director.ticket();
    let (service, real, author) = ("192.0.2.1:80".into(), "10.0.0.1:80".into(), "root".into());
    director.happen(Event::Drain(DrainEvent::PutBack { ticket, service, real, author }));
    assert!(matches!(director.replies[&ticket], Outcome::Done));
    assert!(director.weights().contains(&(rip(1), 1)));
}

#[test]
fn what_is_left_on_a_drained_server_is_ended_at_its_deadline() {
    let mut director = Director::new(Some(web(&[1])));
    drain(&mut director, "10.0.0.1:80", Some(Duration::from_secs(30)));
    director.pass(29);
    let ends = |director: &Director| {
        director.others.iter().filter(|action| matches!(action, Action::EndConnections(_))).count()
    };
    assert_eq!(ends(&director), 0);
    director.pass(3);
    assert_eq!(ends(&director), 1);
    director.pass(10);
    assert_eq!(ends(&director), 1, "once");
}

#[test]
fn draining_what_is_not_there_is_refused() {
    let mut director = Director::new(Some(web(&[1])));
    let ticket = drain(&mut director, "10.0.0.9", None);
    assert!(matches!(director.refused(ticket), Some(Refusal::NoReal { .. })));
    let ticket = director.ticket();
    director.happen(Event::Drain(DrainEvent::PutBack {
        ticket,
        service: "web".into(),
        real: "10.0.0.1".into(),
        author: "root".into(),
    }));
    assert!(matches!(director.refused(ticket), Some(Refusal::NotDrained(_))));
}

#[test]
fn a_removed_server_is_forgotten_two_minutes_after_its_last_connection() {
    let mut director = Director::new(Some(web(&[1, 2])));
    let id = director.state.ids.real_id(&(vip(), rip(1))).expect("there");
    let busy = Load { active: 1, ..Load::default() };
    director.numbers.loads.borrow_mut().insert(id, busy);
    director.apply(&web(&[2]), None);
    director.store_works();
    for _ in 0..30 {
        director.pass(10);
    }
    assert_eq!(director.state.ids.parked().count(), 1, "a connection remains");
    director.numbers.loads.borrow_mut().clear();
    for _ in 0..12 {
        director.pass(10);
    }
    assert_eq!(director.state.ids.parked().count(), 1);
    director.pass(10);
    assert_eq!(director.state.ids.parked().count(), 0);
}

#[test]
fn a_server_that_nobody_has_asked_yet_brings_no_dead_service_back() {
    let mut director = Director::new(Some(web(&[1])));
    down(&mut director, 1);
    assert_eq!(director.said(Kind::ServiceDown).len(), 1);
    let ticket = director.apply(&web(&[1, 2]), None);
    director.store_works();
    assert!(director.refused(ticket).is_none());
    assert!(director.said(Kind::ServiceUp).is_empty(), "not asked yet");
    up(&mut director, 2);
    assert_eq!(director.said(Kind::ServiceUp).len(), 1);
    assert!(director.said(Kind::RealUp).is_empty(), "it never was down");
}
