//! Two directors that say things to each other.

use super::*;
use crate::model::{SharedPart, VrrpInstance};
use crate::sync::lineage::Relation;
use crate::sync::session::Control;

mod orders;

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
            node.state.sharing = crate::state::Sharing::new(String::new(), writer as u64 + 1, None);
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
            self.nodes[of].happen(Event::Peer(PeerEvent::Connected { node: name.to_owned() }));
        }
    }

    fn cut(&mut self) {
        self.collect();
        self.linked = false;
        for of in 0..2 {
            self.wires[of].clear();
            self.nodes[of].happen(Event::Peer(PeerEvent::Disconnected));
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
                    self.nodes[of].happen(Event::Peer(PeerEvent::Said(control)));
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
    pair.nodes[0].happen(Event::Configuration(ConfigurationEvent::Confirmed { ticket }));
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
        pair.nodes[of].happen(Event::Peer(PeerEvent::ConflictSettled { ticket, choice, author }));
        pair.settle();
        assert!(pair.same() && pair.own_parts_stand());
        let kept = if (of == 0) == (choice == Choice::Mine) { "one" } else { "two" };
        assert_eq!((pair.services(0), pair.services(1)), (vec![kept], vec![kept]));
        assert_eq!(pair.nodes[of].refused(ticket), None);
        let (own, other) = ([1, 2][of], [2, 1][of]);
        let (here, there) = match choice {
            Choice::Mine => (
                format!("by root: kept instead of what lb{other} had"),
                format!("by root on lb{own}: kept instead of what lb{other} had"),
            ),
            Choice::Theirs => (
                "(kept by root instead of the own one)".to_owned(),
                format!("by operator on lb{own}: kept instead of what lb{own} had"),
            ),
        };
        for (of, text) in [(of, here), (1 - of, there)] {
            let revisions = pair.nodes[of].said(Kind::Configuration);
            assert!(revisions.last().is_some_and(|last| last.ends_with(&text)), "{revisions:?}");
        }
        let again = pair.nodes[of].ticket();
        let author = "root".to_owned();
        pair.nodes[of].happen(Event::Peer(PeerEvent::ConflictSettled {
            ticket: again,
            choice,
            author,
        }));
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
                pair.nodes[of].happen(Event::Peer(PeerEvent::Said(control)));
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
    let lineage = crate::state::Sharing::read(&bytes);
    assert!(lineage.is_some());
    again.state.sharing = crate::state::Sharing::new(String::new(), 7, lineage);
    pair.nodes[1] = again;
    pair.nodes[1].happen(Event::TimePassed);
    pair.join();
    pair.settle();
    assert_eq!(pair.services(1), ["mail"]);
    // One that has lost its memory does not guess.
    pair.cut();
    pair.nodes[0].apply(&node("lb1", &[("more", 3)]), None);
    pair.settle();
    pair.nodes[1].state.sharing = crate::state::Sharing::new(String::new(), 8, None);
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

/// A document that no message to the peer has room for.
fn endless(name: &str, services: &[(&str, u8)]) -> Document {
    let mut document = node(name, services);
    let address = document.services[0].address;
    let service = document.service_at_mut(&address).expect("there");
    let said = crate::model::DialogueStep::Send("x".repeat(1 << 24));
    let probe = DialogueProbe { steps: vec![said], ..DialogueProbe::default() };
    service.check = Some(Check::new(Probe::Tcp(probe)));
    document
}

#[test]
fn what_has_no_room_on_the_link_is_refused_at_the_commit() {
    let mut pair = Pair::linked(&[("web", 1)]);
    let ticket = pair.nodes[0].apply(&endless("lb1", &[("mail", 2)]), None);
    let Some(Refusal::TooLarge(why)) = pair.nodes[0].refused(ticket) else { panic!("taken") };
    assert!(why.contains("more than the 16777215 that"), "{why}");
    pair.settle();
    assert!(pair.same() && pair.services(0) == ["web"]);
    // Without a peer there is nobody who would be left behind.
    let alone = Document { peer: None, ..endless("lb1", &[("mail", 2)]) };
    let ticket = pair.nodes[0].apply(&alone, None);
    assert_eq!(pair.nodes[0].refused(ticket), None);
}

#[test]
fn what_grew_too_long_by_edits_runs_and_both_say_that_it_does_not_travel() {
    let mut pair = Pair::linked(&[("web", 1)]);
    let ticket = pair.nodes[0].ticket();
    let (version, author) = (pair.nodes[0].state.version, "root".to_owned());
    let document = Arc::new(endless("lb1", &[("mail", 2)]));
    let comment = "ipvsadm".to_owned();
    let edit = Event::Edit(EditEvent::Document { ticket, version, document, author, comment });
    pair.nodes[0].happen(edit);
    pair.settle();
    pair.nodes[0].pass(3);
    pair.settle();
    assert_eq!(pair.nodes[0].refused(ticket), None);
    assert_eq!((pair.services(0), pair.services(1)), (vec!["mail"], vec!["web"]));
    for (of, text) in [(0, "is not sent to lb2"), (1, "lb1 cannot send its configuration")] {
        let said = pair.nodes[of].said(Kind::Peer);
        let of_it: Vec<_> = said.iter().filter(|said| said.contains(text)).collect();
        assert_eq!(of_it.len(), 1, "{said:?}");
        assert!(of_it[0].contains("more than the 16777215 that"), "{said:?}");
        let view = crate::view::ConfigurationsView::of(&pair.nodes[of].state).compare();
        let shown = if of == 0 { view.declined_by_peer } else { view.declined };
        assert!(shown.is_some_and(|why| why.contains("bytes")));
    }
    assert!(pair.nodes[1].state.sharing.revisions.is_settled(), "it does not wait for it");
    // Who is in this state may go on working, and out of it.
    let ticket = pair.nodes[0].apply(&endless("lb1", &[("more", 3)]), None);
    assert_eq!(pair.nodes[0].refused(ticket), None);
    pair.settle();
    pair.nodes[0].apply(&node("lb1", &[("more", 3)]), None);
    pair.settle();
    assert_eq!(pair.services(1), ["more"]);
    assert!(pair.same() && pair.own_parts_stand());
}

#[test]
fn a_choice_that_cannot_be_stored_is_refused_and_the_conflict_stays() {
    let mut pair = Pair::new([node("lb1", &[("one", 2)]), node("lb2", &[("two", 3)])]);
    pair.join();
    pair.settle();
    let mut choose = |works: bool| {
        let ticket = pair.nodes[0].ticket();
        let (choice, author) = (Choice::Mine, "root".to_owned());
        pair.nodes[0].happen(Event::Peer(PeerEvent::ConflictSettled { ticket, choice, author }));
        assert!(!pair.nodes[0].replies.contains_key(&ticket), "not before it is stored");
        if !works {
            pair.nodes[0].store_fails();
        }
        pair.settle();
        (pair.nodes[0].refused(ticket).cloned(), pair.relations())
    };
    let (refused, relations) = choose(false);
    assert!(matches!(refused, Some(Refusal::Store(_))), "{refused:?}");
    assert_eq!(relations, [Some(Relation::Conflict); 2]);
    let (refused, relations) = choose(true);
    assert_eq!((refused, relations), (None, [Some(Relation::Same); 2]));
    assert_eq!(pair.services(1), ["one"]);
}
