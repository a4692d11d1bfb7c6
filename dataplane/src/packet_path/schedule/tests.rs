//! Claims about schedulers as a whole.

mod comparison;
mod list;
mod reference;
pub(super) mod reference_locality;

use super::*;
use crate::packet_path::reals::Reals;
use crate::table::{
    Method, Real, RealId, Scheduler, SchedulerFlags, Service, ServiceId, ServiceKey,
};
use crate::tick::tests::moment;
use proptest::prelude::*;
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
        availability: crate::table::Availability::Serving,
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

/// Every scheduler there is.
pub(super) const EVERY_SCHEDULER: [Scheduler; 15] = [
    Scheduler::None,
    Scheduler::Rr,
    Scheduler::Wrr,
    Scheduler::Lc,
    Scheduler::Wlc,
    Scheduler::Lblc,
    Scheduler::Lblcr,
    Scheduler::Dh,
    Scheduler::Sh,
    Scheduler::Sed,
    Scheduler::Nq,
    Scheduler::Fo,
    Scheduler::Ovf,
    Scheduler::Mh,
    Scheduler::Twos,
];

/// Chooses `count` times with no load anywhere; ids of the chosen.
fn chosen(service: &Service, count: usize) -> Vec<Option<u32>> {
    let mut state = SchedulerState::new(service, moment(0));
    (0..count)
        .map(|_| {
            let flow = flow([10, 9, 8, 7], 4000);
            let idle = |_| Load::default();
            state
                .choose(service, &idle, &flow, moment(0), &mut || 0)
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

/// One choice with no load anywhere; the id of the chosen.
fn choose(state: &mut SchedulerState, service: &Service) -> Option<u32> {
    let idle = |_| Load::default();
    let flow = flow([10, 9, 8, 7], 4000);
    let index = state.choose(service, &idle, &flow, moment(0), &mut || 1 << 31)?;
    Some(service.reals[index].id.0)
}

#[test]
fn rr_goes_on_before_a_server_that_was_removed_and_added_again() {
    let mut state = SchedulerState::new(&service(Scheduler::Rr, []), moment(0));
    let old = service(Scheduler::Rr, [real(1, 1), real(2, 1), real(3, 1)]);
    state.update(&old, moment(0));
    assert_eq!([(); 3].map(|()| choose(&mut state, &old)), [1, 2, 3].map(Some));
    let new = service(Scheduler::Rr, [real(3, 1), real(1, 1), real(2, 1)]);
    state.update(&new, moment(0));
    // The turn is after 2, the one before 3 when it left: at the end of the list.
    assert_eq!([(); 3].map(|()| choose(&mut state, &new)), [3, 1, 2].map(Some));
}

#[test]
fn wrr_starts_at_the_highest_level_when_all_were_drained() {
    let drained = service(Scheduler::Wrr, [real(1, 0), real(2, 0)]);
    let mut state = SchedulerState::new(&drained, moment(0));
    assert_eq!(choose(&mut state, &drained), None);
    let back = service(Scheduler::Wrr, [real(1, 3), real(2, 2)]);
    state.update(&back, moment(0));
    assert_eq!([(); 5].map(|()| choose(&mut state, &back)), [1, 1, 2, 1, 2].map(Some));
}

#[test]
fn a_commit_that_changes_nothing_here_loses_no_turn() {
    for scheduler in EVERY_SCHEDULER {
        let service = service(scheduler, [real(1, 3), real(2, 1), real(3, 2)]);
        let mut told = SchedulerState::new(&service, moment(0));
        let mut untold = SchedulerState::new(&service, moment(0));
        for _ in 0..20 {
            let copy =
                Service { reals: service.reals.iter().cloned().collect(), ..service.clone() };
            told.update(&copy, moment(0));
            assert_eq!(choose(&mut told, &copy), choose(&mut untold, &service), "{scheduler:?}");
        }
    }
}

#[test]
fn another_scheduler_starts_afresh() {
    let rr = service(Scheduler::Rr, [real(1, 1), real(2, 1)]);
    let wlc = Service { scheduler: Scheduler::Wlc, ..rr.clone() };
    let mut state = SchedulerState::new(&rr, moment(0));
    assert_eq!(choose(&mut state, &rr), Some(1));
    state.update(&wlc, moment(0));
    assert_eq!([(); 2].map(|()| choose(&mut state, &wlc)), [1, 1].map(Some));
    state.update(&rr, moment(0));
    assert_eq!([(); 3].map(|()| choose(&mut state, &rr)), [1, 2, 1].map(Some));
}

#[test]
fn a_packet_of_another_table_generation_gets_a_server_of_its_own_table() {
    let first = [real(1, 1), real(2, 1), real(3, 1), real(4, 1)];
    let second = [real(5, 1), real(4, 1), real(2, 1)];
    for scheduler in EVERY_SCHEDULER {
        let (first, second) =
            (service(scheduler, first.clone()), service(scheduler, second.clone()));
        for (told, seen) in [(&first, &second), (&second, &first)] {
            let mut state = SchedulerState::new(told, moment(0));
            // Leaves lblc with a server that the packets after it do not know.
            let lure = |id: RealId| Load { active: (id.0 + 1) % 2, ..Load::default() };
            state.choose(told, &lure, &flow([10; 4], 1), moment(0), &mut || 0);
            for port in 0..50 {
                let busy = |id: RealId| Load { active: id.0 % 3, ..Load::default() };
                let flow = flow([10, 9, 8, port as u8], port);
                let index =
                    state.choose(seen, &busy, &flow, moment(0), &mut || u32::from(port) << 25);
                let id = index.map(|index| seen.reals[index].id.0);
                assert!(matches!(id, None | Some(2 | 4)), "{scheduler:?} chose {id:?}");
                // Hash schedulers give up without their fallback, as for an overloaded server.
                let may_fail = matches!(
                    scheduler,
                    Scheduler::None | Scheduler::Dh | Scheduler::Sh | Scheduler::Mh
                );
                assert!(may_fail || id.is_some(), "{scheduler:?}");
            }
        }
    }
}

#[test]
fn a_thousand_overloaded_servers_cost_wrr_a_few_walks_at_most() {
    let reads = std::cell::Cell::new(0);
    let free = std::cell::Cell::new(None);
    let loads = |id: RealId| {
        reads.set(reads.get() + 1);
        Load { overloaded: free.get() != Some(id.0), ..Load::default() }
    };
    let service = service(Scheduler::Wrr, (1..=1000).map(|id| real(id, u32::MAX - 65 * id * id)));
    let mut state = SchedulerState::new(&service, moment(0));
    for open in [None, Some(1), Some(1000), None, Some(500), None] {
        free.set(open);
        for _ in 0..3 {
            reads.set(0);
            let index = state.choose(&service, &loads, &flow([10; 4], 1), moment(0), &mut || 0);
            assert_eq!(index.map(|index| service.reals[index].id.0), open);
            assert!(reads.get() <= 10_000, "{} reads", reads.get());
        }
    }
}

#[test]
fn memoryless_schedulers_choose_the_same_without_the_state() {
    for scheduler in EVERY_SCHEDULER {
        let service = service(scheduler, [real(1, 3), real(2, 1), real(3, 2)]);
        let mut state = SchedulerState::new(&service, moment(0));
        let shared = state.memoryless().cloned();
        let remembers = matches!(
            scheduler,
            Scheduler::Rr | Scheduler::Wrr | Scheduler::Lblc | Scheduler::Lblcr
        );
        assert_eq!(shared.is_none(), remembers, "{scheduler:?}");
        for port in 0..50 {
            let (flow, mut random) = (flow([10, 1, 2, port as u8], port), || u32::from(port) << 26);
            let busy = |id: RealId| Load { active: id.0 * 7 % 5, ..Load::default() };
            let expected = state.choose(&service, &busy, &flow, moment(0), &mut random);
            if let Some(shared) = &shared {
                assert_eq!(shared.choose(&service, &busy, &flow, &mut random), expected);
            }
        }
    }
}

#[test]
fn a_long_list_without_a_server_left_finds_none_until_one_is_back() {
    for scheduler in [Scheduler::Lc, Scheduler::Wlc, Scheduler::Sed, Scheduler::Nq, Scheduler::Fo] {
        let limited = |id| Real { upper: 1, ..real(id, 1) };
        let service = service(scheduler, (0..50).map(limited));
        let reals = Reals::new(50);
        service.reals.iter().for_each(|real| reals.configure(real, true));
        let mut state = SchedulerState::new(&service, moment(0));
        let mut choose = || state.choose(&service, &reals, &flow([10; 4], 1), moment(0), &mut || 0);
        for index in 0..50 {
            assert_eq!(choose(), Some(index));
            reals.bind(RealId(index as u32), true);
        }
        assert_eq!([(); 2].map(|()| choose()), [None, None]);
        reals.unbind(RealId(33), true);
        assert_eq!(choose(), Some(33));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The packet path's own counters against a scan of them.
    #[test]
    fn every_change_of_a_counted_load_reaches_the_scheduler(
        steps in prop::collection::vec((0u32..40, 0u8..7, any::<bool>()), 1..200),
    ) {
        for scheduler in EVERY_SCHEDULER {
            let limited = |id| Real { upper: 3, lower: 2, ..real(id, 1 + id % 5) };
            let mut service = service(scheduler, (0..40).map(limited));
            let reals = Reals::new(40);
            let follow = |service: &Service| {
                let followed = SchedulerState::follows_loads(service);
                service.reals.iter().for_each(|real| reals.configure(real, followed));
            };
            follow(&service);
            let mut state = SchedulerState::new(&service, moment(0));
            for &(id, step, active) in &steps {
                match step {
                    0 | 1 => reals.bind(RealId(id), active),
                    2 => reals.unbind(RealId(id), active),
                    3 => reals.shift(RealId(id), active),
                    4 => {
                        let mut list = service.reals.to_vec();
                        let index = id as usize % list.len();
                        list[index].upper = u32::from(active);
                        list[index].weight = id % 6;
                        if id % 7 == 0 && list.len() > 30 {
                            list.remove(index);
                        }
                        service.reals = list.into();
                        follow(&service);
                        state.update(&service, moment(0));
                    }
                    _ => {
                        let scan = |id| reals.load(id).for_scheduler();
                        let (flow, mut random) = (flow([10, 0, 0, step], 7), || 1 << 30);
                        let expected =
                            state.clone().choose(&service, &scan, &flow, moment(0), &mut random);
                        let chosen = state.choose(&service, &reals, &flow, moment(0), &mut random);
                        prop_assert_eq!(chosen, expected, "{:?}", scheduler);
                        if let Some(index) = chosen {
                            reals.bind(service.reals[index].id, active);
                        }
                    }
                }
            }
        }
    }
}
