//! Packet memory: what XDP sockets call UMEM. One per worker, registered with each of its sockets, so
//! that a frame received on one interface is sent from another where it lies.
//!
//! Each chunk is in exactly one place: free, with a socket (its fill ring, its receive ring, its
//! transmit ring, or a batch from it), or resting. Who has it is written down, so that the chunks of
//! a socket that is closed are found again.

use super::socket::{ENTRIES, now};
use crate::frame::Frame;
use crate::table::PortId;
use libc::c_void;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes of a chunk: one frame with what the kernel and the packet path keep free before it.
pub const CHUNK: usize = 2048;

/// Bytes that the kernel keeps free at the start of a chunk (`XDP_PACKET_HEADROOM`).
pub const KERNEL_HEADROOM: usize = 256;

/// The longest frame, with its Ethernet header: interfaces with a larger MTU need another backend.
pub const LONGEST: usize = CHUNK - KERNEL_HEADROOM;

/// Chunks of one memory: 32 MiB.
const CHUNKS: usize = 16_384;

/// Sockets that share one memory at most; further ones get a memory of their own. Two more could
/// receive, but some chunks are on their way out by any of them.
const SOCKETS: usize = CHUNKS / ENTRIES as usize - 2;

/// Chunks that have to be free for another socket to begin with. It gets the rest when those of
/// closed sockets have rested.
const ENOUGH_TO_BEGIN: usize = 256;

/// Nobody.
const FREE: u16 = 0;

/// The packet memory of one worker.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    id: u16,
    pool: Mutex<Pool>,
}

// SAFETY: the mapping belongs to this value; access to chunks is handed out by the pool, one owner
// at a time, and the pool is behind a mutex.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// How many chunks are where. Those of `all` that are neither free nor resting are held by some
/// socket: 2,048 by each one that receives, and what it has to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// Held by the sockets that were asked about.
    pub held: usize,
    /// Free, in the memories that these sockets use and share with others.
    pub free: usize,
    /// Of closed sockets, there.
    pub resting: usize,
    /// All, there.
    pub all: usize,
}

/// The chunks of some sockets, for being counted while those are at work.
#[derive(Clone, Debug)]
pub struct Shares(Vec<(Arc<Memory>, u16)>);

impl Shares {
    /// Of these sockets, by memory and number.
    pub fn new(sockets: impl Iterator<Item = (Arc<Memory>, u16)>) -> Self {
        Self(sockets.collect())
    }

    /// Of both.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Counts them. Packet threads wait for a few microseconds at most.
    pub fn count(&self) -> Buffers {
        let mut memories: BTreeMap<u16, (&Memory, BTreeSet<u16>)> = BTreeMap::new();
        for (memory, owner) in &self.0 {
            let (_, owners) = memories.entry(memory.id).or_insert((memory, BTreeSet::new()));
            owners.insert(*owner);
        }
        let mut sum = Buffers::default();
        for (memory, owners) in memories.into_values() {
            let mut pool = memory.pool();
            pool.wake(now());
            let is_held = |place: &&u16| **place != FREE && owners.contains(place);
            sum.held += pool.owner.iter().filter(is_held).count();
            sum.free += pool.free();
            sum.resting += pool.resting.iter().map(|(_, chunks)| chunks.len()).sum::<usize>();
            sum.all += CHUNKS;
        }
        sum
    }
}

/// Which chunks are whose.
#[derive(Debug)]
pub struct Pool {
    free: Vec<u32>,
    owner: Box<[u16]>,
    /// Chunks of closed sockets, and until when they are left alone.
    resting: Vec<(Instant, Vec<u32>)>,
    /// Numbers of open sockets, and the one to try next.
    owners: BTreeSet<u16>,
    next_owner: u16,
}

