//! Real servers that are set up wrongly.

use super::*;
use crate::host::{Neighbour, NeighbourState};

const MAC: Mac = [2, 0, 0, 0, 1, 1];

fn owned() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

/// A director that knows the Ethernet address of its first real server.
fn director() -> Director {
    let mut director = Director::new(Some(web(&[1, 2])));
    let mut host = HostState::default();
    let neighbour = Neighbour { mac: MAC, state: NeighbourState::Fresh };
    host.neighbours.insert((1, rip(1).ip()), neighbour);
    director.happen(Event::Host(HostEvent::Changed(Arc::new(host))));
    director
}

fn claim(director: &mut Director) {
    director.happen(Event::Setup(SetupEvent::AddressClaimed { address: owned(), mac: MAC }));
}

#[test]
fn who_answers_for_a_vip_for_a_while_is_named_once_and_forgotten_when_silent() {
    let mut director = director();
    claim(&mut director);
    director.pass(4);
    claim(&mut director);
    assert_eq!(director.said(Kind::Setup), [""; 0], "the last word of an old master");
    director.pass(6);
    claim(&mut director);
    director.pass(10);
    claim(&mut director);
    let said = director.said(Kind::Setup);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with(
            "10.0.0.1 answers ARP for the VIP 192.0.2.1 with 02:00:00:00:01:01 and takes"
        ),
        "{said:?}"
    );
    let record = director.state.recent.back().unwrap();
    assert_eq!((record.real, record.subject.as_str()), (Some(rip(1)), "web"));
    assert_eq!(director.state.suspects.len(), 1);
    director.pass(50);
    assert!(director.said(Kind::Setup)[1].contains("no longer"));
    assert!(director.state.suspects.is_empty() && director.state.claims.is_empty());
}

#[test]
fn source_addresses_that_are_left_out_are_told_and_when_all_are_in_again() {
    let mut director = director();
    for many in [44, 0] {
        director.happen(Event::Setup(SetupEvent::SourcesMissing { many }));
    }
    let said = director.said(Kind::Setup);
    assert!(said[0].contains("256 addresses; 44 more"), "{said:?}");
    assert_eq!(said[1..], ["every full-NAT source address can be used again"]);
}

#[test]
fn traffic_in_vain_is_said_once_and_not_of_a_server_that_is_down() {
    let mut director = director();
    let suspect = |text: Option<&str>| {
        Event::Setup(SetupEvent::Suspected {
            real: (vip(), rip(1)),
            flaw: Flaw::Replies,
            text: text.map(str::to_owned),
        })
    };
    director.happen(suspect(Some("none of 3")));
    director.happen(suspect(Some("none of 9")));
    assert_eq!(director.said(Kind::Setup), ["10.0.0.1:80: none of 3"]);
    director.happen(suspect(None));
    director.happen(suspect(None));
    assert_eq!(director.said(Kind::Setup)[1..], ["10.0.0.1:80 answers its clients again"]);
    director.happen(Event::Real(RealEvent::Down { real: (vip(), rip(1)), reason: "gone".into() }));
    director.happen(suspect(Some("none of 3")));
    assert_eq!(director.said(Kind::Setup).len(), 2);
}
