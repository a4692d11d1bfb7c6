//! Attaching to an interface: which backend, and why.

use super::steer::{Guard, Steering};
use super::xdp::{self, Redirection};
use super::{Port, Unreachable, link, pnet, ring};
use crate::table::{Mac, PortId};
use nix::net::if_::if_nametoindex;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::Ipv6Addr;

/// How frames get in and out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backend {
    /// Packet sockets with a shared ring and virtio-net headers.
    Ring,
    /// XDP sockets, with the driver's support.
    Xdp,
    /// The same, with the worker asking the driver for frames when none wait, instead of leaving
    /// that to interrupts alone. Only when asked for: it helps where interrupts are dear.
    XdpBusyPoll,
    /// XDP sockets without it: slower, and super-frames are lost. Only when asked for.
    XdpGeneric,
    /// pnet's datalink channel: one worker receives, no offloads, slow; the last resort.
    Pnet,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "packet ring",
            Self::Xdp => "XDP sockets",
            Self::XdpBusyPoll => "busy-polled XDP sockets",
            Self::XdpGeneric => "generic XDP sockets",
            Self::Pnet => "pnet channel",
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
    /// The backend to use; `None` for the fastest that works. Where XDP sockets do not work, the
    /// packet ring is used instead, and [`Attachment::reason`] says so.
    pub backend: Option<Backend>,
    /// How many workers share the interface's flows, at least 1.
    pub workers: usize,
    /// What decides which frames are the dataplane's; `None` shows it all frames, and the host too.
    pub steering: Option<&'a Steering>,
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
    /// What keeps the host's stack from seeing the dataplane's frames, or why nothing does.
    pub guard: Result<Guard, String>,
    memberships: ring::Memberships,
    _redirection: Option<Redirection>,
}

impl Attachment {
    /// Detaches, but goes on to keep the dataplane's frames from the host for as long as the guard is
    /// held: until the interface is attached again, say.
    pub fn into_guard(self) -> Option<Guard> {
        self.guard.ok()
    }

    /// Lets the interface receive frames for these Ethernet addresses, too: VRRP's virtual ones, and
    /// groups. Replaces the last list.
    ///
    /// # Errors
    /// When the interface is gone or takes no more addresses.
    pub fn listen(&mut self, addresses: &BTreeSet<Mac>) -> io::Result<()> {
        self.memberships.replace(addresses)
    }

