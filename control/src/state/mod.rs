//! Everything that control knows. The loop owns it; only `events` changes it.

mod action;
mod ledger;
mod moment;
mod ports;
mod running;
mod senses;
mod setups;
mod sharing;
mod snapshot;
mod standings;

pub use action::{Action, Opened, Outcome, Refusal, StoreCommand, Ticket};
pub use ledger::{Counted, Ledger};
pub use moment::Moment;
pub use ports::{Place, PortChanges, PortStatus, Ports};
pub use running::RunningView;
pub use senses::{Packets, Senses};
pub(crate) use setups::{ASKED_EACH_SECOND, ASKING_ROUND, asking_round};
pub use setups::{Claim, Flaw};
pub use sharing::{LINEAGE_MARK, Order, Sharing, Taking, Whose};
pub use snapshot::Snapshot;

use crate::compile::virtual_macs;
use crate::compile::{Generation, Ids, RealKey, Situation, compile, steering};
use crate::health::weight::AgentWeight;
use crate::host::stack::Routes;
use crate::host::{HostState, Stack};
use crate::ipvs::KernelState;
use crate::model::{Document, PersistentClients, Service, VirtualAddress};
use crate::record::{Kind, Record, Severity};
use crate::store::{Found, RevisionInfo};
use dataplane::packet_path::Capacity;
use dataplane::table::{Mac, PortId, RealId, ServiceKey};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Records kept at hand for `show events`.
const RECENT: usize = 2000;

/// How often weights grow while a server starts slowly.
const WARMING_STEP: Duration = Duration::from_secs(1);

/// All that control knows.
#[derive(Debug)]
pub struct State {
    /// What packets meet: the last document that is safely stored.
    pub running: Arc<Document>,
    /// Its revision; 0 before the first.
    pub revision: u64,
    /// The document with every accepted change, stored or on its way.
    pub head: Arc<Document>,
    /// Counts changes of `head`.
    pub version: u64,
    /// Changes on their way to the store, oldest first.
    pub in_flight: VecDeque<InFlight>,
    /// The kept revisions, oldest first.
    pub history: Arc<Vec<RevisionInfo>>,
    /// A revision that is rolled back unless confirmed.
    pub trial: Option<Trial>,
    /// Edits that are to be one revision.
    pub burst: Option<Burst>,
    /// What `ipvsadm` expects the kernel to remember.
    pub kernel: KernelState,
    /// Numbers for the packet path.
    pub ids: Ids,
    /// What packets look up.
    pub generation: Generation,
    /// Traffic by server.
    pub ledger: Ledger,
    /// When a removed real server's id was first seen without connections.
    pub idle_since: BTreeMap<RealId, Duration>,
    /// Health, drains and roles as the compiler wants them.
    pub situation: Situation,
    /// What is known of real servers' health.
    pub health: BTreeMap<RealKey, HealthView>,
    /// What the peer's probes see, as it told last.
    pub peer_health: BTreeMap<RealKey, PeerVerdict>,
    /// Real servers that seem to be set up wrongly, and how.
    pub suspects: BTreeMap<RealKey, BTreeMap<Flaw, String>>,
    /// Who else answers for addresses that this node owns.
    pub claims: BTreeMap<(IpAddr, Mac), Claim>,
    /// Real servers taken out by an operator.
    pub maintenance: BTreeMap<RealKey, Drain>,
    /// Real servers that were put back, with the stamps of those orders, for the peer.
    pub put_back: BTreeMap<RealKey, u64>,
    /// Attached interfaces.
    pub ports: Ports,
    /// The host.
    pub host: Arc<HostState>,
    /// The link to the host's own stack, where it could be made.
    pub stack: Option<Stack>,
    /// Neighbours that answered the dataplane.
    pub heard: BTreeMap<(PortId, IpAddr), Mac>,
    /// Counts publications of next hops.
    pub hops_generation: u64,
    /// VRRP instances that this node is master of.
    pub masters: BTreeSet<String>,
    /// How much the packet path holds.
    pub capacity: Capacity,
    /// The last records, oldest first.
    pub recent: VecDeque<Arc<Record>>,
    /// Of the next record.
    pub sequence: u64,
    /// The longest that the loop took for one turn: for what was waiting, and for publishing what
    /// packets look up.
    pub longest_turn: Duration,
    /// When the estimators are due.
    pub estimate_due: Duration,
    /// When ids are looked over.
    pub ids_due: Duration,
    /// Why the store takes nothing, while it does not.
    pub store_trouble: Option<String>,
    /// The steady clock at the last event.
    pub steady: Duration,
    /// What is shared with the other director.
    pub sharing: Sharing,
    /// Whether what packets look up is older than what is known here. Publishing costs time for every
    /// service, so many changes that come at once are published together.
    pub stale: bool,
    /// What has to wait until the change that it belongs to is published: connections of a dead server
    /// are ended when no new ones can be opened to it any more.
    pub after_publication: Vec<Action>,
    /// Whether some server starts slowly.
    pub warming: bool,
    /// Whether the daemon is shutting down: nothing is accepted any more.
    pub stopping: bool,
}

