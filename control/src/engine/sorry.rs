//! Between the engine and the sorry pages: they follow the running document.

use super::Message;
use crate::events::{Event, Severity};
use crate::model::Document;
use crate::sorry_page::SorryPages;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Follows the document until the engine ends.
pub(super) async fn run(
    mut document: watch::Receiver<Arc<Document>>,
    inbox: mpsc::Sender<Message>,
) {
    let mut pages = SorryPages::default();
    let mut told = BTreeMap::new();
    loop {
        let current = Arc::clone(&document.borrow_and_update());
        let (places, troubles) = pages.follow(&current).await;
        let mut events = Vec::new();
        if places != told {
            told.clone_from(&places);
            events.push(Event::SorryPagesOpened(places));
        }
        let notice = |text| Event::Noticed { severity: Severity::Error, text };
        events.extend(troubles.into_iter().map(notice));
        for event in events {
            if inbox.send(Message::Event(event)).await.is_err() {
                return;
            }
        }
        if document.changed().await.is_err() {
            return;
        }
    }
}
