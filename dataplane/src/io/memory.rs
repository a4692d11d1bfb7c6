//! Ports without an interface, for tests and benchmarks: a cable whose other end the caller holds,
//! an endless replay, and a sink.

use super::{Port, Receive, Sent, Transmit};
use crate::frame::{BATCH, Batch, Frame, HEADROOM, Offload};

use crate::table::PortId;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The largest frame that a cable carries: a GSO super-frame with its Ethernet header and tag.
pub const MAX_FRAME: usize = 65536 + 18;

/// Distance between the buffers of [`Replay`], as in a UMEM or ring of 2 KiB slots.
const STRIDE: usize = 2048;

/// A frame at rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What is left to do for a network card.
    pub offload: Offload,
}

impl Stored {
    /// A frame with nothing left to do.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), offload: Offload::default() }
    }

    /// A copy of a frame in flight.
    pub fn of(frame: &Frame<'_>) -> Self {
        Self { bytes: frame.bytes().to_vec(), offload: frame.offload }
    }
}

/// The queue of a cable has no free place: the frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the cable's queue is full")]
pub struct Full;

#[derive(Debug)]
struct Queue {
    frames: Mutex<VecDeque<Stored>>,
    depth: usize,
}

impl Queue {
    fn new(depth: usize) -> Self {
        Self { frames: Mutex::new(VecDeque::with_capacity(depth.min(1024))), depth }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Stored>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: Stored) -> Result<(), Full> {
        let mut frames = self.lock();
        if frames.len() >= self.depth {
            return Err(Full);
        }
        frames.push_back(frame);
        Ok(())
    }

    fn pop(&self) -> Option<Stored> {
        self.lock().pop_front()
    }
}

/// The far end of a memory port: what the network and the host's stack are to a real one.
#[derive(Clone, Debug)]
pub struct Cable {
    arriving: Arc<Queue>,
    sent: Arc<Queue>,
    delivered: Arc<Queue>,
    wake: Arc<EventFd>,
}

impl Cable {
    /// Lets a frame arrive at the port.
    ///
    /// # Errors
    /// [`Full`] when `depth` frames are waiting already.
    pub fn inject(&self, frame: Stored) -> Result<(), Full> {
        self.arriving.push(frame)?;
        // The counter can only overflow after 2^64 frames, and then the reader is awake anyway.
        let _ = self.wake.write(1);
        Ok(())
    }

    /// The oldest frame that left through the port.
    pub fn sent(&self) -> Option<Stored> {
        self.sent.pop()
    }

    /// The oldest frame that was given to the host's stack.
    pub fn delivered(&self) -> Option<Stored> {
        self.delivered.pop()
    }

    /// Frames that the port has not received yet.
    pub fn waiting(&self) -> usize {
        self.arriving.lock().len()
    }
}

/// A port and the other end of its cable. Each of its three queues holds `depth` frames; a full one
/// refuses the next frame.
///
/// # Errors
/// When the process has no file descriptor left.
pub fn port(id: PortId, depth: usize) -> io::Result<(Port, Cable)> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let cable = Cable {
        arriving: Arc::new(Queue::new(depth)),
        sent: Arc::new(Queue::new(depth)),
        delivered: Arc::new(Queue::new(depth)),
        wake: Arc::clone(&wake),
    };
    let receive = CableReceive {
        id,
        arriving: Arc::clone(&cable.arriving),
        wake,
        buffers: vec![0; BATCH * (HEADROOM + MAX_FRAME)],
    };
    let port = Port {
        receive: Box::new(receive),
        transmit: Box::new(CableTransmit(Arc::clone(&cable.sent))),
        host: Box::new(CableTransmit(Arc::clone(&cable.delivered))),
        withheld: true,
    };
    Ok((port, cable))
}

struct CableReceive {
    id: PortId,
    arriving: Arc<Queue>,
    wake: Arc<EventFd>,
    buffers: Vec<u8>,
}

impl Receive for CableReceive {
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        // Reset before looking, so that a frame injected meanwhile wakes the next poll.
        let _ = self.wake.read();
        let mut arriving = self.arriving.lock();
        for buffer in self.buffers.chunks_exact_mut(HEADROOM + MAX_FRAME) {
            let Some(stored) = arriving.pop_front() else { break };
            let length = stored.bytes.len().min(MAX_FRAME);
            let end = HEADROOM + length;
            buffer[HEADROOM..end].copy_from_slice(&stored.bytes[..length]);
            let mut frame = Frame::new(buffer, HEADROOM, end, self.id);
            frame.offload = stored.offload;
            batch.push(frame);
        }
        if !arriving.is_empty() {
            let _ = self.wake.write(1);
        }
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wake.as_fd())
    }
}

