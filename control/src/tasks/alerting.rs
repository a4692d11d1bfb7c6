//! Between the engine and the alerts: what was recorded is told to the receivers that want it.

use crate::alert::{Alerts, Happening};
use crate::events::Event;
use crate::inbox::Message;
use crate::model::{AlertEvent, Document};
use crate::record::{Kind, Record, Severity};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, watch};

/// Follows the document and what happens until the engine ends. `host` is this director's name where
/// the document gives none.
pub(crate) async fn run(
    host: String,
    mut document: watch::Receiver<Arc<Document>>,
    mut records: broadcast::Receiver<Arc<Record>>,
    inbox: mpsc::Sender<Message>,
) {
    let (alerts, mut complaints) = Alerts::start();
    loop {
        let current = Arc::clone(&document.borrow_and_update());
        let node = current.node.name.clone().unwrap_or_else(|| host.clone());
        alerts.configure(node, current.alerts.clone()).await;
        loop {
            tokio::select! {
                // A receiver that was just added hears of the change that added it.
                biased;
                changed = document.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                record = records.recv() => match record {
                    Ok(record) => {
                        if let Some(happening) = happening(&record) {
                            alerts.happened(happening);
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "alerts about so many events were lost");
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(text) = complaints.recv() => {
                    let (kind, severity) = (Kind::Alert, Severity::Warning);
                    let event = Event::Noticed { kind, severity, text };
                    if inbox.send(Message::Event(event)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// What receivers hear of a record; nothing of what an operator has just done himself, nor of alerts
/// that were not delivered, which would only beget more of them.
fn happening(record: &Record) -> Option<Happening> {
    let event = match record.kind {
        Kind::RealDown => AlertEvent::RealDown,
        Kind::RealUp => AlertEvent::RealUp,
        Kind::ServiceDown => AlertEvent::ServiceDown,
        Kind::ServiceUp => AlertEvent::ServiceUp,
        Kind::Mastership => AlertEvent::Mastership,
        Kind::Peer => AlertEvent::Peer,
        Kind::Clock => AlertEvent::Clock,
        Kind::Certificate => AlertEvent::Certificate,
        Kind::Configuration => AlertEvent::Configuration,
        Kind::Interface | Kind::Setup | Kind::System => AlertEvent::System,
        Kind::Refused | Kind::Maintenance | Kind::Weight | Kind::Alert => return None,
    };
    Some(Happening {
        event,
        good: record.severity == Severity::Info,
        service: (is_of_service(record) && !record.subject.is_empty())
            .then(|| record.subject.clone()),
        real: record.real,
        text: record.text.clone(),
        time: record.time,
        maintenance: record.maintenance,
    })
}

/// Whether a record's subject is the name of a service.
fn is_of_service(record: &Record) -> bool {
    record.real.is_some() || matches!(record.kind, Kind::ServiceDown | Kind::ServiceUp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, severity: Severity) -> Record {
        Record {
            sequence: 1,
            time: 5,
            severity,
            kind,
            subject: "web".into(),
            real: None,
            maintenance: true,
            text: "it is so".into(),
        }
    }

    #[test]
    fn only_servers_and_services_have_a_service_and_severity_says_whether_it_is_good() {
        let down = happening(&record(Kind::ServiceDown, Severity::Error)).unwrap();
        assert_eq!((down.service.as_deref(), down.good), (Some("web"), false));
        assert!(down.maintenance);
        let link = happening(&record(Kind::Interface, Severity::Info)).unwrap();
        assert_eq!((link.service, link.good, link.event), (None, true, AlertEvent::System));
    }

    #[test]
    fn alerts_are_not_about_alerts() {
        assert_eq!(happening(&record(Kind::Alert, Severity::Warning)), None);
        assert_eq!(happening(&record(Kind::Maintenance, Severity::Info)), None);
    }
}
