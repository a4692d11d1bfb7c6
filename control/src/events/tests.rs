//! Deciding, without a world: the store, the packet path and the host are what the test says.
#![allow(clippy::wildcard_enum_match_arm)] // tests look for one kind of action among all

use super::*;
use crate::compile::Standing;
use crate::health::weight::AgentWeight;
use crate::host::{HostState, Link};
use crate::ipvs::{self, Reply, Request};
use crate::model::{
    Check, DialogueProbe, Document, Method, Probe, Protocol, Real, Service, Sorry, VirtualAddress,
};
use crate::state::{Counted, Flaw, Outcome, Packets, PortStatus, Refusal, StoreCommand, Ticket};
use crate::store::{Found, RevisionInfo, Standing as RevisionStanding};
use dataplane::io::xdp::Buffers;
use dataplane::packet_path::Capacity;
use dataplane::packet_path::counters::Traffic;
use dataplane::packet_path::reals::Load;
use dataplane::table::{Mac, PortId, RealId, ServiceTable};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

mod configuration;
mod hosts;
mod pair;
mod publication;
mod servers;
mod setups;

/// Numbers that the test sets.
#[derive(Default)]
struct Numbers {
    loads: RefCell<BTreeMap<RealId, Load>>,
}

impl Counted for Numbers {
    fn traffic(&self, _: RealId) -> Traffic {
        Traffic::default()
    }
}

impl Packets for Numbers {
    fn load(&self, id: RealId) -> Load {
        self.loads.borrow().get(&id).copied().unwrap_or_default()
    }

    fn page(&self, _: u64, _: u32) -> ipvs::ConnectionPage {
        ipvs::ConnectionPage::default()
    }

    fn table_size(&self) -> u32 {
        4096
    }

    fn is_current(&self, _: PortId, edition: u64) -> bool {
        edition == 1
    }

    fn buffers(&self, _: PortId) -> Option<Buffers> {
        None
    }
}

/// A director whose store answers when the test lets it.
struct Director {
    state: State,
    numbers: Numbers,
    now: Moment,
    /// What the store was told and has not answered.
    store: VecDeque<StoreCommand>,
    replies: BTreeMap<Ticket, Outcome>,
    table: Arc<ServiceTable>,
    publications: usize,
    others: Vec<Action>,
    tickets: u64,
    revision: u64,
}

impl Director {
    fn new(document: Option<Document>) -> Self {
        let revision = u64::from(document.is_some());
        let found = Found {
            document: document.map(Arc::new),
            revision,
            unconfirmed: None,
            warnings: Vec::new(),
        };
        let capacity = Capacity { connections: 1024, services: 8, reals: 16, workers: 1 };
        let state = State::new(&found, Vec::new(), BTreeMap::new(), VecDeque::new(), capacity);
        let mut director = Self {
            state,
            numbers: Numbers::default(),
            now: Moment { steady: Duration::ZERO, wall: Duration::from_secs(1_000_000) },
            store: VecDeque::new(),
            replies: BTreeMap::new(),
            table: Arc::default(),
            publications: 0,
            others: Vec::new(),
            tickets: 0,
            revision,
        };
        let mut actions = Vec::new();
        director.state.republish(&mut actions);
        director.carry_out(actions);
        director
    }

    fn happen(&mut self, event: Event) {
        let host = ipvs::Host::new([], []);
        let senses = Senses { now: self.now, packets: &self.numbers, host: &host };
        let mut actions = Vec::new();
        decide(&mut self.state, event, &senses, &mut actions);
        publish_if_stale(&mut self.state, &senses, &mut actions);
        self.carry_out(actions);
    }

