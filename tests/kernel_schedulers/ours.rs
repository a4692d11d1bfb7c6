//! Our side: the scheduler with loads counted by the plain model.

use super::book::{Book, State};
use super::scenario::{Change, Choices, SERVICE_PORT, Scenario, Server, Traffic};
use dataplane::packet_path::schedule::threshold::Thresholds;
use dataplane::packet_path::schedule::{Flow, Load, SchedulerState};
use dataplane::table::{
    ClientAddress, Method, Protocol, Real, RealId, Service, ServiceId, ServiceKey,
};
use dataplane::tick::Tick;
use std::collections::BTreeSet;
use std::sync::Arc;

pub struct Ours {
    service: Service,
    state: SchedulerState,
    book: Book,
    overloaded: BTreeSet<u8>,
    /// Servers that were removed keep what the service last knew of them, as in the kernel's trash.
    known: Vec<Real>,
    now: Tick,
}

impl Ours {
    pub fn new(scenario: &Scenario) -> Self {
        let key = if scenario.by_mark {
            ServiceKey::Mark { family: scenario.family, mark: u32::from(scenario.number) + 1 }
        } else {
            let address = scenario.destination(1);
            ServiceKey::Address { protocol: Protocol::Tcp, address, port: SERVICE_PORT }
        };
        let service = Service {
            id: ServiceId(0),
            key,
            scheduler: scenario.scheduler,
            flags: scenario.flags,
            persistence: None,
            one_packet: false,
            return_by_mac: false,
            source_pool: Arc::new([]),
            client_address: ClientAddress::default(),
            reals: Arc::new([]),
        };
        let now = Tick(1000);
        let state = SchedulerState::new(&service, now);
        let (book, overloaded) = (Book::default(), BTreeSet::new());
        Self { service, state, book, overloaded, known: Vec::new(), now }
    }

    pub fn run(mut self, scenario: &Scenario) -> Choices {
        let mut choices = Vec::new();
        for phase in &scenario.phases {
            for change in &phase.changes {
                self.change(scenario, *change);
            }
            for traffic in &phase.traffic {
                match traffic {
                    Traffic::Close(number) => _ = self.book.close(*number),
                    Traffic::Connect { client, destination } => {
                        choices.push(self.connect(scenario, *client, *destination));
                    }
                }
            }
            if phase.expire {
                self.expire();
            }
        }
        choices
    }

    fn change(&mut self, scenario: &Scenario, change: Change) {
        self.book.change(change);
        let mut reals = self.service.reals.to_vec();
        match change {
            Change::Add(server) => {
                let mut real = self.settle(scenario, server);
                real.last_weight = server.weight;
                reals.insert(0, real);
            }
            Change::Edit(server) => {
                let real = self.settle(scenario, server);
                if let Some(place) = reals.iter_mut().find(|r| r.id == real.id) {
                    *place = real;
                }
            }
            Change::Delete(number) => reals.retain(|real| real.id != RealId(number.into())),
            Change::EditService(scheduler, flags) => {
                self.service.scheduler = scheduler;
                self.service.flags = flags;
            }
        }
        self.service.reals = reals.into();
        self.state.update(&self.service, self.now);
    }

    /// The server as the table has it, and the overload flag after the change.
    fn settle(&mut self, scenario: &Scenario, server: Server) -> Real {
        let id = RealId(server.number.into());
        let old = self.known.iter().position(|real| real.id == id).map(|i| self.known.remove(i));
        let kept = old.as_ref().map_or(server.weight, |old| old.last_weight);
        let real = Real {
            id,
            address: Server::address(server.number, scenario.family),
            port: scenario.method_port(),
            method: Method::DirectRouting,
            weight: server.weight,
            availability: dataplane::table::Availability::Serving,
            last_weight: if server.weight == 0 { kept } else { server.weight },
            upper: server.upper,
            lower: server.lower,
        };
        if let Some(old) = old {
            let (old, new) = (Thresholds::from(&old), Thresholds::from(&real));
            let was = self.overloaded.contains(&server.number);
            let overloaded = old.after_edit(new, was, self.total(server.number));
            self.mark(server.number, overloaded);
        }
        self.known.push(real.clone());
        real
    }

    fn mark(&mut self, server: u8, overloaded: bool) {
        if overloaded {
            self.overloaded.insert(server);
        } else {
            self.overloaded.remove(&server);
        }
    }

    fn connect(&mut self, scenario: &Scenario, client: u8, destination: u8) -> Option<u8> {
        let corner = scenario.corner(self.book.len(), client, destination);
        let flow = Flow {
            protocol: Protocol::Tcp,
            client: corner.client,
            client_port: corner.port,
            destination: corner.destination,
            destination_port: SERVICE_PORT,
        };
        let (book, overloaded) = (&self.book, &self.overloaded);
        let loads = |id: RealId| {
            let server = id.0 as u8;
            Load {
                active: book.count(server, State::Active),
                inactive: book.count(server, State::Closed),
                overloaded: overloaded.contains(&server),
            }
        };
        let mut random = || 0;
        let chosen = self.state.choose(&self.service, &loads, &flow, self.now, &mut random);
        let server = chosen.map(|index| self.service.reals[index].id.0 as u8);
        self.book.connect(server);
        if let Some(server) = server {
            self.count(server, Thresholds::after_bind);
        }
        server
    }

    fn expire(&mut self) {
        for number in self.book.expire() {
            if let Some(server) = self.book.connection(number).map(|c| c.server) {
                self.count(server, Thresholds::after_unbind);
            }
        }
    }

    fn count(&mut self, server: u8, rule: impl Fn(Thresholds, bool, u32) -> bool) {
        let id = RealId(server.into());
        let Some(real) = self.known.iter().find(|real| real.id == id) else { return };
        let was = self.overloaded.contains(&server);
        let overloaded = rule(Thresholds::from(real), was, self.total(server));
        self.mark(server, overloaded);
    }

    fn total(&self, server: u8) -> u32 {
        self.book.count(server, State::Active) + self.book.count(server, State::Closed)
    }
}
