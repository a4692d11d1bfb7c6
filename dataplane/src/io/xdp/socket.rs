//! XDP sockets: one queue of one interface, with its four rings.

use super::memory::Memory;
use super::rings::{Consumer, Producer, Ring};
use libc::{c_int, c_void, socklen_t};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Entries of each ring.
pub const ENTRIES: u32 = 2048;

/// Descriptors that one system call sends in copy mode; the kernel's own limit is 32. Known since
/// Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
const BUDGET: u32 = 256;

/// `SO_PREFER_BUSY_POLL` and `SO_BUSY_POLL_BUDGET`, include/uapi/asm-generic/socket.h, Linux 5.11.
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;

/// Microseconds that a system call may poll for, and frames that it takes at most.
const BUSY_POLL: c_int = 20;
const BUSY_POLL_FRAMES: c_int = 64;

/// How long chunks of a closed socket are left alone: a network card may write into them until the
/// kernel has taken its queue down, which it does a moment later; without one, some may be on their
/// way out.
const REST_OF_A_CARD: Duration = Duration::from_secs(2);
const REST_OF_THE_KERNEL: Duration = Duration::from_millis(100);

/// System calls made to send one batch, before what is left waits for the next turn.
const KICKS: usize = 8;

/// An open socket. Its rings are apart, as reception and sending have one owner each.
#[derive(Debug)]
pub struct Socket {
    /// Only empty while being dropped.
    descriptor: Option<OwnedFd>,
    /// Under which number its chunks are written down.
    pub owner: u16,
    /// Where its frames are.
    pub memory: Arc<Memory>,
    /// Whether descriptors wait for a system call.
    pub unsent: AtomicBool,
    /// Whether system calls run the driver's polling.
    busily: bool,
    /// How long its chunks are left alone once it is closed.
    rest: Duration,
}

/// A socket's rings.
#[derive(Debug)]
pub struct Rings {
    /// Chunks for the kernel to receive into.
    pub fill: Producer<u64>,
    /// Frames received.
    pub receive: Consumer<libc::xdp_desc>,
    /// Frames to send.
    pub transmit: Producer<libc::xdp_desc>,
    /// Chunks that were sent.
    pub completion: Consumer<u64>,
}

/// How frames get between the network card and the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The card reads and writes the memory itself.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

impl Socket {
    /// Opens a socket and binds it to a queue; zero-copy where the driver can, unless `copy`.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, when the queue does not exist or has a socket already, or when memory
    /// may not be locked.
    pub fn open(
        interface: u32,
        queue: u32,
        memory: Arc<Memory>,
        copy: bool,
    ) -> io::Result<(Self, Rings, Mode)> {
        // SAFETY: socket() takes no pointers; the descriptor is new and owned by nobody else.
        let descriptor = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            let descriptor = libc::socket(libc::AF_XDP, kind, 0);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        let fd = descriptor.as_fd();
        set(fd, libc::XDP_UMEM_REG, &memory.registration())?;
        let rings = rings(fd)?;
        // Older kernels send in smaller portions.
        let _ = set(fd, XDP_MAX_TX_SKB_BUDGET, &BUDGET);
        let flags = libc::XDP_USE_NEED_WAKEUP | if copy { libc::XDP_COPY } else { 0 };
        bind(fd, interface, queue, flags)?;
        let options: libc::xdp_options = get(fd, libc::XDP_OPTIONS)?;
        let mode = if options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0 {
            Mode::ZeroCopy
        } else {
            Mode::Copy
        };
        let owner = memory.pool().enroll(now());
        let unsent = AtomicBool::new(false);
        let rest = match mode {
            Mode::ZeroCopy => REST_OF_A_CARD,
            Mode::Copy => REST_OF_THE_KERNEL,
        };
        let descriptor = Some(descriptor);
        let socket = Self { descriptor, owner, memory, unsent, busily: false, rest };
        Ok((socket, rings, mode))
    }

