//! Two directors with random commits, cuts and choices, against a model that knows who has heard of what.
#![allow(clippy::wildcard_enum_match_arm)] // tests look for one kind of output among all

use super::*;
use crate::model::Document;
use crate::sync::message::Revision;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

mod stories;

type Known = BTreeSet<ChangeId>;

/// A message, with what its sender really had and knew then.
struct Sent {
    control: Control,
    value: u64,
    known: Known,
}

/// What is on its way to the store.
enum Pending {
    Peers(Lineage, Box<SharedPart>),
    /// The own one again, chosen against this, with what the peer knew then.
    Own(Lineage, Known),
}

struct Node {
    revisions: Revisions,
    document: Document,
    writer: u64,
    number: u64,
    busy: bool,
    taking: Option<Pending>,
    /// The change that the document is by, and everything that went into it, by the model.
    current: ChangeId,
    known: Known,
    /// Revisions that say that the peer's operator chose this document.
    chosen: usize,
    /// What the peer knew and had when it told its heads last on this link.
    peer_known: Known,
    peer_value: Option<u64>,
}

fn document(value: u64) -> Document {
    let mut document = Document::default();
    document.timeouts.tcp = Duration::from_secs(900 + value);
    document
}

impl Node {
    fn new(writer: u64, value: u64) -> Self {
        let mut node = Self {
            revisions: Revisions::default(),
            document: document(value),
            writer,
            number: 0,
            busy: false,
            taking: None,
            current: ChangeId::NOTHING,
            known: Known::new(),
            chosen: 0,
            peer_known: Known::new(),
            peer_value: None,
        };
        let change = if value == 0 { node.change(ChangeId::NOTHING) } else { node.next() };
        node.revisions.begin(Lineage::starting(change), true, &mut Vec::new());
        node
    }

    fn value(&self) -> u64 {
        self.document.timeouts.tcp.as_secs() - 900
    }

    fn change(&self, id: ChangeId) -> Change {
        let digest = SharedPart::of(&self.document).digest();
        Change { id, digest, ..Change::default() }
    }

    fn next(&mut self) -> Change {
        self.number += 1;
        let id = ChangeId { writer: self.writer, number: self.number };
        self.current = id;
        self.known.insert(id);
        self.change(id)
    }

    /// Who has the same has seen the same.
    fn compare(&mut self) {
        if self.peer_value == Some(self.value()) {
            self.known.extend(&self.peer_known);
        }
    }

    fn free(&self) -> bool {
        !self.busy && self.taking.is_none()
    }

    fn commit(&mut self, value: u64) -> Vec<Output> {
        let mut out = Vec::new();
        if self.value() != value {
            self.document = document(value);
            let change = self.next();
            self.compare();
            let free = self.free();
            self.revisions.committed(change, free, &mut out);
        }
        out
    }

    fn hear(&mut self, sent: Sent) -> Vec<Output> {
        let (mut out, free) = (Vec::new(), self.free());
        match sent.control {
            Control::Heads(heads) => {
                (self.peer_known, self.peer_value) = (sent.known, Some(sent.value));
                self.compare();
                self.revisions.heads(heads, free, &mut out);
            }
            Control::Want(want) => self.revisions.wanted(want, free, &mut out),
            Control::Revision(revision) => self.revisions.revision(revision, free, &mut out),
            Control::Declined(declined) => self.revisions.declined_by_peer(declined, &mut out),
            other => panic!("{other:?}"),
        }
        out
    }

    fn finish(&mut self, good: bool) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(pending) = self.taking.take() else { return out };
        let free = self.free();
        match pending {
            Pending::Peers(mut lineage, part) if good => {
                self.document = part.with(&self.document);
                lineage.change.digest = SharedPart::of(&self.document).digest();
                self.current = lineage.change.id;
                self.known.extend(&self.peer_known);
                self.known.insert(lineage.change.id);
                self.revisions.taken(lineage, free, &mut out);
            }
            Pending::Peers(lineage, _) => {
                self.revisions.declined(lineage.change.id, "no".into(), &mut out);
            }
            Pending::Own(against, known) if good => {
                self.known.extend(known);
                let change = self.next();
                self.revisions.kept(&against, change, free, &mut out);
            }
            Pending::Own(..) => self.revisions.not_kept(free, &mut out),
        }
        out
    }
}

struct Pair {
    nodes: [Node; 2],
    /// On the way to each.
    wires: [VecDeque<Sent>; 2],
    linked: bool,
    /// The document that no message has room for.
    too_long: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(usize, u64),
    Cut,
    Join,
    Deliver(usize),
    Busy(usize, bool),
    Finish(usize, bool),
    Mine(usize),
    Theirs(usize),
}

