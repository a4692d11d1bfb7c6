//! Packet sockets: opening, options, errors.

use libc::{c_int, c_void, socklen_t};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Memory that frames waiting in the kernel may take up: super-frames that did not fit a ring slot,
/// and frames on their way out. Queues are bounded by it; what does not fit is dropped and counted.
const SOCKET_MEMORY: c_int = 32 << 20;

/// A packet socket of one interface.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
    interface: u32,
}

/// What a packet socket says about its interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Nothing was reported.
    Fine,
    /// Down for now; the kernel takes up reception again by itself.
    Down,
    /// The interface was removed.
    Gone,
}

impl PacketSocket {
    /// Opens a socket that can send from `interface` and receives nothing yet, with virtio-net
    /// headers before frames.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn open(interface: u32) -> io::Result<Self> {
        let socket = Self::plain(interface)?;
        socket.set(libc::PACKET_VNET_HDR, &1)?;
        Ok(socket)
    }

    /// The same without headers.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn plain(interface: u32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket() takes no pointers; the descriptor is new and owned by nobody else.
        let descriptor = unsafe {
            let descriptor = libc::socket(libc::AF_PACKET, kind, 0);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        let socket = Self { descriptor, interface };
        socket.bind(0)?;
        Ok(socket)
    }

    /// Makes room for what waits to be received.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enlarge_receive_memory(&self) -> io::Result<()> {
        // Beyond the system's limit with CAP_NET_ADMIN, else up to it.
        self.set_at(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &SOCKET_MEMORY)
            .or_else(|_| self.set_at(libc::SOL_SOCKET, libc::SO_RCVBUF, &SOCKET_MEMORY))
    }

    /// Makes room for what waits to be sent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enlarge_send_memory(&self) -> io::Result<()> {
        self.set_at(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SOCKET_MEMORY)
            .or_else(|_| self.set_at(libc::SOL_SOCKET, libc::SO_SNDBUF, &SOCKET_MEMORY))
    }

    /// Starts reception of all protocols.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn start(&self) -> io::Result<()> {
        self.bind(libc::ETH_P_ALL)
    }

    fn bind(&self, protocol: c_int) -> io::Result<()> {
        let mut address = unspecified_address();
        address.sll_family = libc::AF_PACKET.cast_unsigned() as u16;
        address.sll_protocol = (protocol.cast_unsigned() as u16).to_be();
        address.sll_ifindex = self.interface.cast_signed();
        // SAFETY: `address` is a valid sockaddr_ll that outlives the call, and the length is its own.
        check(unsafe {
            libc::bind(
                self.descriptor.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as socklen_t,
            )
        })
    }

    /// Sets an option of the packet level.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn set<T: Copy>(&self, option: c_int, value: &T) -> io::Result<()> {
        self.set_at(libc::SOL_PACKET, option, value)
    }

    /// Sets an option of any level.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn set_at<T: Copy>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, which outlives the call.
        check(unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast::<c_void>(),
                size_of::<T>() as socklen_t,
            )
        })
    }

    fn get<T: Copy>(&self, level: c_int, option: c_int, mut value: T) -> io::Result<T> {
        let mut length = size_of::<T>() as socklen_t;
        // SAFETY: the pointer and length describe `value`; callers choose integers and structures of
        // integers, of which every bit pattern is valid.
        check(unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                level,
                option,
                (&raw mut value).cast::<c_void>(),
                &raw mut length,
            )
        })?;
        Ok(value)
    }

    /// Frames that the kernel dropped since the last call because there was no room for them.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn dropped(&self) -> io::Result<u64> {
        let zero = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        self.get(libc::SOL_PACKET, libc::PACKET_STATISTICS, zero).map(|s| s.tp_drops.into())
    }

    /// Joins the sockets of one interface that share its frames by flow. The first one, which gives
    /// no group, founds it. Returns the group.
    ///
    /// # Errors
    /// When the interface is down or the kernel refuses.
    pub fn share(&self, group: Option<u16>) -> io::Result<u16> {
        let mode = libc::PACKET_FANOUT_HASH
            | if group.is_none() { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
        let request = mode << 16 | u32::from(group.unwrap_or(0));
        self.set(libc::PACKET_FANOUT, &request)?;
        let joined: u32 = self.get(libc::SOL_PACKET, libc::PACKET_FANOUT, 0)?;
        Ok((joined & 0xffff) as u16)
    }

    /// Lets no frame in, or every frame that other filters let in. Used to start several sockets at
    /// once.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn hold(&self, hold: bool) -> io::Result<()> {
        if !hold {
            return self.set_at(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0);
        }
        // Classic BPF: return 0 bytes.
        let mut nothing = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
        self.set_at(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// What happened to the interface since the last call.
    pub fn link_state(&self) -> LinkState {
        match self.get(libc::SOL_SOCKET, libc::SO_ERROR, 0) {
            Ok(0) => LinkState::Fine,
            Ok(_) | Err(_) if self.bound_interface() != Some(self.interface) => LinkState::Gone,
            Ok(_) | Err(_) => LinkState::Down,
        }
    }

    /// The interface index; the kernel unbinds the socket when the interface is removed.
    fn bound_interface(&self) -> Option<u32> {
        let mut address = unspecified_address();
        let mut length = size_of_val(&address) as socklen_t;
        // SAFETY: pointer and length describe `address`, of which every bit pattern is valid.
        let got = check(unsafe {
            libc::getsockname(
                self.descriptor.as_raw_fd(),
                (&raw mut address).cast(),
                &raw mut length,
            )
        });
        got.ok().and_then(|()| u32::try_from(address.sll_ifindex).ok())
    }

    /// The interface index that the socket was opened for.
    pub const fn interface(&self) -> u32 {
        self.interface
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

const fn unspecified_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: 0,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
