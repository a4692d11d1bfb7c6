//! "What would happen to this packet?": every decision that the packet path would take, in words,
//! without taking it. Nothing changes: no connection is made and no scheduler moves on.

use super::connections::{ConnectionInfo, Direction, Flags, Tuple};
use super::forward::tunnel;
use super::open::{own_port_or, sources};
use super::persistence::{keeps_clients, persistent_port, template_key};
use super::schedule::Flow;
use super::{Address, PacketPath, View, states};
use crate::table::{Availability, Method, NoHop, Protocol, Real, Refusal, Service, ServiceKey};
use crate::wire::transport::{sctp, tcp};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;

/// The first packet of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub from: SocketAddr,
    /// What it asks for.
    pub to: SocketAddr,
}

/// One decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// What was decided: a short stable word.
    pub stage: &'static str,
    /// How, in a sentence.
    pub says: String,
}

/// All decisions, in order; the last one is the outcome.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Explanation {
    /// The decisions.
    pub steps: Vec<Step>,
    /// The real server that would get the packet.
    pub real: Option<SocketAddr>,
}

impl Explanation {
    fn say(&mut self, stage: &'static str, says: impl Into<String>) {
        self.steps.push(Step { stage, says: says.into() });
    }

    fn outcome(mut self, says: impl Into<String>) -> Self {
        self.say("outcome", says);
        self
    }
}

/// Explains the first packet of a flow.
pub fn explain(view: View<'_>, question: &Question) -> Explanation {
    let mut told = Explanation::default();
    let (to, from) = (question.to, question.from);
    match view.table.owned(&to.ip()) {
        Some(owned) if owned.answers_ping => {
            told.say("address", format!("{} is owned: ARP or ND and ping are answered", to.ip()));
        }
        Some(_) => told.say("address", format!("{} is owned by the director", to.ip())),
        None if view.table.is_silent(&to.ip()) => {
            told.say("address", format!("{} is another director's: this one is backup", to.ip()));
            return told.outcome("dropped: the master answers");
        }
        None => told.say("address", format!("{} is not an address of the director", to.ip())),
    }
    if let Some(info) = known(view, question) {
        return told.known(view, &info);
    }
    let service = view.table.lookup(question.protocol, &from.ip(), &to.ip(), to.port());
    let Some(service) = service else {
        told.say("service", "no virtual service matches");
        return told.outcome("left to the host's own stack");
    };
    told.say("service", why(service, to.port()));
    if from.port() == 20 {
        return told.outcome("dropped: packets from port 20 never open connections");
    }
    let flow = Flow {
        protocol: question.protocol,
        client: from.ip(),
        client_port: from.port(),
        destination: to.ip(),
        destination_port: to.port(),
    };
    if let Some(real) = told.template(view, service, &flow) {
        return told.forward(view, question, service, &real);
    }
    for real in service.reals.iter() {
        let says = eligibility(view, real);
        told.say("candidate", says);
    }
    match told.scheduled(view, service, &flow) {
        Some(real) => told.forward(view, question, service, &real),
        None => told.outcome("refused: no real server takes it; the client gets port unreachable"),
    }
}

/// The connection that the flow has already.
fn known(view: View<'_>, question: &Question) -> Option<ConnectionInfo> {
    let connections = view.director.connections();
    let tuple = Tuple {
        protocol: question.protocol.number(),
        source: question.from.ip().into(),
        source_port: question.from.port(),
        destination: question.to.ip().into(),
        destination_port: question.to.port(),
        template: false,
    };
    let (slot, direction) =
        connections.find(&tuple, connections.hash(&tuple), view.director.reals())?;
    let info = connections.info(slot, view.director.reals(), view.now)?;
    let flags = match question.protocol {
        Protocol::Tcp => tcp::SYN,
        Protocol::Sctp => sctp::INIT,
        Protocol::Udp => 0,
    };
    let reusable = states::is_new_request(info.meta.protocol, flags)
        && states::is_reusable(
            info.meta.protocol,
            info.meta.state,
            view.table.tunables.conn_reuse_mode,
            info.meta.flags.has(Flags::NO_OUTPUT),
        );
    (direction == Direction::Forward && !(reusable && info.control.is_none())).then_some(info)
}

fn why(service: &Service, port: u16) -> String {
    let scheduler = format!("{:?}", service.scheduler).to_lowercase();
    match service.key {
        ServiceKey::Mark { mark, .. } => {
            format!("mark {mark} by a match rule; scheduler {scheduler}")
        }
        ServiceKey::Address { address, port: 0, .. } => {
            format!("{address}, all ports; scheduler {scheduler}")
        }
        ServiceKey::Address { address, port: own, .. } if own == port => {
            format!("{} matches exactly; scheduler {scheduler}", SocketAddr::new(address, own))
        }
        ServiceKey::Address { address, port: own, .. } => {
            format!("{} matches as FTP data; scheduler {scheduler}", SocketAddr::new(address, own))
        }
    }
}

/// The addresses of which the packet path takes one as the source under full NAT.
fn new_source(view: View<'_>, service: &Service, real: &Real) -> String {
    let sources = sources(view, service, real);
    let known =
        |address: &IpAddr| view.director.reals().sources().find((*address).into()).is_some();
    let usable = sources.iter().map(|(address, _)| address).filter(|address| known(address));
    let usable: Vec<String> = usable.map(ToString::to_string).collect();
    if usable.is_empty() {
        return "no address: it would be dropped".to_owned();
    }
    usable.join(" or ")
}

