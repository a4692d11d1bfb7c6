//! Corner cases written by hand.

use super::scenario::{Change, Phase, Scenario, Server, Traffic};
use Change::{Add, Delete, Edit, EditService};
use anyhow::Result;
use dataplane::table::{Family, Scheduler, SchedulerFlags};

pub fn all() -> Result<Vec<Scenario>> {
    let mut all = vec![
        an_active_connection_against_256_inactive(Scheduler::Lc),
        an_active_connection_against_256_inactive(Scheduler::Wlc),
        a_change_of_scheduler_starts_afresh(),
        all_drained_then_one_back(Scheduler::Rr),
        all_drained_then_one_back(Scheduler::Wrr),
        all_drained_then_one_back(Scheduler::Mh),
        the_last_chosen_goes(Scheduler::Rr),
        the_last_chosen_goes(Scheduler::Wrr),
        overflow_at_the_edge(),
        a_crowded_cache(Scheduler::Lblc),
        a_crowded_cache(Scheduler::Lblcr),
        new_limits_apply_at_once(),
        flags_changed_in_flight(Scheduler::Sh),
        flags_changed_in_flight(Scheduler::Mh),
    ];
    let schedulers = [Scheduler::Rr, Scheduler::Wrr, Scheduler::Dh, Scheduler::Sh, Scheduler::Mh];
    all.extend(schedulers.map(many_servers_with_common_divisors));
    for (number, scenario) in all.iter_mut().enumerate() {
        scenario.number = u8::try_from(number)?;
    }
    Ok(all)
}

fn scenario(name: &str, scheduler: Scheduler, phases: Vec<Phase>) -> Scenario {
    Scenario {
        name: name.into(),
        number: 0,
        family: Family::V4,
        by_mark: matches!(scheduler, Scheduler::Dh | Scheduler::Lblc | Scheduler::Lblcr),
        scheduler,
        flags: SchedulerFlags::default(),
        phases,
    }
}

fn phase(changes: Vec<Change>, traffic: Vec<Traffic>) -> Phase {
    Phase { changes, traffic, expire: false }
}

fn connects(count: usize) -> Vec<Traffic> {
    let connect =
        |n: usize| Traffic::Connect { client: (n % 200) as u8, destination: 1 + (n % 20) as u8 };
    (0..count).map(connect).collect()
}

fn servers(weights: &[u32]) -> Vec<Change> {
    (1..).zip(weights).map(|(number, weight)| Add(Server::new(number, *weight))).collect()
}

/// Decides between the two formulas for the cost of a connection that kernels have had: with
/// active * 256 + inactive it is a tie, which the server earlier in the list wins; with
/// active * 257 + inactive, Debian 12's, the active one costs more.
fn an_active_connection_against_256_inactive(scheduler: Scheduler) -> Scenario {
    let mut filling = connects(256);
    filling.extend((0..256).map(Traffic::Close));
    let aside = vec![Edit(Server::new(2, 0)), Add(Server::new(1, 1))];
    let phases = vec![
        phase(vec![Add(Server::new(2, 1))], filling),
        phase(aside, connects(1)),
        phase(vec![Edit(Server::new(2, 1))], connects(3)),
    ];
    scenario("an active connection against 256 inactive ones", scheduler, phases)
}

fn a_change_of_scheduler_starts_afresh() -> Scenario {
    let none = SchedulerFlags::default();
    let mut phases = vec![phase(servers(&[3, 1, 2]), connects(5))];
    let chain = [
        Scheduler::Wrr,
        Scheduler::Rr,
        Scheduler::Wlc,
        Scheduler::Sh,
        Scheduler::Rr,
        Scheduler::Nq,
        Scheduler::Wrr,
    ];
    phases.extend(chain.map(|scheduler| phase(vec![EditService(scheduler, none)], connects(5))));
    scenario("changes of scheduler", Scheduler::Rr, phases)
}

