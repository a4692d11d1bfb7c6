//! Between the engine and the clocks: which are compared follows the running document, and what is
//! found becomes events.

use crate::compile::RealKey;
use crate::events::{Event, RealEvent};
use crate::inbox::Message;
use crate::model::Document;
use crate::record::Kind;
use crate::tasks::Replication;
use crate::time::{Clock, Notice, TimeKeeper};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two readings of the other director's clock.
const PEER_EVERY: Duration = Duration::from_secs(2);

/// Follows the document until the engine ends.
pub(crate) async fn run(
    keeper: TimeKeeper,
    replication: Replication,
    mut notices: mpsc::Receiver<Notice>,
    mut document: watch::Receiver<Arc<Document>>,
    inbox: mpsc::Sender<Message>,
) {
    let mut peer = tokio::time::interval(PEER_EVERY);
    peer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let current = Arc::clone(&document.borrow_and_update());
        keeper.configure(current.time.clone(), reals(&current)).await;
        loop {
            tokio::select! {
                changed = document.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = peer.tick() => keeper.peer_reading(replication.peer_clock()),
                notice = notices.recv() => {
                    let Some(notice) = notice else { return };
                    if inbox.send(Message::Event(event(notice))).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn reals(document: &Document) -> BTreeMap<RealKey, String> {
    let of_service = |service: &Arc<crate::model::Service>| {
        let (address, name) = (service.address, service.name.clone());
        let reals = service.reals.iter().map(move |real| ((address, real.address), name.clone()));
        reals.collect::<Vec<_>>()
    };
    document.services.iter().flat_map(of_service).collect()
}

fn event(Notice { clock, severity, text }: Notice) -> Event {
    match clock {
        Clock::Real(real) => {
            Event::Real(RealEvent::Noticed { real, kind: Kind::Clock, severity, text })
        }
        Clock::Node | Clock::Server(_) | Clock::Peer => {
            Event::Noticed { kind: Kind::Clock, severity, text }
        }
    }
}
