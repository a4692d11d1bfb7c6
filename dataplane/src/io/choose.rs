//! Attaching to an interface: which backend, and why.

use super::{Port, link, ring};
use crate::table::PortId;
use nix::net::if_::if_nametoindex;
use std::fmt;
use std::io;

/// How frames get in and out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backend {
    /// Packet sockets with a shared ring and virtio-net headers.
    Ring,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "packet ring",
        })
    }
}

/// What to attach to.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// The interface's name.
    pub interface: &'a str,
    /// What its frames are marked with.
    pub port: PortId,
    /// The backend to use; `None` for the fastest that works.
    pub backend: Option<Backend>,
    /// How many workers share the interface's flows, at least 1.
    pub workers: usize,
}

/// An attached interface, as control holds it. Dropping it detaches.
#[derive(Debug)]
pub struct Attachment {
    /// The kernel's interface index.
    pub index: u32,
    /// What was chosen.
    pub backend: Backend,
    /// Why, in one sentence for the operator.
    pub reason: String,
}

/// Why an interface cannot be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("no interface named {0}")]
    NoInterface(String),
    /// The kernel refuses.
    #[error("cannot open {backend} on {interface}")]
    Refused {
        /// The interface.
        interface: String,
        /// What was tried.
        backend: Backend,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Attaches to an interface and returns one port for each worker.
///
/// # Errors
/// When there is no such interface or no backend works on it.
pub fn attach(request: &Attach<'_>) -> Result<(Attachment, Vec<Port>), AttachError> {
    let interface = request.interface.to_owned();
    let index = if_nametoindex(request.interface)
        .map_err(|_| AttachError::NoInterface(interface.clone()))?;
    let backend = request.backend.unwrap_or(Backend::Ring);
    let ports = match backend {
        Backend::Ring => link::mtu(&interface)
            .and_then(|mtu| ring::open(index, request.port, mtu, request.workers.max(1))),
    };
    let ports = ports.map_err(|source| AttachError::Refused { interface, backend, source })?;
    let reason = "packet sockets work on every interface and keep offloads".to_owned();
    Ok((Attachment { index, backend, reason }, ports))
}
