//! Attaching before Linux 6.6, which has no links for traffic control: filters on the `clsact`
//! queueing discipline, by netlink. The kernel keeps such filters when the process dies, so their
//! programs look for a sign of life (see [`super::program::Hook::LegacyIngress`]) and then let
//! everything pass; the next start takes their place.

use crate::io::bpf::Program;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const PARENT_CLSACT: u32 = 0xffff_fff1;
const PARENT_INGRESS: u32 = 0xffff_fff2;
const PARENT_EGRESS: u32 = 0xffff_fff3;
const HANDLE_CLSACT: u32 = 0xffff_0000;

/// Where among other filters, and under which name, ours stand: the same at every start.
const PRIORITY: u32 = 0x5649;
const HANDLE: u32 = 1;

// Attributes, include/uapi/linux/rtnetlink.h and pkt_cls.h.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const DIRECT_ACTION: u32 = 1;

/// Which way frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Arriving.
    In,
    /// Leaving.
    Out,
}

impl Way {
    const fn parent(self) -> u32 {
        match self {
            Self::In => PARENT_INGRESS,
            Self::Out => PARENT_EGRESS,
        }
    }
}

/// A filter of one interface; dropping it removes it.
#[derive(Debug)]
pub struct Filter {
    socket: OwnedFd,
    interface: u32,
    way: Way,
    /// Whether another one stands in its place, and is not to be removed with it.
    replaced: bool,
}

impl Filter {
    /// Puts `program` on an interface, in the place of an earlier one, of this process or another.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or when the kernel has no `clsact` or the interface is gone.
    pub fn new(program: &Program, interface: u32, way: Way) -> io::Result<Self> {
        let socket = netlink()?;
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let mut qdisc = Message::new(libc::RTM_NEWQDISC, flags, interface);
        qdisc.traffic_control(HANDLE_CLSACT, PARENT_CLSACT, 0);
        qdisc.attribute(TCA_KIND, b"clsact\0");
        match qdisc.exchange(&socket) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut filter = Self::message(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, interface, way);
        filter.attribute(TCA_KIND, b"bpf\0");
        let mut options = Message::default();
        options.attribute(TCA_BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
        options.attribute(TCA_BPF_NAME, b"viaduct\0");
        options.attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
        filter.attribute(TCA_OPTIONS, &options.0);
        filter.exchange(&socket)?;
        Ok(Self { socket, interface, way, replaced: false })
    }

    /// Leaves its place to another one.
    pub const fn leave(&mut self) {
        self.replaced = true;
    }

    fn message(kind: u16, flags: i32, interface: u32, way: Way) -> Message {
        let mut message = Message::new(kind, flags as u16, interface);
        let protocol = u32::from((libc::ETH_P_ALL as u16).to_be());
        message.traffic_control(HANDLE, way.parent(), PRIORITY << 16 | protocol);
        message
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if self.replaced {
            return;
        }
        let mut message = Self::message(libc::RTM_DELTFILTER, 0, self.interface, self.way);
        message.attribute(TCA_KIND, b"bpf\0");
        // The interface may be gone, and its filters with it.
        let _ = message.exchange(&self.socket);
    }
}

fn netlink() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket() takes no pointers; the descriptor is new and owned by nobody else.
    unsafe {
        let socket = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

/// A netlink message in the making; also used for the body of a nested attribute.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, interface: u32) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        // struct tcmsg starts with the family and the interface.
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&interface.to_ne_bytes());
        Self(bytes)
    }

    fn traffic_control(&mut self, handle: u32, parent: u32, info: u32) {
        for field in [handle, parent, info] {
            self.0.extend_from_slice(&field.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Sends the message and waits for the kernel's answer, which it has ready by then.
    fn exchange(mut self, socket: &OwnedFd) -> io::Result<()> {
        let length = u32::try_from(self.0.len()).unwrap_or(0);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let mut answer = [0u8; 4096];
        // SAFETY: pointers and lengths describe the message and the buffer, which outlive the calls.
        let got = unsafe {
            let (socket, message) = (socket.as_raw_fd(), &self.0);
            if libc::send(socket, message.as_ptr().cast(), message.len(), 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        // An acknowledgement: the header, and an error number that is 0 or negative.
        let code = match (usize::try_from(got), answer[16..].first_chunk()) {
            (Ok(20..), Some(code)) => i32::from_ne_bytes(*code),
            (Ok(_), _) => return Err(io::ErrorKind::InvalidData.into()),
            (Err(_), _) => return Err(io::Error::last_os_error()),
        };
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
    }
}
