use super::*;
use crate::packet_path::connections::HashKeys;
use crate::packet_path::tests::fixture::real;
use crate::packet_path::{Address, Capacity};
use crate::table::Method;
use crate::tick::Ticks;
use crate::tick::tests::moment;
use crate::wire::ip;
use std::sync::mpsc::sync_channel;

const WORKERS: usize = 3;

fn director() -> Director {
    let capacity = Capacity { connections: 8192, services: 4, reals: 8, workers: WORKERS };
    let (sender, _) = sync_channel(1);
    let director = Director::new(capacity, HashKeys([11, 12, 13, 14]), sender);
    director.reals().configure(&real(1, false, 11, Method::Nat), false);
    director
}

/// Those to ports 80 and 81 have the same replies.
fn connection(client: u32, virtual_port: u16, control: Option<Slot>) -> NewConnection {
    NewConnection {
        protocol: ip::TCP,
        client: Address::v4(client + 1),
        client_port: 7,
        virtual_address: Address::v4(0xc000_0201),
        virtual_port,
        real: RealId(1),
        real_address: Address::v4(0x0a00_000b),
        real_port: 8080,
        via: Via::Nat,
        local: 0,
        local_address: Address(0),
        local_port: 0,
        state: 0,
        flags: Flags::INACTIVE,
        control,
        peer: 0,
        timeout: Ticks::from_secs(2_000_000),
    }
}

fn template() -> NewConnection {
    NewConnection { flags: Flags::TEMPLATE, client_port: 0, ..connection(1000, 80, None) }
}

fn total(director: &Director) -> u32 {
    let load = director.reals().load(RealId(1));
    load.active + load.inactive
}

#[test]
fn what_is_refused_counts_nowhere_and_what_is_stored_counts_once() {
    let director = director();
    let mut owned = director.connections().owned(0);
    let template = director.store(&mut owned, &template(), moment(1)).unwrap();
    let controls = || director.connections().entry(template).controls();
    let one = connection(1, 80, Some(template));
    let slot = director.store(&mut owned, &one, moment(1)).unwrap();
    assert_eq!((total(&director), controls()), (1, 1));
    assert_eq!(director.store(&mut owned, &one, moment(1)), Err(NotInserted::Exists(slot)));
    let rival = connection(1, 81, Some(template));
    assert_eq!(director.store(&mut owned, &rival, moment(1)), Err(NotInserted::ReplyExists(slot)));
    assert_eq!((total(&director), controls()), (1, 1));
    assert!(director.end(slot, moment(1)) && !director.end(slot, moment(1)));
    assert_eq!((total(&director), controls()), (0, 0));
    assert!(director.end(template, moment(1)));
    assert_eq!(director.reals().load(RealId(1)).persistent, 0);
}

#[test]
fn nothing_is_counted_any_more_when_all_that_was_stored_and_ended_at_once_has_ended() {
    let director = director();
    let mut first = director.connections().owned(WORKERS);
    let template = director.store(&mut first, &template(), moment(1)).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let director = &director;
            scope.spawn(move || {
                let mut owned = director.connections().owned(worker);
                let mut seed = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(worker as u64 + 1);
                for _ in 0..30_000 {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    director.connections().begin_batch(&owned);
                    let port = 80 + (seed >> 40) as u16 % 2;
                    let new = connection((seed >> 32) as u32 % 3, port, Some(template));
                    let stored = director.store(&mut owned, &new, moment(1));
                    let found = match stored {
                        Ok(slot) | Err(NotInserted::Exists(slot)) => Some(slot),
                        Err(_) => None,
                    };
                    if let Some(slot) = found.filter(|_| seed >> 50 & 1 == 0)
                        && director.end(slot, moment(1))
                    {
                        director.connections().collect(&mut owned, slot);
                    }
                }
                director.connections().rest(&owned);
            });
        }
    });
    director.connections().begin_batch(&first);
    let page = director.connections().page(0, 8192, director.reals(), moment(1));
    let left: Vec<Slot> = page.connections.iter().map(|info| info.slot).collect();
    assert_eq!(total(&director) as usize, left.len() - 1);
    left.into_iter().filter(|slot| *slot != template).for_each(|slot| {
        assert!(director.end(slot, moment(1)));
    });
    assert_eq!(total(&director), 0);
    assert_eq!(director.connections().entry(template).controls(), 0);
}
