//! Commands to a worker, taken between two turns. Unbounded, because only control writes to it and
//! every command is the answer to an operator or a link that changed.

use crate::io::Port;
use crate::packet_path::connections::Identity;
use crate::table::PortId;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

/// What a worker is told.
pub(super) enum Command {
    /// Serve this queue, by this attachment's number.
    Attach(PortId, u64, Box<Port>),
    /// Close this queue and say so.
    Detach(PortId, SyncSender<()>),
    /// End these connections.
    End(Vec<Identity>),
    /// Reset both ends of these connections.
    Doom(Vec<Identity>),
    /// Leave the loop.
    Stop,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(id, ..) => write!(f, "Attach({id:?})"),
            Self::Detach(id, _) => write!(f, "Detach({id:?})"),
            Self::End(meant) => write!(f, "End({})", meant.len()),
            Self::Doom(meant) => write!(f, "Doom({})", meant.len()),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    waiting: AtomicBool,
    bell: EventFd,
}

impl Mailbox {
    pub fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { commands: Mutex::default(), waiting: AtomicBool::new(false), bell })
    }

    pub fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.waiting.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends the worker's wait.
    pub fn wake(&self) {
        // The counter can only be full when the worker has plenty of reason to wake already.
        let _ = self.bell.write(1);
    }

    /// Whether anything waits: one load per turn.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    pub fn take(&self) -> Vec<Command> {
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Silences the bell.
    pub fn awake(&self) {
        let _ = self.bell.read();
    }

    /// What to poll.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