    /// Lets the interface receive neighbour solicitations for these addresses. Replaces the last
    /// list.
    ///
    /// # Errors
    /// When the interface is gone or takes no more groups.
    pub fn listen_for_solicitations(&mut self, owned: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        self.memberships.replace_solicited(owned)
    }
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

/// Attaches to an interface and returns a port for each worker.
///
/// # Errors
/// When there is no such interface or no backend works on it.
pub fn attach(request: &Attach<'_>) -> Result<(Attachment, Vec<Port>), AttachError> {
    let interface = request.interface.to_owned();
    let index = if_nametoindex(request.interface)
        .map_err(|_| AttachError::NoInterface(interface.clone()))?;
    // Guarded before opened: what arrives meanwhile is lost, which clients survive, instead of
    // answered by the host with a reset.
    let guard = match request.steering {
        Some(steering) => steering.guard(index).map_err(|error| describe(&error)),
        None => Err("steering is off".to_owned()),
    };
    let refused = |backend, source| AttachError::Refused { interface, backend, source };
    let opened = open(request, index, &guard).map_err(|(b, e)| refused(b, e))?;
    let Opened { backend, reason, mut ports, redirection } = opened;
    let memberships = ring::Memberships::open(index).map_err(|e| AttachError::Refused {
        interface: request.interface.to_owned(),
        backend,
        source: e,
    })?;
    for port in &mut ports {
        port.withheld = guard.is_ok();
        if guard.is_err() {
            port.host = Box::new(Unreachable);
        }
    }
    let attachment =
        Attachment { index, backend, reason, guard, memberships, _redirection: redirection };
    Ok((attachment, ports))
}

struct Opened {
    backend: Backend,
    reason: String,
    ports: Vec<Port>,
    redirection: Option<Redirection>,
}

type Guarded = Result<Guard, String>;

/// Tries what was asked for, or one backend after the other. An interface that cannot have the XDP
/// sockets that it should have is better served another way than not at all.
fn open(request: &Attach<'_>, index: u32, guard: &Guarded) -> Result<Opened, (Backend, io::Error)> {
    let before = match request.backend {
        Some(backend @ (Backend::Ring | Backend::Pnet)) => {
            return open_as(backend, request, index, guard).map_err(|error| (backend, error));
        }
        Some(backend @ (Backend::Xdp | Backend::XdpBusyPoll | Backend::XdpGeneric)) => {
            match open_as(backend, request, index, guard) {
                Ok(opened) => return Ok(opened),
                Err(error) => format!("not {backend} as configured: {}", describe(&error)),
            }
        }
        None if link::is_virtual(request.interface) => {
            "a virtual interface: segmentation offload (TSO) goes on only with packet sockets"
                .to_owned()
        }
        None => match open_as(Backend::Xdp, request, index, guard) {
            Ok(opened) => return Ok(opened),
            Err(error) => format!("no XDP sockets: {}", describe(&error)),
        },
    };
    let error = match open_as(Backend::Ring, request, index, guard) {
        Ok(opened) => return Ok(Opened { reason: before, ..opened }),
        Err(error) => error,
    };
    if !link::is_up(request.interface).unwrap_or(true) {
        // Before Linux 6.13 workers cannot share a packet ring then. A slower backend would stay.
        let text = format!("the interface is down: {error}");
        return Err((Backend::Ring, io::Error::new(io::ErrorKind::NetworkDown, text)));
    }
    let reason = format!("{before}; no packet ring: {}", describe(&error));
    match open_as(Backend::Pnet, request, index, guard) {
        Ok(opened) => Ok(Opened { reason, ..opened }),
        // What the better backend lacked is what the operator should hear of.
        Err(_) => Err((Backend::Ring, error)),
    }
}

fn open_as(
    backend: Backend,
    request: &Attach<'_>,
    index: u32,
    guard: &Guarded,
) -> io::Result<Opened> {
    let Attach { interface, port, steering, .. } = *request;
    link::mac(interface)?;
    let mtu = link::mtu(interface)?;
    let mut reason = "as configured".to_owned();
    let mut redirection = None;
    let ports = match backend {
        Backend::Ring => ring::open(index, port, mtu, request.workers.max(1), steering)?,
        Backend::Pnet => pnet::open(interface, index, port, mtu, request.workers.max(1), steering)?,
        Backend::Xdp | Backend::XdpBusyPoll | Backend::XdpGeneric => {
            let opened = open_xdp(backend, request, index, guard)?;
            let carried = match opened.mode {
                xdp::Mode::ZeroCopy => "without copying",
                xdp::Mode::Copy => "copied by the kernel",
            };
            let queues = if opened.queues == 1 { "queue" } else { "queues" };
            reason = format!("{} {queues} with the driver's support, {carried}", opened.queues);
            redirection = Some(opened.redirection);
            opened.ports
        }
    };
    Ok(Opened { backend, reason, ports, redirection })
}

fn open_xdp(
    backend: Backend,
    request: &Attach<'_>,
    index: u32,
    guard: &Guarded,
) -> io::Result<xdp::Opened> {
    // Without the way back into the host's stack, what the driver takes would be lost to it.
    let steering = match (request.steering, guard) {
        (Some(steering), Ok(_)) => steering,
        (_, Err(why)) => return Err(io::Error::other(why.clone())),
        (None, Ok(_)) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let request = xdp::Request {
        interface: request.interface,
        index,
        port: request.port,
        workers: request.workers,
        generic: backend == Backend::XdpGeneric,
        busy_poll: backend == Backend::XdpBusyPoll,
    };
    xdp::open(&request, steering)
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
