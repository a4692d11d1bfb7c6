//! XDP sockets as a worker's port.

use super::memory::{LONGEST, Memory, Pool, Shares};
use super::rings::{Consumer, Producer};
use super::socket::{ENTRIES, Rings, Socket};
use crate::frame::{BATCH, Batch, Frame, Segmentation};
use crate::io::offload::{Workshop, finish_checksum, recognise};
use crate::io::ring::RingReceive;
use crate::io::{Receive, Sent, Transmit};

use crate::table::PortId;
use arrayvec::ArrayVec;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// Every how many turns the packet socket comes first, so that a busy XDP socket does not starve it.
const TAP_FIRST_EVERY: u32 = 16;

/// Every how many turns the kernel is asked what was lost.
const ASK_EVERY: u32 = 256;

/// Every how many empty turns the sockets are asked whether the interface is still there.
const CHECK_EVERY: u32 = 64;

/// The receiving half of one socket: one queue's reception.
pub struct Queue {
    socket: Arc<Socket>,
    fill: Producer<u64>,
    receive: Consumer<libc::xdp_desc>,
    /// Chunks of the batch that the worker holds, in its order.
    held: ArrayVec<u64, BATCH>,
    /// Chunks that the fill ring should have and has not.
    wanting: u32,
    lost: u64,
}

impl Queue {
    fn new(socket: Arc<Socket>, fill: Producer<u64>, receive: Consumer<libc::xdp_desc>) -> Self {
        let held = ArrayVec::new();
        let mut queue = Self { socket, fill, receive, held, wanting: ENTRIES, lost: 0 };
        // When chunks are scarce, as those of closed sockets rest, others want some to begin, too.
        let free = queue.socket.memory.pool().free();
        queue.refill(free / 2);
        queue
    }

    /// Takes waiting frames.
    ///
    /// # Safety
    /// The frames must be gone when [`Queue::release`] is called.
    unsafe fn receive<'r>(&mut self, batch: &mut Batch<'r>, port: PortId) {
        while !batch.is_full() {
            let Some(descriptor) = self.receive.pop() else { break };
            // SAFETY: the kernel handed the chunk over with this descriptor; it is put back into the
            // fill ring, or given to a transmitter, by `release` only.
            let frame = unsafe { self.socket.memory.frame(descriptor.addr, descriptor.len, port) };
            match frame {
                Some(frame) => {
                    batch.push(frame);
                    self.held.push(descriptor.addr);
                }
                // The kernel never does that; the chunk is found again when the socket is closed.
                None => self.lost += 1,
            }
        }
        if !batch.is_empty() {
            self.receive.publish();
        }
    }

    fn release(&mut self, kept: u64) {
        for (index, address) in self.held.drain(..).enumerate() {
            if kept & 1 << index != 0 || !self.fill.push(address) {
                self.wanting += 1;
            }
        }
        self.refill(0);
    }

    /// Makes up for chunks that went to transmitters, and leaves so many free.
    fn refill(&mut self, leave: usize) {
        if self.wanting > 0 {
            let mut pool = self.socket.memory.pool();
            while self.wanting > 0 && (leave == 0 || pool.free() > leave) {
                let Some(chunk) = pool.take(self.socket.owner) else { break };
                if !self.fill.push(chunk) {
                    pool.give_back(chunk, self.socket.owner);
                    break;
                }
                self.wanting -= 1;
            }
        }
        self.fill.publish();
        if self.fill.ring().wants_wakeup() {
            self.socket.wake_receiver();
        }
    }

    fn lost(&mut self) -> u64 {
        let now = self.socket.lost();
        let before = std::mem::replace(&mut self.lost, now);
        now.saturating_sub(before)
    }
}

/// The receiving half: the worker's queues, and a packet socket for what passes them by.
pub struct XdpReceive {
    queues: Vec<Queue>,
    /// Where the last batch came from; the packet socket when beyond the queues.
    last: usize,
    tap: RingReceive,
    waiting: Epoll,
    port: PortId,
    /// The MTU, on interfaces whose frames may come unfinished.
    unfinished: Option<usize>,
    /// Whether the driver is asked when no frame waits.
    busy_poll: bool,
    turns: u32,
    /// The turn in which the kernel was last asked what was lost.
    asked: u32,
    empty_turns: u32,
}

