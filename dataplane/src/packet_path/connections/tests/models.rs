//! Every order in which two or three threads can run through the table, tried by loom on the production
//! code. `tests/run` builds them with `--cfg loom`; nothing else of the crate's tests runs there.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32 as Word, Ordering::Relaxed as Loosely};
use loom::thread;

const OLD: u32 = 1;
const NEW: u32 = 2;

/// Tries every order of at most four switches away from a thread that could go on.
fn every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

#[test]
fn loom_a_worker_that_wakes_never_holds_a_slot_that_was_handed_out_again() {
    every_order(|| {
        let pool = Arc::new(slots::Pool::new(2, 2));
        // A cell of the index, and what the entry in the slot says.
        let (cell, entry) = (Arc::new(Word::new(1)), Arc::new(Word::new(OLD)));
        let waker = {
            let (pool, cell, entry) = (Arc::clone(&pool), Arc::clone(&cell), Arc::clone(&entry));
            thread::spawn(move || {
                let owned = pool.owned(1);
                pool.begin_batch(&owned);
                if cell.load(Loosely) == 1 {
                    assert_eq!(entry.load(Loosely), OLD, "it is another connection's now");
                }
                pool.rest(&owned);
            })
        };
        let mut owned = pool.owned(0);
        pool.begin_batch(&owned);
        let slot = pool.allocate(&mut owned).expect("one is free");
        cell.store(0, Loosely);
        pool.retire(&mut owned, slot);
        pool.begin_batch(&owned);
        if pool.allocate(&mut owned).is_some() {
            entry.store(NEW, Loosely);
        }
        waker.join().expect("no panic");
    });
}

/// A table of one connection for two workers.
fn table() -> Arc<(Connections, Reals)> {
    Arc::new((Connections::new(1, 2, KEYS), reals()))
}

/// After everything: nothing is indexed, and the slot is free once.
fn is_empty(table: &Connections, reals: &Reals, owned: &mut Owned) {
    assert_eq!(table.len(), 0);
    table.sweep(&mut Sweeper::default(), owned, reals, moment(10_000), |_| {});
    table.begin_batch(owned);
    table.pool.reclaim(owned);
    assert_eq!(owned.free_slots(), [Slot(1)]);
    assert!(table.index.is_empty(), "cells are left over");
}

#[test]
fn loom_a_connection_removed_while_it_is_stored_leaves_nothing_behind() {
    every_order(|| {
        let shared = table();
        let new = connection(1, 2, 3, Via::Nat);
        let remover = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (table, reals) = &*shared;
                let owned = table.owned(1);
                table.begin_batch(&owned);
                let tuple = Tuple {
                    protocol: 6,
                    source: new.client,
                    source_port: new.client_port,
                    destination: new.virtual_address,
                    destination_port: new.virtual_port,
                    template: false,
                };
                if let Some((slot, _)) = lookup(table, &tuple, reals) {
                    assert!(table.remove(slot, reals, moment(1)), "nobody else removes it");
                    table.wake_by(slot, moment(2));
                }
                table.rest(&owned);
            })
        };
        let (table, reals) = &*shared;
        let mut owned = table.owned(0);
        table.begin_batch(&owned);
        let stored = table.insert(&mut owned, &new, reals, moment(1));
        remover.join().expect("no panic");
        if let Ok(slot) = stored {
            let _ = table.remove(slot, reals, moment(1));
        }
        is_empty(table, reals, &mut owned);
    });
}

#[test]
fn loom_a_slot_is_retired_once_whoever_removes_sweeps_or_wants_to_be_woken() {
    every_order(|| {
        let shared = table();
        let (table, reals) = &*shared;
        let mut owned = table.owned(0);
        table.begin_batch(&owned);
        let new = connection(1, 2, 3, Via::Nat);
        let slot = table.insert(&mut owned, &new, reals, moment(1)).expect("room");
        let late = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let _ = shared.0.remove(slot, &shared.1, moment(1));
                shared.0.wake_by(slot, moment(1));
            })
        };
        let sweeping = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                // As the sweep does with a slot whose time has come.
                if shared.0.entry(slot).meta().flags.has(Flags::DEAD) {
                    shared.0.collect(&mut owned, slot);
                }
                owned
            })
        };
        late.join().expect("no panic");
        let mut owned = sweeping.join().expect("no panic");
        is_empty(table, reals, &mut owned);
    });
}
