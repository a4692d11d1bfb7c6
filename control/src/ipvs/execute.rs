//! Carries out requests: edits through [`super::edit`], everything else here.

use super::daemon::{Daemon, DaemonRole, DaemonSpec, settle};
use super::edit::{Change, edit};
use super::order::kernel_order;
use super::{
    ConnectionPage, Counters, Errno, Host, Info, MAX_PAGE, PersistenceSpec, Reply, Request,
    ServerEntry, ServiceEntry, ServiceSpec, Statistics, TimeoutSpec,
};
use crate::model::{Document, Method, PersistenceEngine, Service, VirtualAddress, scheduler_name};
use std::net::SocketAddr;
use std::time::Duration;

/// What IPVS keeps besides the configuration. A restart forgets it, as the kernel does.
#[derive(Clone, Debug, Default)]
pub struct KernelState {
    /// Zero offsets and rates.
    pub statistics: Statistics,
    /// The sync daemons that were started, master first.
    pub daemons: Vec<Daemon>,
}

/// The running director, as far as listings need it.
pub trait Running {
    /// What a service has counted since it was made.
    fn service(&self, service: &VirtualAddress) -> Counters;

    /// A service's real servers as packets meet them now, newest first: those that health took out
    /// are missing, drained ones have weight 0, a sorry server that serves is there.
    fn reals(&self, service: &Service) -> Vec<RunningReal>;

    /// What a real server had counted that was removed but is not forgotten: connections to it are
    /// left, or it was removed less than two minutes ago.
    fn removed(&self, service: &VirtualAddress, server: &SocketAddr) -> Option<Counters>;

    /// A page of at most `limit` connections, starting at a cursor that a former page ended with;
    /// 0 starts over. Connections that come or go meanwhile may be missed or shown twice.
    fn connections(&self, cursor: u64, limit: u32) -> ConnectionPage;

    /// Buckets of the connection table.
    fn table_size(&self) -> u32;
}

/// A real server as packets meet it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunningReal {
    /// RIP and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: Method,
    /// Share of new connections, after health.
    pub weight: u32,
    /// Upper threshold.
    pub upper: u32,
    /// Lower threshold.
    pub lower: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it has counted since it was first added.
    pub counters: Counters,
}

/// What came of a request.
#[derive(Debug)]
pub struct Executed {
    /// The answer.
    pub reply: Reply,
    /// Whether the document is another one now and has to be committed. If the commit fails, the
    /// state of before must be put back too.
    pub changed: bool,
}

/// IPVS's version, which `ipvsadm` prints.
const VERSION: (u8, u8, u8) = (1, 2, 1);

/// Carries out one request on the document and the state, with the kernel's checks in the kernel's
/// order.
pub fn execute(
    request: &Request,
    document: &mut Document,
    state: &mut KernelState,
    running: &dyn Running,
    host: &Host,
) -> Executed {
    let mut run = Run { document, state, running, host, changed: false };
    let reply = if let Request::Batch(requests) = request {
        Reply::Batch(requests.iter().map(|request| run.one(request)).collect())
    } else {
        run.one(request)
    };
    Executed { reply, changed: run.changed }
}

struct Run<'a> {
    document: &'a mut Document,
    state: &'a mut KernelState,
    running: &'a dyn Running,
    host: &'a Host,
    changed: bool,
}

