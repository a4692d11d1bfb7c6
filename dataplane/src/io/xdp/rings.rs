//! The four rings that an XDP socket shares with the kernel: single producer, single consumer,
//! powers of two, free-running indices (Documentation/networking/af_xdp.rst).

use libc::{c_int, c_void, off_t};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// One ring's memory and its fields. `T` is an entry: an address or a descriptor, both plain
/// integers.
#[derive(Debug)]
pub struct Ring<T> {
    start: NonNull<u8>,
    length: usize,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: u32,
    _entries: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone; who holds it may use it from any thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Sets the size of a ring, a power of two, and maps it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(
        socket: BorrowedFd<'_>,
        size: u32,
        option: c_int,
        page: u64,
        offsets: impl Fn(&libc::xdp_mmap_offsets) -> libc::xdp_ring_offset,
    ) -> io::Result<Self> {
        super::socket::set(socket, option, &size)?;
        let all: libc::xdp_mmap_offsets = super::socket::get(socket, libc::XDP_MMAP_OFFSETS)?;
        let offsets = offsets(&all);
        let place = |offset: u64| usize::try_from(offset).map_err(io::Error::other);
        let entries = place(offsets.desc)?;
        let length = entries + size as usize * size_of::<T>();
        // SAFETY: a new mapping at an address of the kernel's choice, of the ring just made.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                page as off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            length,
            producer: place(offsets.producer)?,
            consumer: place(offsets.consumer)?,
            flags: place(offsets.flags)?,
            entries,
            mask: size - 1,
            _entries: PhantomData,
        })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the kernel placed an aligned 32-bit word at this offset of the mapping, which lives
        // as long as `self`, and both sides access it atomically only.
        unsafe { AtomicU32::from_ptr(self.start.add(offset).as_ptr().cast()) }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the masked index lies within the entries, which lie within the mapping.
        unsafe { self.start.add(self.entries).cast::<T>().add((index & self.mask) as usize) }
    }

    /// Whether the kernel sleeps and wants to be told of new entries by a system call.
    pub fn wants_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Entries written and not taken yet.
    pub fn in_flight(&self) -> u32 {
        let (producer, consumer) = (self.word(self.producer), self.word(self.consumer));
        producer.load(Ordering::Acquire).wrapping_sub(consumer.load(Ordering::Acquire))
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`.
        unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), self.length) };
    }
}

/// The end of a ring that puts entries in: fill and transmit.
#[derive(Debug)]
pub struct Producer<T> {
    ring: Ring<T>,
    next: u32,
    /// The kernel's index when last looked at.
    seen: u32,
}

impl<T: Copy> Producer<T> {
    /// The producing end of a new ring.
    pub const fn new(ring: Ring<T>) -> Self {
        Self { ring, next: 0, seen: 0 }
    }

    /// The ring.
    pub const fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    /// How many entries [`Producer::push`] takes without asking the kernel's side again.
    fn known_room(&self) -> u32 {
        self.ring.mask + 1 - self.next.wrapping_sub(self.seen)
    }

    /// Puts an entry in; the kernel sees it after [`Producer::publish`]. False when the ring is full.
    pub fn push(&mut self, entry: T) -> bool {
        if self.known_room() == 0 {
            self.seen = self.ring.word(self.ring.consumer).load(Ordering::Acquire);
            if self.known_room() == 0 {
                return false;
            }
        }
        // SAFETY: the entry is this side's until it is published, as the ring is not full.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the kernel everything pushed so far.
    pub fn publish(&self) {
        self.ring.word(self.ring.producer).store(self.next, Ordering::Release);
    }
}

/// The end of a ring that takes entries out: receive and completion.
#[derive(Debug)]
pub struct Consumer<T> {
    ring: Ring<T>,
    next: u32,
    /// The kernel's index when last looked at.
    seen: u32,
}

impl<T: Copy> Consumer<T> {
    /// The consuming end of a new ring.
    pub const fn new(ring: Ring<T>) -> Self {
        Self { ring, next: 0, seen: 0 }
    }

    /// Whether nothing is there to take.
    pub fn is_empty(&self) -> bool {
        self.next == self.ring.word(self.ring.producer).load(Ordering::Acquire)
    }

    /// Takes the oldest entry; the kernel may use its place again after [`Consumer::publish`].
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.seen {
            self.seen = self.ring.word(self.ring.producer).load(Ordering::Acquire);
            if self.next == self.seen {
                return None;
            }
        }
        // SAFETY: the kernel has published this entry and leaves it alone until this side's index
        // passes it; every bit pattern of an entry is valid.
        let entry = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of everything taken so far back to the kernel.
    pub fn publish(&self) {
        self.ring.word(self.ring.consumer).store(self.next, Ordering::Release);
    }
}
