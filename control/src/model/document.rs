//! The document itself and the parts that are not services, checks or redundancy.

use super::{
    Alert, Peer, Problem, Service, TimeKeeping, TrackScript, VirtualAddress, VrrpInstance,
};
use dataplane::table::Tunables;
use std::sync::Arc;
use std::time::Duration;

/// The whole configuration of one director.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Document {
    /// This director.
    pub node: Node,
    /// Interfaces that carry service traffic; none means every Ethernet interface but loopback.
    pub interfaces: Vec<Interface>,
    /// Virtual services, in the order of the text; of mark services, the first whose rule matches
    /// a packet marks it. Shared with the document's other revisions as long as they are equal.
    pub services: Vec<Arc<Service>>,
    /// VRRP instances.
    pub vrrp: Vec<VrrpInstance>,
    /// Scripts whose result VRRP instances track.
    pub track_scripts: Vec<TrackScript>,
    /// The other director.
    pub peer: Option<Peer>,
    /// Clock supervision.
    pub time: TimeKeeping,
    /// Who is told about what.
    pub alerts: Vec<Alert>,
    /// Connection timeouts.
    pub timeouts: Timeouts,
    /// IPVS's switches.
    pub tunables: Tunables,
}

/// This director.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// Its name in events, alerts and the console; the host's name when absent.
    pub name: Option<String>,
    /// Whether a changed configuration file is applied by itself.
    pub autoreload: bool,
    /// Connections that the table can hold; the dataplane chooses when absent. Read at start only.
    pub connections: Option<u64>,
    /// Packet threads; the dataplane chooses when absent. Read at start only.
    pub workers: Option<u16>,
}

/// One interface that carries service traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's name for it.
    pub name: String,
    /// How its frames are read and written.
    pub backend: AttachedBy,
}

/// How an interface's frames are read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachedBy {
    /// The fastest that works.
    #[default]
    Auto,
    /// XDP socket.
    Xdp,
    /// XDP socket whose driver is asked for frames by the worker.
    XdpBusyPoll,
    /// Packet ring with virtio-net headers.
    Ring,
    /// pnet's channel.
    Pnet,
}

/// Connection timeouts that `ipvsadm --set` changes. Whole seconds, 1 s to 31 days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: Duration,
    /// TCP FIN_WAIT.
    pub tcp_fin: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

impl Document {
    /// Reads and validates a document. `file` is what problems name as their place.
    ///
    /// # Errors
    /// Every problem of the text, in the order of their positions.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        Self::review(text, file).map(|(document, _)| document)
    }

    /// Like [`Document::parse`], and says what is valid but has no effect, or not the one that it seems to
    /// have.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn review(text: &str, file: &str) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        super::decode::document(text, file)
    }

    /// The document as TOML, in a stable order; reading it back gives an equal document.
    pub fn to_toml(&self) -> String {
        super::encode::document(self)
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The service with this virtual address, which is unique.
    pub fn service_at(&self, address: &VirtualAddress) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.address == *address)
    }

    /// The service with this virtual address, to be changed.
    pub fn service_at_mut(&mut self, address: &VirtualAddress) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| service.address == *address).map(Arc::make_mut)
    }
}
