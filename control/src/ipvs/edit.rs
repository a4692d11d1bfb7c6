//! Edits of the configuration document, with the kernel's checks in the kernel's order.
//!
//! An edit changes what `ipvsadm` can say and leaves everything else alone: names, checks, sorry
//! servers, match rules.

use super::{Errno, Host, Request, ServerSpec, ServiceSpec, TimeoutSpec};
use crate::model::{
    Document, Family, MAX_TIMEOUT, MAX_WEIGHT, Method, Netmask, Persistence, PersistenceEngine,
    Protocol, Real, Scheduler, SchedulerFlags, Service, Tunnel, VirtualAddress,
    scheduler_from_name,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Entries of the Maglev table: more real servers than this cannot be placed.
const MAGLEV_TABLE: usize = 4093;

/// What an edit did to the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    ServiceAdded,
    ServiceRemoved(VirtualAddress),
    ServerAdded(VirtualAddress, SocketAddr),
    ServerRemoved(VirtualAddress, SocketAddr),
    Edited,
}

/// Edits the document. `syncing` says whether a sync daemon runs. Nothing has changed when it
/// returns an error or no change.
///
/// # Errors
/// The kernel's.
pub(super) fn edit(
    document: &mut Document,
    request: &Request,
    host: &Host,
    syncing: bool,
) -> Result<Vec<Change>, Errno> {
    match request {
        Request::AddService { service, spec } => add_service(document, service, spec),
        Request::EditService { service, spec } => edit_service(document, service, spec),
        Request::DeleteService { service } => {
            let at = document.services.iter().position(|s| s.address == *service);
            document.services.remove(at.ok_or(Errno::Esrch)?);
            Ok(vec![Change::ServiceRemoved(*service)])
        }
        Request::AddServer { service, server, spec } => {
            let entry = document.service_at(service).ok_or(Errno::Esrch)?;
            check_family(service, server, spec, syncing)?;
            check_server(spec)?;
            if entry.real(server).is_some() {
                return Err(Errno::Eexist);
            }
            if !host.accepts_real(&server.ip()) {
                return Err(Errno::Einval);
            }
            let entry = document.service_at_mut(service).ok_or(Errno::Esrch)?;
            let mut real = Real::new(*server);
            apply_server(&mut real, entry.method, spec);
            if !entry.can_reach(&real) {
                return Err(Errno::Einval);
            }
            entry.reals.push(real);
            Ok(vec![Change::ServerAdded(*service, *server)])
        }
        Request::EditServer { service, server, spec } => {
            let entry = document.service_at(service).ok_or(Errno::Esrch)?;
            check_family(service, server, spec, syncing)?;
            check_server(spec)?;
            let before = entry.real(server).ok_or(Errno::Enoent)?;
            let mut after = before.clone();
            apply_server(&mut after, entry.method, spec);
            if !entry.can_reach(&after) {
                return Err(Errno::Einval);
            }
            if after == *before {
                return Ok(Vec::new());
            }
            let entry = document.service_at_mut(service).ok_or(Errno::Esrch)?;
            *entry.real_mut(server).ok_or(Errno::Enoent)? = after;
            Ok(vec![Change::Edited])
        }
        Request::DeleteServer { service, server } => {
            let entry = document.service_at(service).ok_or(Errno::Esrch)?;
            let at = entry.reals.iter().position(|real| real.address == *server);
            let at = at.ok_or(Errno::Enoent)?;
            document.service_at_mut(service).ok_or(Errno::Esrch)?.reals.remove(at);
            Ok(vec![Change::ServerRemoved(*service, *server)])
        }
        Request::Flush => {
            let gone = document.services.drain(..);
            Ok(gone.map(|service| Change::ServiceRemoved(service.address)).collect())
        }
        Request::SetTimeouts(timeouts) => set_timeouts(document, timeouts),
        Request::ZeroService { .. }
        | Request::ZeroAll
        | Request::StartDaemon(_)
        | Request::StopDaemon { .. }
        | Request::Info
        | Request::Services
        | Request::Service { .. }
        | Request::Timeouts
        | Request::Daemons
        | Request::Connections { .. }
        | Request::Batch(_) => Err(Errno::Einval),
    }
}

fn add_service(
    document: &mut Document,
    address: &VirtualAddress,
    spec: &ServiceSpec,
) -> Result<Vec<Change>, Errno> {
    check_key(address)?;
    if document.service_at(address).is_some() {
        return Err(Errno::Eexist);
    }
    let settings = Settings::from_spec(address, spec)?;
    let mut service = Service::new(*address, Method::DirectRouting);
    service.name = free_name(document, service.name);
    settings.apply(&mut service);
    document.services.push(Arc::new(service));
    Ok(vec![Change::ServiceAdded])
}

fn edit_service(
    document: &mut Document,
    address: &VirtualAddress,
    spec: &ServiceSpec,
) -> Result<Vec<Change>, Errno> {
    let before = document.service_at(address).ok_or(Errno::Esrch)?;
    let settings = Settings::from_spec(address, spec)?;
    let becomes_maglev = settings.scheduler == Scheduler::Mh && before.scheduler != Scheduler::Mh;
    if becomes_maglev && before.reals.len() > MAGLEV_TABLE {
        return Err(Errno::Einval);
    }
    let mut after = Service::clone(before);
    settings.apply(&mut after);
    if !after.reals.iter().all(|real| after.can_reach(real)) {
        return Err(Errno::Einval);
    }
    if after == **before {
        return Ok(Vec::new());
    }
    *document.service_at_mut(address).ok_or(Errno::Esrch)? = after;
    Ok(vec![Change::Edited])
}

