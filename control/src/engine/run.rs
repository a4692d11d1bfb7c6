//! One turn of the loop after another.

use super::packets::Workers;
use super::world::World;
use crate::events::{Event, decide};
use crate::host::{HostState, Watch};
use crate::inbox::Message;
use crate::ipvs;
use crate::record::Severity;
use crate::state::{Action, Moment, Senses, Snapshot, State, Ticket};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// The loop with all that it owns.
pub(crate) struct Engine {
    pub(crate) state: State,
    pub(crate) world: World,
    pub(crate) started: Instant,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) tickets: u64,
    pub(crate) ipvs_host: ipvs::Host,
}

impl Engine {
    /// Turns until the engine is told to stop.
    pub(crate) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut inner: mpsc::UnboundedReceiver<Event>,
        mut host: Watch,
        words: Vec<(Severity, String)>,
    ) {
        for (severity, text) in words {
            self.happen(Event::Noticed { severity, text });
        }
        self.begin(host.state());
        loop {
            let due = self.started + self.state.deadline();
            let going = tokio::select! {
                biased;
                Some(event) = inner.recv() => self.happen(event),
                () = tokio::time::sleep_until(due.into()) => self.happen(Event::TimePassed),
                changed = host.changed() => match changed {
                    Ok(picture) => self.host_changed(picture),
                    Err(_) => false,
                },
                message = messages.recv() => match message {
                    Some(message) => self.receive(message),
                    None => false,
                },
            };
            if !going {
                break;
            }
        }
        // Callers that still wait are told by their channel's end.
        self.world.waiting.clear();
    }

    /// The first picture of the host and the first generation.
    fn begin(&mut self, picture: Arc<HostState>) {
        let mut actions = Vec::new();
        self.state.republish(&mut actions);
        self.carry_out(actions);
        self.host_changed(picture);
    }

    fn host_changed(&mut self, picture: Arc<HostState>) -> bool {
        let links = picture.links.values().map(|link| (link.name.clone(), link.mtu));
        let addresses =
            picture.addresses.iter().map(|address| (address.prefix.address, address.prefix.length));
        self.ipvs_host = ipvs::Host::new(links, addresses);
        self.happen(Event::HostChanged(picture))
    }

    fn receive(&mut self, message: Message) -> bool {
        match message {
            Message::Event(event) => self.happen(event),
            Message::Ask(ask) => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.world.waiting.insert(ticket, ask.reply);
                self.happen((ask.make)(ticket))
            }
            Message::Query(query) => {
                query(&self.state, &Workers(&self.world.dataplane));
                true
            }
        }
    }

    fn happen(&mut self, event: Event) -> bool {
        let now = self.now();
        let mut actions = Vec::new();
        let packets = Workers(&self.world.dataplane);
        let senses = Senses { now, packets: &packets, host: &self.ipvs_host };
        decide(&mut self.state, event, &senses, &mut actions);
        let going = self.carry_out(actions);
        self.snapshot.store(Arc::new(Snapshot::of(&self.state)));
        going
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> bool {
        let now = self.now().steady;
        let mut going = true;
        for action in actions {
            going &= self.world.carry_out(action, &mut self.state.ledger, now);
        }
        self.world.guards.clear();
        going
    }

    fn now(&self) -> Moment {
        Moment { steady: clock().duration_since(self.started), wall: unix_now() }
    }
}

#[allow(clippy::disallowed_methods)] // the engine is an edge: it stamps every event
pub(crate) fn clock() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)] // the engine is an edge: it stamps every event
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
