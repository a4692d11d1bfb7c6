use super::*;
use crate::table::{Method, Real, RealId};
use crate::tick::tests::moment;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[cfg(loom)]
mod loom_models;
mod race;

const KEYS: HashKeys = HashKeys([0x1234_5678_9abc_def1, 3, 0xfedc_ba98_7654_3211, 77]);

fn reals() -> Reals {
    let reals = Reals::new(8);
    for id in 0..8u32 {
        let real = Real {
            id: RealId(id),
            address: std::net::Ipv4Addr::from_bits(0x0a00_0001 + id).into(),
            port: 80,
            method: Method::Nat,
            weight: 1,
            availability: crate::table::Availability::Serving,
            last_weight: 1,
            upper: 0,
            lower: 0,
        };
        reals.configure(&real, false);
    }
    reals
}

fn connection(client: u32, port: u16, real: u32, via: Via) -> NewConnection {
    NewConnection {
        protocol: 6,
        client: Address::v4(client),
        client_port: port,
        virtual_address: Address::v4(0xc000_0201),
        virtual_port: 80,
        real: RealId(real),
        real_address: Address::v4(0x0a00_0001 + real),
        real_port: 8080,
        via,
        local: 0,
        local_address: Address(0),
        local_port: 0,
        state: 0,
        flags: Flags::INACTIVE,
        control: None,
        peer: 0,
        timeout: Ticks::from_secs(3),
    }
}

fn lookup(table: &Connections, tuple: &Tuple, reals: &Reals) -> Option<(Slot, Direction)> {
    table.find(tuple, table.hash(tuple), reals)
}

#[test]
fn both_directions_find_one_connection() {
    let (reals, table) = (reals(), Connections::new(100, 1, KEYS));
    let mut owned = table.owned(0);
    for via in [Via::Nat, Via::DirectRouting] {
        let new = connection(0x0101_0101, via as u16 + 1000, 2, via);
        let slot = table.insert(&mut owned, &new, &reals, moment(1)).unwrap();
        let forward = Connections::forward_tuple(table.entry(slot));
        let reply = Connections::reply_tuple(table.entry(slot), &reals);
        assert_eq!(lookup(&table, &forward, &reals), Some((slot, Direction::Forward)));
        assert_eq!(lookup(&table, &reply, &reals), Some((slot, Direction::Reply)));
        let expected = if via == Via::Nat { 0x0a00_0003 } else { 0xc000_0201 };
        assert_eq!(reply.source, Address::v4(expected));
    }
}

#[test]
fn the_same_tuple_is_refused_and_names_the_holder() {
    let (reals, table) = (reals(), Connections::new(100, 1, KEYS));
    let mut owned = table.owned(0);
    let new = connection(1, 2, 3, Via::Nat);
    let slot = table.insert(&mut owned, &new, &reals, moment(1)).unwrap();
    let again = table.insert(&mut owned, &new, &reals, moment(1));
    assert_eq!(again, Err(NotInserted::Exists(slot)));
    let other_vip = NewConnection { virtual_address: Address::v4(9), ..new };
    let again = table.insert(&mut owned, &other_vip, &reals, moment(1));
    assert_eq!(again, Err(NotInserted::ReplyExists(slot)));
    assert_eq!(table.len(), 1);
}

#[test]
fn ten_million_connections_would_cost_at_most_128_bytes_each() {
    let table = Connections::new(100_000, 1, KEYS);
    assert!(table.memory() / table.capacity() <= 128, "{}", table.memory() / table.capacity());
}

/// Clients are neighbours, ports follow each other, servers are few: what a hash must not show.
#[test]
fn a_table_takes_all_that_fit_whatever_they_look_like() {
    for (seed, step) in [(1, 1), (2, 256), (3, 1 << 16), (4, 1 << 24)] {
        let capacity = 40_000;
        let (reals, table) = (reals(), Connections::new(capacity, 1, HashKeys([seed; 4])));
        let mut owned = table.owned(0);
        for number in 0..capacity as u32 {
            let client = 0x0a01_0000u32.wrapping_add(number / 200 * step);
            let new = connection(client, 1024 + (number % 200) as u16, number % 8, Via::Nat);
            let stored = table.insert(&mut owned, &new, &reals, moment(1));
            assert!(stored.is_ok(), "{stored:?} at {number}, step {step}");
        }
    }
}

