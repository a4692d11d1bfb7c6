//! Two directors that say things to each other.

use super::*;
use crate::engine::Order;
use crate::model::{SharedPart, VrrpInstance};
use crate::sync::lineage::Relation;
use crate::sync::session::Control;

/// Two directors, and what is on its way to each.
struct Pair {
    nodes: [Director; 2],
    wires: [VecDeque<Control>; 2],
    linked: bool,
}

fn node(name: &str, services: &[(&str, u8)]) -> Document {
    let mut text = format!(
        "[node]\nname = \"{name}\"\n[[interface]]\nname = \"{name}-eth0\"\n\
         [peer]\naddress = \"10.9.0.1:9850\"\nlisten = \"10.9.0.2:9850\"\n"
    );
    for (name, last) in services {
        text.push_str(&format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.{last}:80\"\n\
             [[service.real]]\naddress = \"10.0.0.{last}:80\"\n"
        ));
    }
    Document::parse(&text, "test").expect("is good")
}

impl Pair {
    fn new(documents: [Document; 2]) -> Self {
        let mut nodes = documents.map(|document| Director::new(Some(document)));
        for (writer, node) in nodes.iter_mut().enumerate() {
            node.state.sharing =
                crate::engine::Sharing::new(String::new(), writer as u64 + 1, None);
            node.happen(Event::TimePassed);
        }
        Self { nodes, wires: [VecDeque::new(), VecDeque::new()], linked: false }
    }

    /// Two directors that have had the same for a while.
    fn linked(services: &[(&str, u8)]) -> Self {
        let mut pair = Self::new([node("lb1", services), node("lb2", services)]);
        pair.join();
        pair.settle();
        assert_eq!(pair.relations(), [Some(Relation::Same); 2]);
        pair
    }

    fn join(&mut self) {
        self.linked = true;
        for (of, name) in ["lb2", "lb1"].into_iter().enumerate() {
            self.nodes[of].happen(Event::PeerConnected { node: name.to_owned() });
        }
    }

    fn cut(&mut self) {
        self.collect();
        self.linked = false;
        for of in 0..2 {
            self.wires[of].clear();
            self.nodes[of].happen(Event::PeerDisconnected);
        }
    }

    fn collect(&mut self) {
        for of in 0..2 {
            let (said, others) = std::mem::take(&mut self.nodes[of].others)
                .into_iter()
                .partition(|action| matches!(action, Action::Say(_)));
            self.nodes[of].others = others;
            let said: Vec<Action> = said;
            for action in said {
                if let (Action::Say(control), true) = (action, self.linked) {
                    self.wires[1 - of].push_back(control);
                }
            }
        }
    }

    /// Everything arrives and is stored.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.collect();
            for of in 0..2 {
                if let Some(control) = self.wires[of].pop_front() {
                    self.nodes[of].happen(Event::PeerSaid(control));
                }
                self.nodes[of].store_works();
            }
        }
        self.collect();
        assert!(self.wires.iter().all(VecDeque::is_empty), "they never stop talking");
    }

    fn relations(&self) -> [Option<Relation>; 2] {
        [0, 1].map(|of: usize| self.nodes[of].state.sharing.revisions.relation())
    }

    fn services(&self, of: usize) -> Vec<&str> {
        let services = self.nodes[of].state.running.services.iter();
        services.map(|service| service.name.as_str()).collect()
    }

    fn same(&self) -> bool {
        let [one, two] = [0, 1].map(|of: usize| SharedPart::of(&self.nodes[of].state.running));
        one.digest().agrees(&two.digest()) && self.relations() == [Some(Relation::Same); 2]
    }

    /// Each director's own part is what it was.
    fn own_parts_stand(&self) -> bool {
        ["lb1", "lb2"].into_iter().enumerate().all(|(of, name)| {
            let running = &self.nodes[of].state.running;
            running.node.name.as_deref() == Some(name)
                && running.interfaces[0].name == format!("{name}-eth0")
        })
    }
}