fn eligibility(view: View<'_>, real: &Real) -> String {
    let load = view.director.reals().load(real.id);
    let state = if real.availability != Availability::Serving {
        "taken out: it is down or drained"
    } else if real.weight == 0 {
        "takes no new connections: weight 0"
    } else if load.overloaded {
        "over its threshold"
    } else {
        "takes new connections"
    };
    format!(
        "{}: weight {}, {} active, {} inactive: {state}",
        SocketAddr::new(real.address, real.port),
        real.weight,
        load.active,
        load.inactive
    )
}

impl Explanation {
    fn known(mut self, view: View<'_>, info: &ConnectionInfo) -> Self {
        let real = SocketAddr::new(info.real_address.ip(), info.real_port);
        self.say(
            "connection",
            format!(
                "known: to {real}, {}, expires in {} s",
                states::name(info.meta.protocol, info.meta.state),
                info.remaining.as_secs()
            ),
        );
        if view.table.real(info.real).is_none() {
            let says = if view.table.tunables.expire_nodest_conn {
                "its real server was removed: the connection ends and a new one is scheduled"
            } else {
                "dropped: its real server was removed, and may come back"
            };
            return self.outcome(says);
        }
        self.real = Some(real);
        let says = format!("stays with {real}, whatever the scheduler would choose now");
        self.outcome(says)
    }

    /// The real server of the client's template.
    fn template(&mut self, view: View<'_>, service: &Service, flow: &Flow) -> Option<Real> {
        let persistence = service.persistence?;
        let (key, _) = template_key(service, persistence, flow);
        let connections = view.director.connections();
        let found = connections.find(&key, connections.hash(&key), view.director.reals());
        let Some((slot, _)) = found else {
            self.say("persistence", format!("no template for {} yet", key.source));
            return None;
        };
        let id = connections.entry(slot).real();
        let real = service.reals.iter().find(|real| real.id == id);
        let holds = real.filter(|real| keeps_clients(real, &view.table.tunables));
        let Some(real) = holds else {
            self.say("persistence", "the template's real server is gone; a new one is scheduled");
            return None;
        };
        let left = connections.entry(slot).expires().remaining(view.now).as_secs();
        let says = format!("template of {}: {}, {left} s left", key.source, real.address);
        self.say("persistence", says);
        Some(real.clone())
    }

    fn scheduled(&mut self, view: View<'_>, service: &Service, flow: &Flow) -> Option<Real> {
        let place = view.director.scheduler(service.id)?;
        let state = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Not the counters themselves: they would tell the copy what the original must hear.
        let loads = |id| view.director.reals().load(id).for_scheduler();
        let index = state?.choose(service, &loads, flow, view.now, &mut || 0)?;
        let real = service.reals.get(index)?.clone();
        let says = format!("would choose {}", SocketAddr::new(real.address, real.port));
        self.say("scheduler", says);
        Some(real)
    }

    fn forward(
        mut self,
        view: View<'_>,
        question: &Question,
        service: &Service,
        real: &Real,
    ) -> Self {
        let asked = question.to.port();
        let port = match service.persistence {
            None => own_port_or(real, asked),
            Some(_) => persistent_port(service, real, asked),
        };
        let target = SocketAddr::new(real.address, port);
        self.real = Some(target);
        self.say("method", self.method(view, question, (service, real), target));
        match view.hops.to_real(real) {
            Ok(hop) => {
                let name = view.hops.port(hop.port).map_or("?", |port| port.name.as_str());
                let path = view.director.reals().path_limit(real.id, hop.mtu);
                let carried = match real.method {
                    Method::Tunnel(kind) => tunnel::inner_mtu(kind, real.address.is_ipv4(), path),
                    Method::Nat | Method::DirectRouting | Method::FullNat | Method::Local => path,
                };
                let mac = hop.mac().map(|byte| format!("{byte:02x}")).join(":");
                self.say("next hop", format!("{name}, {mac}; carries packets of {carried} bytes"));
                self.outcome(format!("sent to {target} by {name}"))
            }
            Err(NoHop::NoRoute) => self.outcome(format!("dropped: no route to {}", real.address)),
            Err(NoHop::Refused(refusal)) => {
                let how = match refusal {
                    Refusal::Blackhole => "blackhole",
                    Refusal::Unreachable => "unreachable",
                    Refusal::Prohibit => "prohibit",
                };
                self.outcome(format!("dropped: a {how} route leads to {}", real.address))
            }
            Err(NoHop::NotAttached) => self.outcome(format!(
                "dropped: {} is behind an interface that is not attached",
                real.address
            )),
            Err(NoHop::Unresolved { neighbour, .. }) => {
                self.outcome(format!("waits while {neighbour} is asked for its MAC"))
            }
        }
    }

    fn method(
        &self,
        view: View<'_>,
        question: &Question,
        (service, real): (&Service, &Real),
        target: SocketAddr,
    ) -> String {
        let client = Address::from(question.from.ip());
        let hidden = PacketPath::breaks_without_source(view, client, real);
        let source = |address: Option<IpAddr>| {
            address.map_or_else(|| "no address: it would be dropped".into(), |a| a.to_string())
        };
        match real.method {
            Method::DirectRouting => "direct routing: only the Ethernet header changes".into(),
            Method::Tunnel(kind) => {
                let from = source(view.hops.source_for(&real.address));
                format!("tunnel {kind:?} from {from} to {}", real.address)
            }
            Method::FullNat => {
                let from = new_source(view, service, real);
                format!("full NAT: source becomes {from}, destination {target}")
            }
            Method::Nat | Method::Local if hidden => {
                let from = new_source(view, service, real);
                format!(
                    "NAT: destination becomes {target}, and the source {from}, since replies would \
                     otherwise miss the director"
                )
            }
            Method::Nat | Method::Local => format!("NAT: destination becomes {target}"),
        }
    }
}

#[cfg(test)]
mod tests;
