//! Every scheduler against its reference, under random histories of a service.

use super::list::{HEAD, List, node_of};
use super::reference::{Call, Reference};
use super::reference_locality::{Lblc, Lblcr, Table};
use super::*;
use crate::tick::{Tick, Ticks};
use proptest::prelude::*;

/// Five minutes before the count of ticks begins again: most stories live through it.
const START: Tick = Tick::START;

/// One thing that happens to a service. Numbers pick a server modulo those there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A new connection; it becomes active or stays inactive.
    Choose {
        client: u32,
        port: u16,
        destination: u8,
        random: [u32; 2],
        active: bool,
    },
    /// A connection of this server ends.
    End {
        server: usize,
    },
    /// The server goes over its threshold or comes back.
    Overload {
        server: usize,
        overload: bool,
    },
    Change(Change),
    Flags {
        flag_1: bool,
        flag_2: bool,
    },
    Wait {
        minutes: u32,
    },
}

/// One change to the list of servers.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add { weight: u32 },
    AddAgain { server: usize, weight: u32 },
    Edit { server: usize, weight: u32 },
    Remove { server: usize },
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => Just(0u32),
        4 => Just(1u32),
        4 => 1u32..8,
        2 => (1u32..5).prop_map(|n| n * 100),
        1 => 1u32..3000,
    ]
}

fn choice() -> impl Strategy<Value = Step> {
    (any::<u32>(), any::<u16>(), 0u8..4, any::<[u32; 2]>(), any::<bool>()).prop_map(
        |(client, port, destination, random, active)| Step::Choose {
            client,
            port,
            destination,
            random,
            active,
        },
    )
}

fn overload() -> impl Strategy<Value = Step> {
    (0usize..1000, any::<bool>()).prop_map(|(server, overload)| Step::Overload { server, overload })
}

fn end() -> impl Strategy<Value = Step> {
    (0usize..1000).prop_map(|server| Step::End { server })
}

/// Some of everything.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => choice(),
        6 => end(),
        4 => overload(),
        7 => change().prop_map(Step::Change),
        1 => any::<[bool; 2]>().prop_map(|[flag_1, flag_2]| Step::Flags { flag_1, flag_2 }),
        1 => prop_oneof![0u32..10, 1400u32..1500].prop_map(|minutes| Step::Wait { minutes }),
    ]
}

/// Servers that come and go over their thresholds all the time.
fn step_in_overload() -> impl Strategy<Value = Step> {
    prop_oneof![20 => choice(), 15 => overload(), 1 => change().prop_map(Step::Change)]
}

/// Days of use around the moment at which a set loses its busiest server.
fn step_over_days() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => choice(),
        10 => end(),
        2 => overload(),
        1 => change().prop_map(Step::Change),
        3 => prop_oneof![Just(1u32), Just(720), Just(1439), Just(1440), Just(1441)]
            .prop_map(|minutes| Step::Wait { minutes }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let server = 0usize..1000;
    prop_oneof![
        2 => weight().prop_map(|weight| Change::Add { weight }),
        1 => (server.clone(), weight())
            .prop_map(|(server, weight)| Change::AddAgain { server, weight }),
        3 => (server.clone(), weight())
            .prop_map(|(server, weight)| Change::Edit { server, weight }),
        1 => server.prop_map(|server| Change::Remove { server }),
    ]
}

fn fresh(scheduler: Scheduler) -> Reference {
    match scheduler {
        Scheduler::None => Reference::None,
        Scheduler::Rr => Reference::Rr { last: HEAD },
        Scheduler::Wrr => Reference::Wrr { cl: HEAD, cw: 0, mw: 0, di: 1 },
        Scheduler::Lc => Reference::Lc,
        Scheduler::Wlc => Reference::Wlc,
        Scheduler::Lblc => Reference::Lblc(Lblc { table: Table::new() }),
        Scheduler::Lblcr => Reference::Lblcr(Lblcr { table: Table::new() }),
        Scheduler::Dh => Reference::Dh { buckets: vec![] },
        Scheduler::Sh => Reference::Sh { buckets: vec![] },
        Scheduler::Sed => Reference::Sed,
        Scheduler::Nq => Reference::Nq,
        Scheduler::Fo => Reference::Fo,
        Scheduler::Ovf => Reference::Ovf,
        Scheduler::Mh => Reference::Mh { table: vec![] },
        Scheduler::Twos => Reference::Twos,
    }
}

/// Both sides of the comparison.
struct Run {
    list: List,
    reference: Reference,
    service: Service,
    state: SchedulerState,
    seconds: u64,
    /// Whether the scheduler is not told of changes for now.
    pause_updates: bool,
    /// Where changes of loads are marked, if they are.
    changes: Option<Changes>,
}

/// The reference's counters as the scheduler reads them.
struct ListLoads<'a> {
    list: &'a List,
    changes: Option<&'a Changes>,
}

