//! What two directors tell each other besides configuration: drains, and verdicts about real servers.

use super::*;
use crate::model::PersistentClients;
use crate::state::Order;

fn order(director: &mut Director, real: &str, out: bool) {
    let ticket = director.ticket();
    let (service, real, author) = ("web".to_owned(), real.to_owned(), "root".to_owned());
    director.happen(if out {
        let reason = "new disk".to_owned();
        Event::Drain(DrainEvent::Drained {
            ticket,
            service,
            real,
            author,
            reason,
            within: None,
            persistent: PersistentClients::Move,
        })
    } else {
        Event::Drain(DrainEvent::PutBack { ticket, service, real, author })
    });
    assert!(matches!(director.replies[&ticket], Outcome::Done), "{:?}", director.replies[&ticket]);
}

fn drained(director: &Director) -> usize {
    assert_eq!(director.weights().iter().filter(|(_, weight)| *weight == 0).count(), {
        director.state.maintenance.len()
    });
    director.state.maintenance.len()
}

#[test]
fn drains_travel_both_ways_and_the_last_order_holds() {
    let mut pair = Pair::linked(&[("web", 1)]);
    order(&mut pair.nodes[0], "10.0.0.1", true);
    pair.settle();
    assert_eq!(drained(&pair.nodes[1]), 1);
    let said = pair.nodes[1].said(Kind::Maintenance);
    assert_eq!(said, ["10.0.0.1:80 was drained by root on lb1: new disk"]);
    order(&mut pair.nodes[1], "10.0.0.1", false);
    pair.settle();
    assert_eq!(drained(&pair.nodes[0]), 0);
    // While they are apart, with a clock that is far ahead on one of them.
    order(&mut pair.nodes[0], "10.0.0.1", true);
    pair.settle();
    pair.cut();
    pair.nodes[0].now.wall += Duration::from_secs(5000);
    order(&mut pair.nodes[1], "10.0.0.1", false);
    pair.join();
    pair.settle();
    assert_eq!((drained(&pair.nodes[0]), drained(&pair.nodes[1])), (0, 0));
    order(&mut pair.nodes[0], "10.0.0.1", true);
    pair.settle();
    // An order that answers another is later than that, whatever the clock says.
    order(&mut pair.nodes[1], "10.0.0.1", false);
    pair.settle();
    assert_eq!((drained(&pair.nodes[0]), drained(&pair.nodes[1])), (0, 0));
}

#[test]
fn a_director_that_comes_back_gets_the_drains_with_the_servers() {
    let mut pair = Pair::linked(&[("web", 1)]);
    pair.cut();
    pair.nodes[0].apply(&node("lb1", &[("mail", 2), ("web", 1)]), None);
    pair.settle();
    let ticket = pair.nodes[0].ticket();
    pair.nodes[0].happen(Event::Drain(DrainEvent::Drained {
        ticket,
        service: "mail".into(),
        real: "10.0.0.2".into(),
        author: "root".into(),
        reason: String::new(),
        within: Some(Duration::from_secs(60)),
        persistent: PersistentClients::Move,
    }));
    pair.join();
    pair.settle();
    assert_eq!(pair.services(1), ["mail", "web"]);
    assert_eq!(drained(&pair.nodes[1]), 1);
    // Forgotten with its server, on both.
    pair.nodes[1].apply(&node("lb2", &[("web", 1)]), None);
    pair.settle();
    assert_eq!((drained(&pair.nodes[0]), drained(&pair.nodes[1])), (0, 0));
}

#[test]
fn orders_are_remembered_as_they_were_given() {
    let mut pair = Pair::linked(&[("web", 1)]);
    order(&mut pair.nodes[0], "10.0.0.1", true);
    order(&mut pair.nodes[0], "10.0.0.1", false);
    let kept = pair.nodes[0].store.iter().filter_map(|command| match command {
        StoreCommand::Maintenance { value, .. } => value.clone(),
        _ => None,
    });
    let kept: Vec<Order> = kept.map(|value| serde_json::from_slice(&value).unwrap()).collect();
    assert!(matches!(kept[..], [Order::Drained(_), Order::PutBack { .. }]), "{kept:?}");
    let before = br#"{"author":"root","reason":"","since":5,"deadline":null}"#;
    let Ok(Order::Drained(drain)) = serde_json::from_slice(before) else { panic!("a drain") };
    assert_eq!((drain.since, drain.stamp), (5, 0));
}

