//! Many threads publish, find and remove the same few connections, in a table so small that slots and
//! cells are used again at once. What the protocol promises is checked at every step:
//!
//! - at most one connection at a time has a tuple, and exactly one caller removes it;
//! - what a lookup finds has the tuple that was looked up, and keeps it until the batch ends, however
//!   often it is removed meanwhile (the grace period of [`super::super::slots`]);
//! - a stored connection is found from both ends by whoever comes after;
//! - a connection that is refused when it is half published may be found and removed meanwhile, and
//!   has its slot back once, as has one whose timer was set when it was removed already;
//! - nothing is left over: in the end every slot and every cell is free again.
//!
//! Workers rest between some of their batches, so that others use slots again while they wake.
//!
//! `VIADUCT_RACES` sets how many batches each thread runs (default 3,000).

use super::*;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const THREADS: usize = 4;
/// Few tuples, so that threads meet.
const CLIENTS: u32 = 24;
const STEPS: usize = 24;

struct Arena {
    table: Connections,
    reals: Reals,
    /// By client: the slot of its connection as far as the threads have agreed; 0 for none.
    agreed: Vec<AtomicU32>,
}

fn tuple_of(client: u32) -> Tuple {
    tuple_to(client, 80)
}

/// Of a connection that is always refused: its replies are those of another.
fn rival_of(client: u32) -> Tuple {
    tuple_to(CLIENTS + client, 81)
}

fn tuple_to(client: u32, destination_port: u16) -> Tuple {
    Tuple {
        protocol: 6,
        source: Address::v4(client + 1),
        source_port: 7,
        destination: Address::v4(0xc000_0201),
        destination_port,
        template: false,
    }
}

fn lasting(client: u32, real: u32) -> NewConnection {
    NewConnection {
        client: Address::v4(client + 1),
        timeout: Ticks::from_secs(2_000_000),
        ..connection(0, 7, real, Via::Nat)
    }
}

impl Arena {
    /// One batch of a worker: random steps, then a look back at everything found.
    fn batch(&self, owned: &mut Owned, random: &mut impl FnMut() -> u32, now: Tick) {
        self.table.begin_batch(owned);
        let mut found: Vec<(Slot, Tuple)> = Vec::new();
        for _ in 0..STEPS {
            let client = random() % CLIENTS;
            if random().is_multiple_of(4) {
                found.extend(self.rival(owned, client, random(), now));
                continue;
            }
            let tuple = tuple_of(client);
            let hash = self.table.hash(&tuple);
            let by_guess = self.table.guessed(self.table.guess(hash), Direction::Forward);
            if let Some(entry) = by_guess.filter(|entry| entry.is_from_client(&tuple)) {
                assert_eq!(Connections::forward_tuple(entry), tuple);
            }
            let agreed = self.agreed[client as usize].load(SeqCst);
            let seen = self.table.find(&tuple, hash, &self.reals);
            match seen {
                Some((slot, direction)) => {
                    assert_eq!(direction, Direction::Forward);
                    found.push((slot, tuple));
                    if random().is_multiple_of(3) {
                        self.remove(slot, client, now);
                    }
                }
                None => {
                    let still = self.agreed[client as usize].load(SeqCst);
                    // Unless it was removed meanwhile, and perhaps stored again.
                    assert!(agreed == 0 || still != agreed || self.is_dying(agreed), "lost");
                    self.insert(owned, client, random() % 8, now);
                }
            }
        }
        for (slot, tuple) in found {
            assert_eq!(
                Connections::forward_tuple(self.table.entry(slot)),
                tuple,
                "{slot:?} reused"
            );
        }
    }

    /// Takes out a connection that is about to be refused, or tries to store it. What was found.
    fn rival(
        &self,
        owned: &mut Owned,
        client: u32,
        random: u32,
        now: Tick,
    ) -> Option<(Slot, Tuple)> {
        let tuple = rival_of(client);
        if let Some((slot, _)) = self.table.find(&tuple, self.table.hash(&tuple), &self.reals) {
            if random.is_multiple_of(2) {
                let _ = self.table.remove(slot, &self.reals, now);
            }
            self.table.wake_by(slot, now);
            return Some((slot, tuple));
        }
        let new = NewConnection { virtual_port: 81, ..lasting(CLIENTS + client, 0) };
        let refused = self.table.insert(owned, &new, &self.reals, now);
        assert!(
            matches!(
                refused,
                Err(NotInserted::ReplyExists(_) | NotInserted::Exists(_) | NotInserted::Full)
            ),
            "{refused:?}"
        );
        None
    }

