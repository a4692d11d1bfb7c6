//! From the driver to the sockets: the program on an interface, and the sockets of its queues.

use crate::io::bpf::BpfError;
use aya::maps::{ArrayOfMaps, Map, MapData, MapError, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_XSKMAP;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

/// The sockets of every interface, by its index; see `sockets` in `bpf/maps.h`.
pub type QueueSockets = ArrayOfMaps<MapData, XskMap<MapData>>;

/// Most queues of an interface, as the map says.
const QUEUES: u32 = 1 << 10;

/// What sends an interface's frames to the sockets. Dropping it gives them back to the host.
pub struct Redirection {
    _link: FdLink,
    queues: XskMap<MapData>,
}

impl Redirection {
    /// Attaches the program to an interface. Frames go on to the stack until their queue has a socket.
    ///
    /// # Errors
    /// When the interface is gone, its driver or the kernel does not support it, or another XDP
    /// program is there.
    pub fn new(
        program: &mut Xdp,
        interface: u32,
        mode: XdpMode,
        sockets: &mut QueueSockets,
    ) -> Result<Self, BpfError> {
        let link = program
            .attach_to_if_index(interface, mode)
            .and_then(|link| program.take_link(link))
            .map_err(BpfError::action("attach a BPF program to an interface"))?;
        // Before Linux 5.9 there are no links, and the program would outlive this process.
        let link = FdLink::try_from(link).map_err(|_| BpfError::Action {
            action: "attach a BPF program to an interface for as long as this process lives",
            source: io::ErrorKind::Unsupported.into(),
        })?;
        let queues = queues().map_err(BpfError::action("make a map of XDP sockets"))?;
        // It stays there until the interface is opened again. Without its sockets, which leave it when
        // they are closed, frames go on to the stack.
        sockets.set(interface, &queues, 0).map_err(BpfError::action("add a map of XDP sockets"))?;
        Ok(Self { _link: link, queues })
    }

    /// Gives a queue its socket.
    ///
    /// # Errors
    /// When there are more queues than the map has room for.
    pub fn set(&mut self, queue: u32, socket: &impl AsRawFd) -> Result<(), BpfError> {
        let socket = socket.as_raw_fd();
        self.queues.set(queue, socket, 0).map_err(BpfError::action("give a queue its XDP socket"))
    }
}

impl fmt::Debug for Redirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirection").finish_non_exhaustive()
    }
}

fn queues() -> Result<XskMap<MapData>, MapError> {
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_XSKMAP as u32, 4, 4, QUEUES, 0);
    Map::from_map_data(MapData::create(map, "viaduct_xsks", None)?)?.try_into()
}
