//! What keeps one interface's claimed frames from the host: programs at its traffic control hooks.
//!
//! Since Linux 6.6 they are links (tcx), which end with the process. Before, they are filters on the
//! `clsact` queueing discipline, which the kernel keeps when the process dies. Such an ingress program
//! looks for a socket of the process and lets everything pass when there is none; the next start
//! takes the filters' place.

use super::Steering;
use crate::io::bpf::{self, BpfError};
use aya::Ebpf;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc};
use nix::net::if_::if_indextoname;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where among other filters ours stand: the same at every start.
const PRIORITY: u16 = 0x5649;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// What keeps one interface's claimed frames from the host. Dropping it gives them back, unless the
/// interface has another one: so an interface can be opened again without the host seeing any. It is
/// to be dropped in the interface's network namespace.
#[derive(Debug)]
pub struct Guard {
    _attached: Attached,
}

#[derive(Debug)]
enum Attached {
    Links { _ingress: SchedClassifierLink, _egress: SchedClassifierLink },
    Filters { _filters: Filters, _life: Arc<Life> },
}

/// A sign of life for programs that the kernel keeps: any death closes these sockets, one of which is
/// in the map `life`.
pub(super) type Life = (UnixStream, UnixStream);

/// Which filters stand on an interface, by its index. New ones take the place of old ones.
pub(super) type Newest = Arc<Mutex<BTreeMap<u32, u64>>>;

/// The filters of one interface. Dropping them removes them if no newer ones took their place.
#[derive(Debug)]
struct Filters {
    links: [Option<SchedClassifierLink>; 2],
    interface: u32,
    number: u64,
    newest: Newest,
}

impl Drop for Filters {
    fn drop(&mut self) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.get(&self.interface) == Some(&self.number) {
            newest.remove(&self.interface);
        } else {
            // They are the newer ones' now. A link of this kind is only a description of a filter,
            // which its drop would remove.
            self.links.iter_mut().for_each(|link| std::mem::forget(link.take()));
        }
    }
}

impl Steering {
    /// Keeps the dataplane's frames on an interface from the host. To be called once its packet
    /// sockets are open.
    ///
    /// # Errors
    /// When the kernel is too old for both ways of attaching, or the interface is gone.
    pub fn guard(&self, interface: u32) -> Result<Guard, BpfError> {
        let mut programs = self.programs();
        match links(&mut programs, interface, ["viaduct_ingress", "viaduct_egress"]) {
            Ok(guard) => Ok(guard),
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                links(&mut programs, interface, ["viaduct_ingress2", "viaduct_egress2"])
            }
            // Linux before 6.6 does not know the attach point.
            Err(error) if error.errno() == Some(libc::EINVAL) => {
                drop(programs);
                self.guard_by_filters(interface)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn guard_by_filters(&self, interface: u32) -> Result<Guard, BpfError> {
        let mut programs = self.programs();
        let name = name_of(interface)?;
        match tc::qdisc_add_clsact(&name).map_err(BpfError::action("add clsact")) {
            Err(error) if error.errno() != Some(libc::EEXIST) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let egress = bpf::program(&mut programs, "viaduct_egress")?;
        let egress = Some(filter(egress, &name, TcAttachType::Egress)?);
        let ingress = bpf::program(&mut programs, "viaduct_legacy")?;
        let ingress = Some(filter(ingress, &name, TcAttachType::Ingress)?);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let number = newest.get(&interface).map_or(0, |number| number + 1);
        newest.insert(interface, number);
        let newest = Arc::clone(&self.newest);
        let filters = Filters { links: [ingress, egress], interface, number, newest };
        Ok(Guard {
            _attached: Attached::Filters { _filters: filters, _life: Arc::clone(&self.life) },
        })
    }

    pub(super) fn programs(&self) -> MutexGuard<'_, Ebpf> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(interface: u32) -> Result<String, BpfError> {
    let gone = |_| std::io::Error::from_raw_os_error(libc::ENODEV);
    let name = if_indextoname(interface)
        .map_err(gone)
        .and_then(|name| name.into_string().map_err(|_| std::io::ErrorKind::InvalidData.into()));
    name.map_err(|source| BpfError::Action { action: "find the interface", source })
}

/// Attaches the programs, ingress and egress, before others.
fn links(
    programs: &mut Ebpf,
    interface: u32,
    [ingress, egress]: [&'static str; 2],
) -> Result<Guard, BpfError> {
    let name = name_of(interface)?;
    let mut attach = |program, way| {
        let program: &mut SchedClassifier = bpf::program(programs, program)?;
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let link = program.attach_with_options(&name, way, first);
        link.and_then(|link| program.take_link(link))
            .map_err(BpfError::action("attach a BPF program to an interface"))
    };
    // The way back first: a frame must not be dropped before it can be given back.
    let egress = attach(egress, TcAttachType::Egress)?;
    let ingress = attach(ingress, TcAttachType::Ingress)?;
    Ok(Guard { _attached: Attached::Links { _ingress: ingress, _egress: egress } })
}

/// Puts a filter on an interface, in the place of an earlier one, of this process or another.
fn filter(
    program: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
) -> Result<SchedClassifierLink, BpfError> {
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let action = "put a filter on clsact";
    let added = program
        .attach_with_options(interface, way, TcAttachOptions::Netlink(options))
        .map_err(BpfError::action(action));
    let link = match added {
        Err(error) if error.errno() == Some(libc::EEXIST) => {
            SchedClassifierLink::attached(interface, way, PRIORITY, HANDLE, None)
                .map_err(ProgramError::IOError)
                .and_then(|earlier| program.attach_to_link(earlier))
                .map_err(BpfError::action(action))?
        }
        added => added?,
    };
    program.take_link(link).map_err(BpfError::action(action))
}
