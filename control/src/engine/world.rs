//! Carries out what was decided: the packet path, interfaces, steering, callers, listeners.

use super::Keeper;
use super::packets::Workers;
use crate::events::{Event, HostEvent, PeerEvent};
use crate::host::Watch;
use crate::host::stack::Routes;
use crate::model::{AttachedBy, Document};
use crate::record::{Kind, Record, Severity};
use crate::state::{Action, Ledger, Outcome, PortStatus, StoreCommand, Ticket};
use crate::tasks::Replication;
use dataplane::io::steer::{Guard, Steering, SteeringRules};
use dataplane::io::{Attach, Attachment, Backend, attach};
use dataplane::packet_path::connections::{ConnectionInfo, Identity};
use dataplane::table::{Mac, PortId, RealId};
use dataplane::worker::{Dataplane, MOST_PORTS};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Connections looked at in one piece while some are ended.
const PAGE: usize = 4096;

/// Between two steps of forgetting what lblc and lblcr remember.
const BETWEEN_STEPS: Duration = Duration::from_millis(1);

/// Everything with side effects that the loop acts on.
pub(crate) struct World {
    pub dataplane: Arc<Dataplane>,
    /// What keeps frames from the host; `Err` says why nothing does.
    pub steering: Result<Steering, String>,
    pub attachments: BTreeMap<PortId, Attached>,
    /// Of interfaces that were closed by the last actions, with their indices. They are kept until the
    /// interface is opened again, if one of those actions does that: the host must not see a frame in
    /// between.
    pub guards: Vec<(u32, Guard)>,
    pub host: Watch,
    /// The routes of the link to the host's own stack, where there is one.
    pub routes: Option<watch::Sender<Routes>>,
    pub keeper: Keeper,
    pub listeners: broadcast::Sender<Arc<Record>>,
    pub follow: watch::Sender<Arc<Document>>,
    /// Services below their quorum, by name.
    pub quorums: watch::Sender<BTreeSet<String>>,
    /// The kernel's sync daemons that are to run.
    pub daemons: watch::Sender<Vec<crate::ipvs::Daemon>>,
    /// The link to the other director.
    pub replication: Replication,
    pub waiting: BTreeMap<Ticket, oneshot::Sender<Outcome>>,
    pub loopback: mpsc::UnboundedSender<Event>,
    /// The rules in force, to change what interfaces listen to only when they differ.
    pub listening: Listening,
}

/// One attached interface.
pub(crate) struct Attached {
    attachment: Attachment,
}

/// What interfaces listen to besides their own address.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Listening {
    macs: BTreeSet<(u32, Mac)>,
    solicited: BTreeSet<Ipv6Addr>,
}

impl World {
    /// Carries out one action. `false` when it was the last one.
    pub fn carry_out(&mut self, action: Action, ledger: &mut Ledger, now: Duration) -> bool {
        match action {
            Action::Store(command) => self.keeper.command(command),
            Action::Publish { table, fresh_reals, fresh_services } => {
                ledger.open(&fresh_reals, &fresh_services, &Workers(&self.dataplane));
                self.dataplane.publish(table);
            }
            Action::PublishHops(hops) => self.dataplane.publish_hops(hops),
            Action::Steer(rules) => self.steer(&rules),
            Action::LeadHost(routes) => self.lead_host(routes),
            Action::Attach { port, name, backend } => self.attach(port, &name, backend, now),
            Action::Detach(port) => {
                self.dataplane.detach(port);
                if let Some(Attached { attachment }) = self.attachments.remove(&port) {
                    let index = attachment.index;
                    self.guards.extend(attachment.into_guard().map(|guard| (index, guard)));
                }
            }
            Action::Resolve { link, address } => self.host.resolve(link, address),
            Action::EndConnections(real) => self.each_page(real, |meant| self.dataplane.end(meant)),
            Action::ResetConnections(real) => {
                self.each_page(real, |meant| self.dataplane.reset(meant));
            }
            Action::ForgetDestinations => self.forget_destinations(),
            Action::Reply { ticket, outcome } => self.reply(ticket, outcome),
            Action::Record(record) => self.tell(record),
            Action::Follow(document) => {
                self.follow.send_replace(document);
            }
            Action::Quorums(down) => {
                self.quorums.send_if_modified(|known| {
                    let changed = *known != down;
                    *known = down;
                    changed
                });
            }
            Action::SyncDaemons(wanted) => {
                self.daemons.send_replace(wanted);
            }
            Action::Say(control) => {
                if !self.replication.say(control) {
                    let _ = self.loopback.send(Event::Peer(PeerEvent::Unheard));
                }
            }
            Action::Settled(settled) => self.replication.set_settled(settled),
            Action::Stop => return false,
        }
        true
    }