/// A change on its way to the store.
#[derive(Debug)]
pub struct InFlight {
    /// Of `head` after it.
    pub version: u64,
    /// The document after it.
    pub document: Arc<Document>,
    /// Who is told.
    pub ticket: Ticket,
    /// What they are told when it is stored.
    pub then: Then,
    /// For the record.
    pub summary: Summary,
}

/// What follows when a change is stored.
#[derive(Debug)]
pub enum Then {
    /// The caller is told the revision.
    Tell,
    /// The caller is told so; the revision has to be confirmed within this.
    Try(Duration),
    /// The head revision stands.
    Confirm,
    /// The caller gets IPVS's answer.
    Answer(crate::ipvs::Reply),
}

/// What a record says about a change.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Who.
    pub author: String,
    /// What.
    pub text: String,
    /// Whether it is one of many: then it is recorded when the burst has ended.
    pub burst: bool,
}

/// A revision that is rolled back unless confirmed.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Which.
    pub revision: u64,
    /// When, on the steady clock.
    pub until: Duration,
    /// What is gone back to.
    pub fallback: Arc<Document>,
    /// Whether the way back has begun.
    pub ending: bool,
}

/// Edits that are to be one revision.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// The first one.
    pub first: Duration,
    /// The last one.
    pub last: Duration,
    /// How many.
    pub edits: u64,
}

/// What is known of a real server's health.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HealthView {
    /// Whether it works.
    pub up: bool,
    /// Why it is believed so.
    pub reason: String,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// The weight that its agent asks for.
    pub agent: Option<AgentWeight>,
    /// When it came back, on the steady clock, while it starts slowly.
    pub warming_since: Option<Duration>,
}

/// What the peer's probes say about a real server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerVerdict {
    /// Whether it works.
    pub up: bool,
    /// Why it is believed so.
    pub reason: String,
}

/// A real server taken out by an operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drain {
    /// Who took it out.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub since: u64,
    /// When its remaining connections are ended, in milliseconds since 1970.
    pub deadline: Option<u64>,
    /// What becomes of its persistent clients.
    #[serde(default)]
    pub persistent: PersistentClients,
    /// Of two orders about a real server, on either director, the one with the larger stamp holds.
    #[serde(default)]
    pub stamp: u64,
}