struct CableTransmit(Arc<Queue>);

impl Transmit for CableTransmit {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        let mut sent = Sent::default();
        for (index, frame) in frames.iter().enumerate().take(BATCH) {
            let bit = 1u64 << index;
            if selected & bit != 0 && self.0.push(Stored::of(frame)).is_err() {
                sent.full |= bit;
            }
        }
        Ok(sent)
    }
}

/// Receives the same frames over and over, copied into buffers 2 KiB apart as a ring would.
#[derive(Debug)]
pub struct Replay {
    id: PortId,
    frames: Vec<Vec<u8>>,
    next: usize,
    buffers: Vec<u8>,
}

impl Replay {
    /// Replays `frames` in order, without end. Each is cut off where it would not fit a 2 KiB
    /// buffer behind its headroom.
    pub fn new(id: PortId, frames: Vec<Vec<u8>>) -> Self {
        Self { id, frames, next: 0, buffers: vec![0; BATCH * STRIDE] }
    }
}

impl Receive for Replay {
    #[inline]
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        for buffer in self.buffers.chunks_exact_mut(STRIDE) {
            let Some(bytes) = self.frames.get(self.next) else { break };
            self.next = if self.next + 1 == self.frames.len() { 0 } else { self.next + 1 };
            let length = bytes.len().min(STRIDE - HEADROOM);
            let end = HEADROOM + length;
            buffer[HEADROOM..end].copy_from_slice(&bytes[..length]);
            batch.push(Frame::new(buffer, HEADROOM, end, self.id));
        }
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Counts what it is given and forgets it.
#[derive(Debug, Default)]
pub struct Sink {
    /// Frames so far.
    pub frames: u64,
}

impl Transmit for Sink {
    #[inline]
    fn send(&mut self, _frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        self.frames += u64::from(selected.count_ones());
        Ok(Sent::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn readable(port: &Port) -> bool {
        let descriptor = port.receive.descriptor().expect("a cable can be waited for");
        poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn what_is_injected_is_received_in_order_with_headroom() {
        let (mut port, cable) = port(PortId(3), 200).unwrap();
        for number in 0..150u8 {
            cable.inject(Stored::plain(vec![number; 60 + usize::from(number)])).unwrap();
        }
        let mut next = 0u8;
        while cable.waiting() > 0 {
            assert!(readable(&port), "waiting frames wake the poller");
            let mut batch = Batch::new();
            port.receive.receive(&mut batch).unwrap();
            for frame in &batch {
                assert_eq!(frame.bytes(), vec![next; 60 + usize::from(next)]);
                assert!(frame.headroom() >= HEADROOM);
                assert_eq!(frame.ingress, PortId(3));
                next += 1;
            }
            drop(batch);
            port.receive.release(0);
        }
        assert_eq!(next, 150);
        assert!(!readable(&port), "an empty cable lets the poller sleep");
    }

    #[test]
    fn only_selected_frames_leave_and_a_full_queue_says_which_did_not() {
        let (mut port, cable) = port(PortId(0), 2).unwrap();
        let mut bytes = [[0u8; 64]; 4];
        let mut frames: Vec<_> = bytes
            .iter_mut()
            .enumerate()
            .map(|(index, buffer)| {
                buffer[0] = index as u8;
                Frame::new(buffer, 0, 60, PortId(0))
            })
            .collect();
        let sent = port.transmit.send(&mut frames, 0b1110).unwrap();
        assert_eq!(sent, Sent { full: 0b1000, ..Sent::default() });
        assert_eq!(cable.sent().unwrap().bytes[0], 1);
        assert_eq!(cable.sent().unwrap().bytes[0], 2);
        assert_eq!(cable.sent(), None);
        assert_eq!(cable.delivered(), None);
        port.host.send(&mut frames, 1).unwrap();
        assert_eq!(cable.delivered().unwrap().bytes[0], 0);
    }

    #[test]
    fn replay_never_ends_and_never_skips() {
        let mut replay = Replay::new(PortId(0), (0..5).map(|n| vec![n; 60]).collect());
        let mut expected = (0..5u8).cycle();
        for _ in 0..3 {
            let mut batch = Batch::new();
            replay.receive(&mut batch).unwrap();
            assert_eq!(batch.len(), BATCH);
            for frame in &batch {
                assert_eq!(frame.bytes()[0], expected.next().unwrap());
            }
        }
    }
}
