//! Which interfaces are attached as which port.

use crate::host::{HostState, Link};
use crate::model::{AttachedBy, Document};
use dataplane::table::{Mac, PortId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A port that could not be attached is tried again after this.
pub const RETRY: Duration = Duration::from_secs(10);

/// All ports. A number stays with its interface as long as that is attached.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    places: Vec<Option<Place>>,
    /// Interface index of the link to the host's own stack, which is [`Ports::STACK`].
    stack: Option<u32>,
}

/// One port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The interface.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Which of those with this index it is.
    pub generation: u64,
    /// The backend that the document asks for.
    pub wanted: AttachedBy,
    /// Its Ethernet address: drivers are told which frames are for it.
    pub mac: Option<Mac>,
    /// Its MTU in bytes: buffers are made for it, so another one means opening it again.
    pub mtu: u32,
    /// Its receive queues, each of which may have a socket.
    pub queues: u32,
    /// Whether VLAN interfaces stand on it.
    pub vlans: bool,
    /// Whether it was switched on when last looked at.
    pub up: bool,
    /// What came of it.
    pub status: PortStatus,
}

/// What came of attaching.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortStatus {
    /// It is being opened.
    Opening,
    /// It works.
    Attached {
        /// What was chosen.
        backend: String,
        /// Why.
        reason: String,
        /// Why the host's stack sees the dataplane's frames as well, if it does.
        unguarded: Option<String>,
    },
    /// It does not.
    Failed {
        /// Why.
        reason: String,
        /// When it failed, on the engine's steady clock.
        since: Duration,
    },
}

/// What has to be done to have the ports that are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PortChanges {
    /// Close these.
    pub detach: Vec<PortId>,
    /// Open these.
    pub attach: Vec<(PortId, String, AttachedBy)>,
}

impl Ports {
    /// The port of the link to the host's own stack, which is always there.
    pub const STACK: PortId = PortId(0);

    /// Notes that the link to the host's own stack has this interface index.
    pub fn reserve(&mut self, index: u32) {
        if self.places.is_empty() {
            self.places.push(None);
        }
        self.stack = Some(index);
    }

    /// Compares what is there with what the document and the host ask for, and takes note of it.
    pub fn arrange(&mut self, document: &Document, host: &HostState, now: Duration) -> PortChanges {
        let mut wanted = wanted(document, host);
        if let Some(index) = self.stack {
            wanted.remove(&index);
        }
        let mut changes = PortChanges::default();
        for (id, place) in numbered(&mut self.places) {
            let Some(port) = place else { continue };
            let Some(found) = wanted.get(&port.index).filter(|wanted| wanted.is(port)) else {
                changes.detach.push(id);
                *place = None;
                continue;
            };
            let came_up = found.up && !std::mem::replace(&mut port.up, found.up);
            if port.status.is_due(now) || came_up && port.status.has_failed() {
                port.status = PortStatus::Opening;
                changes.attach.push((id, port.name.clone(), port.wanted));
            }
        }
        for (index, wanted) in wanted {
            if !self.places.iter().flatten().any(|port| port.index == index) {
                let (name, backend) = (wanted.name.clone(), wanted.backend);
                changes.attach.push((self.take_free(wanted.place(index)), name, backend));
            }
        }
        changes
    }

    fn take_free(&mut self, place: Place) -> PortId {
        let reserved = self.stack.map(|_| usize::from(Self::STACK.0));
        let free = self.places.iter().enumerate();
        let free = free.filter(|(at, place)| place.is_none() && Some(*at) != reserved);
        let free = free.map(|(at, _)| at).next();
        let at = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        if let Some(slot) = self.places.get_mut(at) {
            *slot = Some(place);
        }
        PortId(u16::try_from(at).unwrap_or(u16::MAX))
    }

    /// Notes what came of opening a port.
    pub fn set_status(&mut self, id: PortId, status: PortStatus) -> Option<&Place> {
        let place = self.places.get_mut(usize::from(id.0))?.as_mut()?;
        place.status = status;
        Some(place)
    }

    /// A port.
    pub fn get(&self, id: PortId) -> Option<&Place> {
        self.places.get(usize::from(id.0))?.as_ref()
    }

    /// Every port with its number.
    pub fn all(&self) -> impl Iterator<Item = (PortId, &Place)> {
        let numbered = self.places.iter().enumerate();
        numbered.filter_map(|(at, place)| Some((PortId(u16::try_from(at).ok()?), place.as_ref()?)))
    }

