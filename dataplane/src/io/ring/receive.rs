//! Receiving: a ring of slots that kernel and worker share (TPACKET_V2), and a socket queue for the
//! super-frames that are larger than a slot (`PACKET_COPY_THRESH`).

use super::socket::{LinkState, PacketSocket};
use super::vnet;
use crate::frame::{BATCH, Batch, Frame, HEADROOM, Offload};
use crate::io::Receive;
use crate::io::memory::MAX_FRAME;

use crate::table::PortId;
use libc::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Memory of an everyday ring: 4,096 slots of 2 KiB, about ten milliseconds at full speed.
pub(super) const RING_BYTES: usize = 8 << 20;

/// Unit of allocation in the kernel; a power of two and at least a slot.
const BLOCK_BYTES: usize = 1 << 16;

/// Where a slot's data area begins: after `tpacket2_hdr` and `sockaddr_ll`.
const SLOT_HEADER: usize = libc::TPACKET2_HDRLEN;

/// Room for an 802.1Q tag that the kernel took out of the frame.
const TAG: usize = 4;

/// Asked of the kernel before each frame. Two more bytes put the IP header on a 16-byte boundary.
const RESERVE: usize = HEADROOM + TAG + 2;

/// One large buffer: headroom and the largest frame, after the header that the kernel writes first.
const LARGE: usize = HEADROOM + TAG + vnet::LENGTH + MAX_FRAME;

/// Where a large frame starts in its buffer.
const LARGE_START: usize = HEADROOM + TAG + vnet::LENGTH;

// Flags of `tp_status`, include/uapi/linux/if_packet.h; those that libc does not name.
const VLAN_VALID: u32 = 1 << 4;
const VLAN_TPID_VALID: u32 = 1 << 6;

/// Every how many empty turns the socket is asked for errors; until then a poll returns at once.
const CHECK_EVERY: u32 = 64;

/// The receiving half of a packet ring.
#[derive(Debug)]
pub struct RingReceive {
    socket: PacketSocket,
    map: Mapping,
    slot_bytes: usize,
    slots: usize,
    next: usize,
    /// Slots before `next` that the worker holds.
    held: usize,
    large: Vec<u8>,
    port: PortId,
    missed: u64,
    /// The kernel has dropped frames that were not asked about yet.
    losing: bool,
    empty_turns: u32,
}

impl RingReceive {
    /// A ring of `bytes` bytes, a power of two and at least [`BLOCK_BYTES`], whose slots hold frames
    /// of up to `mtu` bytes of IP packet. Reception has to be started with [`PacketSocket::start`].
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, memory, or the interface.
    pub fn open(interface: u32, port: PortId, mtu: usize, bytes: usize) -> io::Result<Self> {
        let socket = PacketSocket::open(interface)?;
        socket.enlarge_receive_memory()?;
        socket.set(libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as c_int))?;
        socket.set(libc::PACKET_IGNORE_OUTGOING, &1)?;
        socket.set(libc::PACKET_RESERVE, &(RESERVE as u32))?;
        socket.set(libc::PACKET_COPY_THRESH, &1)?;
        let needed = SLOT_HEADER + RESERVE + 32 + 14 + TAG + mtu;
        let slot_bytes = needed.next_power_of_two().clamp(2048, BLOCK_BYTES);
        let slots = bytes / slot_bytes;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: (bytes / BLOCK_BYTES) as u32,
            tp_frame_size: slot_bytes as u32,
            tp_frame_nr: slots as u32,
        };
        socket.set(libc::PACKET_RX_RING, &request)?;
        let map = Mapping::of(&socket, bytes)?;
        let large = vec![0; BATCH * LARGE];
        let (missed, losing, empty_turns) = (0, false, 0);
        Ok(Self {
            socket,
            map,
            slot_bytes,
            slots,
            next: 0,
            held: 0,
            large,
            port,
            missed,
            losing,
            empty_turns,
        })
    }

    /// Whether a frame waits.
    pub fn has_frames(&self) -> bool {
        let slot = self.map.slot(self.next * self.slot_bytes);
        slot.status(Ordering::Relaxed) & libc::TP_STATUS_USER != 0
    }

    /// The socket, to start it and put filters on it.
    pub const fn socket(&self) -> &PacketSocket {
        &self.socket
    }
}

impl Receive for RingReceive {
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        self.release(0);
        for large in self.large.chunks_exact_mut(LARGE) {
            let slot = self.map.slot(self.next * self.slot_bytes);
            let status = slot.status(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                break;
            }
            self.next = if self.next + 1 == self.slots { 0 } else { self.next + 1 };
            self.held += 1;
            self.losing |= status & libc::TP_STATUS_LOSING != 0;
            let frame = if status & libc::TP_STATUS_COPY == 0 {
                // SAFETY: the kernel handed this slot over (TP_STATUS_USER) and leaves it alone
                // until `release` hands it back, which needs the borrow of `self` that `batch` holds
                // to have ended. No slot is visited twice before that: `held` is at most BATCH.
                unsafe { slot.frame(self.slot_bytes, self.port) }
            } else {
                receive_large(&self.socket, large, &slot.header(), self.port)
            };
            match frame {
                Some(frame) => batch.push(frame),
                None => self.missed += 1,
            }
        }
        if self.held > 0 {
            return Ok(());
        }
        self.empty_turns = self.empty_turns.wrapping_add(1);
        if self.empty_turns % CHECK_EVERY == 1 && self.socket.link_state() == LinkState::Gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        Ok(())
    }

    fn release(&mut self, _kept: u64) {
        let first = self.next + self.slots - self.held;
        for index in first..first + self.held {
            let slot = self.map.slot(index % self.slots * self.slot_bytes);
            slot.give_back();
        }
        self.held = 0;
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn missed(&mut self) -> u64 {
        let mut missed = std::mem::take(&mut self.missed);
        if std::mem::take(&mut self.losing) {
            missed += self.socket.dropped().unwrap_or(0);
        }
        missed
    }
}