impl State {
    /// The state of a daemon that has just opened its store.
    pub fn new(
        found: &Found,
        history: Vec<RevisionInfo>,
        maintenance: BTreeMap<RealKey, Drain>,
        recent: VecDeque<Arc<Record>>,
        capacity: Capacity,
    ) -> Self {
        let document = found.document.clone().unwrap_or_default();
        Self {
            running: Arc::clone(&document),
            revision: found.revision,
            head: document,
            version: 0,
            in_flight: VecDeque::new(),
            history: Arc::new(history),
            trial: None,
            burst: None,
            kernel: KernelState::default(),
            ids: Ids::default(),
            generation: Generation::default(),
            ledger: Ledger::default(),
            idle_since: BTreeMap::new(),
            situation: Situation::default(),
            health: BTreeMap::new(),
            peer_health: BTreeMap::new(),
            suspects: BTreeMap::new(),
            claims: BTreeMap::new(),
            maintenance,
            put_back: BTreeMap::new(),
            ports: Ports::default(),
            host: Arc::default(),
            stack: None,
            heard: BTreeMap::new(),
            hops_generation: 0,
            masters: BTreeSet::new(),
            capacity,
            sequence: recent.back().map_or(1, |record| record.sequence + 1),
            recent,
            longest_turn: Duration::ZERO,
            estimate_due: Duration::ZERO,
            ids_due: Duration::ZERO,
            store_trouble: None,
            steady: Duration::ZERO,
            sharing: Sharing::default(),
            stale: false,
            after_publication: Vec::new(),
            warming: false,
            stopping: false,
        }
    }

    /// When something is due by itself.
    pub fn deadline(&self) -> Duration {
        let mut next = self.estimate_due.min(self.ids_due);
        if let Some(trial) = self.trial.as_ref().filter(|trial| !trial.ending) {
            next = next.min(trial.until);
        }
        if let Some(burst) = &self.burst {
            next = next.min(burst.settles());
        }
        let sharing = [self.sharing.repeat_due, self.sharing.verdicts_due];
        next = sharing.into_iter().flatten().fold(next, Duration::min);
        if self.warming {
            next = next.min(self.steady + WARMING_STEP);
        }
        next
    }

    /// Compiles and publishes anew: services, steering, and what depends on them.
    pub fn republish(&mut self, out: &mut Vec<Action>) {
        self.stale = false;
        self.update_situation();
        let generation = compile(&self.running, &self.situation, &mut self.ids, &self.generation);
        self.generation = generation;
        out.push(Action::Publish {
            table: Arc::clone(&self.generation.table),
            fresh_reals: std::mem::take(&mut self.generation.fresh_reals),
            fresh_services: std::mem::take(&mut self.generation.fresh_services),
        });
        self.steer(out);
        out.push(Action::Quorums(self.services_down()));
        self.lead_host(out);
        out.append(&mut self.after_publication);
    }

    /// The services below their quorum, by name.
    fn services_down(&self) -> BTreeSet<String> {
        let down = |service: &&Arc<Service>| self.situation.down.contains(&service.address);
        let services = self.running.services.iter().filter(down);
        services.map(|service| service.name.clone()).collect()
    }

    /// Brings the host's picture, the ports and the services together for the steering rules.
    pub fn steer(&self, out: &mut Vec<Action>) {
        let macs = virtual_macs(&self.running, &self.masters);
        let macs = macs
            .into_iter()
            .filter_map(|(name, mac)| Some((self.host.link_named(&name)?, mac)))
            .collect();
        out.push(Action::Steer(steering(&self.generation, &self.ids, &self.host, macs)));
    }

    /// Publishes next hops anew.
    pub fn republish_hops(&mut self, out: &mut Vec<Action>) {
        self.hops_generation += 1;
        let ports = self.ports.by_index();
        let (stack, generation) = (self.stack.as_ref(), self.hops_generation);
        let hops = crate::host::hops(&self.host, &ports, &self.heard, stack, generation);
        out.push(Action::PublishHops(hops));
    }

    /// Leads the host's own processes to the VIPs, from the address that the first real server can
    /// answer to.
    pub fn lead_host(&self, out: &mut Vec<Action>) {
        out.push(Action::LeadHost(self.routes_to_vips()));
    }