impl Loads for ListLoads<'_> {
    fn of(&self, real: RealId) -> Load {
        let dest = &self.list.nodes[node_of(real)];
        Load {
            active: dest.active as u32,
            inactive: dest.inactive as u32,
            overloaded: dest.overload,
        }
    }

    fn changes(&self) -> Option<&Changes> {
        self.changes
    }
}

impl Run {
    fn new(scheduler: Scheduler, weights: &[u32]) -> Self {
        let service = service(scheduler, []);
        let state = SchedulerState::new(&service, START);
        let reference = fresh(scheduler);
        let list = List::new();
        let mut run = Self {
            list,
            reference,
            service,
            state,
            seconds: 0,
            pause_updates: false,
            changes: None,
        };
        for &weight in weights {
            run.change_list(Change::Add { weight });
        }
        run
    }

    fn now(&self) -> Tick {
        START.after(Ticks::from_secs(self.seconds as u32))
    }

    fn changed(&mut self, removed: Option<usize>) {
        self.reference.dest_changed(&self.list, removed);
        if !self.pause_updates {
            self.update();
        }
    }

    fn update(&mut self) {
        self.service.reals = self.list.reals().into();
        self.state.update(&self.service, self.now());
    }

    fn mark(&self, node: usize) {
        if let Some(changes) = &self.changes {
            changes.mark(RealId(node as u32));
        }
    }

    fn pick(&self, server: usize) -> Option<usize> {
        let order = self.list.order();
        (!order.is_empty()).then(|| order[server % order.len()])
    }

    /// Does one step on both sides; what each chose, if it was a choice.
    fn take(&mut self, step: Step) -> Option<(Option<usize>, Option<usize>)> {
        match step {
            Step::Choose { client, port, destination, random, active } => {
                let both = self.choose(client, port, destination, random);
                if let Some(node) = both.0 {
                    let dest = &mut self.list.nodes[node];
                    *(if active { &mut dest.active } else { &mut dest.inactive }) += 1;
                    self.mark(node);
                }
                return Some(both);
            }
            Step::End { server } => {
                if let Some(node) = self.pick(server) {
                    let dest = &mut self.list.nodes[node];
                    dest.active = (dest.active - 1).max(0);
                    dest.inactive = (dest.inactive - 1).max(0);
                    self.mark(node);
                }
            }
            Step::Overload { server, overload } => {
                if let Some(node) = self.pick(server) {
                    self.list.nodes[node].overload = overload;
                    self.mark(node);
                }
            }
            Step::Wait { minutes } => (0..minutes).for_each(|_| self.wait_a_minute()),
            Step::Flags { flag_1, flag_2 } => {
                self.service.flags = SchedulerFlags { flag_1, flag_2, flag_3: false };
                self.state.update(&self.service, self.now());
            }
            Step::Change(change) => self.change_list(change),
        }
        None
    }

    fn change_list(&mut self, change: Change) {
        match change {
            Change::Add { weight } => {
                let n = self.list.nodes.len() as u32;
                let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n * 7919));
                self.list.add(address, 80 + (n % 3) as u16, weight.into());
                self.changed(None);
            }
            Change::AddAgain { server, weight } => {
                let gone: Vec<_> =
                    (1..self.list.nodes.len()).filter(|n| !self.list.nodes[*n].available).collect();
                if !gone.is_empty() {
                    self.list.add_again(gone[server % gone.len()], weight.into());
                    self.changed(None);
                }
            }
            Change::Edit { server, weight } => {
                if let Some(node) = self.pick(server)
                    && self.list.nodes[node].weight != i64::from(weight)
                {
                    self.list.edit(node, weight.into());
                    self.changed(None);
                }
            }
            Change::Remove { server } => {
                if let Some(node) = self.pick(server) {
                    self.list.remove(node);
                    self.changed(Some(node));
                    self.reference.forget(node);
                }
            }
        }
    }

    fn wait_a_minute(&mut self) {
        self.seconds += 60;
        self.reference.check_expire(self.seconds);
        while self.state.expire(self.now()) {}
    }

    /// The reference's choice and the scheduler's.
    fn choose(
        &mut self,
        client: u32,
        client_port: u16,
        destination: u8,
        random: [u32; 2],
    ) -> (Option<usize>, Option<usize>) {
        let flow = Flow {
            client: IpAddr::V4(Ipv4Addr::from(client)),
            destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, destination)),
            ..flow([0; 4], client_port)
        };
        let (flags, seconds) = (self.service.flags, self.seconds);
        let list = &self.list;
        let call = Call { list, flow: &flow, flags, seconds, random };
        let expected = self.reference.choose(&call);
        let loads = ListLoads { list, changes: self.changes.as_ref() };
        let mut random = random.into_iter();
        let now = START.after(Ticks::from_secs(seconds as u32));
        let index =
            self.state.choose(&self.service, &loads, &flow, now, &mut || random.next().unwrap());
        (expected, index.map(|index| node_of(self.service.reals[index].id)))
    }
}