#[test]
fn a_commit_on_either_director_reaches_the_other() {
    let mut pair = Pair::linked(&[("web", 1)]);
    pair.nodes[0].apply(&node("lb1", &[("web", 1), ("mail", 2)]), None);
    pair.settle();
    assert_eq!(pair.services(1), ["web", "mail"]);
    pair.nodes[1].apply(&node("lb2", &[("mail", 2)]), None);
    pair.settle();
    assert_eq!(pair.services(0), ["mail"]);
    assert!(pair.same() && pair.own_parts_stand());
    let said = pair.nodes[1].said(Kind::Configuration);
    assert!(said.iter().any(|text| text.contains(" on lb1")), "{said:?}");
}

#[test]
fn edits_travel_when_their_burst_has_ended() {
    let mut pair = Pair::linked(&[("web", 1)]);
    let address = VirtualAddress::Socket { protocol: Protocol::Tcp, address: rip(9) };
    let service = ipvs::Request::Flush;
    pair.nodes[0].ipvs(service);
    pair.settle();
    assert_eq!(pair.services(1), ["web"], "more may follow");
    pair.nodes[0].pass(3);
    pair.settle();
    assert!(pair.services(1).is_empty() && pair.same());
    assert!(pair.nodes[1].state.running.service_at(&address).is_none());
}

#[test]
fn a_revision_on_trial_travels_when_it_is_confirmed_and_never_when_it_is_taken_back() {
    let mut pair = Pair::linked(&[("web", 1)]);
    let tried = node("lb1", &[("tried", 3)]);
    let within = Some(Duration::from_secs(60));
    pair.nodes[0].apply(&tried, within);
    pair.settle();
    pair.nodes[0].pass(61);
    pair.settle();
    assert_eq!(pair.services(0), ["web"]);
    assert_eq!(pair.services(1), ["web"]);
    assert!(pair.nodes[1].said(Kind::Configuration).is_empty());
    pair.nodes[0].apply(&tried, within);
    pair.settle();
    assert_eq!(pair.services(1), ["web"]);
    let ticket = pair.nodes[0].ticket();
    pair.nodes[0].happen(Event::ConfigConfirmed { ticket });
    pair.settle();
    assert_eq!(pair.services(1), ["tried"]);
    assert!(pair.same());
}

#[test]
fn a_commit_of_the_peer_waits_for_the_end_of_a_trial() {
    let mut pair = Pair::linked(&[("web", 1)]);
    pair.nodes[0].apply(&node("lb1", &[("tried", 3)]), Some(Duration::from_secs(60)));
    pair.settle();
    pair.nodes[1].apply(&node("lb2", &[("other", 4)]), None);
    pair.settle();
    assert_eq!(pair.services(0), ["tried"], "not pulled away from under the operator");
    pair.nodes[0].pass(61);
    pair.settle();
    assert_eq!(pair.services(0), ["other"]);
    assert!(pair.same());
}

#[test]
fn changes_made_apart_are_a_conflict_and_an_operator_chooses() {
    for (of, choice) in [(0, Choice::Mine), (1, Choice::Mine), (0, Choice::Theirs)] {
        let mut pair = Pair::linked(&[("web", 1)]);
        pair.cut();
        pair.nodes[0].apply(&node("lb1", &[("one", 2)]), None);
        pair.nodes[1].apply(&node("lb2", &[("two", 3)]), None);
        pair.settle();
        pair.join();
        pair.settle();
        assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
        assert_eq!((pair.services(0), pair.services(1)), (vec!["one"], vec!["two"]));
        for node in &pair.nodes {
            let said = node.said(Kind::Peer);
            assert!(said.iter().any(|text| text.contains("sync keep")), "{said:?}");
        }
        let shown = crate::view::ConfigurationsView::of(&pair.nodes[0].state).compare();
        let lines: Vec<String> = shown.differences.iter().map(ToString::to_string).collect();
        assert!(lines[0].starts_with("- service one"), "{lines:?}");
        assert!(lines[1].starts_with("+ service two"), "{lines:?}");
        let ticket = pair.nodes[of].ticket();
        let author = "root".to_owned();
        pair.nodes[of].happen(Event::ConflictSettled { ticket, choice, author });
        pair.settle();
        assert!(pair.same() && pair.own_parts_stand());
        let kept = if (of == 0) == (choice == Choice::Mine) { "one" } else { "two" };
        assert_eq!((pair.services(0), pair.services(1)), (vec![kept], vec![kept]));
        assert_eq!(pair.nodes[of].refused(ticket), None);
        let again = pair.nodes[of].ticket();
        let author = "root".to_owned();
        pair.nodes[of].happen(Event::ConflictSettled { ticket: again, choice, author });
        assert!(matches!(pair.nodes[of].refused(again), Some(Refusal::Peer(_))));
    }
}

