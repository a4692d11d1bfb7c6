//! XDP sockets: frames go from the driver to the worker and back without the kernel's stack.
//!
//! The steering rule runs in the driver. What it claims goes to the socket of its queue; everything
//! else goes on to the stack, where a packet socket picks up what the rule lets both see, and claimed
//! frames of queues that have no socket.
#![allow(unsafe_code)]

mod memory;
mod port;
mod redirection;
mod rings;
mod socket;
#[cfg(test)]
mod tests;

pub use memory::{Buffers, LONGEST, Memory, Shares};
pub use redirection::{QueueSockets, Redirection};
pub use socket::Mode;

use super::ring::{self, HostTransmit, RingTransmit};
use super::steer::Steering;
use super::{Port, Transmit, link};
use crate::table::PortId;
use aya::programs::XdpMode;
use port::{XdpReceive, XdpTransmit, halves};
use socket::Socket;
use std::io;

/// Memory of the packet sockets beside the XDP sockets; they carry little.
const TAP_BYTES: usize = 1 << 18;

/// What to open.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The interface's name.
    pub interface: &'a str,
    /// Its index.
    pub index: u32,
    /// What its frames are marked with.
    pub port: PortId,
    /// How many workers share its queues.
    pub workers: usize,
    /// Takes frames before the stack's own hooks, where the driver has no support. Super-frames are
    /// lost then.
    pub generic: bool,
    /// Lets workers ask the driver for frames.
    pub busy_poll: bool,
}

/// An interface opened by XDP sockets.
pub struct Opened {
    /// One for each worker.
    pub ports: Vec<Port>,
    /// To be kept while the ports are used.
    pub redirection: Redirection,
    /// How frames are carried, of the worst queue.
    pub mode: Mode,
    /// How many queues have a socket.
    pub queues: usize,
}

/// Opens an interface: a socket for each of its queues, shared out among the workers.
///
/// # Errors
/// When the driver has no support, the interface is a bond or carries VLANs, the MTU is larger than
/// [`LONGEST`] allows, another XDP program is there, or capabilities are missing.
pub fn open(request: &Request<'_>, steering: &Steering) -> io::Result<Opened> {
    let Request { interface, index, port, generic, busy_poll, .. } = *request;
    let workers = request.workers.max(1);
    let mtu = link::mtu(interface)?;
    if mtu + 18 > LONGEST {
        let text = format!("MTU {mtu} is more than the {} that XDP sockets carry", LONGEST - 18);
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    if link::is_aggregate(interface) {
        // Its frames arrive as those of its members, which the socket of the whole refuses.
        let text = "XDP sockets belong to the members of an aggregate, not to the whole";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    if link::vlan_carriers().contains(interface) {
        let text = "VLAN interfaces stand on it: drivers take tags out of frames before XDP sockets \
                    see them";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let queues = link::receive_queues(interface);
    steering.accept_own(index, link::mac(interface)?).map_err(io::Error::other)?;
    let mode = if generic { XdpMode::Skb } else { XdpMode::Driver };
    let mut redirection = steering.redirect(index, mode).map_err(io::Error::other)?;
    let taps = ring::receivers(index, port, mtu, workers, Some(steering), TAP_BYTES)?;
    let unfinished = (generic || link::is_virtual(interface)).then_some(mtu);
    let mut mode = Mode::ZeroCopy;
    let mut ports = Vec::with_capacity(workers);
    for (worker, tap) in taps.into_iter().enumerate() {
        let mut receiving = Vec::new();
        let mut transmit: Option<Box<dyn Transmit>> = None;
        for queue in (worker as u32..queues).step_by(workers) {
            let memory = steering.memory(worker)?;
            let (mut socket, rings, how) = Socket::open(index, queue, memory, generic)?;
            if busy_poll {
                socket.poll_busily()?;
            }
            if how == Mode::Copy {
                mode = Mode::Copy;
            }
            // The map will hold the socket itself, not the descriptor.
            redirection.set(queue, &socket.duplicate()?).map_err(io::Error::other)?;
            let (receive, sender) = halves(socket, rings, mtu);
            receiving.push(receive);
            transmit.get_or_insert_with(|| Box::new(sender) as Box<XdpTransmit>);
        }
        let transmit = match transmit {
            Some(transmit) => transmit,
            // More workers than queues: this one only sends, by the stack.
            None => Box::new(RingTransmit::open(index)?),
        };
        ports.push(Port {
            receive: Box::new(XdpReceive::new(receiving, tap, port, unfinished, busy_poll)?),
            transmit,
            host: Box::new(HostTransmit::open(index)?),
            withheld: false,
        });
    }
    Ok(Opened { ports, redirection, mode, queues: queues as usize })
}
