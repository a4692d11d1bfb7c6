//! twos without a kernel: every pair of draws against the definition in `ip_vs_twos.c`.

use super::scenario::SERVICE_PORT;
use dataplane::packet_path::schedule::{Flow, Load, SchedulerState};
use dataplane::table::{
    ClientAddress, Method, Protocol, Real, RealId, Scheduler, SchedulerFlags, Service, ServiceId,
    ServiceKey,
};
use dataplane::tick::Tick;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Weight, active and inactive connections, overload.
type Server = (u32, u32, u32, bool);

const POOLS: [&[Server]; 5] = [
    &[(1, 0, 0, false), (1, 0, 0, false)],
    &[(3, 5, 2, false), (2, 0, 900, false), (4, 3, 3, false)],
    &[(0, 0, 0, false), (5, 4, 0, false), (1, 0, 0, true), (2, 1, 1, false)],
    &[(7, 7, 7, false)],
    &[(2, 0, 0, true), (0, 0, 0, false)],
];

fn overhead(server: &Server) -> u64 {
    u64::from(server.1) * 257 + u64::from(server.2)
}

/// What the kernel does with two draws from 0 to the sum of weights, both included.
fn defined(pool: &[Server], draws: [i64; 2]) -> Option<usize> {
    let eligible = || pool.iter().enumerate().filter(|(_, server)| server.0 > 0 && !server.3);
    let drawn = draws.map(|mut draw| {
        let mut walk = eligible();
        walk.find(|(_, server)| {
            draw -= i64::from(server.0);
            draw <= 0
        })
    });
    let [(first, one), (second, two)] = [drawn[0]?, drawn[1]?];
    let better = u64::from(two.0) * overhead(one) > u64::from(one.0) * overhead(two);
    Some(if better { second } else { first })
}

fn chosen(pool: &[Server], draws: [i64; 2], total: i64) -> Option<usize> {
    let service = service(pool);
    let loads = |id: RealId| {
        let (_, active, inactive, overloaded) = pool[id.0 as usize];
        Load { active, inactive, overloaded }
    };
    // The least random number that is scaled to the draw.
    let mut numbers =
        draws.map(|draw| ((draw << 32) as u64).div_ceil(total as u64 + 1)).into_iter();
    let mut random = || numbers.next().unwrap_or(0) as u32;
    let client = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1));
    let destination = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let flow = Flow {
        protocol: Protocol::Tcp,
        client,
        client_port: 1024,
        destination,
        destination_port: SERVICE_PORT,
    };
    let now = Tick(1);
    SchedulerState::new(&service, now).choose(&service, &loads, &flow, now, &mut random)
}

fn service(pool: &[Server]) -> Service {
    let real = |(number, server): (u32, &Server)| Real {
        id: RealId(number),
        address: Ipv4Addr::from(0x0a00_0001 + number).into(),
        port: SERVICE_PORT,
        method: Method::Nat,
        weight: server.0,
        availability: dataplane::table::Availability::Serving,
        last_weight: server.0,
        upper: 0,
        lower: 0,
    };
    let address = Ipv4Addr::new(192, 0, 2, 1).into();
    Service {
        id: ServiceId(0),
        key: ServiceKey::Address { protocol: Protocol::Tcp, address, port: SERVICE_PORT },
        scheduler: Scheduler::Twos,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        return_by_mac: false,
        source_pool: Arc::new([]),
        client_address: ClientAddress::default(),
        reals: (0..).zip(pool).map(real).collect(),
    }
}

#[test]
fn twos_follows_its_definition_for_every_pair_of_draws() {
    for pool in POOLS {
        let total = pool.iter().filter(|s| !s.3).map(|s| i64::from(s.0)).sum::<i64>();
        for draws in (0..=total).flat_map(|one| (0..=total).map(move |two| [one, two])) {
            assert_eq!(chosen(pool, draws, total), defined(pool, draws), "{pool:?} {draws:?}");
        }
    }
}
