//! Between the engine and the sorry pages: they follow the running document and the host's addresses.

use crate::events::Event;
use crate::host::{HostState, Watch};
use crate::inbox::Message;
use crate::model::Document;
use crate::record::{Kind, Severity};
use crate::sorry_page::SorryPages;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Follows the document until the engine ends.
pub(crate) async fn run(
    mut document: watch::Receiver<Arc<Document>>,
    mut host: Watch,
    inbox: mpsc::Sender<Message>,
) {
    let mut pages = SorryPages::default();
    let (mut told, mut complained) = (BTreeMap::new(), Vec::new());
    loop {
        let current = Arc::clone(&document.borrow_and_update());
        let (places, troubles) = pages.follow(&current, global(&host.state(), &current)).await;
        let mut events = Vec::new();
        if places != told {
            told.clone_from(&places);
            events.push(Event::SorryPagesOpened(places));
        }
        let notice = |text| Event::Noticed { kind: Kind::System, severity: Severity::Error, text };
        if troubles != complained {
            complained.clone_from(&troubles);
            events.extend(troubles.into_iter().map(notice));
        }
        for event in events {
            if inbox.send(Message::Event(event)).await.is_err() {
                return;
            }
        }
        let going = tokio::select! {
            changed = document.changed() => changed.is_ok(),
            changed = host.changed() => changed.is_ok(),
        };
        if !going {
            return;
        }
    }
}

/// An IPv6 address of this host that is neither link-local nor a VIP.
fn global(host: &HostState, document: &Document) -> Option<Ipv6Addr> {
    let is_vip = |address: &Ipv6Addr| {
        let vips = document.services.iter().filter_map(|service| service.address.ip());
        vips.into_iter().any(|vip| vip == IpAddr::V6(*address))
    };
    let usable = |address: &Ipv6Addr| {
        !address.is_loopback() && !address.is_unicast_link_local() && !is_vip(address)
    };
    let addresses = host.addresses.iter().filter_map(|address| match address.prefix.address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    });
    addresses.into_iter().find(usable)
}