    fn tell(&self, record: Arc<Record>) {
        let Record { subject, text, .. } = &*record;
        let subject = subject.as_str();
        match record.severity {
            Severity::Info => tracing::info!(subject, "{text}"),
            Severity::Warning => tracing::warn!(subject, "{text}"),
            Severity::Error => tracing::error!(subject, "{text}"),
        }
        // Nobody listening is no error.
        let _ = self.listeners.send(Arc::clone(&record));
        self.keeper.command(StoreCommand::Keep(record));
    }

    /// Destinations in small steps with pauses, so that packet threads get the locks in between.
    fn forget_destinations(&self) {
        self.dataplane.director().expire(dataplane::worker::now());
        let dataplane = Arc::clone(&self.dataplane);
        tokio::spawn(async move {
            while dataplane.director().expire_schedulers(dataplane::worker::now()) {
                tokio::time::sleep(BETWEEN_STEPS).await;
            }
        });
    }

    fn reply(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(caller) = self.waiting.remove(&ticket) {
            // A caller that has gone away does not want the answer.
            let _ = caller.send(outcome);
        }
    }

    fn lead_host(&self, routes: Routes) {
        let Some(wanted) = &self.routes else { return };
        wanted.send_if_modified(|present| {
            let differs = *present != routes;
            *present = routes;
            differs
        });
    }

    fn steer(&mut self, rules: &SteeringRules) {
        if let Ok(steering) = &self.steering
            && let Err(error) = steering.apply(rules)
        {
            let text = format!("packets cannot be taken from the host: {error}");
            self.notice(Severity::Error, text);
        }
        let v6 = |address: &IpAddr| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        };
        let solicited = rules.owned.iter().filter_map(v6).collect();
        let listening = Listening { macs: rules.macs.clone(), solicited };
        if listening != self.listening {
            self.listening = listening;
            let ports: Vec<PortId> = self.attachments.keys().copied().collect();
            ports.into_iter().for_each(|port| self.listen(port));
        }
    }

    fn listen(&mut self, port: PortId) {
        let Some(Attached { attachment }) = self.attachments.get_mut(&port) else { return };
        let index = attachment.index;
        let own = self.listening.macs.iter().filter(|(link, _)| *link == index);
        let macs = own.map(|(_, mac)| *mac).collect();
        let listened = attachment
            .listen(&macs)
            .and_then(|()| attachment.listen_for_solicitations(&self.listening.solicited));
        if let Err(error) = listened {
            let text = format!("interface {index} does not listen to all addresses: {error}");
            self.notice(Severity::Error, text);
        }
    }

    fn attach(&mut self, port: PortId, name: &str, backend: AttachedBy, now: Duration) {
        let backend = match backend {
            AttachedBy::Auto => None,
            AttachedBy::Ring => Some(Backend::Ring),
            AttachedBy::Xdp => Some(Backend::Xdp),
            AttachedBy::XdpBusyPoll => Some(Backend::XdpBusyPoll),
            AttachedBy::Pnet => Some(Backend::Pnet),
        };
        let request = Attach {
            interface: name,
            port,
            backend,
            workers: self.dataplane.workers(),
            steering: self.steering.as_ref().ok(),
        };
        let failed = |reason| PortStatus::Failed { reason, since: now };
        let status = if usize::from(port.0) < MOST_PORTS {
            match attach(&request) {
                Ok((attachment, ports)) => self.attached(port, attachment, ports),
                Err(error) => failed(with_causes(&error)),
            }
        } else {
            failed(format!(
                "{} interfaces are attached, which is the most; name those that carry service \
                 traffic by [[interface]] sections",
                MOST_PORTS - 1
            ))
        };
        // The loop reads this before anything else; it cannot be gone while it acts.
        let _ = self.loopback.send(Event::Host(HostEvent::PortOpened { port, status }));
    }

    fn attached(
        &mut self,
        port: PortId,
        attachment: Attachment,
        ports: Vec<dataplane::io::Port>,
    ) -> PortStatus {
        let unguarded = match (&attachment.guard, &self.steering) {
            (Ok(_), _) => None,
            (Err(_), Err(why)) => Some(why.clone()),
            (Err(why), Ok(_)) => Some(why.clone()),
        };
        let status = PortStatus::Attached {
            backend: attachment.backend.to_string(),
            reason: attachment.reason.clone(),
            unguarded,
        };
        // Before the workers give frames back, which an old guard would take for new ones.
        self.guards.retain(|(index, _)| *index != attachment.index);
        self.attachments.insert(port, Attached { attachment });
        self.listen(port);
        self.dataplane.attach(port, ports);
        status
    }

    /// Does something to all connections of a real server, a page at a time.
    fn each_page(&self, real: RealId, act: impl Fn(Vec<Identity>)) {
        let mut from = 0;
        loop {
            let page = self.dataplane.connections(from, PAGE);
            let of_real = page.connections.iter().filter(|connection| connection.real == real);
            let meant: Vec<Identity> = of_real.map(ConnectionInfo::identity).collect();
            if !meant.is_empty() {
                act(meant);
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }

    fn notice(&self, severity: Severity, text: String) {
        let _ = self.loopback.send(Event::Noticed { kind: Kind::System, severity, text });
    }
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
