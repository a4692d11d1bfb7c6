//! Packet sockets: the everyday backend. Works on every interface of every kernel since 4.20, with
//! checksum offload and super-frames as the interface has them.
//!
//! Received by a ring of slots shared with the kernel, sent by `sendmmsg`, both with virtio-net
//! headers, which carry partial checksums and segment sizes.
#![allow(unsafe_code)]

mod membership;
mod receive;
mod socket;
#[cfg(test)]
mod tests;
mod transmit;
pub(super) mod vnet;

pub use membership::Memberships;
pub use receive::RingReceive;
pub use socket::{LinkState, PacketSocket};
pub use transmit::{HostTransmit, RingTransmit};

use super::steer::Steering;
use super::{Port, Transmit, Unreachable};
use crate::table::PortId;
use std::io;
use std::os::fd::AsFd;

/// Opens one interface for `workers` workers; each gets its share of the flows. `mtu` is that of the
/// interface, in bytes. With `steering` only frames that belong to the dataplane are received.
/// [`Port::withheld`] is false until the interface is guarded.
///
/// # Errors
/// Without `CAP_NET_RAW`, or when the interface is gone; with more than one worker also when it is
/// down.
pub fn open(
    interface: u32,
    port: PortId,
    mtu: usize,
    workers: usize,
    steering: Option<&Steering>,
) -> io::Result<Vec<Port>> {
    let rings = receivers(interface, port, mtu, workers, steering, receive::RING_BYTES)?;
    let mut ports = Vec::with_capacity(workers);
    for ring in rings {
        let host: Box<dyn Transmit> = match steering {
            Some(_) => Box::new(HostTransmit::open(interface)?),
            None => Box::new(Unreachable),
        };
        ports.push(Port {
            receive: Box::new(ring),
            transmit: Box::new(RingTransmit::open(interface)?),
            host,
            withheld: false,
        });
    }
    Ok(ports)
}

/// The receiving halves alone, each with a ring of `bytes` bytes.
///
/// # Errors
/// As [`open`].
pub fn receivers(
    interface: u32,
    port: PortId,
    mtu: usize,
    workers: usize,
    steering: Option<&Steering>,
    bytes: usize,
) -> io::Result<Vec<RingReceive>> {
    let mut rings = Vec::with_capacity(workers);
    let mut group = None;
    for _ in 0..workers {
        let ring = RingReceive::open(interface, port, mtu, bytes)?;
        // Until all sockets share the flows, each would see every frame.
        ring.socket().hold(true)?;
        ring.socket().start()?;
        if workers > 1 {
            group = Some(ring.socket().share(group)?);
        }
        rings.push(ring);
    }
    for ring in &rings {
        match steering {
            Some(steering) => steering.filter(ring.socket().as_fd()).map_err(io::Error::other)?,
            None => ring.socket().hold(false)?,
        }
    }
    Ok(rings)
}