impl Pair {
    fn new(values: [u64; 2]) -> Self {
        let [one, two] = values;
        let nodes = [Node::new(1, one), Node::new(2, two)];
        Self { nodes, wires: [VecDeque::new(), VecDeque::new()], linked: false, too_long: None }
    }

    /// Two that have told each other everything.
    fn joined(values: [u64; 2]) -> Self {
        let mut pair = Self::new(values);
        pair.step(&Step::Join);
        pair.settle();
        pair
    }

    /// The link is lost and comes back.
    fn reconnect(&mut self) {
        for step in [Step::Cut, Step::Join] {
            self.step(&step);
            self.settle();
        }
    }

    fn carry_out(&mut self, of: usize, chosen: bool, outputs: Vec<Output>) {
        for output in outputs {
            let node = &mut self.nodes[of];
            let control = match output {
                Output::Say(control) => control,
                Output::Tell(id) if self.too_long == Some(node.value()) => {
                    let mut more = Vec::new();
                    node.revisions.untold(id, "too long".into(), &mut more);
                    self.carry_out(of, chosen, more);
                    continue;
                }
                Output::Tell(id) => {
                    let part = SharedPart::of(&node.document);
                    assert_eq!(node.revisions.own().unwrap().change.digest, part.digest());
                    Control::Revision(Revision { id, part: part.to_text() })
                }
                Output::Take(lineage, part) => {
                    assert!(node.taking.is_none(), "one at a time");
                    assert!(!node.busy || chosen);
                    assert!(
                        chosen
                            || node.current == ChangeId::NOTHING
                            || node.peer_known.contains(&node.current),
                        "{:?} would be lost silently",
                        node.current
                    );
                    node.taking = Some(Pending::Peers(*lineage, part));
                    continue;
                }
                Output::ChosenByPeer => {
                    assert_eq!(node.peer_value, Some(node.value()));
                    node.chosen += 1;
                    continue;
                }
                Output::Remember
                | Output::Became(_)
                | Output::DeclinedByPeer(_)
                | Output::Untold(_)
                | Output::UntoldByPeer(_) => continue,
            };
            if self.linked {
                let (value, known) = (node.value(), node.known.clone());
                self.wires[1 - of].push_back(Sent { control, value, known });
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let mut out = Vec::new();
        match *step {
            Step::Commit(of, value) => {
                // The store takes one thing after the other.
                if self.nodes[of].taking.is_none() {
                    let outputs = self.nodes[of].commit(value);
                    self.carry_out(of, false, outputs);
                }
            }
            Step::Cut => {
                self.linked = false;
                for of in 0..2 {
                    self.wires[of].clear();
                    self.nodes[of].revisions.disconnected();
                    self.nodes[of].peer_value = None;
                }
            }
            Step::Join => {
                if !std::mem::replace(&mut self.linked, true) {
                    for of in 0..2 {
                        let free = self.nodes[of].free();
                        self.nodes[of].revisions.connected(free, &mut out);
                        self.carry_out(of, false, std::mem::take(&mut out));
                    }
                }
            }
            Step::Deliver(to) => {
                if let Some(sent) = self.wires[to].pop_front() {
                    let outputs = self.nodes[to].hear(sent);
                    self.carry_out(to, false, outputs);
                }
            }
            Step::Busy(of, busy) => {
                self.nodes[of].busy = busy;
                let free = self.nodes[of].free();
                self.nodes[of].revisions.review(free, &mut out);
                self.carry_out(of, false, out);
            }
            Step::Finish(of, good) => {
                let outputs = self.nodes[of].finish(good);
                self.carry_out(of, false, outputs);
            }
            Step::Mine(of) => {
                let node = &mut self.nodes[of];
                if node.revisions.relation() == Some(Relation::Conflict) && node.free() {
                    let against = node.revisions.keep_mine().expect("a conflict");
                    node.taking = Some(Pending::Own(against, node.peer_known.clone()));
                }
            }
            Step::Theirs(of) => {
                let node = &mut self.nodes[of];
                if !node.busy && node.revisions.keep_theirs(&mut out).is_ok() {
                    self.carry_out(of, true, out);
                }
            }
        }
    }

    /// Everything that is under way arrives.
    fn settle(&mut self) {
        for of in 0..2 {
            self.step(&Step::Busy(of, false));
        }
        for _ in 0..1000 {
            let busy = |node: &Node| node.taking.is_some();
            if self.wires.iter().all(VecDeque::is_empty) && !self.nodes.iter().any(busy) {
                return;
            }
            for of in 0..2 {
                self.step(&Step::Deliver(of));
                self.step(&Step::Finish(of, true));
            }
        }
        panic!("the two never stop talking");
    }

    fn relations(&self) -> [Option<Relation>; 2] {
        [self.nodes[0].revisions.relation(), self.nodes[1].revisions.relation()]
    }

    fn values(&self) -> [u64; 2] {
        [self.nodes[0].value(), self.nodes[1].value()]
    }
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..2_usize;
    prop_oneof![
        4 => (node.clone(), 0..4_u64).prop_map(|(of, value)| Step::Commit(of, value)),
        1 => Just(Step::Cut),
        2 => Just(Step::Join),
        8 => node.clone().prop_map(Step::Deliver),
        1 => (node.clone(), any::<bool>()).prop_map(|(of, busy)| Step::Busy(of, busy)),
        4 => (node.clone(), prop::bool::weighted(0.9)).prop_map(|(of, ok)| Step::Finish(of, ok)),
        1 => node.clone().prop_map(Step::Mine),
        1 => node.prop_map(Step::Theirs),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_commit_is_lost_silently_and_both_agree_or_both_see_the_conflict(
        values in prop::array::uniform2(0..3_u64),
        steps in prop::collection::vec(step(), 0..60),
        chooser in 0..2_usize,
        mine in any::<bool>(),
    ) {
        let mut pair = Pair::new(values);
        for step in &steps {
            pair.step(step);
        }
        // A new link, so that what was declined is tried again.
        pair.reconnect();
        match pair.relations() {
            [Some(Relation::Same), Some(Relation::Same)] => {
                prop_assert_eq!(pair.values()[0], pair.values()[1]);
            }
            [Some(Relation::Conflict), Some(Relation::Conflict)] => {
                let kept = pair.values()[if mine { chooser } else { 1 - chooser }];
                let chosen = [0, 1].map(|of: usize| pair.nodes[of].chosen);
                pair.step(&if mine { Step::Mine(chooser) } else { Step::Theirs(chooser) });
                pair.settle();
                prop_assert_eq!(pair.values(), [kept, kept]);
                prop_assert_eq!(pair.relations(), [Some(Relation::Same); 2]);
                // Both histories say it: a revision is committed by the chooser in either case, and the
                // other director takes it, or notes that its own was chosen.
                let more = [0, 1].map(|of: usize| pair.nodes[of].chosen - chosen[of]);
                let mut expected = [0, 0];
                expected[1 - chooser] = usize::from(!mine);
                prop_assert_eq!(more, expected);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert!(pair.nodes.iter().all(|node| node.revisions.is_settled()));
        // From here on both know everything: the next commit travels.
        pair.step(&Step::Commit(chooser, 9));
        pair.settle();
        prop_assert_eq!(pair.values(), [9, 9]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_too_long_to_be_told_is_said_on_both_and_stands_where_it_was_made(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut pair = Pair::new([1, 1]);
        pair.too_long = Some(3);
        for step in &steps {
            pair.step(step);
        }
        pair.reconnect();
        if pair.relations() == [Some(Relation::Conflict); 2] {
            let before = pair.values();
            pair.step(&Step::Mine(0));
            pair.settle();
            prop_assert_eq!(pair.values()[0], before[0]);
        }
        let ahead = match pair.relations() {
            [Some(Relation::Same), Some(Relation::Same)] => None,
            [Some(Relation::Ahead), Some(Relation::Behind)] => Some(0),
            [Some(Relation::Behind), Some(Relation::Ahead)] => Some(1),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        if let Some(ahead) = ahead {
            prop_assert_eq!(pair.values()[ahead], 3);
            let (here, there) = (&pair.nodes[ahead].revisions, &pair.nodes[1 - ahead].revisions);
            prop_assert_eq!(here.why_declined_by_peer(), Some("too long"));
            prop_assert_eq!(there.why_declined(), Some("too long"));
        } else {
            prop_assert_eq!(pair.values()[0], pair.values()[1]);
        }
        prop_assert!(pair.nodes.iter().all(|node| node.revisions.is_settled()));
        // What fits again travels as ever.
        pair.step(&Step::Commit(ahead.unwrap_or(0), 9));
        pair.settle();
        prop_assert_eq!(pair.values(), [9, 9]);
    }
}
