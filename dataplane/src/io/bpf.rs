//! The compiled BPF programs of `dataplane/bpf`, and what can go wrong with them.

use aya::maps::{Map, MapError};
use aya::programs::tc::TcError;
use aya::programs::{Program, ProgramError, SchedClassifier, SocketFilter, Xdp};
use aya::sys::SyscallError;
use aya::{Ebpf, include_bytes_aligned};
use std::io;

/// What bpf(2) refuses.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The object with the programs and maps cannot be taken apart, or its maps cannot be made.
    #[error("the kernel refused the BPF maps")]
    Maps(#[source] Box<aya::EbpfError>),
    /// The object lacks a map or program of this name, or has one of another kind.
    #[error("the BPF object has no {0} as this program expects it")]
    Missing(&'static str),
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
    /// A program cannot be attached, or an entry cannot be written.
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
    /// Says that `action` failed, for use with `map_err`.
    pub fn action<E: Into<ProgramError>>(action: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Action { action, source: system_error(error.into()) }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Program { source, .. } | Self::Action { source, .. } => source.raw_os_error(),
            Self::Maps(_) | Self::Missing(_) | Self::Full { .. } => None,
        }
    }
}

/// What the kernel said, if it said anything.
#[allow(clippy::wildcard_enum_match_arm, reason = "aya's errors are many and more may come")]
fn system_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(SyscallError { io_error, .. })
        | ProgramError::MapError(MapError::SyscallError(SyscallError { io_error, .. }))
        | ProgramError::LoadError { io_error, .. } => io_error,
        ProgramError::TcError(TcError::NetlinkError(ref inner)) => match inner.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(error),
        },
        other => io::Error::other(other),
    }
}

/// Makes the maps of `bpf/steer.c`. Programs are loaded when they are first asked for.
///
/// # Errors
/// Without `CAP_BPF` and `CAP_NET_ADMIN`, or when the kernel is too old for a map.
pub fn steering_object() -> Result<Ebpf, BpfError> {
    let object = include_bytes_aligned!("../../bpf/steer.o");
    Ebpf::load(object).map_err(|error| BpfError::Maps(Box::new(error)))
}

/// Takes a map out of the object.
///
/// # Errors
/// When the object has no such map.
pub fn map<M: TryFrom<Map>>(object: &mut Ebpf, name: &'static str) -> Result<M, BpfError> {
    let map = object.take_map(name).ok_or(BpfError::Missing(name))?;
    M::try_from(map).map_err(|_| BpfError::Missing(name))
}

/// A kind of program that can be loaded.
pub trait Load {
    /// Whether the kernel has it.
    fn is_loaded(&self) -> bool;
    /// Gives it to the kernel.
    #[allow(clippy::missing_errors_doc)]
    fn load(&mut self) -> Result<(), ProgramError>;
}

macro_rules! load {
    ($($kind:ty),+) => {
        $(impl Load for $kind {
            fn is_loaded(&self) -> bool {
                self.fd().is_ok()
            }

            fn load(&mut self) -> Result<(), ProgramError> {
                self.load()
            }
        })+
    };
}

load!(SocketFilter, SchedClassifier, Xdp);

/// Returns a program, which the kernel has from now on.
///
/// # Errors
/// When the kernel is too old, or its verifier finds a mistake.
pub fn program<'o, P>(object: &'o mut Ebpf, name: &'static str) -> Result<&'o mut P, BpfError>
where
    P: Load,
    &'o mut P: TryFrom<&'o mut Program>,
{
    let program = object.program_mut(name).ok_or(BpfError::Missing(name))?;
    let program = <&mut P>::try_from(program).map_err(|_| BpfError::Missing(name))?;
    if !program.is_loaded() {
        program.load().map_err(|error| {
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().rev().take(12).collect();
            let verdict = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
            BpfError::Program { name, verdict, source: system_error(error) }
        })?;
    }
    Ok(program)
}
