use super::super::connection::{Change, Connection, Key, Traits, Via};
use super::super::message::{Body, Step};
use super::*;
use dataplane::tick::Ticks;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[allow(clippy::disallowed_methods, reason = "any base will do; all else is relative to it")]
fn epoch() -> Instant {
    Instant::now()
}

fn connection(number: u32, state: u8) -> Connection {
    let endpoint = |a, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, a), port));
    Connection {
        key: Key {
            protocol: 6,
            template: false,
            client: SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 1000)),
            vip: endpoint(10, 80),
        },
        real: endpoint(20 + (number % 7) as u8, 80),
        via: Via::Nat,
        state,
        traits: Traits::default(),
        timeout: Ticks::from_secs(900),
        remaining: Ticks::from_secs(900),
        mark: 0,
        local: None,
        shifts: None,
    }
}

/// A table as plain as can be.
#[derive(Clone, Default, Debug)]
struct Table {
    rows: BTreeMap<Key, Connection>,
    /// Told since the snapshot began; `None` outside of one.
    told: Option<BTreeSet<Key>>,
}

/// Where a connection is in the table, so that others may come and go between two pages.
fn place(key: &Key) -> u64 {
    let std::net::IpAddr::V4(client) = key.client.ip() else { panic!("{key:?}") };
    u64::from(u32::from(client) - 0x0a00_0000)
}

impl Source for &Table {
    fn page(&mut self, cursor: u64, limit: usize) -> Page {
        let from = connection(cursor as u32, 1).key;
        let connections: Vec<_> = self.rows.range(from..).take(limit).map(|(_, c)| *c).collect();
        let last = connections.last().filter(|_| connections.len() == limit);
        let next = last.map(|connection| place(&connection.key) + 1);
        Page { connections, next }
    }
}

impl Sink for Table {
    fn begin(&mut self) {
        self.told = Some(BTreeSet::new());
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            if let Some(told) = &mut self.told {
                told.insert(*change.key());
            }
            match change {
                Change::Update(connection) => drop(self.rows.insert(connection.key, connection)),
                Change::Close(key) => drop(self.rows.remove(&key)),
            }
        }
    }

    fn end(&mut self) {
        if let Some(told) = self.told.take() {
            self.rows.retain(|key, _| told.contains(key));
        }
    }
}

/// A master with its table, a backup with its copy, and a bad network between.
struct World {
    now: Instant,
    limits: Limits,
    master: Table,
    sender: Sender,
    backup: Table,
    receiver: Receiver,
    forward: Vec<Step>,
    back: Vec<Answer>,
    random: u64,
    /// Percent lost, duplicated and reordered.
    faults: u64,
    steps: u64,
}