    /// The attached ports by interface index, with the link to the host's own stack.
    pub fn by_index(&self) -> BTreeMap<u32, PortId> {
        let attached =
            self.all().filter(|(_, place)| matches!(place.status, PortStatus::Attached { .. }));
        let stack = self.stack.map(|index| (index, Self::STACK));
        attached.map(|(id, place)| (place.index, id)).chain(stack).collect()
    }

    /// Whether some port waits for being tried again.
    pub fn has_failed(&self) -> bool {
        self.all().any(|(_, place)| place.status.has_failed())
    }
}

impl PortStatus {
    const fn has_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    fn is_due(&self, now: Duration) -> bool {
        match self {
            Self::Failed { since, .. } => now >= *since + RETRY,
            Self::Opening | Self::Attached { .. } => false,
        }
    }
}

fn numbered(places: &mut [Option<Place>]) -> impl Iterator<Item = (PortId, &mut Option<Place>)> {
    let all = places.iter_mut().enumerate();
    all.filter_map(|(at, place)| Some((PortId(u16::try_from(at).ok()?), place)))
}

/// How an interface should be attached.
struct Wanted {
    name: String,
    generation: u64,
    backend: AttachedBy,
    mac: Option<Mac>,
    mtu: u32,
    queues: u32,
    vlans: bool,
    up: bool,
}

impl Wanted {
    /// Whether a port is like that already.
    fn is(&self, port: &Place) -> bool {
        (&self.name, self.generation, self.backend) == (&port.name, port.generation, port.wanted)
            && (self.mac, self.mtu) == (port.mac, port.mtu)
            && (self.queues, self.vlans) == (port.queues, port.vlans)
    }

    /// A port that is to be like that.
    fn place(self, index: u32) -> Place {
        let Self { name, generation, backend: wanted, mac, mtu, queues, vlans, up } = self;
        let status = PortStatus::Opening;
        Place { name, index, generation, wanted, mac, mtu, queues, vlans, up, status }
    }
}

