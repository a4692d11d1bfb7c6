//! What the connection table promises, in every order of events that the memory model allows. Run by
//! `RUSTFLAGS="--cfg loom" cargo test -p dataplane --lib loom_`.

use super::*;
use crate::packet_path::tests::fixture::real;
use crate::packet_path::{Capacity, Director, known, states};
use crate::sync::Arc;
use crate::wire::transport::tcp;
use loom::thread;

/// Switches of threads that no thread asked for, in one run. More find the same and take hours.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

struct Scene {
    table: Connections,
    reals: Reals,
}

impl Scene {
    fn new(capacity: usize, workers: usize) -> Arc<Self> {
        Arc::new(Self { table: Connections::new(capacity, workers, KEYS), reals: reals() })
    }

    fn insert(&self, owned: &mut Owned, new: &NewConnection) -> Result<Slot, NotInserted> {
        self.table.insert(owned, new, &self.reals, moment(1))
    }

    fn find(&self, tuple: &Tuple) -> Option<Slot> {
        lookup(&self.table, tuple, &self.reals).map(|(slot, _)| slot)
    }

    fn remove(&self, slot: Slot) -> bool {
        self.table.remove(slot, &self.reals, moment(1))
    }
}

fn from_client(new: &NewConnection) -> Tuple {
    Tuple {
        protocol: new.protocol,
        source: new.client,
        source_port: new.client_port,
        destination: new.virtual_address,
        destination_port: new.virtual_port,
        template: false,
    }
}

/// Without replies: half as many cells, and as much to race for.
fn one_way(client: u32) -> NewConnection {
    let flags = Flags::NO_CLIENT_PORT;
    NewConnection { flags, ..connection(client, 0, 0, Via::DirectRouting) }
}

#[test]
fn a_worker_that_wakes_never_holds_an_entry_whose_slot_is_used_again() {
    explore(|| {
        let scene = Scene::new(1, 2);
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        let slot = scene.insert(&mut owned, &one_way(1)).unwrap();
        let waking = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let owned = scene.table.owned(1);
                scene.table.begin_batch(&owned);
                let tuple = from_client(&one_way(1));
                if let Some(slot) = scene.find(&tuple) {
                    let found = Connections::forward_tuple(scene.table.entry(slot));
                    assert_eq!(found, tuple, "used again while it was held");
                }
                scene.table.rest(&owned);
            })
        };
        assert!(scene.remove(slot));
        scene.table.collect(&mut owned, slot);
        scene.table.begin_batch(&owned);
        let _ = scene.insert(&mut owned, &one_way(2));
        waking.join().unwrap();
    });
}

#[test]
fn a_slot_whose_insertion_fails_while_another_removes_it_is_retired_once() {
    explore(|| {
        let scene = Scene::new(2, 2);
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        // Different VIPs, the same reply: the second is refused when it is half published.
        let first = connection(1, 7, 0, Via::Nat);
        let second = NewConnection { virtual_port: 81, ..first };
        scene.insert(&mut owned, &first).unwrap();
        let remover = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let owned = scene.table.owned(1);
                scene.table.begin_batch(&owned);
                if let Some(slot) = scene.find(&from_client(&second)) {
                    let _ = scene.remove(slot);
                }
                scene.table.rest(&owned);
            })
        };
        assert!(matches!(scene.insert(&mut owned, &second), Err(NotInserted::ReplyExists(_))));
        let mut sweeper = Sweeper::default();
        let sweep = |sweeper: &mut Sweeper, owned: &mut Owned, second: u32| {
            let now = moment(second * 256);
            scene.table.sweep(sweeper, owned, &scene.reals, now, |_| panic!("nothing expires"));
        };
        sweep(&mut sweeper, &mut owned, 1);
        remover.join().unwrap();
        sweep(&mut sweeper, &mut owned, 2);
        assert_eq!(owned.held(), [Slot(2)], "the slot of the refused one, once");
        assert_eq!(scene.table.len(), 1);
    });
}

#[test]
fn an_alarm_set_for_a_removed_entry_does_not_retire_its_slot_again() {
    explore(|| {
        let scene = Scene::new(1, 2);
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        let slot = scene.insert(&mut owned, &one_way(1)).unwrap();
        let user = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let owned = scene.table.owned(1);
                scene.table.begin_batch(&owned);
                if let Some(slot) = scene.find(&from_client(&one_way(1))) {
                    scene.table.reset_timer(slot, moment(1), Ticks(1));
                }
                scene.table.rest(&owned);
            })
        };
        assert!(scene.remove(slot));
        scene.table.collect(&mut owned, slot);
        user.join().unwrap();
        let mut sweeper = Sweeper::default();
        let now = moment(256);
        scene.table.sweep(&mut sweeper, &mut owned, &scene.reals, now, |_| panic!("removed"));
        assert_eq!(owned.held(), [slot]);
    });
}

#[test]
fn what_is_found_in_the_index_is_complete() {
    explore(|| {
        let scene = Scene::new(1, 2);
        let new = NewConnection { real: RealId(3), ..one_way(1) };
        let reader = {
            let scene = Arc::clone(&scene);
            // Loom would not show a thread that yields what it wrote before: not the main one.
            thread::spawn(move || {
                let slot = loop {
                    match scene.find(&from_client(&new)) {
                        Some(slot) => break slot,
                        None => thread::yield_now(),
                    }
                };
                let entry = scene.table.entry(slot);
                (entry.real(), entry.ports()[2], entry.timeout())
            })
        };
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        scene.insert(&mut owned, &new).unwrap();
        assert_eq!(reader.join().unwrap(), (new.real, new.real_port, new.timeout));
    });
}