fn all_drained_then_one_back(scheduler: Scheduler) -> Scenario {
    let drained = (1..=3).map(|number| Edit(Server::new(number, 0))).collect();
    let phases = vec![
        phase(servers(&[2, 4, 2]), connects(7)),
        phase(drained, connects(3)),
        phase(vec![Edit(Server::new(2, 3))], connects(6)),
        phase(vec![Edit(Server::new(1, 5))], connects(12)),
        phase(vec![Edit(Server::new(3, 1))], connects(20)),
    ];
    scenario("all drained, then one after the other back", scheduler, phases)
}

fn the_last_chosen_goes(scheduler: Scheduler) -> Scenario {
    let mut phases = vec![phase(servers(&[1, 2, 3, 4, 1]), connects(4))];
    for number in [2, 5, 1, 3] {
        phases.push(phase(vec![Delete(number)], connects(3)));
    }
    for number in [3, 1, 2] {
        phases.push(phase(vec![Add(Server::new(number, 2))], connects(4)));
    }
    phases.push(phase([1, 2, 3, 4].map(Delete).into(), connects(2)));
    scenario("servers go while the walk stands on them", scheduler, phases)
}

/// ovf passes on to the next weight when connections exceed the weight, not when they equal it.
fn overflow_at_the_edge() -> Scenario {
    let mut closing = connects(2);
    closing.extend((0..5).map(Traffic::Close));
    closing.extend(connects(8));
    let phases = vec![phase(servers(&[2, 5, 5, 1]), connects(30)), phase(vec![], closing)];
    scenario("overflow at the edge", Scheduler::Ovf, phases)
}

/// More connections than the weight make a server leave its destinations, if another is less than
/// half used.
fn a_crowded_cache(scheduler: Scheduler) -> Scenario {
    let one_destination = |count| vec![Traffic::Connect { client: 7, destination: 3 }; count];
    let mut later = one_destination(3);
    later.extend((0..10).map(Traffic::Close));
    later.extend(one_destination(25));
    let limited = vec![Edit(Server::new(1, 4).limits(3, 0)), Edit(Server::new(2, 20))];
    let phases = vec![
        phase(servers(&[4, 4, 4]), one_destination(20)),
        phase(vec![], connects(40)),
        Phase { changes: limited, traffic: later, expire: true },
        phase(vec![Edit(Server::new(3, 0))], connects(60)),
        phase(vec![Delete(2)], connects(20)),
    ];
    scenario("a crowded cache", scheduler, phases)
}

/// Kernels before the `totalconns` counter let one more connection pass after a lowered limit.
fn new_limits_apply_at_once() -> Scenario {
    let limits = |upper, lower| Edit(Server::new(1, 1).limits(upper, lower));
    let mut half_gone = connects(0);
    half_gone.extend((0..4).map(Traffic::Close));
    let phases = vec![
        phase(vec![Add(Server::new(1, 1))], connects(8)),
        phase(vec![limits(8, 0)], connects(1)),
        phase(vec![limits(9, 0)], connects(1)),
        phase(vec![limits(20, 0)], connects(1)),
        Phase { changes: vec![limits(5, 5)], traffic: half_gone, expire: true },
        phase(vec![limits(6, 6)], connects(2)),
        phase(vec![limits(10, 5)], connects(6)),
        phase(vec![limits(0, 0)], connects(2)),
    ];
    scenario("new limits apply at once", Scheduler::Rr, phases)
}

fn flags_changed_in_flight(scheduler: Scheduler) -> Scenario {
    let mut changes = servers(&[1, 2, 3, 4]);
    changes.push(Edit(Server::new(4, 0)));
    let mut phases = vec![phase(changes, connects(40))];
    for (flag_1, flag_2) in [(true, false), (true, true), (false, true), (false, false)] {
        let flags = SchedulerFlags { flag_1, flag_2, flag_3: false };
        phases.push(phase(vec![EditService(scheduler, flags)], connects(40)));
    }
    scenario("flags changed in flight", scheduler, phases)
}

fn many_servers_with_common_divisors(scheduler: Scheduler) -> Scenario {
    let weights: Vec<u32> = (0..60).map(|n| n % 7 * 600).collect();
    let odd = vec![Edit(Server::new(9, 7)), Edit(Server::new(10, 60_000)), Delete(11)];
    let phases = vec![phase(servers(&weights), connects(200)), phase(odd, connects(200))];
    scenario("sixty servers", scheduler, phases)
}
