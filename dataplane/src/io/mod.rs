//! Where frames come from and go to: everything with side effects, behind two traits.

mod advice;
pub mod bpf;
mod choose;
pub mod kernel_clock;
mod link;
pub mod memory;
#[cfg(test)]
mod netns;
pub mod offload;
pub mod pcap;
pub mod pnet;
pub mod ring;
pub mod steer;
pub mod tap;
#[cfg(test)]
mod tests;
pub mod xdp;

pub use advice::{
    Precedence, keep_to_a_processor, run_among_everyday_threads, run_before_everyday_threads,
};
pub use choose::{Attach, AttachError, Attachment, Backend, attach};
pub use link::{receive_queues, vlan_carriers};

use crate::frame::{Batch, Frame};
use std::io;
use std::os::fd::BorrowedFd;

/// The receiving half of an attached interface.
pub trait Receive: Send {
    /// Appends up to [`BATCH`](crate::frame::BATCH) waiting frames to `batch`, which is empty, and never waits. Frames
    /// have at least [`HEADROOM`](crate::frame::HEADROOM) bytes before them. Nothing waiting is `Ok` with `batch` empty, and
    /// so is an interface that is down for now.
    ///
    /// # Errors
    /// When the interface is gone or the kernel refuses; the worker detaches it.
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()>;

    /// Gives the buffers of the last batch back; to be called after every [`Receive::receive`] that
    /// returned frames. Bit `i` of `kept` is set when a transmitter took the buffer of frame `i`
    /// over (see [`Sent::kept`]).
    fn release(&mut self, kept: u64);

    /// What to poll for readable while idle; `None` for a source that never has to be waited for.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// The descriptors behind [`Receive::descriptor`], for a waiter that keeps them in a set.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptor().into_iter().collect()
    }

    /// Whether [`Receive::receive`] costs a system call even when nothing waits. The worker then
    /// looks when there is something to receive, and seldom besides.
    fn asks_kernel(&self) -> bool {
        false
    }

    /// Its part of packet memory, where there is such a thing.
    fn shares(&self) -> Option<xdp::Shares> {
        None
    }

    /// Frames that were lost since the last call because the worker did not take them in time.
    fn missed(&mut self) -> u64 {
        0
    }
}

/// The sending half of an attached interface, or the way into the host's stack.
pub trait Transmit: Send {
    /// Hands frame `i` of `frames` to the kernel, in order, for every bit `i` set in `selected`.
    /// At most [`BATCH`](crate::frame::BATCH) frames. Never waits: frames for which there is no room are refused.
    ///
    /// Frames may be changed (an offload carried out in software), so what is sent is sent once.
    ///
    /// # Errors
    /// When the interface is gone; the worker detaches it.
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent>;

    /// Takes back buffers of frames that have left. [`Transmit::send`] does so as well; receivers
    /// need them also when nothing more is sent.
    fn reclaim(&mut self) {}
}

/// What became of the frames given to [`Transmit::send`], one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Frames whose buffer the transmitter owns until they have left. Only a transmitter that shares
    /// memory with the receiver ever does that; all other frames were copied.
    pub kept: u64,
    /// Frames that found the transmit queue full. They are lost.
    pub full: u64,
    /// Frames that the kernel refused: too large for the interface, or the interface is down. A frame
    /// may be [kept](Sent::kept) and refused.
    pub refused: u64,
}

/// An interface as one worker holds it.
pub struct Port {
    /// Frames that arrive.
    pub receive: Box<dyn Receive>,
    /// Frames that leave.
    pub transmit: Box<dyn Transmit>,
    /// Into the host's stack, as if the frame had come in on this interface: for
    /// [`Verdict::Deliver`](crate::packet_path::Verdict::Deliver) always, for
    /// [`Verdict::Host`](crate::packet_path::Verdict::Host) when [`Port::withheld`].
    pub host: Box<dyn Transmit>,
    /// Whether the host's stack does not see the frames that [`Port::receive`] gets. When it does
    /// see them, [`Verdict::Host`](crate::packet_path::Verdict::Host) means doing nothing.
    pub withheld: bool,
}

/// The way into the host's stack where there is none: every frame is refused.
#[derive(Debug)]
pub struct Unreachable;

impl Transmit for Unreachable {
    fn send(&mut self, _frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        Ok(Sent { refused: selected, ..Sent::default() })
    }
}
