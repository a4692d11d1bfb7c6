//! Claims about schedulers as a whole.

mod comparison;
mod list;
mod reference;
mod reference_locality;

use super::*;
use crate::table::{
    Method, Real, RealId, Scheduler, SchedulerFlags, Service, ServiceId, ServiceKey,
};
use crate::tick::Tick;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A server with this id and weight at 10.0.0.`id`:80.
pub(super) fn real(id: u32, weight: u32) -> Real {
    Real {
        id: RealId(id),
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + id)),
        port: 80,
        method: Method::Nat,
        weight,
        last_weight: weight,
        upper: 0,
        lower: 0,
    }
}

/// A TCP service at 192.0.2.1:80 with these servers in list order.
pub(super) fn service(scheduler: Scheduler, reals: impl IntoIterator<Item = Real>) -> Service {
    Service {
        id: ServiceId(0),
        key: ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            port: 80,
        },
        scheduler,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        return_by_mac: false,
        source_pool: Arc::new([]),
        client_address: Default::default(),
        reals: reals.into_iter().collect(),
    }
}

/// A flow from this client to 192.0.2.1:80.
pub(super) fn flow(client: [u8; 4], client_port: u16) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        client: IpAddr::V4(Ipv4Addr::from(client)),
        client_port,
        destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination_port: 80,
    }
}

/// Chooses `count` times with no load anywhere; ids of the chosen.
fn chosen(service: &Service, count: usize) -> Vec<Option<u32>> {
    let mut state = SchedulerState::new(service, Tick(0));
    (0..count)
        .map(|_| {
            let flow = flow([10, 9, 8, 7], 4000);
            let idle = |_| Load::default();
            state
                .choose(service, &idle, &flow, Tick(0), &mut || 0)
                .map(|index| service.reals[index].id.0)
        })
        .collect()
}

#[test]
fn wrr_interleaves_by_weight() {
    let service = service(Scheduler::Wrr, [real(1, 4), real(2, 3), real(3, 2)]);
    let cycle = [1, 1, 2, 1, 2, 3, 1, 2, 3].map(Some);
    assert_eq!(chosen(&service, 18), [cycle, cycle].concat());
}

#[test]
fn rr_ignores_the_size_of_weights_and_skips_drained_servers() {
    let service = service(Scheduler::Rr, [real(1, 9), real(2, 0), real(3, 1)]);
    assert_eq!(chosen(&service, 4), [1, 3, 1, 3].map(Some));
}

#[test]
fn no_scheduler_finds_no_server() {
    assert_eq!(chosen(&service(Scheduler::None, [real(1, 1)]), 1), [None]);
}
