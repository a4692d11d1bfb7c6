//! Between the engine and the health checks: which checks run follows the running document, and what
//! they find becomes events.

use super::Message;
use crate::compile::RealKey;
use crate::events::{Event, Severity};
use crate::health::probe::Target;
use crate::health::task::{Checker, News, Report};
use crate::health::{CheckSpec, Health};
use crate::model::{Check, CheckPath, Document, Real, Service, VirtualAddress};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Follows the document until the engine ends.
pub(super) async fn run(
    checker: Checker,
    mut news: mpsc::Receiver<News>,
    mut document: watch::Receiver<Arc<Document>>,
    inbox: mpsc::Sender<Message>,
) {
    loop {
        let current = Arc::clone(&document.borrow_and_update());
        checker.replace(specs(&current)).await;
        loop {
            tokio::select! {
                changed = document.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                found = news.recv() => {
                    let Some(News { real, report }) = found else { return };
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
fn specs(document: &Document) -> BTreeMap<RealKey, CheckSpec> {
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
                let target = Arc::new(target(service, real, &check));
                let spec = CheckSpec { check, target, known: Health::Untested };
                specs.insert((service.address, real.address), spec);
            }
        }
    }
    specs
}

fn target(service: &Service, real: &Real, check: &Check) -> Target {
    let vip = match service.address {
        VirtualAddress::Socket { address, .. } => Some(address),
        VirtualAddress::Mark { .. } => None,
    };
    let usual = match check.through {
        CheckPath::Direct => real.address,
        CheckPath::Vip => vip.unwrap_or(real.address),
    };
    // A server of a service with all ports is asked on the port that the check names.
    let port = check.port.unwrap_or(usual.port());
    let address = SocketAddr::new(check.address.unwrap_or(usual.ip()), port);
    Target {
        source: check.source,
        service: service.name.clone(),
        vip,
        real: real.address,
        ..Target::new(address)
    }
}

fn event(real: RealKey, report: Report) -> Option<Event> {
    match report {
        Report::Changed(change) => match change.to {
            Health::Up => Some(Event::RealUp { real, reason: change.reason }),
            Health::Down => Some(Event::RealDown { real, reason: change.reason }),
            Health::Untested => None,
        },
        Report::Weighed(agent) => Some(Event::RealWeighed { real, agent }),
        // The clock's part of control reads it from the check's state.
        Report::Clock(_) => None,
        Report::Certificate { ends, soon: true } => Some(Event::Noticed {
            severity: Severity::Warning,
            text: format!("the certificate of {} ends {}", real.1, date(ends)),
        }),
        Report::Certificate { soon: false, .. } => Some(Event::Noticed {
            severity: Severity::Info,
            text: format!("the certificate of {} was renewed", real.1),
        }),
        Report::Unable(Some(why)) => Some(Event::Noticed {
            severity: Severity::Warning,
            text: format!("{} cannot be checked by this node: {why}", real.1),
        }),
        Report::Unable(None) => Some(Event::Noticed {
            severity: Severity::Info,
            text: format!("{} can be checked again", real.1),
        }),
    }
}

fn date(seconds: i64) -> String {
    crate::view::moment(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}
