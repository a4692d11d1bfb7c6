//! From the driver to the sockets: the program on an interface, and the sockets of its queues.

use crate::io::bpf::BpfError;
use aya::maps::{ArrayOfMaps, Map, MapData, MapError, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_XSKMAP;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The sockets of every interface, by its index; see `sockets` in `bpf/maps.h`.
pub type QueueSockets = ArrayOfMaps<MapData, XskMap<MapData>>;

/// How often an interface that is busy is tried again.
const TRIES: u32 = 20;

/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

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
        let link = attach(program, interface, mode)
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

/// An interface that was closed just now may be busy for a moment: a child process between fork and exec
/// holds every descriptor of this one, the old link's too.
fn attach(program: &mut Xdp, interface: u32, mode: XdpMode) -> Result<XdpLinkId, ProgramError> {
    let mut tries = 0;
    loop {
        match program.attach_to_if_index(interface, mode) {
            Err(error) if tries < TRIES && is_busy(&error) => {
                tries += 1;
                #[allow(clippy::disallowed_methods)] // nothing tells when that child has gone on
                std::thread::sleep(BETWEEN_TRIES);
            }
            attached => return attached,
        }
    }
}

fn is_busy(error: &ProgramError) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.any(|cause| {
        let kernel = cause.downcast_ref::<io::Error>();
        kernel.is_some_and(|error| error.raw_os_error() == Some(libc::EBUSY))
    })
}

fn queues() -> Result<XskMap<MapData>, MapError> {
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_XSKMAP as u32, 4, 4, QUEUES, 0);
    Map::from_map_data(MapData::create(map, "viaduct_xsks", None)?)?.try_into()
}