impl World {
    fn new(limits: Limits, seed: u64, faults: u64) -> Self {
        let mut sender = Sender::new(limits);
        sender.connected();
        Self {
            now: epoch(),
            limits,
            master: Table::default(),
            sender,
            backup: Table::default(),
            receiver: Receiver::new(),
            forward: Vec::new(),
            back: Vec::new(),
            random: seed | 1,
            faults,
            steps: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn change(&mut self, number: u32, state: Option<u8>) {
        let change = match state {
            Some(state) => Change::Update(connection(number, state)),
            None => Change::Close(connection(number, 0).key),
        };
        match change {
            Change::Update(connection) => drop(self.master.rows.insert(connection.key, connection)),
            Change::Close(key) => drop(self.master.rows.remove(&key)),
        }
        self.sender.record(change, self.now);
        self.check_memory();
    }

    fn check_memory(&self) {
        let (waiting, window) = self.sender.held();
        assert!(waiting <= self.limits.backlog, "{waiting} changes wait");
        let slack = self.limits.page * 24 + self.limits.batch + 256;
        assert!(window <= self.limits.window + slack, "{window} bytes unconfirmed");
    }

    /// Lets the sender speak at most `most` times, and delivers about as much.
    fn run(&mut self, most: usize) {
        self.now += Duration::from_millis(3);
        for _ in 0..most {
            let Some(step) = self.sender.poll(&mut &self.master, self.now) else { break };
            self.steps += 1;
            self.forward.push(step);
            self.check_memory();
        }
        for step in Self::transport(self, |world| &mut world.forward) {
            let answer = self.receiver.on_step(&step, &mut self.backup);
            self.back.extend(answer);
        }
        for answer in Self::transport(self, |world| &mut world.back) {
            match answer {
                Answer::Ack { epoch, sequence } => self.sender.on_ack(epoch, sequence),
                Answer::Resync { epoch } => self.sender.on_resync(epoch),
            }
        }
    }

    fn transport<T: Clone>(&mut self, way: impl Fn(&mut Self) -> &mut Vec<T>) -> Vec<T> {
        let mut arrived = Vec::new();
        for item in std::mem::take(way(self)) {
            if self.random(100) < self.faults {
                continue;
            }
            if self.random(100) < self.faults {
                let late = item.clone();
                way(self).push(late);
            }
            arrived.push(item);
            let last = arrived.len() - 1;
            if last > 0 && self.random(100) < self.faults {
                arrived.swap(last - 1, last);
            }
        }
        arrived
    }

    /// The receiver wants everything again, and the sender hears of it.
    fn again(&mut self) {
        if let Some(Answer::Resync { epoch }) = self.receiver.again() {
            self.sender.on_resync(epoch);
        }
    }

    /// The network is good again; everything gets through in bounded time.
    fn settle(&mut self) {
        self.faults = 0;
        for _ in 0..20_000 {
            self.run(100);
            let lag = self.sender.lag(self.now);
            if self.receiver.is_caught_up() && lag == Lag::default() && self.forward.is_empty() {
                return;
            }
        }
        panic!("does not settle: {:?}", self.sender.lag(self.now));
    }
}

fn small() -> Limits {
    Limits { backlog: 50, window: 4000, batch: 200, page: 7, ..Limits::default() }
}

#[test]
fn a_snapshot_and_changes_make_the_copy_equal() {
    let mut world = World::new(Limits::default(), 1, 0);
    (0..5000).for_each(|number| world.change(number, Some(1)));
    world.run(100_000);
    assert!(world.receiver.is_caught_up());
    assert!(world.backup.rows == world.master.rows);
    world.change(3, Some(4));
    world.change(4, None);
    world.run(1);
    world.run(1);
    assert!(world.backup.rows == world.master.rows);
    let lag = world.sender.lag(world.now);
    assert_eq!((lag.connections, lag.snapshot, lag.age), (0, false, Duration::ZERO));
    assert_eq!(world.sender.resyncs(), 0);
}

#[test]
fn changes_wait_for_company_and_are_coalesced() {
    let mut world = World::new(Limits::default(), 1, 0);
    world.run(100);
    for state in 1..=9 {
        world.change(7, Some(state));
    }
    assert_eq!(world.sender.poll(&mut &world.master, world.now), None, "two milliseconds early");
    let due = world.sender.deadline().unwrap();
    assert_eq!(due, world.now + world.limits.delay);
    let step = world.sender.poll(&mut &world.master, due).unwrap();
    let Body::Changes(records) = &step.body else { panic!("{step:?}") };
    assert!(records.len() < 40, "one record, not nine");
    assert_eq!(world.sender.lag(due).connections, 1);
}

#[test]
fn a_silent_peer_costs_bounded_memory_and_then_a_snapshot() {
    let mut world = World::new(small(), 1, 0);
    world.run(100);
    for number in 0..100_000 {
        world.change(number % 3000, Some(1));
        if number % 10 == 0 {
            // Sent, and never answered.
            let _ = world.sender.poll(&mut &world.master, world.now);
        }
    }
    assert!(world.sender.resyncs() > 0);
    assert!(world.sender.lag(world.now).snapshot);
    world.forward.clear();
    world.settle();
    assert!(world.backup.rows == world.master.rows);
}

#[test]
fn without_a_link_nothing_is_kept() {
    let mut sender = Sender::new(Limits::default());
    let table = Table::default();
    sender.record(Change::Update(connection(1, 1)), epoch());
    assert_eq!(sender.held(), (0, 0));
    assert_eq!(sender.poll(&mut &table, epoch()), None);
    assert_eq!((sender.deadline(), sender.is_eager()), (None, false));
    sender.connected();
    assert!(sender.is_eager());
    sender.disconnected();
    assert_eq!(sender.poll(&mut &table, epoch()), None);
}

#[test]
fn a_gap_is_noticed_and_asked_for_once() {
    let mut sink = Table::default();
    let mut receiver = Receiver::new();
    let step = |epoch, sequence, body| Step { epoch, sequence, body };
    let mut on = |s| receiver.on_step(&s, &mut sink);
    let empty = || Body::Changes(Vec::new());
    assert_eq!(on(step(5, 3, empty())), Some(Answer::Resync { epoch: 5 }), "beginning missed");
    assert_eq!(on(step(5, 4, empty())), None);
    assert_eq!(on(step(6, 0, Body::Begin)), Some(Answer::Ack { epoch: 6, sequence: 0 }));
    assert_eq!(on(step(6, 1, empty())), Some(Answer::Ack { epoch: 6, sequence: 1 }));
    assert_eq!(on(step(6, 1, empty())), Some(Answer::Ack { epoch: 6, sequence: 1 }), "twice");
    assert_eq!(on(step(5, 9, empty())), None, "of old");
    assert_eq!(on(step(6, 3, empty())), Some(Answer::Resync { epoch: 6 }), "2 is missing");
    assert_eq!(on(step(6, 2, empty())), None, "too late");
    assert_eq!(on(step(7, 0, Body::Begin)), Some(Answer::Ack { epoch: 7, sequence: 0 }));
    let garbage = Body::Changes(vec![0xff]);
    assert_eq!(on(step(7, 1, garbage)), Some(Answer::Resync { epoch: 7 }), "malformed");
    assert_eq!(on(step(7, 2, Body::End)), None);
    assert!(!receiver.is_caught_up());
}

#[test]
fn a_beginning_overtaken_by_what_follows_needs_no_second_snapshot() {
    let mut sink = Table::default();
    let mut receiver = Receiver::new();
    let mut on = |sequence, body| receiver.on_step(&Step { epoch: 5, sequence, body }, &mut sink);
    let empty = || Body::Changes(Vec::new());
    assert_eq!(on(1, empty()), Some(Answer::Resync { epoch: 5 }), "lost on its way back");
    assert_eq!(on(0, Body::Begin), Some(Answer::Ack { epoch: 5, sequence: 0 }));
    assert_eq!(on(1, empty()), Some(Answer::Ack { epoch: 5, sequence: 1 }));
    assert_eq!(on(2, Body::End), Some(Answer::Ack { epoch: 5, sequence: 2 }));
    assert!(receiver.is_caught_up());
}

#[test]
fn what_ended_while_the_link_was_down_is_forgotten_by_the_snapshot() {
    let mut world = World::new(Limits::default(), 1, 0);
    (0..100).for_each(|number| world.change(number, Some(1)));
    world.run(100);
    world.sender.disconnected();
    world.receiver.disconnected();
    (0..50).for_each(|number| world.change(number, None));
    assert!(!world.receiver.is_caught_up());
    assert_eq!(world.backup.rows.len(), 100, "kept while the peer is away");
    world.sender.connected();
    world.run(100);
    assert!(world.backup.rows == world.master.rows);
    assert_eq!(world.backup.rows.len(), 50);
}

#[test]
fn what_could_not_be_taken_in_is_told_again_on_request() {
    let mut world = World::new(Limits::default(), 1, 0);
    (0..5000).for_each(|number| world.change(number, Some(1)));
    world.run(100_000);
    let key = connection(7, 1).key;
    world.backup.rows.remove(&key);
    world.again();
    assert!(!world.receiver.is_caught_up());
    assert_eq!(world.receiver.again(), None, "once is enough");
    world.settle();
    assert!(world.backup.rows == world.master.rows);
    // In the midst of a snapshot its end is not the end.
    world.again();
    world.run(2);
    world.backup.rows.remove(&key);
    world.again();
    world.settle();
    assert!(world.backup.rows == world.master.rows);
}

#[derive(Clone, Debug)]
enum Deed {
    Again,
    Change(u32, Option<u8>),
    Run(usize),
    Reconnect,
    Lost,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        20 => (0u32..200, prop::option::weighted(0.7, 0u8..11)).prop_map(|(n, s)| Deed::Change(n, s)),
        10 => (0usize..6).prop_map(Deed::Run),
        1 => Just(Deed::Reconnect),
        1 => Just(Deed::Lost),
        1 => Just(Deed::Again),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_copy_becomes_equal_whatever_the_network_did(
        seed: u64,
        faults in prop_oneof![Just(0u64), 1u64..40],
        deeds in prop::collection::vec(deed(), 1..300),
    ) {
        let mut world = World::new(small(), seed, faults);
        for deed in deeds {
            match deed {
                Deed::Change(number, state) => world.change(number, state),
                Deed::Run(most) => world.run(most),
                Deed::Reconnect => {
                    // Steps of the old link may still be under way.
                    world.sender.disconnected();
                    world.sender.connected();
                }
                Deed::Lost => world.sender.resync(),
                Deed::Again => world.again(),
            }
        }
        world.settle();
        prop_assert!(world.receiver.is_caught_up());
        prop_assert!(world.backup.rows == world.master.rows);
        let lag = world.sender.lag(world.now);
        prop_assert_eq!((lag.connections, lag.snapshot), (0, false));
    }
}

#[test]
fn a_million_connections_fit_a_few_megabytes_and_a_moment() {
    let mut world = World::new(Limits { window: usize::MAX, ..Limits::default() }, 1, 0);
    let count = 100_000;
    for number in 0..count {
        let connection = connection(number, 1);
        world.master.rows.insert(connection.key, connection);
    }
    let bytes: usize = std::iter::from_fn(|| world.sender.poll(&mut &world.master, world.now))
        .map(|step| if let Body::Changes(records) = step.body { records.len() } else { 0 })
        .sum();
    assert!(bytes < 22 * count as usize, "{} bytes each", bytes / count as usize);
}