    /// Whether the connection in a slot has died since its agreement was read.
    fn is_dying(&self, slot: u32) -> bool {
        self.table.entry(Slot(slot)).meta().flags.has(Flags::DEAD)
    }

    fn insert(&self, owned: &mut Owned, client: u32, real: u32, now: Tick) {
        let new = lasting(client, real);
        match self.table.insert(owned, &new, &self.reals, now) {
            Ok(slot) => {
                let before = self.agreed[client as usize].swap(slot.0, SeqCst);
                assert_eq!(before, 0, "two connections of client {client}");
            }
            Err(NotInserted::Exists(slot)) => assert_ne!(slot.0, 0),
            Err(NotInserted::ReplyExists(_)) => panic!("replies of different clients differ"),
            Err(NotInserted::Full | NotInserted::NoSource) => {}
        }
    }

    /// Who takes back the agreement removes the connection, and nobody else does.
    fn remove(&self, slot: Slot, client: u32, now: Tick) {
        let agreed = &self.agreed[client as usize];
        if agreed.compare_exchange(slot.0, 0, SeqCst, SeqCst).is_ok() {
            let reply = Connections::reply_tuple(self.table.entry(slot), &self.reals);
            let found = self.table.find(&reply, self.table.hash(&reply), &self.reals);
            assert_eq!(found, Some((slot, Direction::Reply)), "not found from the other end");
            assert!(self.table.remove(slot, &self.reals, now), "somebody else removed it");
        }
        assert!(!self.is_dying(slot.0) || !self.table.remove(slot, &self.reals, now));
    }
}

#[test]
fn threads_that_publish_find_and_remove_never_see_a_wrong_connection() {
    let batches: u32 = std::env::var("VIADUCT_RACES")
        .map_or(3_000, |text| text.parse().expect("VIADUCT_RACES is a number"));
    let arena = Arena {
        table: Connections::new((THREADS + 1) * slots::CHUNK, THREADS + 1, KEYS),
        reals: reals(),
        agreed: (0..CLIENTS).map(|_| AtomicU32::new(0)).collect(),
    };
    let mut first = arena.table.owned(THREADS);
    let holders: Vec<Slot> = (CLIENTS..2 * CLIENTS)
        .map(|client| arena.table.insert(&mut first, &lasting(client, 0), &arena.reals, moment(1)))
        .map(Result::unwrap)
        .collect();
    let failed = AtomicBool::new(false);
    let mut owners = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for worker in 0..THREADS {
            let (arena, failed) = (&arena, &failed);
            threads.push(scope.spawn(move || {
                let mut owned = arena.table.owned(worker);
                let mut sweeper = Sweeper::default();
                let mut seed = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(worker as u64 + 1);
                let mut random = move || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    (seed >> 32) as u32
                };
                let guard = OnPanic(failed);
                for round in 1..=batches {
                    if failed.load(SeqCst) {
                        break;
                    }
                    // Timeouts are far away: only the threads remove.
                    arena.batch(&mut owned, &mut random, moment(1));
                    let now = moment(round * 256);
                    arena
                        .table
                        .sweep(&mut sweeper, &mut owned, &arena.reals, now, |_| panic!("expired"));
                    if random().is_multiple_of(2) {
                        arena.table.rest(&owned);
                        std::thread::yield_now();
                    }
                }
                arena.table.rest(&owned);
                std::mem::forget(guard);
                (sweeper, owned)
            }));
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for slot in holders {
        assert!(arena.table.remove(slot, &arena.reals, moment(1)));
    }
    for (client, agreed) in arena.agreed.iter().enumerate() {
        let slot = agreed.load(SeqCst);
        let tuple = tuple_of(client as u32);
        let found = arena.table.find(&tuple, arena.table.hash(&tuple), &arena.reals);
        assert_eq!(found.map_or(0, |(slot, _)| slot.0), slot, "client {client}");
        assert!(slot == 0 || arena.table.remove(Slot(slot), &arena.reals, moment(1)));
    }
    assert_eq!(arena.table.len(), 0);
    assert!(arena.table.index.is_empty(), "cells are left over");
    owners.push((Sweeper::default(), first));
    let mut slots = Vec::new();
    for (sweeper, owned) in &mut owners {
        // Twice: what time has made due is looked at in one or the other.
        for second in [batches + 10, batches + 20] {
            let now = moment(second * 256);
            arena.table.sweep(sweeper, owned, &arena.reals, now, |_| panic!("expired"));
        }
        slots.extend(owned.held());
    }
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[0] != pair[1]), "a slot has two owners");
    let all = arena.table.pool.touched() - 1;
    assert_eq!(slots.len(), all, "slots are lost");
}

/// Tells the others to stop when a thread panics.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
