//! Interfaces, attached and not.

use crate::host::stack;
use crate::state::Packets;
use crate::state::{PortStatus, State};
use dataplane::io::xdp::Buffers;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One interface that is attached, or should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// The kernel's index; absent when there is no such interface.
    pub index: Option<u32>,
    /// `attached`, `failed`, `opening` or `missing`.
    pub status: String,
    /// How frames are read and written.
    pub backend: Option<String>,
    /// Why it is so.
    pub reason: Option<String>,
    /// Why the host sees the dataplane's packets as well, if it does.
    pub unguarded: Option<String>,
    /// Ethernet address, as usually written.
    pub mac: Option<String>,
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether the other end is there.
    pub carrier: bool,
    /// The host's addresses on it.
    pub addresses: Vec<IpAddr>,
    /// Frame buffers of its XDP sockets, if it has those.
    pub buffers: Option<BuffersView>,
}

/// Frame buffers of an interface's XDP sockets, in a memory that interfaces of the same worker share.
/// None is lost while what is free, what rests, and what all of these interfaces hold make up all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BuffersView {
    /// Held by the interface's sockets: 2,048 for each queue, and those with frames to send.
    pub held: usize,
    /// Free, in all of the memory.
    pub free: usize,
    /// Of sockets closed in the last two seconds, in all of the memory.
    pub resting: usize,
    /// In all of the memory.
    pub all: usize,
}

impl From<Buffers> for BuffersView {
    fn from(Buffers { held, free, resting, all }: Buffers) -> Self {
        Self { held, free, resting, all }
    }
}

impl InterfaceView {
    /// Every interface that is attached or asked for.
    pub fn all(state: &State, packets: &dyn Packets) -> Vec<Self> {
        let mut views: Vec<Self> = state
            .ports
            .all()
            .map(|(port, place)| {
                let mut view = Self::named(state, &place.name, Some(place.index));
                view.buffers = packets.buffers(port).map(BuffersView::from);
                match &place.status {
                    PortStatus::Opening => view.status = "opening".to_owned(),
                    PortStatus::Attached { backend, reason, unguarded } => {
                        view.status = "attached".to_owned();
                        view.backend = Some(backend.clone());
                        view.reason = Some(reason.clone());
                        view.unguarded = unguarded.clone();
                    }
                    PortStatus::Failed { reason, .. } => {
                        view.status = "failed".to_owned();
                        view.reason = Some(reason.clone());
                    }
                }
                view
            })
            .collect();
        if let Some(stack) = &state.stack {
            let mut view = Self::named(state, stack::NAME, Some(stack.index));
            view.status = "attached".to_owned();
            view.backend = Some("tap".to_owned());
            view.reason = Some("made by the daemon: carries packets of local processes".to_owned());
            views.push(view);
        }
        for interface in &state.running.interfaces {
            if !views.iter().any(|view| view.name == interface.name) {
                views.push(Self::named(state, &interface.name, None));
            }
        }
        views
    }

    fn named(state: &State, name: &str, index: Option<u32>) -> Self {
        let link = index.and_then(|index| state.host.links.get(&index));
        let own = state.host.addresses.iter().filter(|address| Some(address.link) == index);
        Self {
            name: name.to_owned(),
            index,
            status: "missing".to_owned(),
            backend: None,
            reason: None,
            unguarded: None,
            mac: link.and_then(|link| link.mac).map(|mac| {
                let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
                bytes.join(":")
            }),
            mtu: link.map(|link| link.mtu),
            up: link.is_some_and(|link| link.up),
            carrier: link.is_some_and(|link| link.carrier),
            addresses: own.map(|address| address.prefix.address).collect(),
            buffers: None,
        }
    }
}