/// A mark of 0 is no mark. The kernel takes any virtual address, the document only unicast ones:
/// others could never be answered for.
fn check_key(address: &VirtualAddress) -> Result<(), Errno> {
    let possible = match address {
        VirtualAddress::Mark { mark, .. } => *mark != 0,
        VirtualAddress::Socket { address, .. } => {
            let ip = address.ip();
            let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            !ip.is_unspecified() && !ip.is_multicast() && !broadcast
        }
    };
    if possible { Ok(()) } else { Err(Errno::Einval) }
}

/// What `ipvsadm` checks before it asks the kernel; other callers meet these checks here.
fn check_options(address: &VirtualAddress, spec: &ServiceSpec) -> Result<(), Errno> {
    let VirtualAddress::Socket { protocol, address } = address else { return Ok(()) };
    let all_ports = address.port() == 0 && spec.persistence.is_none();
    let one_packet = spec.one_packet && *protocol != Protocol::Udp;
    if all_ports || one_packet { Err(Errno::Einval) } else { Ok(()) }
}

/// The name, or the first of `name-2`, `name-3`... that no other service has.
fn free_name(document: &Document, name: String) -> String {
    if document.service(&name).is_none() {
        return name;
    }
    let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
    numbered.into_iter().find(|name| document.service(name).is_none()).unwrap_or(name)
}

/// A [`ServiceSpec`] whose names were looked up.
struct Settings {
    scheduler: Scheduler,
    engine: Option<PersistenceEngine>,
    flags: SchedulerFlags,
    persistence: Option<Persistence>,
    one_packet: bool,
}

impl Settings {
    fn from_spec(address: &VirtualAddress, spec: &ServiceSpec) -> Result<Self, Errno> {
        let scheduler = scheduler_from_name(&spec.scheduler).ok_or(Errno::Enoent)?;
        let engine = match spec.engine.as_deref() {
            None | Some("") => None,
            Some("sip") => Some(PersistenceEngine::Sip),
            Some(_) => return Err(Errno::Enoent),
        };
        check_options(address, spec)?;
        let persistence = match spec.persistence {
            None => None,
            Some(wanted) => {
                let timeout = Duration::from_secs(u64::from(wanted.seconds));
                let fits = match (address.family(), wanted.netmask) {
                    (Family::V4, Netmask::V4(_)) => true,
                    (Family::V6, Netmask::V6(prefix)) => (1..=128).contains(&prefix),
                    (Family::V4, Netmask::V6(_)) | (Family::V6, Netmask::V4(_)) => false,
                };
                if !fits || timeout.is_zero() || timeout > MAX_TIMEOUT {
                    return Err(Errno::Einval);
                }
                Some(Persistence { timeout, netmask: wanted.netmask })
            }
        };
        let one_packet = spec.one_packet;
        Ok(Self { scheduler, engine, flags: spec.flags, persistence, one_packet })
    }

    fn apply(self, service: &mut Service) {
        service.scheduler = self.scheduler;
        service.persistence_engine = self.engine;
        service.flags = self.flags;
        service.persistence = self.persistence;
        service.one_packet = self.one_packet;
    }
}

/// Real servers of another family are reached by tunnel only, and not while a sync daemon runs.
fn check_family(
    service: &VirtualAddress,
    server: &SocketAddr,
    spec: &ServerSpec,
    syncing: bool,
) -> Result<(), Errno> {
    if service.family() == Family::of(&server.ip()) {
        return Ok(());
    }
    match spec.method {
        Method::Tunnel(_) if !syncing => Ok(()),
        Method::Tunnel(_)
        | Method::Nat
        | Method::DirectRouting
        | Method::FullNat
        | Method::Local => Err(Errno::Einval),
    }
}

fn check_server(spec: &ServerSpec) -> Result<(), Errno> {
    if spec.weight > MAX_WEIGHT || spec.lower > spec.upper {
        return Err(Errno::Erange);
    }
    let portless = matches!(spec.method, Method::Tunnel(Tunnel::Gue { port: 0, .. }));
    if portless || spec.upper > MAX_WEIGHT { Err(Errno::Einval) } else { Ok(()) }
}

fn apply_server(real: &mut Real, usual: Method, spec: &ServerSpec) {
    let stands = real.method.unwrap_or(usual);
    if !same_to_ipvs(stands, spec.method) {
        real.method = (spec.method != usual).then_some(spec.method);
    }
    real.weight = spec.weight;
    real.upper = spec.upper;
    real.lower = spec.lower;
}

/// Whether `ipvsadm` cannot tell these methods apart. It cannot say `local` or full NAT, so an edit
/// that repeats what a listing shows must not turn them into something else.
fn same_to_ipvs(stands: Method, said: Method) -> bool {
    match (stands, said) {
        (Method::Local, Method::DirectRouting) | (Method::FullNat, Method::Nat) => true,
        (stands, said) => stands == said,
    }
}

fn set_timeouts(document: &mut Document, wanted: &TimeoutSpec) -> Result<Vec<Change>, Errno> {
    let mut after = document.timeouts;
    let fields = [
        (&mut after.tcp, wanted.tcp),
        (&mut after.tcp_fin, wanted.tcp_fin),
        (&mut after.udp, wanted.udp),
    ];
    for (field, seconds) in fields {
        let wanted = Duration::from_secs(u64::from(seconds));
        if wanted > MAX_TIMEOUT {
            return Err(Errno::Einval);
        }
        if !wanted.is_zero() {
            *field = wanted;
        }
    }
    if after == document.timeouts {
        return Ok(Vec::new());
    }
    document.timeouts = after;
    Ok(vec![Change::Edited])
}
