//! Sockets of the VRRP thread: one to receive and one to send per interface and family, and one for whole
//! Ethernet frames, which adverts from the virtual MAC and announcements need.

use super::interfaces::Interface;
use super::packet::{Datagram, GROUP_V4, GROUP_V6, PROTOCOL, Path, Rejected};
use dataplane::table::Family;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendto, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `TC_PRIO_CONTROL`: the first band of the interface's queue.
const CONTROL: i32 = 7;
/// Room for the largest advert that fits a jumbo frame's header fields.
const BUFFER: usize = 4096;

/// Everything to speak VRRP with on one interface in one family.
#[derive(Debug)]
pub struct Link {
    family: Family,
    interface: Interface,
    multicast: bool,
    receive: Socket,
    send: Socket,
    buffer: Vec<u8>,
}

impl Link {
    /// Opens the sockets; joins the group when `multicast`.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when the interface is gone again.
    pub fn open(
        name: &str,
        interface: &Interface,
        family: Family,
        multicast: bool,
    ) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let raw = |protocol: i32| {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
            socket.bind_device(Some(name.as_bytes()))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let receive = raw(PROTOCOL.into())?;
        // IPPROTO_RAW: whole IP packets, and nothing is ever received.
        let send = raw(nix::libc::IPPROTO_RAW)?;
        // Only a better place in the queue; without CAP_NET_ADMIN there is none.
        let _ = setsockopt(&send, sockopt::Priority, &CONTROL);
        match family {
            Family::V4 => {
                send.set_multicast_loop_v4(false)?;
                if multicast {
                    let index = InterfaceIndexOrAddress::Index(interface.index);
                    receive.join_multicast_v4_n(&GROUP_V4, &index)?;
                }
            }
            Family::V6 => {
                setsockopt(&receive, sockopt::Ipv6RecvPacketInfo, &true)?;
                setsockopt(&receive, sockopt::Ipv6RecvHopLimit, &true)?;
                send.set_multicast_if_v6(interface.index)?;
                send.set_multicast_loop_v6(false)?;
                if multicast {
                    receive.join_multicast_v6(&GROUP_V6, interface.index)?;
                }
            }
        }
        let interface = interface.clone();
        Ok(Self { family, interface, multicast, receive, send, buffer: vec![0; BUFFER] })
    }

    /// Whether these sockets still fit the interface.
    pub fn fits(&self, interface: &Interface, multicast: bool) -> bool {
        let key = |interface: &Interface| (interface.index, interface.link);
        self.multicast == multicast && key(&self.interface) == key(interface)
    }

    /// The next packet, or `None` when there is no more. Packets that are no VRRP packets at all are
    /// returned as [`Rejected::Ip`].
    pub fn receive(&mut self) -> Option<Result<Datagram<'_>, Rejected>> {
        match self.family {
            Family::V4 => {
                let fd = self.receive.as_raw_fd();
                let len = nix::sys::socket::recv(fd, &mut self.buffer, MsgFlags::empty()).ok()?;
                Some(Datagram::from_ipv4(self.buffer.get(..len)?))
            }
            Family::V6 => self.receive_v6(),
        }
    }

    fn receive_v6(&mut self) -> Option<Result<Datagram<'_>, Rejected>> {
        let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, i32);
        let (len, source, destination, ttl) = {
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let fd = self.receive.as_raw_fd();
            let flags = MsgFlags::empty();
            let message =
                recvmsg::<SockaddrIn6>(fd, &mut slices, Some(&mut control), flags).ok()?;
            let mut destination = None;
            let mut ttl = None;
            for item in message.cmsgs().ok()? {
                if let ControlMessageOwned::Ipv6PacketInfo(info) = item {
                    destination = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                } else if let ControlMessageOwned::Ipv6HopLimit(limit) = item {
                    ttl = u8::try_from(limit).ok();
                }
            }
            let source = message.address.map(|address| IpAddr::V6(address.ip()));
            (message.bytes, source, destination, ttl)
        };
        let (Some(source), Some(destination), Some(ttl)) = (source, destination, ttl) else {
            return Some(Err(Rejected::Ip));
        };
        let bytes = self.buffer.get(..len)?;
        Some(Ok(Datagram { path: Path { source, destination }, ttl, bytes }))
    }

    /// Sends a whole IP packet from the interface's own MAC, by the kernel's routes and neighbours.
    ///
    /// # Errors
    /// What the kernel says, such as that the interface is down.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        let to = match destination {
            IpAddr::V4(to) => SocketAddr::from((to, 0)),
            IpAddr::V6(to) => SocketAddrV6::new(to, 0, 0, self.interface.index).into(),
        };
        self.send.send_to(packet, &SockAddr::from(to)).map(drop)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }
}

/// Sends whole Ethernet frames on any interface; receives nothing.
#[derive(Debug)]
pub struct Frames(Socket);

impl Frames {
    /// Opens the socket.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        let _ = setsockopt(&socket, sockopt::Priority, &CONTROL);
        Ok(Self(socket))
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// What the kernel says, such as that the interface is down or its queue full.
    pub fn send(&self, interface: &Interface, frame: &[u8]) -> io::Result<()> {
        sendto(self.0.as_raw_fd(), frame, &interface.link, MsgFlags::empty())?;
        Ok(())
    }
}