impl Run<'_> {
    fn one(&mut self, request: &Request) -> Reply {
        self.answer(request).unwrap_or_else(Reply::Failed)
    }

    fn answer(&mut self, request: &Request) -> Result<Reply, Errno> {
        match request {
            Request::AddService { .. }
            | Request::EditService { .. }
            | Request::DeleteService { .. }
            | Request::AddServer { .. }
            | Request::EditServer { .. }
            | Request::DeleteServer { .. }
            | Request::Flush
            | Request::SetTimeouts(_) => self.edit(request),
            Request::ZeroService { service } => {
                let service = self.document.service_at(service).ok_or(Errno::Esrch)?;
                self.state.statistics.zero(service, self.running);
                Ok(Reply::Done)
            }
            Request::ZeroAll => {
                for service in &self.document.services {
                    self.state.statistics.zero(service, self.running);
                }
                Ok(Reply::Done)
            }
            Request::StartDaemon(spec) => self.start_daemon(spec),
            Request::StopDaemon { role } => self.stop_daemon(*role),
            Request::Info => {
                let table_size = self.running.table_size();
                Ok(Reply::Info(Info { version: VERSION, table_size }))
            }
            Request::Services => {
                let services = kernel_order(&self.document.services);
                Ok(Reply::Services(services.into_iter().map(|s| self.entry(s)).collect()))
            }
            Request::Service { service } => {
                let service = self.document.service_at(service).ok_or(Errno::Esrch)?;
                Ok(Reply::Service(Box::new(self.entry(service))))
            }
            Request::Timeouts => Ok(Reply::Timeouts(timeouts(self.document))),
            Request::Daemons => Ok(Reply::Daemons(self.state.daemons.clone())),
            Request::Connections { cursor, limit } => {
                let limit = (*limit).clamp(1, MAX_PAGE);
                Ok(Reply::Connections(self.running.connections(*cursor, limit)))
            }
            Request::Batch(_) => Err(Errno::Einval),
        }
    }

    fn edit(&mut self, request: &Request) -> Result<Reply, Errno> {
        let syncing = !self.state.daemons.is_empty();
        let statistics = &mut self.state.statistics;
        for change in edit(self.document, request, self.host, syncing)? {
            self.changed = true;
            match change {
                Change::ServiceAdded | Change::Edited => {}
                Change::ServiceRemoved(service) => statistics.service_removed(&service),
                Change::ServerAdded(service, server) => {
                    statistics.server_added(&service, &server, self.running);
                }
                Change::ServerRemoved(service, server) => {
                    statistics.server_removed(&service, &server);
                }
            }
        }
        Ok(Reply::Done)
    }

    fn start_daemon(&mut self, spec: &DaemonSpec) -> Result<Reply, Errno> {
        if spec.group.is_some_and(|group| !group.is_multicast()) || self.has_mixed_families() {
            return Err(Errno::Einval);
        }
        let daemon = settle(spec, self.host)?;
        if self.state.daemons.iter().any(|running| running.role == spec.role) {
            return Err(Errno::Eexist);
        }
        self.state.daemons.push(daemon);
        self.state.daemons.sort_by_key(|daemon| daemon.role);
        Ok(Reply::Done)
    }

    fn stop_daemon(&mut self, role: DaemonRole) -> Result<Reply, Errno> {
        let before = self.state.daemons.len();
        self.state.daemons.retain(|daemon| daemon.role != role);
        if self.state.daemons.len() == before { Err(Errno::Esrch) } else { Ok(Reply::Done) }
    }

    /// Whether a real server is of another family than its service; the sync protocol cannot say so.
    fn has_mixed_families(&self) -> bool {
        self.document.services.iter().any(|service| {
            let family = service.address.family();
            service.reals.iter().any(|real| family != crate::model::Family::of(&real.address.ip()))
        })
    }

    fn entry(&self, service: &Service) -> ServiceEntry {
        let statistics = &self.state.statistics;
        let counted = self.running.service(&service.address);
        let (counters, rates) = statistics.service(&service.address, &counted);
        let server = |real: RunningReal| {
            let (counters, rates) =
                statistics.server(&service.address, &real.address, &real.counters);
            ServerEntry {
                server: real.address,
                method: real.method,
                weight: real.weight,
                upper: real.upper,
                lower: real.lower,
                active: real.active,
                inactive: real.inactive,
                persistent: real.persistent,
                counters,
                rates,
            }
        };
        let servers = self.running.reals(service).into_iter().map(server).collect();
        ServiceEntry { service: service.address, spec: spec_of(service), counters, rates, servers }
    }
}

/// What `ipvsadm -A` would have said to make this service.
fn spec_of(service: &Service) -> ServiceSpec {
    let engine = service.persistence_engine.map(|engine| match engine {
        PersistenceEngine::Sip => "sip".to_owned(),
    });
    let persistence = service.persistence.map(|persistence| PersistenceSpec {
        seconds: seconds(persistence.timeout),
        netmask: persistence.netmask,
    });
    ServiceSpec {
        scheduler: scheduler_name(service.scheduler).to_owned(),
        flags: service.flags,
        persistence,
        engine,
        one_packet: service.one_packet,
    }
}

fn timeouts(document: &Document) -> TimeoutSpec {
    TimeoutSpec {
        tcp: seconds(document.timeouts.tcp),
        tcp_fin: seconds(document.timeouts.tcp_fin),
        udp: seconds(document.timeouts.udp),
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