impl Memory {
    /// Allocates it.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn new() -> io::Result<Self> {
        static IDS: AtomicU16 = AtomicU16::new(0);
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                CHUNKS * CHUNK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: advice about the mapping just made; a refusal changes nothing.
        unsafe { libc::madvise(start, CHUNKS * CHUNK, libc::MADV_HUGEPAGE) };
        let pool = Pool {
            free: (0..CHUNKS as u32).rev().collect(),
            owner: vec![FREE; CHUNKS].into(),
            resting: Vec::new(),
            owners: BTreeSet::new(),
            next_owner: 1,
        };
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            pool: Mutex::new(pool),
        })
    }

    /// How the kernel is told about it.
    pub fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.start.as_ptr() as u64,
            len: (CHUNKS * CHUNK) as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// Who has what.
    pub fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another socket can have chunks here.
    pub fn has_room(&self) -> bool {
        let mut pool = self.pool();
        pool.wake(now());
        pool.owners.len() < SOCKETS && pool.free() >= ENOUGH_TO_BEGIN
    }

    /// The frame at `address..address + length`, addresses counting from the start of the memory.
    /// `None` when that is not within one chunk.
    ///
    /// # Safety
    /// The chunk must be the caller's for as long as `'r` lasts, and no other frame may be in it.
    pub unsafe fn frame<'r>(&self, address: u64, length: u32, port: PortId) -> Option<Frame<'r>> {
        let address = usize::try_from(address).ok().filter(|at| *at < CHUNKS * CHUNK)?;
        let (base, offset) = (address / CHUNK * CHUNK, address % CHUNK);
        let end = offset + length as usize;
        if end > CHUNK {
            return None;
        }
        // SAFETY: the chunk lies within the mapping, and is the caller's alone, as promised.
        let chunk = unsafe { std::slice::from_raw_parts_mut(self.start.add(base).as_ptr(), CHUNK) };
        let mut frame = Frame::new(chunk, offset, end, port);
        frame.token = u64::from(self.id) << 48 | base as u64;
        Some(frame)
    }

    /// The chunk that a frame lies in, if it lies in this memory.
    pub fn chunk_of(&self, frame: &Frame<'_>) -> Option<u64> {
        let base = frame.token & 0xffff_ffff_ffff;
        let ours = frame.token >> 48 == u64::from(self.id);
        (ours && base < (CHUNKS * CHUNK) as u64).then_some(base)
    }

    /// Copies bytes into a chunk, behind the kernel's headroom. Returns their address. `None` when
    /// they are too long.
    ///
    /// # Safety
    /// The chunk must be the caller's.
    pub unsafe fn store(&self, chunk: u64, bytes: &[u8]) -> Option<u64> {
        // SAFETY: as the caller promises.
        let frame = unsafe { self.frame(chunk + KERNEL_HEADROOM as u64, 0, PortId(0)) };
        let mut frame = frame?;
        frame.set_len(bytes.len())?;
        frame.bytes_mut().copy_from_slice(bytes);
        Some(chunk + KERNEL_HEADROOM as u64)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; ports hold the memory for as long as they live,
        // and the kernel holds the pages for as long as it writes to them.
        unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), CHUNKS * CHUNK) };
    }
}

impl Pool {
    /// A number for a new socket. `now` wakes chunks that have rested long enough.
    pub fn enroll(&mut self, now: Instant) -> u16 {
        self.wake(now);
        loop {
            // Numbers come round again, while some sockets stay open for years. There are always
            // free ones: chunks are for a handful of sockets.
            let number = self.next_owner;
            self.next_owner = self.next_owner.checked_add(1).unwrap_or(1);
            if self.owners.insert(number) {
                return number;
            }
        }
    }

    /// Chunks that have rested long enough are free.
    pub fn wake(&mut self, now: Instant) {
        for (_, chunks) in self.resting.extract_if(.., |(until, _)| *until <= now) {
            self.free.extend(chunks);
        }
    }

    /// A free chunk for a socket.
    pub fn take(&mut self, owner: u16) -> Option<u64> {
        if self.free.is_empty() && !self.resting.is_empty() {
            self.wake(now());
        }
        let chunk = self.free.pop()?;
        self.owner[chunk as usize] = owner;
        Some(u64::from(chunk) * CHUNK as u64)
    }

    /// Gives a chunk to another socket.
    pub fn assign(&mut self, chunk: u64, owner: u16) {
        if let Some(place) = self.owner.get_mut(chunk as usize / CHUNK) {
            *place = owner;
        }
    }

    /// Takes back the chunk at any address in it, which the socket `owner` is done with.
    pub fn give_back(&mut self, address: u64, owner: u16) {
        let chunk = address as usize / CHUNK;
        if let Some(place) = self.owner.get_mut(chunk)
            && *place == owner
        {
            *place = FREE;
            self.free.push(chunk as u32);
        }
    }

    /// A socket is closed: its chunks rest until then, and are free from then on.
    pub fn retire(&mut self, owner: u16, until: Instant) {
        self.owners.remove(&owner);
        let mut chunks = Vec::new();
        for (chunk, place) in self.owner.iter_mut().enumerate() {
            if *place == owner {
                *place = FREE;
                chunks.push(chunk as u32);
            }
        }
        self.resting.push((until, chunks));
    }

    /// How many chunks are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use std::time::Duration;

    const REST: Duration = Duration::from_secs(20);

