//! Keys of a service that exclude each other: what cannot work is refused, what has no effect is doubted.

use crate::model::section::Section;
use crate::model::{
    Check, CheckPath, ClientAddress, Family, Method, PersistenceEngine, Probe, Protocol,
    QuorumUnit, Real, Scheduler, Service, Sorry, VirtualAddress,
};

/// Rules for a whole service.
pub(super) fn of_service(section: &Section<'_, '_>, service: &Service) {
    if let VirtualAddress::Socket { protocol, address } = service.address {
        of_protocol(section, service, protocol);
        if address.port() == 0 && service.persistence.is_none() {
            section.problem_at(
                "address",
                "address has port 0, which takes every port and should come with persistence",
            );
        }
    } else if service.rules.is_empty() {
        section
            .doubt_at("mark", "mark is given without match, so no packet belongs to the service");
    }
    of_methods(section, service);
    of_quorum(section, service);
    if service.persistence_engine.is_some() && service.persistence.is_none() {
        section.doubt_at("pe", "pe has no effect without persistence");
    }
    if let (Some(check), Some(place)) = (&service.check, section.table("check", "[service.check]"))
    {
        of_check(&place, service, service.method, check);
    }
}

/// Rules for one real server.
pub(super) fn of_real(section: &Section<'_, '_>, service: &Service, real: &Real) {
    let method = service.method_of(real);
    if let Some(message) = service.misfit(method, real.address) {
        section.problem_at("address", message);
    }
    if service.one_packet && real.method == Some(Method::FullNat) {
        section.problem_at("method", ONE_PACKET);
    }
    let announces = service.client_address != ClientAddress::Hidden;
    if announces && service.method == Method::FullNat && method != Method::FullNat {
        let message = "this real server does not learn the client's address, which only method = \
                       \"fullnat\" tells";
        section.doubt_at("method", message);
    }
    if let Some(check) = service.check_of(real)
        && real.address.port() == 0
        && needs_port(check)
    {
        section.doubt_at(
            "address",
            "address has no port and neither has its check, which always fails",
        );
    }
    if let (Some(check), Some(place)) =
        (&real.check, section.table("check", "[service.real.check]"))
    {
        of_check(&place, service, method, check);
    }
}

const ONE_PACKET: &str = "method is \"fullnat\", should be another one with one_packet: a reply could not be \
                          told to be a client's without a connection";

fn of_protocol(section: &Section<'_, '_>, service: &Service, protocol: Protocol) {
    if service.one_packet && protocol != Protocol::Udp {
        section.problem_at("one_packet", "one_packet is on, should be only with protocol \"udp\"");
    }
    if service.client_address != ClientAddress::Hidden && protocol != Protocol::Tcp {
        section.problem_at("client_address", "client_address should be only with protocol \"tcp\"");
    }
    if matches!(service.sorry, Some(Sorry::Page { .. })) && protocol != Protocol::Tcp {
        section.doubt_at("sorry", "sorry is a page, which only clients over \"tcp\" can get");
    }
    if service.persistence_engine == Some(PersistenceEngine::Sip) && protocol != Protocol::Udp {
        section.doubt_at("pe", "pe is \"sip\", which has an effect only with protocol \"udp\"");
    }
}

fn of_methods(section: &Section<'_, '_>, service: &Service) {
    let own = service.reals.iter().map(|real| service.method_of(real));
    let all: Vec<Method> =
        if service.reals.is_empty() { vec![service.method] } else { own.collect() };
    let full_nat = all.contains(&Method::FullNat);
    let bypassed = |method: &Method| matches!(method, Method::DirectRouting | Method::Tunnel(_));
    let used = service.reals.is_empty() || service.reals.iter().any(|real| real.method.is_none());
    if service.one_packet && service.method == Method::FullNat && used {
        section.problem_at("method", ONE_PACKET);
    }
    if service.client_address != ClientAddress::Hidden && !full_nat {
        let message = "client_address has no effect without method = \"fullnat\"";
        section.doubt_at("client_address", message);
    }
    if !service.source_pool.is_empty() && !full_nat {
        section.doubt_at("source_pool", "source_pool has no effect without method = \"fullnat\"");
    }
    let of_family = |address: &std::net::IpAddr| Family::of(address) == service.address.family();
    if full_nat && !service.source_pool.iter().all(of_family) {
        let message = "source_pool has addresses of another family than the real servers of full NAT, \
                       which are not used";
        section.doubt_at("source_pool", message);
    }
    if service.return_by_mac && all.iter().all(bypassed) {
        let message = "return_by_mac has no effect: with methods \"dr\" and \"tun\" replies do not \
                       pass the director";
        section.doubt_at("return_by_mac", message);
    }
    if let Some(Sorry::Server { address, method }) = &service.sorry
        && !address.ip().is_loopback()
        && let Some(message) = service.misfit(method.unwrap_or(service.method), *address)
    {
        section.doubt_at("sorry", message);
    }
}

fn of_quorum(section: &Section<'_, '_>, service: &Service) {
    let most: u64 = match service.quorum.unit {
        QuorumUnit::Servers => service.reals.len() as u64,
        QuorumUnit::Weight => service.reals.iter().map(|real| u64::from(real.weight)).sum(),
    };
    let what = match service.quorum.unit {
        QuorumUnit::Servers => "real servers",
        QuorumUnit::Weight => "units of weight",
    };
    let wanted = service.quorum.recover;
    if !service.reals.is_empty() && section.has("quorum") && u64::from(wanted) > most {
        let message = format!("the quorum of {wanted} is never reached: there are {most} {what}");
        section.doubt_at("quorum", message);
    }
}

fn of_check(section: &Section<'_, '_>, service: &Service, method: Method, check: &Check) {
    if let Probe::Udp(udp) = &check.probe
        && udp.listens_to_silence()
    {
        let message = "a server that drops what it gets is up for this check; expect, or reply = true, \
                       makes it ask for an answer";
        section.doubt_at("type", message);
    }
    if check.through == CheckPath::Vip && method != Method::DirectRouting {
        section.doubt_at("through", "through has an effect only with method = \"dr\"");
    }
    let family = service.address.family();
    let asked = check.address.map_or(family, |address| Family::of(&address));
    if check.source.is_some_and(|source| Family::of(&source) != asked) {
        section.doubt_at("source", "source is of another family than what is asked, and not used");
    }
    if !check.slow_start.is_zero() && matches!(service.scheduler, Scheduler::Rr | Scheduler::Lc) {
        let message = "slow_start has no effect: schedulers \"rr\" and \"lc\" know no weights";
        section.doubt_at("slow_start", message);
    }
}

/// Whether a check asks at the real server's port.
const fn needs_port(check: &Check) -> bool {
    let without = matches!(check.probe, Probe::Ping(_) | Probe::Script(_) | Probe::Passive(_));
    check.port.is_none() && !without
}
