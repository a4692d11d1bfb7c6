//! Many changes at once are one publication.

use super::*;
use crate::model::ConnectionsOnDown;

fn rack(servers: u16) -> (Document, Vec<SocketAddr>) {
    let address = |number: u16| SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 80));
    let mut document = web(&[]);
    let service = document.service_at_mut(&vip()).expect("there");
    let servers: Vec<_> = (0..servers).map(address).collect();
    service.reals = servers.iter().map(|server| Real::new(*server)).collect();
    service.check.as_mut().expect("checked").connections = ConnectionsOnDown::Reset;
    (document, servers)
}

fn died(server: SocketAddr) -> Event {
    Event::Real(RealEvent::Down { real: (vip(), server), reason: "no route".into() })
}

#[test]
fn a_rack_that_goes_down_is_published_once() {
    let (document, servers) = rack(1_000);
    let mut director = Director::new(Some(document));
    let before = director.publications;
    director.happen_at_once(servers.iter().copied().map(died));
    assert_eq!(director.publications, before + 1);
    assert!(director.weights().iter().all(|(_, weight)| *weight == 0));
    assert_eq!(director.said(Kind::RealDown).len(), servers.len(), "each is recorded");
    assert_eq!(director.said(Kind::ServiceDown).len(), 1, "the service lost its quorum once");
}

#[test]
fn connections_of_a_dead_server_are_reset_after_new_ones_go_elsewhere() {
    let (document, servers) = rack(3);
    let mut director = Director::new(Some(document));
    let host = ipvs::Host::new([], []);
    let senses = Senses { now: director.now, packets: &director.numbers, host: &host };
    let mut actions = Vec::new();
    for server in &servers[..2] {
        decide(&mut director.state, died(*server), &senses, &mut actions);
    }
    assert!(!actions.iter().any(|action| matches!(action, Action::ResetConnections(_))));
    publish_if_stale(&mut director.state, &senses, &mut actions);
    let published = actions.iter().position(|action| matches!(action, Action::Publish { .. }));
    let resets = actions.iter().enumerate();
    let resets = resets.filter(|(_, action)| matches!(action, Action::ResetConnections(_)));
    let resets: Vec<_> = resets.map(|(place, _)| Some(place)).collect();
    assert_eq!(resets.len(), 2);
    assert!(resets.iter().all(|place| *place > published), "{published:?} {resets:?}");
}

#[test]
fn a_change_of_mastership_is_published_in_its_own_turn_with_all_that_waited() {
    let (document, servers) = rack(3);
    let mut director = Director::new(Some(document));
    let host = ipvs::Host::new([], []);
    let senses = Senses { now: director.now, packets: &director.numbers, host: &host };
    let mut actions = Vec::new();
    decide(&mut director.state, died(servers[0]), &senses, &mut actions);
    assert!(director.state.stale);
    let instance = "front".to_owned();
    let became = Event::RoleChanged { instance, to: vrrp::State::Master, reason: "alone".into() };
    decide(&mut director.state, became, &senses, &mut actions);
    assert!(actions.iter().any(|action| matches!(action, Action::Publish { .. })));
    assert!(!director.state.stale, "the dead server went with it");
}

#[test]
fn an_operator_who_drains_a_server_does_not_silence_a_service_that_died_before() {
    let (document, servers) = rack(2);
    let mut director = Director::new(Some(document));
    let drained = Event::Drain(DrainEvent::Drained {
        ticket: director.ticket(),
        service: "web".into(),
        real: servers[0].to_string(),
        author: "root".into(),
        reason: String::new(),
        within: None,
        persistent: crate::model::PersistentClients::Move,
    });
    let died = servers.iter().copied().map(died);
    director.happen_at_once(died.chain([drained]));
    assert_eq!(director.said(Kind::ServiceDown).len(), 1);
}
