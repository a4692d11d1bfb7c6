//! One new connection through each scheduler: choose a server, count the connection, let the oldest
//! one go.
//!
//! Loads are the packet path's own, so a scan pays for its cache misses. Run with
//! `cargo bench -p dataplane --bench schedulers`.

use dataplane::packet_path::reals::Reals;
use dataplane::packet_path::schedule::{Flow, SchedulerState};
use dataplane::table::{
    ClientAddress, Method, Protocol, Real, RealId, Scheduler, SchedulerFlags, Service, ServiceId,
    ServiceKey,
};
use dataplane::tick::Tick;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// Connections open at any time, per server.
const OPEN: usize = 50;
const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];

fn scheduler(name: &str) -> Scheduler {
    match name {
        "rr" => Scheduler::Rr,
        "wrr" => Scheduler::Wrr,
        "lc" => Scheduler::Lc,
        "wlc" => Scheduler::Wlc,
        "lblc" => Scheduler::Lblc,
        "lblcr" => Scheduler::Lblcr,
        "dh" => Scheduler::Dh,
        "sh" => Scheduler::Sh,
        "sed" => Scheduler::Sed,
        "nq" => Scheduler::Nq,
        "fo" => Scheduler::Fo,
        "ovf" => Scheduler::Ovf,
        "mh" => Scheduler::Mh,
        "twos" => Scheduler::Twos,
        _ => Scheduler::None,
    }
}

fn service(scheduler: Scheduler, servers: u32) -> Service {
    let real = |id: u32| Real {
        id: RealId(id),
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + id)),
        port: 80,
        method: Method::DirectRouting,
        weight: 1 + id * 7 % 100,
        availability: dataplane::table::Availability::Serving,
        last_weight: 1 + id * 7 % 100,
        upper: 0,
        lower: 0,
    };
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
        source_pool: [].into(),
        client_address: ClientAddress::Hidden,
        reals: (0..servers).map(real).collect(),
    }
}

/// A director's worth of state for one service, with connections coming and going.
struct Traffic {
    service: Service,
    state: SchedulerState,
    reals: Reals,
    open: VecDeque<RealId>,
    random: u32,
}

impl Traffic {
    fn new(scheduler: Scheduler, servers: u32) -> Self {
        let service = service(scheduler, servers);
        let state = SchedulerState::new(&service, Tick(0));
        let reals = Reals::new(servers as usize);
        for real in service.reals.iter() {
            reals.configure(real, SchedulerState::follows_loads(&service));
        }
        let mut traffic = Self { service, state, reals, open: VecDeque::new(), random: 1 };
        for _ in 0..OPEN * servers as usize {
            if let Some(real) = traffic.choose() {
                traffic.reals.bind(real, true);
                traffic.open.push_back(real);
            }
        }
        traffic
    }

    fn choose(&mut self) -> Option<RealId> {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = self.random;
        let flow = Flow {
            protocol: Protocol::Tcp,
            client: IpAddr::V4(Ipv4Addr::from(random)),
            client_port: (random >> 16) as u16,
            destination: IpAddr::V4(Ipv4Addr::from(0xc000_0200 + (random >> 24))),
            destination_port: 80,
        };
        let index =
            self.state.choose(&self.service, &self.reals, &flow, Tick(0), &mut || random)?;
        self.service.reals.get(index).map(|real| real.id)
    }

    fn connection(&mut self) -> Option<RealId> {
        let real = self.choose()?;
        self.reals.bind(real, true);
        self.open.push_back(real);
        let oldest = self.open.pop_front()?;
        self.reals.unbind(oldest, true);
        Some(real)
    }
}

#[divan::bench(args = SCHEDULERS, consts = [3, 20, 1000])]
fn new_connection<const SERVERS: u32>(bencher: divan::Bencher<'_, '_>, name: &str) {
    let mut traffic = Traffic::new(scheduler(name), SERVERS);
    bencher.bench_local(|| traffic.connection());
}

/// What a change to one weight costs, off the packet threads.
#[divan::bench(args = ["wrr", "wlc", "sh", "mh"], consts = [3, 20, 1000])]
fn update<const SERVERS: u32>(bencher: divan::Bencher<'_, '_>, name: &str) {
    let even = service(scheduler(name), SERVERS);
    let mut odd = even.clone();
    odd.reals = even
        .reals
        .iter()
        .map(|real| match real.id.0 {
            0 => Real { weight: 2, last_weight: 2, ..real.clone() },
            _ => real.clone(),
        })
        .collect();
    let mut state = SchedulerState::new(&even, Tick(0));
    bencher.bench_local(|| {
        state.update(&odd, Tick(0));
        state.update(&even, Tick(0));
    });
}
