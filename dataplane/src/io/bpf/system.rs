//! bpf(2): programs and links. Structures follow `union bpf_attr` in include/uapi/linux/bpf.h; the
//! kernel takes what lies beyond the given length as zero.

use super::Instruction;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: i32 = 5;
const PROG_TEST_RUN: i32 = 10;
const LINK_CREATE: i32 = 28;

/// Room for what the verifier has to say about a refused program.
const LOG_BYTES: usize = 1 << 20;

/// What bpf(2) refuses.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// A map cannot be made.
    #[error("the kernel refused the BPF map {name}")]
    Map {
        /// The map's name.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program cannot be loaded.
    #[error("the kernel refused the BPF program {name}: {verdict}")]
    Program {
        /// The program's name.
        name: &'static str,
        /// The end of the verifier's log.
        verdict: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program's text is wrong.
    #[error(transparent)]
    Assemble(#[from] super::AssembleError),
    /// A program cannot be attached, an entry cannot be written.
    #[error("{action}")]
    Action {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are more entries than a map was made for.
    #[error("there are {count} {what} and room for {most}; what was in force before stays so")]
    Full {
        /// What there are too many of, in the operator's terms.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: u32,
    },
}

impl BpfError {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Map { source, .. }
            | Self::Program { source, .. }
            | Self::Action { source, .. } => source.raw_os_error(),
            Self::Assemble(_) | Self::Full { .. } => None,
        }
    }
}

/// Where programs run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramKind {
    /// On a socket; returns how many bytes of the frame the socket gets.
    SocketFilter,
    /// At the traffic control hooks of an interface.
    TrafficControl,
    /// In the driver, before the stack.
    Xdp,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    descriptor: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// How the frame of a test run arrives.
#[derive(Clone, Copy, Default, Debug)]
pub struct Arrival {
    /// The interface that it is said to have come in on, of the current network namespace; 0 for none.
    pub interface: u32,
    /// Its mark. XDP has none.
    pub mark: u32,
    /// Its control block, where programs leave notes for each other. XDP has none.
    pub control: [u32; 5],
}

/// What a test run gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What the program returned.
    pub returned: i32,
    /// Mean time of one run, in nanoseconds.
    pub nanoseconds: u32,
    /// The control block afterwards.
    pub control: [u32; 5],
}

impl Program {
    /// Loads a program.
    ///
    /// # Errors
    /// Without `CAP_BPF` and `CAP_NET_ADMIN`, when the kernel is too old, or when its verifier finds
    /// a mistake.
    pub fn load(
        kind: ProgramKind,
        name: &'static str,
        code: &[Instruction],
    ) -> Result<Self, BpfError> {
        let prog_type = match kind {
            ProgramKind::SocketFilter => 1,
            ProgramKind::TrafficControl => 3,
            ProgramKind::Xdp => 6,
        };
        let mut request = ProgLoad {
            prog_type,
            insn_cnt: code.len() as u32,
            insns: code.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            prog_name: object_name(name),
            ..ProgLoad::default()
        };
        if let Ok(descriptor) = create(PROG_LOAD, &request) {
            return Ok(Self { descriptor });
        }
        // Once more, to hear why.
        let mut log = vec![0u8; LOG_BYTES];
        request.log_level = 1;
        request.log_size = LOG_BYTES as u32;
        request.log_buf = log.as_mut_ptr() as u64;
        match create(PROG_LOAD, &request) {
            Ok(descriptor) => Ok(Self { descriptor }),
            Err(source) => {
                let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = String::from_utf8_lossy(text);
                let lines: Vec<&str> = text.lines().rev().take(12).collect();
                let verdict = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
                Err(BpfError::Program { name, verdict, source })
            }
        }
    }