impl XdpReceive {
    /// Receives from these sockets and this packet socket.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(
        queues: Vec<Queue>,
        tap: RingReceive,
        port: PortId,
        unfinished: Option<usize>,
        busy_poll: bool,
    ) -> io::Result<Self> {
        let waiting = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = || EpollEvent::new(EpollFlags::EPOLLIN, 0);
        waiting.add(tap.socket().as_fd(), readable())?;
        for Queue { socket, .. } in &queues {
            let descriptor: OwnedFd = socket.duplicate()?;
            waiting.add(descriptor.as_fd(), readable())?;
        }
        let (last, turns, asked, empty_turns) = (queues.len(), 0, 0, 0);
        Ok(Self {
            queues,
            last,
            tap,
            waiting,
            port,
            unfinished,
            busy_poll,
            turns,
            asked,
            empty_turns,
        })
    }

    fn check(&mut self) -> io::Result<()> {
        self.empty_turns = self.empty_turns.wrapping_add(1);
        for queue in &self.queues {
            // What a busy driver left in the transmit ring would wait for the next frame otherwise.
            if queue.socket.unsent.load(Ordering::Relaxed) {
                queue.socket.send_once()?;
            }
        }
        let ask = self.empty_turns % CHECK_EVERY == 1;
        if ask && self.queues.iter().any(|queue| !queue.socket.is_bound()) {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        Ok(())
    }
}

impl Receive for XdpReceive {
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        self.release(0);
        // A queue whose chunks are all on their way out receives nothing that would remind of it.
        self.queues.iter_mut().filter(|queue| queue.wanting > 0).for_each(|queue| queue.refill(0));
        self.turns = self.turns.wrapping_add(1);
        let count = self.queues.len();
        let tap_first = self.turns.is_multiple_of(TAP_FIRST_EVERY) && self.tap.has_frames();
        if !tap_first {
            for step in 1..=count {
                let index = (self.last + step) % count;
                let Some(queue) = self.queues.get_mut(index) else { continue };
                if self.busy_poll && queue.receive.is_empty() {
                    queue.socket.wake_receiver();
                }
                // SAFETY: frames of `batch` borrow `self` for 'r, so they are gone before `release`
                // can be called.
                unsafe { queue.receive(batch, self.port) };
                if batch.is_empty() {
                    continue;
                }
                self.last = index;
                if let Some(mtu) = self.unfinished {
                    batch.iter_mut().for_each(|frame| recognise(frame, mtu));
                }
                return Ok(());
            }
            self.check()?;
        }
        self.last = count;
        self.tap.receive(batch)
    }

    fn release(&mut self, kept: u64) {
        match self.queues.get_mut(self.last) {
            Some(queue) => queue.release(kept),
            None => self.tap.release(kept),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.waiting.0.as_fd())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = self.queues.iter().filter_map(|queue| queue.socket.descriptor().ok());
        sockets.chain([self.tap.socket().as_fd()]).collect()
    }

    fn shares(&self) -> Option<Shares> {
        let sockets = self.queues.iter().map(|queue| &queue.socket);
        Some(Shares::new(sockets.map(|socket| (Arc::clone(&socket.memory), socket.owner))))
    }

    fn missed(&mut self) -> u64 {
        let missed = self.tap.missed();
        if self.turns.wrapping_sub(self.asked) < ASK_EVERY {
            return missed;
        }
        self.asked = self.turns;
        missed + self.queues.iter_mut().map(Queue::lost).sum::<u64>()
    }
}

/// The sending half: one of the worker's queues.
pub struct XdpTransmit {
    socket: Arc<Socket>,
    transmit: Producer<libc::xdp_desc>,
    completion: Consumer<u64>,
    workshop: Workshop,
    /// Bytes of the longest frame that the interface takes.
    longest: usize,
}

impl XdpTransmit {
    /// Sends by this socket, frames of up to `mtu` bytes of IP packet.
    pub fn new(
        socket: Arc<Socket>,
        transmit: Producer<libc::xdp_desc>,
        completion: Consumer<u64>,
        mtu: usize,
    ) -> Self {
        let longest = (mtu + 18).min(LONGEST);
        Self { socket, transmit, completion, workshop: Workshop::default(), longest }
    }

