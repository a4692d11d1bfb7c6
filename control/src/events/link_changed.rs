//! The host's links, addresses, routes or neighbours changed, or a port did.

use super::{Kind, Senses, Severity};
use crate::host::{HostState, NeighbourState, stack};
use crate::state::{Action, Moment, PortStatus, Ports, State};
use dataplane::table::{Mac, PortId};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// What netlink and the packet path say of the host and its ports.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum HostEvent {
    /// Links, addresses, routes or neighbours changed.
    Changed(Arc<HostState>),
    /// A port was opened, or could not be.
    PortOpened { port: PortId, status: PortStatus },
    /// The attachment `edition` of a port failed while it was in use.
    PortLost { port: PortId, edition: u64 },
    /// A packet waits for the MAC of this neighbour.
    NeighbourNeeded { port: PortId, address: IpAddr },
    /// A neighbour answered the packet path.
    NeighbourSeen { port: PortId, address: IpAddr, mac: Mac },
}

pub(super) fn decide(
    state: &mut State,
    event: HostEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let now = senses.now;
    match event {
        HostEvent::Changed(picture) => host(state, picture, now, out),
        HostEvent::PortOpened { port, status } => opened(state, port, status, now, out),
        // One that was attached anew meanwhile is another one.
        HostEvent::PortLost { port, edition } if senses.packets.is_current(port, edition) => {
            lost(state, port, now, out);
        }
        HostEvent::PortLost { .. } => {}
        HostEvent::NeighbourNeeded { port, address } => needed(state, port, address, out),
        HostEvent::NeighbourSeen { port, address, mac } => seen(state, port, address, mac, out),
    }
}

fn host(state: &mut State, host: Arc<HostState>, now: Moment, out: &mut Vec<Action>) {
    let before = std::mem::replace(&mut state.host, host);
    arrange(state, now, out);
    // Neighbours alone change what packets look up, but not whose packets are whose.
    if before.addresses != state.host.addresses || before.links != state.host.links {
        state.steer(out);
        refresh_neighbours(state, out);
    }
    let pools = state.running.services.iter().any(|service| !service.source_pool.is_empty());
    if before.addresses != state.host.addresses && pools {
        state.republish(out);
    }
    if before.addresses != state.host.addresses || before.routing != state.host.routing {
        state.lead_host(out);
    }
    put_back(state, &before, now, out);
    state.republish_hops(out);
}

/// Says that somebody removed routes by which the host reaches VIPs; they are put back at once.
fn put_back(state: &mut State, before: &HostState, now: Moment, out: &mut Vec<Action>) {
    if Arc::ptr_eq(&before.led, &state.host.led) {
        return;
    }
    let wanted = state.routes_to_vips();
    let lost = before.led.difference(&state.host.led);
    let lost: Vec<IpAddr> = lost.filter(|address| wanted.contains_key(*address)).copied().collect();
    let Some(first) = lost.first() else { return };
    let more = match lost.len() - 1 {
        0 => String::new(),
        more => format!(" and to {more} others"),
    };
    let text = format!("somebody removed the host's route to {first}{more}; it is put back");
    state.record(now, (Severity::Warning, Kind::Interface), stack::NAME, text, out);
}

/// Opens and closes ports as the document and the host want it.
pub(super) fn arrange(state: &mut State, now: Moment, out: &mut Vec<Action>) {
    if state.stopping {
        return;
    }
    let changes = state.ports.arrange(&state.running, &state.host, now.steady);
    for port in &changes.detach {
        out.push(Action::Detach(*port));
        state.heard.retain(|(of, _), _| of != port);
    }
    let closed = !changes.detach.is_empty();
    for (port, name, backend) in changes.attach {
        out.push(Action::Attach { port, name, backend });
    }
    if closed {
        state.republish_hops(out);
    }
}

fn opened(state: &mut State, port: PortId, status: PortStatus, now: Moment, out: &mut Vec<Action>) {
    let before = state.ports.get(port).map(|place| place.status.clone());
    let Some(place) = state.ports.set_status(port, status) else { return };
    let name = place.name.clone();
    let (severity, text) = match &place.status {
        PortStatus::Opening => return,
        PortStatus::Attached { backend, reason, unguarded: None } => {
            (Severity::Info, format!("attached by {backend}: {reason}"))
        }
        PortStatus::Attached { backend, unguarded: Some(why), .. } => (
            Severity::Warning,
            format!("attached by {backend}, but the host sees the same packets: {why}"),
        ),
        PortStatus::Failed { reason, .. } => {
            (Severity::Error, format!("cannot be attached: {reason}"))
        }
    };
    // A port that fails again for the same reason is no news.
    let again = match (&before, &place.status) {
        (Some(PortStatus::Failed { reason: old, .. }), PortStatus::Failed { reason: new, .. }) => {
            old == new
        }
        (_, _) => false,
    };
    if !again {
        state.record(now, (severity, Kind::Interface), name, text, out);
    }
    state.republish_hops(out);
    state.steer(out);
}

fn lost(state: &mut State, port: PortId, now: Moment, out: &mut Vec<Action>) {
    if port == Ports::STACK && state.stack.take().is_some() {
        let text = "was removed: clients and real servers on the director itself do not work until \
                    a restart";
        out.push(Action::Detach(port));
        state.record(now, (Severity::Error, Kind::Interface), stack::NAME, text, out);
        return state.republish_hops(out);
    }
    let reason = "it was lost".to_owned();
    let status = PortStatus::Failed { reason, since: now.steady };
    out.push(Action::Detach(port));
    opened(state, port, status, now, out);
}

fn needed(state: &State, port: PortId, address: IpAddr, out: &mut Vec<Action>) {
    if let Some(place) = state.ports.get(port) {
        out.push(Action::Resolve { link: place.index, address });
    }
}

fn seen(state: &mut State, port: PortId, address: IpAddr, mac: Mac, out: &mut Vec<Action>) {
    if state.ports.get(port).is_some() && state.heard.insert((port, address), mac) != Some(mac) {
        state.republish_hops(out);
    }
}

/// The kernel confirms only what it uses itself, so it is told to look for the neighbours that real
/// servers and routers are reached by ahead of the first packet, and before they are stale for good.
pub(super) fn refresh_neighbours(state: &State, out: &mut Vec<Action>) {
    let ports = state.ports.by_index();
    for (link, address) in used_neighbours(state) {
        let Some(port) = ports.get(&link) else { continue };
        let is_fresh = match state.host.neighbours.get(&(link, address)) {
            Some(neighbour) => neighbour.state == NeighbourState::Fresh,
            None => state.heard.contains_key(&(*port, address)),
        };
        if !is_fresh {
            out.push(Action::Resolve { link, address });
        }
    }
}

/// The neighbours that packets to real servers and to clients behind routers go by. A backup knows
/// them too, though its table has no real servers: at a take-over nothing is to wait for an answer.
fn used_neighbours(state: &State) -> BTreeSet<(u32, IpAddr)> {
    let host = &state.host;
    let hops = host.routing.targets.iter().flat_map(|target| target.hops());
    let routers = hops.filter_map(|hop| Some((hop.link, hop.via?)));
    let wanted = state.running.services.iter().flat_map(|service| &service.reals);
    let wanted = wanted.map(|real| real.address.ip());
    // Sorry servers and the like are only there.
    let running = state.generation.table.reals().map(|(_, real)| real.address);
    let reals = wanted.chain(running).filter_map(|address| host.neighbour_for(&address));
    let stack = state.stack.map(|stack| stack.index);
    routers.chain(reals).filter(|(link, _)| Some(*link) != stack).collect()
}