/// Takes a frame that was too large for its slot from the socket's queue, where the kernel put it in
/// the order of the slots. `None` when it is too large even so.
fn receive_large<'r>(
    socket: &PacketSocket,
    buffer: &'r mut [u8],
    slot: &libc::tpacket2_hdr,
    port: PortId,
) -> Option<Frame<'r>> {
    let window = &mut buffer[LARGE_START - vnet::LENGTH..];
    // SAFETY: pointer and length describe `window`, borrowed for the call.
    let got = unsafe {
        libc::recv(
            socket.as_fd().as_raw_fd(),
            window.as_mut_ptr().cast(),
            window.len(),
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
        )
    };
    let got = usize::try_from(got).ok()?;
    if got < vnet::LENGTH || got > window.len() {
        return None;
    }
    let offload = vnet::decode(window.first_chunk()?)?;
    let end = LARGE_START - vnet::LENGTH + got;
    let frame = Frame::new(buffer, LARGE_START, end, port);
    finished(frame, offload, slot)
}

/// Puts back the tag that the kernel or the network card took out of the frame.
fn finished<'r>(
    mut frame: Frame<'r>,
    offload: Offload,
    slot: &libc::tpacket2_hdr,
) -> Option<Frame<'r>> {
    frame.offload = offload;
    if slot.tp_status & VLAN_VALID == 0 {
        return Some(frame);
    }
    let protocol = if slot.tp_status & VLAN_TPID_VALID == 0 { 0x8100 } else { slot.tp_vlan_tpid };
    if frame.len() < 12 {
        return None;
    }
    frame.push_front(TAG)?;
    let bytes = frame.bytes_mut();
    bytes.copy_within(TAG..TAG + 12, 0);
    bytes[12..14].copy_from_slice(&protocol.to_be_bytes());
    bytes[14..16].copy_from_slice(&slot.tp_vlan_tci.to_be_bytes());
    frame.offload = vnet::shifted(offload, TAG as u16);
    Some(frame)
}

/// The ring's memory, shared with the kernel.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone; who holds it may use it from any thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn of(socket: &PacketSocket, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice, of the size that the ring was
        // just given.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// The slot at `offset`, a multiple of the slot size below the length of the ring. Slots never
    /// cross blocks, as both sizes are powers of two, so the ring is contiguous.
    fn slot(&self, offset: usize) -> Slot {
        debug_assert!(offset < self.length);
        // SAFETY: `offset` lies within the mapping.
        Slot(unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `of`; no slot outlives it, as frames borrow the ring.
        unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), self.length) };
    }
}

/// The address of a slot in a living mapping.
#[derive(Clone, Copy)]
struct Slot(NonNull<u8>);

impl Slot {
    fn atomic_status(&self) -> &AtomicU32 {
        // SAFETY: `tp_status` is the first field of every slot, aligned to at least 2 KiB, and is
        // only accessed atomically on this side.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast()) }
    }

    fn status(&self, ordering: Ordering) -> u32 {
        self.atomic_status().load(ordering)
    }

    fn give_back(&self) {
        self.atomic_status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    fn header(&self) -> libc::tpacket2_hdr {
        // SAFETY: every slot starts with this header, a structure of integers.
        unsafe { self.0.cast::<libc::tpacket2_hdr>().read() }
    }

    /// The frame in the slot. `None` when the slot was too small for it.
    ///
    /// # Safety
    /// The slot must be the worker's for as long as `'r` lasts, and nobody else may refer to it.
    unsafe fn frame<'r>(self, slot_bytes: usize, port: PortId) -> Option<Frame<'r>> {
        let header = self.header();
        // SAFETY: the area after the header lies within the slot and is the worker's, as the caller
        // promises.
        let area = unsafe {
            let start = self.0.add(SLOT_HEADER).as_ptr();
            std::slice::from_raw_parts_mut(start, slot_bytes - SLOT_HEADER)
        };
        let start = usize::from(header.tp_mac).checked_sub(SLOT_HEADER)?;
        let length = usize::try_from(header.tp_snaplen).ok()?;
        if header.tp_snaplen < header.tp_len || start + length > area.len() {
            return None;
        }
        let offload = area.get(start.checked_sub(vnet::LENGTH)?..)?.first_chunk()?;
        let offload = vnet::decode(offload)?;
        finished(Frame::new(area, start, start + length, port), offload, &header)
    }
}