/// As many keys as places, thrown at random, leave one place in e empty. Neighbouring ports that
/// stood in a row would leave far fewer or far more.
#[test]
fn neighbouring_ports_are_strewn_over_the_table() {
    const PLACES: usize = 2048;
    for seed in 0..40 {
        let table = Connections::new(1, 1, HashKeys([seed, seed + 1, seed * 7, seed << 40]));
        for client in 0..20 {
            let mut used = [[false; PLACES]; 2];
            for port in 0..PLACES as u16 {
                let tuple = Tuple {
                    protocol: 6,
                    source: Address::v4(0xc633_0000 + client),
                    source_port: 1024 + port,
                    destination: Address::v4(0xc000_020a),
                    destination_port: 80,
                    template: false,
                };
                for (used, tuple) in used.iter_mut().zip([tuple, tuple.reversed()]) {
                    used[(table.hash(&tuple) >> 53) as usize] = true;
                }
            }
            for used in used {
                let empty = used.iter().filter(|used| !**used).count();
                assert!((653..853).contains(&empty), "{empty}, seed {seed}, client {client}");
            }
        }
    }
}

#[test]
fn a_full_table_says_so_and_recovers() {
    let (reals, table) = (reals(), Connections::new(50, 1, KEYS));
    let mut owned = table.owned(0);
    table.begin_batch(&owned);
    for client in 0..50 {
        table.insert(&mut owned, &connection(client, 1, 0, Via::Nat), &reals, moment(1)).unwrap();
    }
    let more = connection(99, 1, 0, Via::Nat);
    assert_eq!(table.insert(&mut owned, &more, &reals, moment(1)), Err(NotInserted::Full));
    let mut sweeper = Sweeper::default();
    let later = moment(1).after(Ticks::from_secs(4));
    let mut ended = 0;
    table.sweep(&mut sweeper, &mut owned, &reals, later, |_| ended += 1);
    assert_eq!((ended, table.len()), (50, 0));
    table.begin_batch(&owned);
    table.sweep(&mut sweeper, &mut owned, &reals, later.after(Ticks(256)), |_| ended += 1);
    table.begin_batch(&owned);
    table.insert(&mut owned, &more, &reals, later).unwrap();
    assert_eq!(ended, 50);
}

#[test]
fn a_sweep_between_batches_ends_few_connections_at_once_and_all_in_the_end() {
    let (reals, table) = (reals(), Connections::new(5000, 1, KEYS));
    let mut owned = table.owned(0);
    for client in 0..4000 {
        table.insert(&mut owned, &connection(client, 1, 0, Via::Nat), &reals, moment(1)).unwrap();
    }
    let mut sweeper = Sweeper::between_batches();
    let later = moment(1).after(Ticks::from_secs(4));
    let mut calls = 0;
    loop {
        let mut ended = 0;
        table.begin_batch(&owned);
        table.sweep(&mut sweeper, &mut owned, &reals, later, |_| ended += 1);
        assert!(ended <= 128, "{ended} in one call");
        calls += 1;
        if !sweeper.is_behind() {
            break;
        }
    }
    assert_eq!(table.len(), 0);
    assert!((4000 / 128..4000 / 128 + 10).contains(&calls), "{calls} calls");
}

#[test]
fn a_packet_postpones_expiry_and_a_shorter_timeout_brings_it_forward() {
    let (reals, table) = (reals(), Connections::new(50, 1, KEYS));
    let mut owned = table.owned(0);
    let mut sweeper = Sweeper::default();
    let slot = table.insert(&mut owned, &connection(1, 1, 0, Via::Nat), &reals, moment(1)).unwrap();
    let at = |seconds| moment(1).after(Ticks::from_secs(seconds));
    table.entry(slot).restart(at(2), Ticks::from_secs(900));
    for second in 3..900 {
        table.sweep(&mut sweeper, &mut owned, &reals, at(second), |_| panic!("too early"));
    }
    table.reset_timer(slot, at(900), Ticks::from_secs(10));
    let mut ended = Vec::new();
    for second in 901..915 {
        table.sweep(&mut sweeper, &mut owned, &reals, at(second), |_| ended.push(second));
    }
    assert_eq!(ended, [910]);
}