#[test]
fn a_backup_s_drains_are_orders_for_both() {
    let mut pair = Pair::linked(&[("web", 1), ("mail", 2)]);
    order(&mut pair.nodes[1], "10.0.0.1", true);
    pair.settle();
    let key = pair.nodes[0].state.running.services[1].address;
    let drain = pair.nodes[1].state.maintenance.values().next().cloned().expect("one");
    let orders = [((key, SocketAddr::from(([10, 0, 0, 2], 80))), Order::Drained(drain))];
    pair.nodes[0].happen(Event::Drain(DrainEvent::Restored(orders.into())));
    pair.settle();
    for node in &pair.nodes {
        let keys: Vec<_> = node.state.maintenance.keys().map(|key| key.0).collect();
        assert_eq!(keys, [key], "the other one is put back");
    }
}

fn checked(name: &str) -> Document {
    let mut document = node(name, &[("web", 1)]);
    let address = document.services[0].address;
    let service = document.service_at_mut(&address).expect("web");
    service.check = Some(Check::new(Probe::Tcp(DialogueProbe::default())));
    document
}

fn found(director: &mut Director, up: bool) {
    let real = (director.state.running.services[0].address, rip(1));
    let reason = "as it is".to_owned();
    director.happen(if up {
        Event::Real(RealEvent::Up { real, reason })
    } else {
        Event::Real(RealEvent::Down { real, reason })
    });
}

#[test]
fn until_it_has_asked_itself_a_director_believes_the_peer() {
    let mut pair = Pair::new([checked("lb1"), checked("lb2")]);
    found(&mut pair.nodes[0], false);
    assert_eq!(pair.nodes[1].weights(), [(rip(1), 1)]);
    pair.join();
    pair.settle();
    assert_eq!(pair.nodes[1].weights(), [(rip(1), 0)]);
    let said = pair.nodes[1].said(Kind::Peer);
    assert!(said.iter().any(|text| text.contains("down by what lb1 says")), "{said:?}");
    // It does not forget when the peer dies.
    pair.cut();
    assert_eq!(pair.nodes[1].weights(), [(rip(1), 0)]);
    pair.join();
    pair.settle();
    // Its own probes win, then and later.
    found(&mut pair.nodes[1], true);
    assert_eq!(pair.nodes[1].weights(), [(rip(1), 1)]);
    pair.nodes[1].pass(1);
    pair.settle();
    assert_eq!(pair.nodes[0].weights(), [(rip(1), 0)]);
    for (of, up) in [(0, false), (1, true)] {
        let view = crate::view::ConfigurationsView::of(&pair.nodes[of].state).compare();
        assert_eq!(view.disagreements.len(), 1);
        assert_eq!(view.disagreements[0].up, up);
    }
    found(&mut pair.nodes[0], true);
    pair.nodes[0].pass(1);
    pair.settle();
    assert_eq!(pair.nodes[0].weights(), [(rip(1), 1)]);
    let view = crate::view::ConfigurationsView::of(&pair.nodes[1].state).compare();
    assert!(view.disagreements.is_empty());
}

#[test]
fn what_did_not_reach_the_link_is_told_again() {
    let mut pair = Pair::linked(&[("web", 1)]);
    order(&mut pair.nodes[0], "10.0.0.1", true);
    pair.nodes[0].apply(&node("lb1", &[("web", 1), ("mail", 2)]), None);
    pair.nodes[0].store_works();
    pair.nodes[0].others.clear();
    pair.nodes[0].happen(Event::Peer(PeerEvent::Unheard));
    pair.settle();
    assert_eq!((drained(&pair.nodes[1]), pair.services(1)), (0, vec!["web"]));
    pair.nodes[0].pass(2);
    pair.settle();
    assert_eq!((drained(&pair.nodes[1]), pair.services(1)), (1, vec!["web", "mail"]));
}
