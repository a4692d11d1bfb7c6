//! Asks the network who else answers for the VIPs: a real server for direct routing that was not told
//! to keep quiet takes clients away from the director (the ARP problem).
//!
//! Questions are ARP probes (RFC 5227), which change no host's tables. Answers are heard by the packet
//! path, which sees all ARP.

use crate::host::Watch;
use crate::state::{ASKED_EACH_SECOND, ASKING_ROUND};
use crate::vrrp::interfaces::{self, Interface};
use crate::vrrp::socket::Frames;
use dataplane::table::Mac;
use dataplane::worker::Dataplane;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const BROADCAST: Mac = [0xff; 6];

/// Asks until the daemon ends. Without the right to send frames nothing is asked.
pub(crate) async fn run(dataplane: Arc<Dataplane>, host: Watch) {
    let frames = match Frames::open() {
        Ok(frames) => frames,
        Err(error) => {
            tracing::warn!(%error, "nobody can be asked who answers for virtual addresses");
            return;
        }
    };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut waiting: Vec<Ipv4Addr> = Vec::new();
    let mut rest = 0;
    loop {
        seconds.tick().await;
        if waiting.is_empty() && rest == 0 {
            waiting = owned(&dataplane);
            rest = if waiting.is_empty() { 0 } else { ASKING_ROUND.as_secs() };
        }
        rest = rest.saturating_sub(1);
        let some = waiting.split_off(waiting.len().saturating_sub(ASKED_EACH_SECOND));
        if !some.is_empty() {
            ask(&frames, &host, &some);
        }
    }
}

fn owned(dataplane: &Dataplane) -> Vec<Ipv4Addr> {
    let table = dataplane.director().table();
    let addresses = table.owned_addresses().filter_map(|owned| match owned.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    addresses.collect()
}

/// Asks on every Ethernet interface whose subnet an address belongs to.
fn ask(frames: &Frames, host: &Watch, addresses: &[Ipv4Addr]) {
    let picture = host.state();
    let Ok(interfaces) = interfaces::all() else { return };
    for (index, link) in picture.ethernet().filter(|(_, link)| link.up && link.carrier) {
        let own = picture.addresses.iter().filter(|address| address.link == index);
        let subnets: Vec<_> = own.map(|address| address.prefix).collect();
        let Some(interface) = interfaces.get(&link.name) else { continue };
        for address in addresses {
            if subnets.iter().any(|subnet| subnet.contains(&IpAddr::V4(*address))) {
                // An interface that goes away just now is asked on again when it is back.
                let _ = frames.send(interface, &question(interface, *address));
            }
        }
    }
}

/// "Who has this address?", asked by nobody (RFC 5227 section 2.1.1).
fn question(interface: &Interface, address: Ipv4Addr) -> [u8; 42] {
    let mac = interface.mac();
    let mut frame = [0; 42];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}