#[test]
fn a_tuple_that_two_workers_store_is_stored_once() {
    explore(|| {
        let scene = Scene::new(3, 2);
        let store = |worker| {
            let scene = Arc::clone(&scene);
            move || {
                let mut owned = scene.table.owned(worker);
                scene.table.begin_batch(&owned);
                scene.insert(&mut owned, &one_way(1))
            }
        };
        let other = thread::spawn(store(1));
        let mine = store(0)();
        let stored = [mine, other.join().unwrap()];
        let slot = scene.find(&from_client(&one_way(1))).unwrap();
        assert!(stored.contains(&Ok(slot)) && stored.contains(&Err(NotInserted::Exists(slot))));
    });
}

#[test]
fn a_connection_that_both_ends_close_at_once_ends_in_time_wait() {
    explore(|| {
        let scene = Scene::new(1, 2);
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        let new = NewConnection { state: states::tcp::ESTABLISHED, ..one_way(1) };
        let slot = scene.insert(&mut owned, &new).unwrap();
        let close = |input| {
            let scene = Arc::clone(&scene);
            move || {
                let fin = known::Seen { input, flags: tcp::FIN | tcp::ACK, secure: false };
                fin.advance(scene.table.entry(slot)).is_some()
            }
        };
        let server = thread::spawn(close(false));
        assert!(close(true)() && server.join().unwrap());
        assert_eq!(scene.table.entry(slot).state(), states::tcp::TIME_WAIT);
    });
}

#[test]
fn a_connection_that_ends_while_it_is_stored_or_refused_leaves_its_server_s_load_right() {
    for refused in [false, true] {
        explore(move || {
            let capacity = Capacity { connections: 4, services: 1, reals: 1, workers: 2 };
            let director = Director::new(capacity, KEYS, std::sync::mpsc::sync_channel(1).0);
            director.reals().configure(&real(0, false, 1, Method::Nat), false);
            let director = Arc::new(director);
            let mut owned = director.connections().owned(0);
            director.connections().begin_batch(&owned);
            let first = connection(1, 7, 0, Via::DirectRouting);
            let new = NewConnection { virtual_port: 81, via: Via::Nat, ..first };
            if refused {
                // Its replies are those of the other.
                let first = NewConnection { via: Via::Nat, ..first };
                director.store(&mut owned, &first, moment(1)).unwrap();
            }
            let ender = {
                let director = Arc::clone(&director);
                thread::spawn(move || {
                    let owned = director.connections().owned(1);
                    director.connections().begin_batch(&owned);
                    let found =
                        lookup(director.connections(), &from_client(&new), director.reals());
                    found.is_some_and(|(slot, _)| director.end(slot, moment(1)))
                })
            };
            let stored = director.store(&mut owned, &new, moment(1));
            let ended = ender.join().unwrap();
            assert_eq!(stored.is_err(), refused);
            let left = u32::from(refused || !ended);
            assert_eq!(director.reals().load(RealId(0)).inactive, left);
            assert_eq!(director.connections().len(), left as usize);
        });
    }
}

#[test]
fn a_connection_removed_while_it_is_stored_leaves_no_cell_behind() {
    explore(|| {
        let scene = Scene::new(1, 2);
        let new = connection(1, 2, 3, Via::Nat);
        let remover = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let owned = scene.table.owned(1);
                scene.table.begin_batch(&owned);
                if let Some(slot) = scene.find(&from_client(&new)) {
                    assert!(scene.remove(slot), "nobody else removes it");
                }
                scene.table.rest(&owned);
            })
        };
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        let stored = scene.insert(&mut owned, &new);
        remover.join().expect("no panic");
        if let Ok(slot) = stored {
            let _ = scene.remove(slot);
        }
        assert!(scene.table.index.is_empty(), "cells are left over");
        assert_eq!(scene.table.len(), 0);
    });
}

#[test]
fn a_slot_is_retired_once_whoever_removes_sweeps_or_wants_to_be_woken() {
    explore(|| {
        let scene = Scene::new(1, 2);
        let mut owned = scene.table.owned(0);
        scene.table.begin_batch(&owned);
        let slot = scene.insert(&mut owned, &connection(1, 2, 3, Via::Nat)).unwrap();
        let late = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                assert!(scene.remove(slot));
                scene.table.wake_by(slot, moment(1));
            })
        };
        let mut sweeper = Sweeper::default();
        let mut sweep = |owned: &mut Owned, second: u32| {
            let now = moment(second * 256);
            scene.table.sweep(&mut sweeper, owned, &scene.reals, now, |_| {});
        };
        // Its alarm goes off, but it has been used since.
        scene.table.entry(slot).set_timer(moment(1), Ticks::from_secs(600));
        sweep(&mut owned, 4);
        late.join().unwrap();
        sweep(&mut owned, 5);
        assert_eq!(owned.held(), [slot], "at once, and not when its time would have been up");
        assert!(scene.table.index.is_empty(), "cells are left over");
    });
}