#[test]
fn what_does_not_fit_the_peer_is_refused_there_and_said_on_both() {
    let mut pair = Pair::linked(&[("web", 1)]);
    let mut tracking = node("lb2", &[("web", 1)]).to_toml();
    tracking.push_str(
        "[[vrrp]]\nname = \"outside\"\ninterface = \"eth0\"\nid = 5\naddresses = [\"192.0.2.1\"]\n\
         [[vrrp.track]]\nservice = \"web\"\n",
    );
    let tracking = Document::parse(&tracking, "test").expect("is good");
    pair.nodes[1].apply(&tracking, None);
    pair.settle();
    assert!(pair.same(), "an instance that only one has is its own");
    pair.nodes[0].apply(&node("lb1", &[("mail", 2)]), None);
    pair.settle();
    assert_eq!((pair.services(0), pair.services(1)), (vec!["mail"], vec!["web"]));
    for (of, text) in [(0, "lb2 does not take this"), (1, "of lb1 does not fit here")] {
        let said = pair.nodes[of].said(Kind::Peer);
        assert!(said.iter().any(|said| said.contains(text)), "{said:?}");
    }
    // The own part is put right: now it fits.
    pair.nodes[1].apply(&node("lb2", &[("web", 1)]), None);
    pair.settle();
    assert_eq!(pair.services(1), ["mail"]);
    assert!(pair.same());
}

#[test]
fn virtual_addresses_of_an_instance_are_committed_once() {
    let instance = |name: &str, addresses: &str| {
        let text = node(name, &[("web", 1)]).to_toml();
        let priority = if name == "lb1" { 150 } else { 100 };
        let text = format!(
            "{text}[[vrrp]]\nname = \"outside\"\ninterface = \"{name}-eth0\"\nid = 5\n\
             priority = {priority}\naddresses = [{addresses}]\n"
        );
        Document::parse(&text, "test").expect("is good")
    };
    let pair_text = |name: &str, last: u8| {
        let both = instance(name, "\"192.0.2.1\", \"192.0.2.2\"").to_toml();
        format!(
            "{both}[[vrrp]]\nname = \"inside\"\ninterface = \"{name}-eth1\"\nid = 6\n\
             addresses = [\"10.0.0.{last}\"]\n"
        )
    };
    let one = "\"192.0.2.1\"";
    let mut pair = Pair::new([instance("lb1", one), instance("lb2", one)]);
    pair.join();
    pair.settle();
    pair.nodes[0].apply(&instance("lb1", "\"192.0.2.1\", \"192.0.2.2\""), None);
    pair.settle();
    let VrrpInstance { addresses, priority, interface, .. } = &pair.nodes[1].state.running.vrrp[0];
    assert_eq!((addresses.len(), *priority, interface.as_str()), (2, 100, "lb2-eth0"));
    assert!(pair.same());
    // An instance that comes on both with other addresses is for the operator to settle.
    let inside = |name: &str, last: u8| {
        let text = pair_text(name, last);
        Document::parse(&text, "test").expect("is good")
    };
    pair.nodes[0].apply(&inside("lb1", 1), None);
    pair.settle();
    assert!(pair.same(), "only one has it");
    pair.nodes[1].apply(&inside("lb2", 2), None);
    pair.settle();
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
    pair.nodes[1].apply(&inside("lb2", 1), None);
    pair.settle();
    assert!(pair.same());
}