fn compare(scheduler: Scheduler, weights: Vec<u32>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    compare_from(Run::new(scheduler, &weights), steps)
}

fn compare_from(mut run: Run, steps: Vec<Step>) -> Result<(), TestCaseError> {
    for (n, step) in steps.into_iter().enumerate() {
        if let Some((expected, chosen)) = run.take(step) {
            prop_assert_eq!(chosen, expected, "step {}: {:?}; {:?}", n, step, run.list.order());
        }
    }
    Ok(())
}

macro_rules! agree_with_reference {
    ($($name:ident: $scheduler:ident,)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(48))]
            $(
                #[test]
                fn $name(
                    weights in prop::collection::vec(weight(), 0..12),
                    steps in prop::collection::vec(step(), 1..250),
                ) {
                    compare(Scheduler::$scheduler, weights, steps)?;
                }
            )+
        }
    };
}

agree_with_reference! {
    none_agrees_with_its_reference: None,
    rr_agrees_with_its_reference: Rr,
    wrr_agrees_with_its_reference: Wrr,
    lc_agrees_with_its_reference: Lc,
    wlc_agrees_with_its_reference: Wlc,
    lblc_agrees_with_its_reference: Lblc,
    lblcr_agrees_with_its_reference: Lblcr,
    dh_agrees_with_its_reference: Dh,
    sh_agrees_with_its_reference: Sh,
    sed_agrees_with_its_reference: Sed,
    nq_agrees_with_its_reference: Nq,
    fo_agrees_with_its_reference: Fo,
    ovf_agrees_with_its_reference: Ovf,
    mh_agrees_with_its_reference: Mh,
    twos_agrees_with_its_reference: Twos,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rr_agrees_under_overload(
        weights in prop::collection::vec(0u32..3, 0..6),
        steps in prop::collection::vec(step_in_overload(), 1..200),
    ) {
        compare(Scheduler::Rr, weights, steps)?;
    }

    #[test]
    fn wrr_agrees_under_overload(
        weights in prop::collection::vec(prop_oneof![0u32..7, 98u32..101], 0..6),
        steps in prop::collection::vec(step_in_overload(), 1..200),
    ) {
        compare(Scheduler::Wrr, weights, steps)?;
    }

    /// One update for several changes, as if servers were removed before others are added. One that
    /// is removed and added again in between is left out: where nothing overtook it, the list does
    /// not show it.
    #[test]
    fn rr_agrees_when_told_of_several_changes_at_once(
        weights in prop::collection::vec(0u32..3, 1..10),
        rounds in prop::collection::vec(
            (0usize..12, prop::collection::vec(change(), 0..6)),
            1..12,
        ),
    ) {
        let mut run = Run::new(Scheduler::Rr, &weights);
        for (choices, changes) in rounds {
            for _ in 0..choices {
                let (expected, chosen) = run.choose(0, 0, 0, [0; 2]);
                prop_assert_eq!(chosen, expected);
            }
            let before = run.list.order();
            run.pause_updates = true;
            let (first, then): (Vec<_>, Vec<_>) = changes
                .into_iter()
                .partition(|change| matches!(change, Change::Remove { .. }));
            for change in first.into_iter().chain(then) {
                match change {
                    Change::AddAgain { .. } if run.list.order() != before => {}
                    Change::AddAgain { .. } | Change::Add { .. } | Change::Edit { .. }
                        | Change::Remove { .. } => run.change_list(change),
                }
            }
            run.pause_updates = false;
            run.update();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The list is sometimes long enough for a tournament and sometimes not.
    #[test]
    fn followed_lists_agree(
        weights in prop::collection::vec(0u32..9, 25..90),
        steps in prop::collection::vec(
            prop_oneof![
                20 => choice(),
                12 => overload(),
                16 => end(),
                2 => change().prop_map(Step::Change),
            ],
            1..300,
        ),
    ) {
        for scheduler in EVERY_SCHEDULER {
            let mut run = Run::new(scheduler, &weights);
            run.changes = Some(Changes::new(1000));
            compare_from(run, steps.clone())?;
        }
    }

    #[test]
    fn long_lists_agree(
        weights in prop::collection::vec(0u32..40, 200..400),
        steps in prop::collection::vec(
            prop_oneof![20 => choice(), 20 => overload(), 1 => change().prop_map(Step::Change)],
            1..100,
        ),
    ) {
        for scheduler in EVERY_SCHEDULER {
            compare(scheduler, weights.clone(), steps.clone())?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn lblcr_agrees_over_days(
        weights in prop::collection::vec(1u32..6, 2..6),
        steps in prop::collection::vec(step_over_days(), 1..200),
    ) {
        compare(Scheduler::Lblcr, weights, steps)?;
    }
}