#[test]
fn a_template_outlives_its_timeout_while_it_controls_connections() {
    let (reals, table) = (reals(), Connections::new(50, 1, KEYS));
    let mut owned = table.owned(0);
    let mut sweeper = Sweeper::default();
    let template = NewConnection { flags: Flags::TEMPLATE, ..connection(1, 0, 0, Via::Nat) };
    let slot = table.insert(&mut owned, &template, &reals, moment(1)).unwrap();
    assert!(table.entry(slot).add_controlled());
    let at = |seconds| moment(1).after(Ticks::from_secs(seconds));
    for second in 1..100 {
        table.sweep(&mut sweeper, &mut owned, &reals, at(second), |_| panic!("too early"));
    }
    assert_eq!(table.entry(slot).timeout().as_secs(), 60);
    table.entry(slot).remove_controlled();
    let mut ended = Vec::new();
    for second in 100..130 {
        table.sweep(&mut sweeper, &mut owned, &reals, at(second), |_| ended.push(second));
    }
    assert_eq!(ended, [123]);
}

#[test]
fn paging_shows_every_connection_once() {
    let (reals, table) = (reals(), Connections::new(5000, 1, KEYS));
    let mut owned = table.owned(0);
    for client in 1..=3000 {
        table.insert(&mut owned, &connection(client, 1, 0, Via::Nat), &reals, moment(1)).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let page = table.page(start, 100, &reals, moment(1));
        assert!(page.connections.len() <= 100);
        for info in page.connections {
            assert!(seen.insert(info.client.low()));
        }
        from = page.next;
    }
    assert_eq!(seen.len(), 3000);
}

#[test]
fn workers_racing_for_one_tuple_store_it_once() {
    let (reals, table) = (reals(), Connections::new(20_000, 4, KEYS));
    let winners = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (reals, table, winners) = (&reals, &table, &winners);
            scope.spawn(move || {
                let mut owned = table.owned(worker);
                for client in 0..3000 {
                    table.begin_batch(&owned);
                    let new = connection(client, 7, worker as u32, Via::Nat);
                    if table.insert(&mut owned, &new, reals, moment(1)).is_ok() {
                        winners.fetch_add(1, Relaxed);
                    }
                }
                table.rest(&owned);
            });
        }
    });
    assert_eq!((winners.into_inner(), table.len()), (3000, 3000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a plain map from tuple to real server, with time passing.
    #[test]
    fn behaves_as_a_map_with_timeouts(
        steps in proptest::collection::vec((0u32..12, 0u32..4, 0u8..4, 0u32..3), 1..200)
    ) {
        let (reals, table) = (reals(), Connections::new(64, 1, KEYS));
        let mut owned = table.owned(0);
        let mut sweeper = Sweeper::default();
        let mut model: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        let mut second = 0u32;
        for (client, real, what, pause) in steps {
            second += pause;
            let now = moment(5).after(Ticks::from_secs(second));
            table.begin_batch(&owned);
            for _ in 0..2 {
                table.sweep(&mut sweeper, &mut owned, &reals, now, |_| {});
                table.begin_batch(&owned);
            }
            model.retain(|_, (_, expires)| *expires > second);
            let new = connection(client, 1, real, Via::Nat);
            let tuple = Tuple { protocol: 6, source: new.client, source_port: 1,
                destination: new.virtual_address, destination_port: 80, template: false };
            let found = lookup(&table, &tuple, &reals);
            prop_assert_eq!(
                found.map(|(slot, _)| table.entry(slot).real().0),
                model.get(&client).map(|(real, _)| *real)
            );
            match (what, found) {
                (0 | 1, None) => {
                    table.insert(&mut owned, &new, &reals, now).unwrap();
                    model.insert(client, (real, second + 3));
                }
                (2, Some((slot, _))) => {
                    prop_assert!(table.remove(slot, &reals, now));
                    prop_assert!(!table.remove(slot, &reals, now));
                    model.remove(&client);
                }
                (_, Some((slot, _))) => {
                    table.entry(slot).restart(now, Ticks::from_secs(3));
                    model.get_mut(&client).unwrap().1 = second + 3;
                }
                (_, None) => {}
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
