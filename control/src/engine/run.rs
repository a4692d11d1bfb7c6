//! One turn of the loop after another.

use super::packets::Workers;
use super::world::World;
use crate::events::{Event, HostEvent, decide, publish_if_stale};
use crate::host::{HostState, Watch};
use crate::inbox::Message;
use crate::ipvs;
use crate::record::{Kind, Severity};
use crate::state::{Action, Moment, Senses, Snapshot, State, Ticket};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Messages decided on before what they changed is published, however many more are waiting.
const TURN: usize = 4096;

/// What the loop reads.
pub(crate) struct Mail {
    /// What VRRP and the link to the other director say: it is never behind anything else.
    pub(crate) urgent: mpsc::Receiver<Message>,
    /// Everything else.
    pub(crate) usual: mpsc::Receiver<Message>,
    /// What the loop tells itself.
    pub(crate) inner: mpsc::UnboundedReceiver<Event>,
}

/// What a turn begins with.
enum Wake {
    Event(Event),
    Message(Message),
    Host(Arc<HostState>),
    End,
}

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
        mut mail: Mail,
        mut host: Watch,
        words: Vec<(Severity, String)>,
    ) {
        for (severity, text) in words {
            self.happen(Event::Noticed { kind: Kind::System, severity, text });
        }
        self.begin(host.state());
        loop {
            let wake = self.wait(&mut mail, &mut host).await;
            let began = clock();
            let going = match wake {
                Wake::Event(event) => self.happen(event),
                Wake::Message(message) => self.take(message, &mut mail),
                Wake::Host(picture) => self.host_changed(picture),
                Wake::End => false,
            };
            if !going {
                break;
            }
            self.publish();
            let turn = clock().duration_since(began);
            self.state.longest_turn = self.state.longest_turn.max(turn);
        }
        // Callers that still wait are told by their channel's end.
        self.world.waiting.clear();
    }

    /// Waits for something to decide on; what VRRP and the peer link send goes first.
    async fn wait(&self, mail: &mut Mail, host: &mut Watch) -> Wake {
        let due = self.started + self.state.deadline();
        tokio::select! {
            biased;
            Some(event) = mail.inner.recv() => Wake::Event(event),
            Some(message) = mail.urgent.recv() => Wake::Message(message),
            () = tokio::time::sleep_until(due.into()) => Wake::Event(Event::TimePassed),
            changed = host.changed() => changed.map_or(Wake::End, Wake::Host),
            message = mail.usual.recv() => message.map_or(Wake::End, Wake::Message),
        }
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
        self.happen(Event::Host(HostEvent::Changed(picture)))
    }

    /// Decides on a message and on all that wait behind it, the urgent ones first.
    fn take(&mut self, first: Message, mail: &mut Mail) -> bool {
        let mut going = self.receive(first);
        for _ in 1..TURN {
            let next = mail.urgent.try_recv().or_else(|_| mail.usual.try_recv());
            let Some(message) = next.ok().filter(|_| going) else { break };
            going = self.receive(message);
        }
        going
    }

    /// Brings what packets look up up to date.
    fn publish(&mut self) {
        if self.state.stale {
            self.act(publish_if_stale);
        }
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
                self.publish();
                query(&self.state, &Workers(&self.world.dataplane));
                true
            }
        }
    }

    fn happen(&mut self, event: Event) -> bool {
        self.act(|state, senses, out| decide(state, event, senses, out))
    }

    fn act(&mut self, act: impl FnOnce(&mut State, &Senses<'_>, &mut Vec<Action>)) -> bool {
        let now = self.now();
        let mut actions = Vec::new();
        let packets = Workers(&self.world.dataplane);
        let senses = Senses { now, packets: &packets, host: &self.ipvs_host };
        act(&mut self.state, &senses, &mut actions);
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