/// The interfaces to attach, by index. A document that names none means every Ethernet interface.
fn wanted(document: &Document, host: &HostState) -> BTreeMap<u32, Wanted> {
    let attached = |link: &Link, backend| {
        let Link { generation, mac, mtu, queues, vlans, up, .. } = *link;
        Wanted { name: link.name.clone(), generation, backend, mac, mtu, queues, vlans, up }
    };
    if document.interfaces.is_empty() {
        let all = host.ethernet();
        return all.map(|(index, link)| (index, attached(link, AttachedBy::Auto))).collect();
    }
    let named = document.interfaces.iter().filter_map(|interface| {
        let index = host.link_named(&interface.name)?;
        Some((index, attached(host.links.get(&index)?, interface.backend)))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Interface;

    fn host(links: &[(u32, &str)]) -> HostState {
        let link = |name: &str| Link {
            name: name.into(),
            mac: (name != "lo").then_some([2; 6]),
            mtu: 1500,
            controller: (name == "slave0").then_some(9),
            queues: 1,
            vlans: false,
            generation: 0,
            loopback: name == "lo",
            up: true,
            carrier: true,
            ignored_without_carrier: [false; 2],
            vrf: None,
        };
        let links = links.iter().map(|(index, name)| (*index, link(name))).collect();
        HostState { links, ..HostState::default() }
    }

    fn interface(name: &str) -> Interface {
        Interface { name: name.into(), backend: AttachedBy::Ring }
    }

    #[test]
    fn without_interfaces_every_ethernet_one_is_attached() {
        let mut ports = Ports::default();
        let host = host(&[(1, "lo"), (2, "eth0"), (5, "eth1"), (6, "slave0")]);
        let changes = ports.arrange(&Document::default(), &host, Duration::ZERO);
        let names: Vec<_> = changes.attach.iter().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        let again = ports.arrange(&Document::default(), &host, Duration::ZERO);
        assert_eq!(again, PortChanges::default(), "nothing is opened twice");
    }

    #[test]
    fn a_number_stays_with_its_interface() {
        let mut ports = Ports::default();
        let mut document =
            Document { interfaces: vec![interface("a"), interface("b")], ..Document::default() };
        ports.arrange(&document, &host(&[(2, "a"), (3, "b")]), Duration::ZERO);
        let b = ports.all().find(|(_, place)| place.name == "b").map(|(id, _)| id);
        document.interfaces.remove(0);
        let changes = ports.arrange(&document, &host(&[(2, "a"), (3, "b")]), Duration::ZERO);
        assert_eq!(changes.detach, [PortId(0)]);
        assert_eq!(ports.all().map(|(id, _)| Some(id)).collect::<Vec<_>>(), [b]);
        document.interfaces.push(interface("c"));
        let changes = ports.arrange(&document, &host(&[(3, "b"), (4, "c")]), Duration::ZERO);
        assert_eq!(changes.attach, [(PortId(0), "c".into(), AttachedBy::Ring)]);
    }

    #[test]
    fn an_interface_made_anew_is_attached_anew() {
        let mut ports = Ports::default();
        let document = Document { interfaces: vec![interface("a")], ..Document::default() };
        ports.arrange(&document, &host(&[(2, "a")]), Duration::ZERO);
        assert_eq!(ports.arrange(&document, &host(&[]), Duration::ZERO).detach, [PortId(0)]);
        let changes = ports.arrange(&document, &host(&[(7, "a")]), Duration::ZERO);
        assert_eq!(changes.attach.len(), 1);
        assert_eq!(ports.get(PortId(0)).map(|place| place.index), Some(7));
    }

    #[test]
    fn an_interface_that_is_another_one_or_has_another_mac_mtu_queues_or_vlans_is_opened_again() {
        let mut ports = Ports::default();
        let document = Document { interfaces: vec![interface("a")], ..Document::default() };
        let mut host = host(&[(2, "a")]);
        ports.arrange(&document, &host, Duration::ZERO);
        for change in [
            |link: &mut Link| link.mtu = 9000,
            |link: &mut Link| link.queues = 4,
            |link: &mut Link| link.vlans = true,
            |link: &mut Link| link.generation = 1,
            |link: &mut Link| link.mac = Some([4; 6]),
        ] {
            change(host.links.get_mut(&2).unwrap());
            let changes = ports.arrange(&document, &host, Duration::ZERO);
            assert_eq!(changes.detach, [PortId(0)]);
            assert_eq!(changes.attach, [(PortId(0), "a".into(), AttachedBy::Ring)]);
            assert_eq!(ports.arrange(&document, &host, Duration::ZERO), PortChanges::default());
        }
    }

    #[test]
    fn the_link_to_the_host_is_no_interface_to_attach() {
        let mut ports = Ports::default();
        ports.reserve(9);
        let host = host(&[(2, "eth0"), (9, "viaduct0")]);
        let changes = ports.arrange(&Document::default(), &host, Duration::ZERO);
        assert_eq!(changes.attach, [(PortId(1), "eth0".into(), AttachedBy::Auto)]);
        assert_eq!(ports.by_index(), [(9, Ports::STACK)].into());
    }

    #[test]
    fn a_port_that_failed_is_tried_again_at_once_when_its_interface_is_switched_on() {
        let mut ports = Ports::default();
        let document = Document { interfaces: vec![interface("a")], ..Document::default() };
        let mut host = host(&[(2, "a")]);
        let mut up = |up, ports: &mut Ports| {
            host.links.get_mut(&2).unwrap().up = up;
            ports.arrange(&document, &host, Duration::ZERO).attach.len()
        };
        assert_eq!(up(false, &mut ports), 1);
        let failed = PortStatus::Failed { reason: "down".into(), since: Duration::ZERO };
        ports.set_status(PortId(0), failed);
        assert_eq!(up(false, &mut ports), 0);
        assert_eq!(up(true, &mut ports), 1);
        assert_eq!(up(true, &mut ports), 0, "nothing is opened twice");
    }

    #[test]
    fn a_failed_port_is_tried_again_later() {
        let mut ports = Ports::default();
        let document = Document { interfaces: vec![interface("a")], ..Document::default() };
        let host = host(&[(2, "a")]);
        ports.arrange(&document, &host, Duration::ZERO);
        let since = Duration::from_secs(5);
        ports.set_status(PortId(0), PortStatus::Failed { reason: "no".into(), since });
        assert!(ports.by_index().is_empty());
        assert_eq!(ports.arrange(&document, &host, since), PortChanges::default());
        assert_eq!(ports.arrange(&document, &host, since + RETRY).attach.len(), 1);
    }
}