#[test]
fn a_full_disk_refuses_the_peer_s_revision_too() {
    let mut pair = Pair::linked(&[("web", 1)]);
    pair.nodes[0].apply(&node("lb1", &[("mail", 2)]), None);
    pair.nodes[0].store_works();
    for _ in 0..5 {
        pair.collect();
        for of in 0..2 {
            while let Some(control) = pair.wires[of].pop_front() {
                pair.nodes[of].happen(Event::PeerSaid(control));
            }
        }
        pair.nodes[1].store_fails();
    }
    assert_eq!(pair.services(1), ["web"]);
    assert!(pair.nodes[0].said(Kind::Peer).iter().any(|text| text.contains("stored")));
    // The disk has room again, and the link comes anew.
    pair.cut();
    pair.join();
    pair.settle();
    assert_eq!(pair.services(1), ["mail"]);
}

#[test]
fn a_restarted_director_knows_what_it_has_seen() {
    let mut pair = Pair::linked(&[("web", 1)]);
    let bytes = pair.nodes[1].state.sharing.remembered().expect("something");
    pair.cut();
    pair.nodes[0].apply(&node("lb1", &[("mail", 2)]), None);
    pair.settle();
    let document = Document::clone(&pair.nodes[1].state.running);
    let mut again = Director::new(Some(document));
    let lineage = crate::engine::Sharing::read(&bytes);
    assert!(lineage.is_some());
    again.state.sharing = crate::engine::Sharing::new(String::new(), 7, lineage);
    pair.nodes[1] = again;
    pair.nodes[1].happen(Event::TimePassed);
    pair.join();
    pair.settle();
    assert_eq!(pair.services(1), ["mail"]);
    // One that has lost its memory does not guess.
    pair.cut();
    pair.nodes[0].apply(&node("lb1", &[("more", 3)]), None);
    pair.settle();
    pair.nodes[1].state.sharing = crate::engine::Sharing::new(String::new(), 8, None);
    pair.nodes[1].happen(Event::TimePassed);
    pair.join();
    pair.settle();
    assert_eq!(pair.relations(), [Some(Relation::Conflict); 2]);
}

#[test]
fn a_new_director_takes_over_what_the_other_one_has() {
    let mut pair = Pair::new([node("lb1", &[("web", 1)]), node("lb2", &[])]);
    pair.join();
    pair.settle();
    assert_eq!(pair.services(1), ["web"]);
    assert!(pair.same() && pair.own_parts_stand());
}

fn order(director: &mut Director, real: &str, out: bool) {
    let ticket = director.ticket();
    let (service, real, author) = ("web".to_owned(), real.to_owned(), "root".to_owned());
    director.happen(if out {
        let reason = "new disk".to_owned();
        Event::ServerDrained { ticket, service, real, author, reason, within: None }
    } else {
        Event::ServerUndrained { ticket, service, real, author }
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
    pair.nodes[0].happen(Event::ServerDrained {
        ticket,
        service: "mail".into(),
        real: "10.0.0.2".into(),
        author: "root".into(),
        reason: String::new(),
        within: Some(Duration::from_secs(60)),
    });
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
    pair.nodes[0].happen(Event::DrainsRestored(orders.into()));
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
        Event::RealUp { real, reason }
    } else {
        Event::RealDown { real, reason }
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
    pair.nodes[0].happen(Event::PeerUnheard);
    pair.settle();
    assert_eq!((drained(&pair.nodes[1]), pair.services(1)), (0, vec!["web"]));
    pair.nodes[0].pass(2);
    pair.settle();
    assert_eq!((drained(&pair.nodes[1]), pair.services(1)), (1, vec!["web", "mail"]));
}