    /// Takes back the chunks that have been sent.
    fn reap(completion: &mut Consumer<u64>, pool: &mut Pool, owner: u16) {
        let mut any = false;
        while let Some(address) = completion.pop() {
            pool.give_back(address, owner);
            any = true;
        }
        if any {
            completion.publish();
        }
    }
}

/// One batch on its way into the transmit ring, with the lock on the chunks taken once.
struct Departure<'a> {
    memory: &'a Memory,
    pool: MutexGuard<'a, Pool>,
    owner: u16,
    transmit: &'a mut Producer<libc::xdp_desc>,
    workshop: &'a mut Workshop,
    longest: usize,
    sent: Sent,
}

impl Departure<'_> {
    /// Gives the lock back.
    fn end(self) -> Sent {
        self.sent
    }

    /// Sends a frame where it lies. False when it has to be copied.
    fn in_place(&mut self, frame: &mut Frame<'_>, bit: u64) -> bool {
        let Some(chunk) = self.memory.chunk_of(frame) else { return false };
        if frame.offload.segmentation != Segmentation::None {
            return false;
        }
        finish_checksum(frame);
        let address = chunk + frame.offset() as u64;
        let descriptor = libc::xdp_desc { addr: address, len: frame.len() as u32, options: 0 };
        if frame.len() > self.longest {
            self.sent.refused |= bit;
        } else if self.transmit.push(descriptor) {
            self.pool.assign(chunk, self.owner);
            self.sent.kept |= bit;
        } else {
            self.sent.full |= bit;
        }
        true
    }

    /// Copies a frame, or the segments that it stands for.
    fn copied(&mut self, frame: &mut Frame<'_>, bit: u64) {
        let Self { memory, pool, owner, transmit, workshop, longest, sent } = self;
        let understood = workshop.finished(frame, |bytes| {
            if bytes.len() > *longest {
                sent.refused |= bit;
                return;
            }
            let Some(chunk) = pool.take(*owner) else {
                sent.full |= bit;
                return;
            };
            // SAFETY: the chunk was free and is this socket's now.
            let stored = unsafe { memory.store(chunk, bytes) };
            let pushed = stored.is_some_and(|addr| {
                transmit.push(libc::xdp_desc { addr, len: bytes.len() as u32, options: 0 })
            });
            if !pushed {
                pool.give_back(chunk, *owner);
                sent.full |= bit;
            }
        });
        if !understood {
            sent.refused |= bit;
        }
    }
}

impl Transmit for XdpTransmit {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        let Self { socket, transmit, completion, workshop, longest } = self;
        let (memory, owner) = (&*socket.memory, socket.owner);
        let mut pool = memory.pool();
        Self::reap(completion, &mut pool, owner);
        let (longest, sent) = (*longest, Sent::default());
        let mut departure = Departure { memory, pool, owner, transmit, workshop, longest, sent };
        for (index, frame) in frames.iter_mut().enumerate().take(BATCH) {
            let bit = 1u64 << index;
            if selected & bit != 0 && !departure.in_place(frame, bit) {
                departure.copied(frame, bit);
            }
        }
        // The lock goes before the system call.
        let mut sent = departure.end();
        self.transmit.publish();
        // Its chunks stay with a socket whose interface is gone until it is closed.
        if self.socket.kick(&self.transmit).is_err() {
            sent.refused |= selected & !sent.full;
        }
        Ok(sent)
    }

    fn reclaim(&mut self) {
        let mut pool = self.socket.memory.pool();
        Self::reap(&mut self.completion, &mut pool, self.socket.owner);
    }
}

/// Takes a socket's rings apart.
pub fn halves(socket: Socket, rings: Rings, mtu: usize) -> (Queue, XdpTransmit) {
    let socket = Arc::new(socket);
    let Rings { fill, receive, transmit, completion } = rings;
    let transmit = XdpTransmit::new(Arc::clone(&socket), transmit, completion, mtu);
    (Queue::new(socket, fill, receive), transmit)
}