    /// Events that were waiting together, as the loop takes them.
    fn happen_at_once(&mut self, events: impl IntoIterator<Item = Event>) {
        let host = ipvs::Host::new([], []);
        let senses = Senses { now: self.now, packets: &self.numbers, host: &host };
        let mut actions = Vec::new();
        for event in events {
            decide(&mut self.state, event, &senses, &mut actions);
        }
        publish_if_stale(&mut self.state, &senses, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Store(command) => self.store.push_back(command),
                Action::Reply { ticket, outcome } => {
                    let before = self.replies.insert(ticket, outcome);
                    assert!(before.is_none() || ticket == Ticket::default(), "answered twice");
                }
                Action::Publish { table, .. } => {
                    self.table = table;
                    self.publications += 1;
                }
                other => self.others.push(other),
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Lets the store answer everything that it was told.
    fn store_works(&mut self) {
        while let Some(command) = self.store.pop_front() {
            let mut standing = RevisionStanding::Committed;
            let version = match command {
                StoreCommand::Commit { version, draft, .. } => {
                    self.revision += 1;
                    if let Some(within) = draft.confirm_within {
                        standing = RevisionStanding::Unconfirmed { until: 0, within };
                    }
                    version
                }
                StoreCommand::Append { version, .. } => version,
                StoreCommand::Settle => {
                    self.revision += 1;
                    0
                }
                StoreCommand::Confirm { version } => version,
                StoreCommand::Resume
                | StoreCommand::Maintenance { .. }
                | StoreCommand::Lineage(_)
                | StoreCommand::Keep(_) => continue,
            };
            let revision = RevisionInfo {
                number: self.revision,
                author: "test".into(),
                time: 0,
                comment: String::new(),
                standing,
            };
            self.happen(Event::Store(StoreEvent::Stored { version, revision, history: None }));
        }
    }

    /// Lets the store refuse everything that it was told, as a full disk does.
    fn store_fails(&mut self) {
        while let Some(command) = self.store.pop_front() {
            let version = match command {
                StoreCommand::Commit { version, .. }
                | StoreCommand::Append { version, .. }
                | StoreCommand::Confirm { version } => version,
                StoreCommand::Settle => 0,
                StoreCommand::Resume
                | StoreCommand::Maintenance { .. }
                | StoreCommand::Lineage(_)
                | StoreCommand::Keep(_) => continue,
            };
            self.happen(Event::Store(StoreEvent::NotStored { version, error: "disk full".into() }));
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now.steady += Duration::from_secs(seconds);
        self.now.wall += Duration::from_secs(seconds);
        self.happen(Event::TimePassed);
    }

    fn apply(&mut self, document: &Document, confirm_within: Option<Duration>) -> Ticket {
        let ticket = self.ticket();
        let document = Arc::new(document.clone());
        let (author, comment) = ("root".to_owned(), "test".to_owned());
        self.happen(Event::Configuration(ConfigurationEvent::Applied {
            base: None,
            ticket,
            document,
            author,
            comment,
            confirm_within,
        }));
        ticket
    }

    fn ipvs(&mut self, request: Request) -> Ticket {
        let ticket = self.ticket();
        let (request, author) = (Box::new(request), "root".to_owned());
        self.happen(Event::Edit(EditEvent::Ipvs { ticket, request, author }));
        ticket
    }

    fn refused(&self, ticket: Ticket) -> Option<&Refusal> {
        match self.replies.get(&ticket) {
            Some(Outcome::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    fn weights(&self) -> Vec<(SocketAddr, u32)> {
        let reals = self.table.reals();
        reals.map(|(_, real)| (SocketAddr::new(real.address, real.port), real.weight)).collect()
    }

    fn said(&self, kind: Kind) -> Vec<&str> {
        let of_kind = self.state.recent.iter().filter(|record| record.kind == kind);
        of_kind.map(|record| record.text.as_str()).collect()
    }
}

fn vip() -> VirtualAddress {
    let address = SocketAddr::from(([192, 0, 2, 1], 80));
    VirtualAddress::Socket { protocol: Protocol::Tcp, address }
}

fn rip(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// One service, checked, with these real servers.
fn web(reals: &[u8]) -> Document {
    let mut service = Service::new(vip(), Method::Nat);
    service.name = "web".into();
    service.check = Some(Check::new(Probe::Tcp(DialogueProbe::default())));
    service.reals = reals.iter().map(|last| Real::new(rip(*last))).collect();
    Document { services: vec![Arc::new(service)], ..Document::default() }
}