    /// Runs the program `repeat` times on a frame.
    ///
    /// # Errors
    /// When the frame is shorter than an Ethernet header, or the kernel refuses.
    pub fn test_run(
        &self,
        kind: ProgramKind,
        frame: &[u8],
        arrival: &Arrival,
        repeat: u32,
    ) -> Result<Outcome, BpfError> {
        // struct __sk_buff: mark is the third word, ifindex the eleventh, cb begins with the
        // thirteenth. struct xdp_md: the second word is the length, the fourth the interface.
        const CONTROL: std::ops::Range<usize> = 12..17;
        let mut context = [0u32; 48];
        let words = match kind {
            ProgramKind::SocketFilter | ProgramKind::TrafficControl => {
                context[2] = arrival.mark;
                context[10] = arrival.interface;
                context[CONTROL].copy_from_slice(&arrival.control);
                context.len()
            }
            ProgramKind::Xdp => {
                context[1] = frame.len() as u32;
                context[3] = arrival.interface;
                6
            }
        };
        let mut after = [0u32; 48];
        let mut request = TestRun {
            prog_fd: self.descriptor.as_raw_fd().cast_unsigned(),
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            ctx_in: context.as_ptr() as u64,
            ctx_size_in: (words * 4) as u32,
            ctx_out: after.as_mut_ptr() as u64,
            ctx_size_out: (words * 4) as u32,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: frame and both contexts outlive the call and are as long as the request says; the
        // kernel writes nothing but the second context and the request's own result fields.
        unsafe { bpf_mut(PROG_TEST_RUN, &mut request) }
            .map_err(|source| BpfError::Action { action: "run a BPF program", source })?;
        let mut control = [0; 5];
        control.copy_from_slice(&after[CONTROL]);
        let returned = request.retval.cast_signed();
        Ok(Outcome { returned, nanoseconds: request.duration, control })
    }

    /// Lets an XDP program make `count` frames out of `frame` and do with them as it says, as if they
    /// had come in on `interface`: a packet generator.
    ///
    /// # Errors
    /// Before Linux 5.18, or when the kernel refuses.
    pub fn send_frames(&self, frame: &[u8], interface: u32, count: u32) -> Result<(), BpfError> {
        self.send_frames_by(0, frame, interface, count)
    }

    /// As [`Program::send_frames`], where so many frames are made before those that go out leave; 0
    /// is the kernel's own number.
    ///
    /// # Errors
    /// As there.
    pub fn send_frames_by(
        &self,
        batch: u32,
        frame: &[u8],
        interface: u32,
        count: u32,
    ) -> Result<(), BpfError> {
        const LIVE_FRAMES: u32 = 1 << 1;
        let context = [0, frame.len() as u32, 0, interface, 0, 0];
        let mut request = TestRun {
            prog_fd: self.descriptor.as_raw_fd().cast_unsigned(),
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            ctx_in: context.as_ptr() as u64,
            ctx_size_in: size_of_val(&context) as u32,
            repeat: count,
            flags: LIVE_FRAMES,
            batch_size: batch,
            ..TestRun::default()
        };
        // SAFETY: frame and context outlive the call and are as long as the request says; the kernel
        // writes nothing but the request's own result fields.
        unsafe { bpf_mut(PROG_TEST_RUN, &mut request) }.map_err(|source| BpfError::Action {
            action: "send frames by a BPF program",
            source,
        })?;
        Ok(())
    }

    /// Puts the program on a socket, for as long as the socket lives.
    ///
    /// # Errors
    /// When it is no socket filter.
    pub fn filter(&self, socket: BorrowedFd<'_>) -> Result<(), BpfError> {
        let program = self.descriptor.as_raw_fd();
        // SAFETY: the option's value is one descriptor, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_BPF,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        };
        if result == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        Err(BpfError::Action { action: "filter a socket", source })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Where a program is attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachPoint {
    /// Traffic control, arriving frames, after captures have seen them. Linux 6.6.
    Ingress,
    /// Traffic control, leaving frames, before captures see them. Linux 6.6.
    Egress,
    /// In the driver.
    XdpNative,
    /// Before the stack, for drivers without support.
    XdpGeneric,
}

/// An attached program; dropping it, or the death of the process, detaches it.
#[derive(Debug)]
pub struct Link {
    _descriptor: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u64,
    expected_revision: u64,
}

impl Link {
    /// Attaches a program to an interface, before others of its kind.
    ///
    /// # Errors
    /// When the interface is gone, its driver or the kernel does not support it, or (XDP) another
    /// program is there.
    pub fn new(program: &Program, interface: u32, point: AttachPoint) -> Result<Self, BpfError> {
        const BEFORE: u32 = 1 << 3;
        const XDP_SKB_MODE: u32 = 1 << 1;
        const XDP_DRIVER_MODE: u32 = 1 << 2;
        let (attach_type, flags) = match point {
            AttachPoint::Ingress => (46, BEFORE),
            AttachPoint::Egress => (47, BEFORE),
            AttachPoint::XdpNative => (37, XDP_DRIVER_MODE),
            AttachPoint::XdpGeneric => (37, XDP_SKB_MODE),
        };
        let request = LinkCreate {
            prog_fd: program.descriptor.as_raw_fd().cast_unsigned(),
            target_ifindex: interface,
            attach_type,
            flags,
            ..LinkCreate::default()
        };
        let action = "attach a BPF program to an interface";
        create(LINK_CREATE, &request)
            .map(|descriptor| Self { _descriptor: descriptor })
            .map_err(|source| BpfError::Action { action, source })
    }
}

/// Names in the kernel have at most 15 characters.
pub(super) fn object_name(name: &str) -> [u8; 16] {
    let mut field = [0; 16];
    for (to, from) in field.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    field
}

pub(super) fn create<T>(command: i32, request: &T) -> io::Result<OwnedFd> {
    // SAFETY: callers pass the structure of `command`, whose pointers outlive the call; the result is
    // a new descriptor.
    unsafe {
        let descriptor = bpf(command, request)?;
        let descriptor = i32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// # Safety
/// `request` must be the structure that `command` takes, and its pointers valid.
pub(super) unsafe fn bpf<T>(command: i32, request: &T) -> io::Result<i64> {
    // SAFETY: as the caller promises; these commands do not write into the structure itself.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(request), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// # Safety
/// As [`bpf`], for commands that write results into the structure.
unsafe fn bpf_mut<T>(command: i32, request: &mut T) -> io::Result<i64> {
    // SAFETY: as the caller promises.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