    /// The routes by which the host's own processes reach the VIPs.
    pub fn routes_to_vips(&self) -> Routes {
        let host = &self.host;
        let is_host_s =
            |address: &IpAddr| host.addresses.iter().any(|own| own.prefix.address == *address);
        let table = &self.generation.table;
        let mut routes: Routes = table
            .owned_addresses()
            .map(|owned| (owned.address, None))
            .filter(|(address, _)| !is_host_s(address))
            .collect();
        for service in table.services() {
            let ServiceKey::Address { address, .. } = service.key else { continue };
            let Some(source) = routes.get_mut(&address).filter(|source| source.is_none()) else {
                continue;
            };
            *source = service
                .reals
                .iter()
                .filter(|real| real.address.is_ipv4() == address.is_ipv4())
                .find_map(|real| host.source_for(&real.address));
        }
        routes
    }

    /// Notes that something happened.
    pub fn record(
        &mut self,
        now: Moment,
        (severity, kind): (Severity, Kind),
        subject: impl Into<String>,
        text: impl Into<String>,
        out: &mut Vec<Action>,
    ) {
        let record = Record {
            sequence: self.sequence,
            time: now.unix_millis(),
            severity,
            kind,
            subject: subject.into(),
            real: None,
            maintenance: false,
            text: text.into(),
        };
        self.keep(record, out);
    }

    /// Notes that something happened to a real server.
    pub fn record_of(
        &mut self,
        now: Moment,
        (severity, kind): (Severity, Kind),
        real: &RealKey,
        text: impl Into<String>,
        out: &mut Vec<Action>,
    ) {
        let service = self.running.service_at(&real.0);
        let record = Record {
            sequence: self.sequence,
            time: now.unix_millis(),
            severity,
            kind,
            subject: service.map_or_else(|| real.0.derived_name(), |service| service.name.clone()),
            real: Some(real.1),
            maintenance: self.maintenance.contains_key(real),
            text: text.into(),
        };
        self.keep(record, out);
    }

    fn keep(&mut self, record: Record, out: &mut Vec<Action>) {
        let record = Arc::new(record);
        self.sequence += 1;
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&record));
        out.push(Action::Record(record));
    }

    /// The service that an operator means by a name or an address.
    pub fn find_service(&self, text: &str) -> Option<&Arc<Service>> {
        self.head.service(text).or_else(|| {
            let matches = |service: &&Arc<Service>| match service.address {
                VirtualAddress::Socket { address, .. } => address.to_string() == text,
                VirtualAddress::Mark { .. } => false,
            };
            let mut found = self.head.services.iter().filter(matches);
            // TCP and UDP services may share an address: then only the name will do.
            found.next().filter(|_| found.next().is_none())
        })
    }

    /// The real server that an operator means by an address, with or without its port.
    pub fn find_real(service: &Service, text: &str) -> Option<SocketAddr> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return service.real(&address).map(|real| real.address);
        }
        let ip: IpAddr = text.parse().ok()?;
        let mut found = service.reals.iter().filter(|real| real.address.ip() == ip);
        found.next().filter(|_| found.next().is_none()).map(|real| real.address)
    }

    /// Answers a caller.
    pub fn answer(ticket: Ticket, outcome: Outcome, out: &mut Vec<Action>) {
        out.push(Action::Reply { ticket, outcome });
    }

    /// Refuses a caller.
    pub fn refuse(ticket: Ticket, refusal: Refusal, out: &mut Vec<Action>) {
        Self::answer(ticket, Outcome::Refused(refusal), out);
    }
}

impl Burst {
    /// Quiet time after which a burst is over.
    const QUIET: Duration = Duration::from_secs(2);
    /// The longest that a burst lasts.
    const LONGEST: Duration = Duration::from_secs(30);

    /// When it becomes a revision.
    pub fn settles(&self) -> Duration {
        (self.last + Self::QUIET).min(self.first + Self::LONGEST)
    }
}