    #[test]
    fn no_chunk_is_lost_or_given_out_twice() {
        let memory = Memory::new().unwrap();
        let mut pool = memory.pool();
        let now = Instant::now();
        let (a, b) = (pool.enroll(now), pool.enroll(now));
        let mut taken: Vec<u64> = std::iter::from_fn(|| pool.take(a)).collect();
        taken.sort_unstable();
        assert_eq!(taken.len(), CHUNKS);
        assert!(taken.windows(2).all(|pair| pair[0] < pair[1]));
        for chunk in &taken[..100] {
            pool.assign(*chunk, b);
        }
        pool.give_back(taken[0] + 300, a);
        assert_eq!(pool.free(), 0, "a chunk is only given back by who has it");
        pool.give_back(taken[0] + 300, b);
        pool.give_back(taken[0] + 300, b);
        assert_eq!(pool.free(), 1, "once");
        pool.retire(a, now + REST);
        assert_eq!(pool.free(), 1, "chunks of a closed socket rest");
        pool.enroll(now + REST / 2);
        assert_eq!(pool.free(), 1);
        pool.enroll(now + REST);
        assert_eq!(pool.free(), CHUNKS - 99);
        pool.retire(b, now);
        while pool.take(a).is_some() {}
        assert_eq!(pool.free() + pool.resting.len(), 0, "taken by whoever finds nothing else");
        pool.retire(a, now);
        pool.enroll(now);
        assert_eq!(pool.free(), CHUNKS);
    }

    #[test]
    fn a_memory_is_for_so_many_sockets_also_while_chunks_of_closed_ones_rest() {
        let memory = Memory::new().unwrap();
        let now = Instant::now();
        let all: Vec<u16> = (0..SOCKETS).map(|_| memory.pool().enroll(now)).collect();
        assert!(!memory.has_room());
        let half = CHUNKS / 2;
        assert!((0..half).all(|_| memory.pool().take(all[0]).is_some()));
        memory.pool().retire(all[0], now + REST);
        assert!(memory.has_room());
        assert!((0..half).all(|_| memory.pool().take(all[1]).is_some()));
        assert!(!memory.has_room(), "nothing to begin with");
        assert!(memory.pool().take(all[2]).is_none(), "they still rest");
    }

    #[test]
    fn a_number_in_use_is_not_given_out_again() {
        let memory = Memory::new().unwrap();
        let (mut pool, now) = (memory.pool(), Instant::now());
        let first = pool.enroll(now);
        for _ in 0..70_000 {
            let other = pool.enroll(now);
            assert_ne!(other, first);
            assert_ne!(other, FREE);
            pool.owners.remove(&other);
        }
    }

    #[test]
    fn chunks_are_counted_by_socket_and_each_memory_once() {
        let (one, other) = (Arc::new(Memory::new().unwrap()), Arc::new(Memory::new().unwrap()));
        let now = Instant::now();
        for owner in [1, 2, 3] {
            for _ in 0..owner * 10 {
                one.pool().take(owner).unwrap();
            }
        }
        one.pool().retire(3, now + REST);
        let mut shares = Shares::new([1, 2].map(|owner| (Arc::clone(&one), owner)).into_iter());
        let free = CHUNKS - 60;
        assert_eq!(shares.count(), Buffers { held: 30, free, resting: 30, all: CHUNKS });
        other.pool().take(1).unwrap();
        shares.extend(Shares::new([(other, 1)].into_iter()));
        let free = free + CHUNKS - 1;
        assert_eq!(shares.count(), Buffers { held: 31, free, resting: 30, all: 2 * CHUNKS });
    }

    #[test]
    fn frames_stay_within_their_chunk_and_memory() {
        let (memory, other) = (Memory::new().unwrap(), Memory::new().unwrap());
        let chunk = memory.pool().take(1).unwrap();
        // SAFETY: the chunk was taken above.
        unsafe {
            assert!(memory.frame(chunk + 256, 1793, PortId(0)).is_none());
            assert!(memory.frame(u64::MAX, 1, PortId(0)).is_none());
            assert!(memory.frame((CHUNKS * CHUNK) as u64, 0, PortId(0)).is_none());
            assert_eq!(memory.store(chunk, &[7; LONGEST + 1]), None);
            let address = memory.store(chunk, &[7; LONGEST]).unwrap();
            let frame = memory.frame(address, LONGEST as u32, PortId(0)).unwrap();
            assert_eq!(frame.bytes(), [7; LONGEST]);
            assert_eq!(frame.headroom(), KERNEL_HEADROOM);
            assert_eq!(memory.chunk_of(&frame), Some(chunk));
            assert_eq!(other.chunk_of(&frame), None);
        }
        let mut bytes = [0; 100];
        assert_eq!(memory.chunk_of(&Frame::new(&mut bytes, 0, 60, PortId(0))), None);
    }
}