    /// What to poll.
    ///
    /// # Errors
    /// While the socket is being closed.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// A second descriptor of the socket, to wait for it.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.descriptor()?.try_clone_to_owned()
    }

    /// Lets the kernel send what is in the transmit ring.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn kick(&self, transmit: &Producer<libc::xdp_desc>) -> io::Result<()> {
        for _ in 0..KICKS {
            if !transmit.ring().wants_wakeup() || transmit.ring().in_flight() == 0 {
                self.unsent.store(false, Ordering::Relaxed);
                return Ok(());
            }
            self.ask_to_send()?;
            if self.busily && transmit.ring().in_flight() > 0 {
                self.wake_sender();
            }
        }
        self.unsent.store(transmit.ring().in_flight() > 0, Ordering::Relaxed);
        Ok(())
    }

    /// One turn's worth of sending, of what [`Socket::kick`] left.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn send_once(&self) -> io::Result<()> {
        self.ask_to_send()?;
        if self.busily {
            self.wake_sender();
        }
        Ok(())
    }

    fn ask_to_send(&self) -> io::Result<()> {
        let socket = self.descriptor()?.as_raw_fd();
        // SAFETY: nothing is passed but numbers and a null address.
        let result = unsafe {
            libc::sendto(socket, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => Err(error),
            // Busy, out of memory or down: tried again with the next turn.
            _ => Ok(()),
        }
    }

    /// Wakes the driver's sending. On a socket that polls busily `sendto` only polls what receives,
    /// which with some drivers (virtio) does not send; `poll` wakes both whatever the socket prefers.
    fn wake_sender(&self) {
        let Ok(socket) = self.descriptor() else { return };
        // How ready it is does not matter, and a failure leaves everything as it was.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::POLLOUT)], PollTimeout::ZERO);
    }

    /// Lets system calls on this socket run the driver's polling, in place of interrupts where the
    /// administrator defers those (`napi_defer_hard_irqs`).
    ///
    /// # Errors
    /// Before Linux 5.11 and without `CAP_NET_ADMIN`.
    pub fn poll_busily(&mut self) -> io::Result<()> {
        let fd = self.descriptor()?;
        for (option, value) in [
            (SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, BUSY_POLL),
            (SO_BUSY_POLL_BUDGET, BUSY_POLL_FRAMES),
        ] {
            set_at(fd, libc::SOL_SOCKET, option, &value)?;
        }
        self.busily = true;
        Ok(())
    }

    /// Wakes a driver that sleeps for want of chunks, or polls it.
    pub fn wake_receiver(&self) {
        let Ok(socket) = self.descriptor() else { return };
        // SAFETY: no buffer is passed.
        unsafe {
            let (flags, nowhere) = (libc::MSG_DONTWAIT, std::ptr::null_mut());
            libc::recvfrom(socket.as_raw_fd(), nowhere, 0, flags, nowhere.cast(), nowhere.cast());
        }
    }

    /// Frames lost so far because there was no room for them or they were too long.
    pub fn lost(&self) -> u64 {
        let statistics =
            self.descriptor().and_then(|fd| get::<libc::xdp_statistics>(fd, libc::XDP_STATISTICS));
        statistics.map_or(0, |statistics| statistics.rx_dropped + statistics.rx_ring_full)
    }

    /// Whether the interface still has the socket's queue.
    pub fn is_bound(&self) -> bool {
        let option = |fd| get_at::<c_int>(fd, libc::SOL_SOCKET, libc::SO_ERROR);
        self.descriptor().and_then(option).is_ok_and(|error| error == 0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Closed first, as the kernel uses the chunks until then.
        drop(self.descriptor.take());
        self.memory.pool().retire(self.owner, now() + self.rest);
    }
}

#[allow(clippy::disallowed_methods)] // How long chunks have rested is nobody else's business.
pub(super) fn now() -> Instant {
    Instant::now()
}

fn rings(fd: BorrowedFd<'_>) -> io::Result<Rings> {
    let (fill_page, done_page) =
        (libc::XDP_UMEM_PGOFF_FILL_RING, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
    let (rx_page, tx_page) = (libc::XDP_PGOFF_RX_RING as u64, libc::XDP_PGOFF_TX_RING as u64);
    let (fill, done) = (libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING);
    let (rx, tx) = (libc::XDP_RX_RING, libc::XDP_TX_RING);
    Ok(Rings {
        fill: Producer::new(Ring::new(fd, ENTRIES, fill, fill_page, |o| o.fr)?),
        completion: Consumer::new(Ring::new(fd, ENTRIES, done, done_page, |o| o.cr)?),
        receive: Consumer::new(Ring::new(fd, ENTRIES, rx, rx_page, |o| o.rx)?),
        transmit: Producer::new(Ring::new(fd, ENTRIES, tx, tx_page, |o| o.tx)?),
    })
}

fn bind(fd: BorrowedFd<'_>, interface: u32, queue: u32, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    let result = unsafe {
        let length = size_of_val(&address) as socklen_t;
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option of the XDP level.
pub(super) fn set<T: Copy>(fd: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    set_at(fd, libc::SOL_XDP, option, value)
}

fn set_at<T: Copy>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for an option of the XDP level.
pub(super) fn get<T: Copy>(fd: BorrowedFd<'_>, option: c_int) -> io::Result<T> {
    get_at(fd, libc::SOL_XDP, option)
}

fn get_at<T: Copy>(fd: BorrowedFd<'_>, level: c_int, option: c_int) -> io::Result<T> {
    // SAFETY: callers ask for integers and structures of integers, for which zeros, and whatever the
    // kernel writes, are valid; pointer and length describe `value`.
    unsafe {
        let mut value: T = std::mem::zeroed();
        let mut length = size_of::<T>() as socklen_t;
        let pointer = (&raw mut value).cast::<c_void>();
        if libc::getsockopt(fd.as_raw_fd(), level, option, pointer, &raw mut length) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value)
    }
}
