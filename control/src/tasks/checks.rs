//! Between the engine and the health checks: which checks run follows the running document, and what
//! they find becomes events.

use crate::compile::RealKey;
use crate::events::{Event, RealEvent};
use crate::health::probe::Target;
use crate::health::task::{Checker, News, Report};
use crate::health::{CheckSpec, Health};
use crate::host::Watch;
use crate::host::probe_routes::{ProbeRoutes, Way};
use crate::inbox::Message;
use crate::model::{
    Check, CheckPath, ClientAddress, Document, Method, Real, Service, VirtualAddress,
};
use crate::record::{Kind, Severity};
use crate::time::TimeKeeper;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Follows the document until the engine ends.
pub(crate) async fn run(
    checker: Checker,
    clocks: TimeKeeper,
    mut news: mpsc::Receiver<News>,
    mut document: watch::Receiver<Arc<Document>>,
    mut host: Watch,
    inbox: mpsc::Sender<Message>,
) {
    let mut routes = ProbeRoutes::open().await;
    loop {
        let current = Arc::clone(&document.borrow_and_update());
        let ways = through_vip(&current);
        let marks = routes.follow(&ways, &host.state()).await;
        checker.replace(specs(&current, &marks)).await;
        loop {
            tokio::select! {
                changed = document.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // An interface may have come that a check goes out of.
                changed = host.changed() => match changed {
                    Ok(_) if ways.is_empty() => {}
                    Ok(picture) => if routes.follow(&ways, &picture).await != marks { break },
                    Err(_) => return,
                },
                found = news.recv() => {
                    let Some(News { real, report }) = found else { return };
                    if let Report::Clock(reading) = report {
                        clocks.reading(real, reading);
                    }
                    let Some(event) = event(real, report) else { continue };
                    if inbox.send(Message::Event(event)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The checks that a document asks for.
fn specs(document: &Document, marks: &BTreeMap<Way, u32>) -> BTreeMap<RealKey, CheckSpec> {
    let mut specs = BTreeMap::new();
    for service in &document.services {
        // Servers of one service share the check that they have in common.
        let shared = service.check.clone().map(Arc::new);
        for real in &service.reals {
            let check = match &real.check {
                Some(own) => Some(Arc::new(own.clone())),
                None => shared.clone(),
            };
            if let Some(check) = check {
                let target = Arc::new(target(service, real, &check, marks));
                let spec = CheckSpec { check, target, known: Health::Untested };
                specs.insert((service.address, real.address), spec);
            }
        }
    }
    specs
}

/// The VIP on each real server that a check wants to reach as clients do.
fn through_vip(document: &Document) -> BTreeSet<Way> {
    let services = document.services.iter();
    let ways = services.flat_map(|service| {
        service.reals.iter().filter_map(|real| {
            let check = service.check_of(real)?;
            way(service, real, check)
        })
    });
    ways.collect()
}

/// With direct routing alone a real server can be asked at the VIP.
fn way(service: &Service, real: &Real, check: &Check) -> Option<Way> {
    let direct = matches!(service.method_of(real), Method::DirectRouting);
    let vip = service.address.ip().filter(|_| direct && check.through == CheckPath::Vip)?;
    Some((vip, real.address.ip()))
}

fn target(service: &Service, real: &Real, check: &Check, marks: &BTreeMap<Way, u32>) -> Target {
    let vip = match service.address {
        VirtualAddress::Socket { address, .. } => Some(address),
        VirtualAddress::Mark { .. } => None,
    };
    let mark = way(service, real, check).and_then(|way| marks.get(&way).copied());
    let usual = match (mark, vip) {
        (Some(_), Some(vip)) => vip,
        (_, _) => real.address,
    };
    // A server of a service with all ports is asked on the port that the check names.
    let port = check.port.unwrap_or(usual.port());
    let address = SocketAddr::new(check.address.unwrap_or(usual.ip()), port);
    Target {
        source: check.source,
        mark,
        proxy_protocol: expects_proxy(service, real, address),
        service: service.name.clone(),
        vip,
        real: real.address,
        ..Target::new(address)
    }
}

/// Whether the server expects a PROXY protocol header at `address`: where the service's own connections
/// go, but not at a port that is there for checks alone.
fn expects_proxy(service: &Service, real: &Real, address: SocketAddr) -> bool {
    service.client_address == ClientAddress::ProxyProtocol
        && service.method_of(real) == Method::FullNat
        && address.ip() == real.address.ip()
        && [0, address.port()].contains(&real.address.port())
}

fn event(real: RealKey, report: Report) -> Option<Event> {
    let noticed =
        |kind, severity, text| Event::Real(RealEvent::Noticed { real, kind, severity, text });
    let name = real.1;
    Some(match report {
        Report::Changed(change) => match change.to {
            Health::Up => Event::Real(RealEvent::Up { real, reason: change.reason }),
            Health::Down => Event::Real(RealEvent::Down { real, reason: change.reason }),
            Health::Untested => return None,
        },
        Report::Weighed(agent) => Event::Real(RealEvent::Weighed { real, agent }),
        // Goes to the clocks' supervision.
        Report::Clock(_) => return None,
        Report::Certificate { ends, soon: true } => {
            let text = format!("the certificate of {name} ends {}", date(ends));
            noticed(Kind::Certificate, Severity::Warning, text)
        }
        Report::Certificate { ends, soon: false } => {
            let text = format!("the certificate of {name} was renewed and ends {}", date(ends));
            noticed(Kind::Certificate, Severity::Info, text)
        }
        Report::Unable(Some(why)) => {
            let text = format!("{name} cannot be checked by this node: {why}");
            noticed(Kind::System, Severity::Warning, text)
        }
        Report::Unable(None) => {
            noticed(Kind::System, Severity::Info, format!("{name} can be checked again"))
        }
    })
}

fn date(seconds: i64) -> String {
    crate::date::moment(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}
