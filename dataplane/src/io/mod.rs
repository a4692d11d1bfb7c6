//! Where frames come from and go to: everything with side effects, behind two traits.

use crate::packet_path::Frame;
use arrayvec::ArrayVec;

/// Frames handled in one turn of a worker.
pub const BATCH: usize = 64;

/// Frames of one turn, borrowed from the backend that received them.
pub type Batch<'r> = ArrayVec<Frame<'r>, BATCH>;

/// The receiving half of an attached interface.
pub trait Receive: Send {
    /// Fills `batch` with up to [`BATCH`] waiting frames and never waits. Frames keep headroom of
    /// at least [`HEADROOM`] bytes.
    ///
    /// # Errors
    /// When the interface is gone or the kernel refuses; the worker detaches it.
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> std::io::Result<()>;

    /// Gives the buffers of the last batch back. Bit `i` of `kept` is set when a transmitter took
    /// the buffer of frame `i` over (see [`Transmit::queue`]).
    fn release(&mut self, kept: u64);

    /// What to poll for readable while idle; `None` for a source that is always ready.
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>>;
}

/// The sending half of an attached interface.
pub trait Transmit: Send {
    /// Queues a frame; its bytes are copied or, when the transmitter shares memory with the
    /// receiver, taken over.
    ///
    /// # Errors
    /// [`QueueFull`] when the kernel has not drained the queue: the frame is dropped and counted.
    fn queue(&mut self, frame: &mut Frame<'_>) -> Result<Taken, QueueFull>;

    /// Hands everything queued to the kernel. Returns how many frames the kernel refused.
    ///
    /// # Errors
    /// When the interface is gone; the worker detaches it.
    fn flush(&mut self) -> std::io::Result<usize>;
}

/// Who owns a queued frame's buffer now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The receiver still does: the bytes were copied.
    Copied,
    /// The transmitter does, until the frame has left.
    Buffer,
}

/// The transmit queue has no free slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("transmit queue full")]
pub struct QueueFull;

/// Bytes kept free before each received frame: the largest set of headers that a tunnel adds
/// (IPv6 40, UDP 8, GUE 4 with 8 private) rounded up, and a VLAN tag.
pub const HEADROOM: usize = 128;
