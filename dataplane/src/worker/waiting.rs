//! What a worker waits for, registered once instead of listed with every wait.

use super::mailbox::Mailbox;
use crate::io::Receive;
use crate::table::PortId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;

/// Events taken with one wait; more come with the next.
const EVENTS: usize = 16;

/// The mailbox's mark; ports are marked with their numbers, which are smaller.
const BELL: u64 = u64::MAX;

/// The descriptors of a worker.
#[derive(Debug)]
pub(super) struct Waiting(Epoll);

impl Waiting {
    /// For this mailbox, and no port yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(mailbox: &Mailbox) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(mailbox.descriptor(), readable(BELL))?;
        Ok(Self(epoll))
    }

    /// Waits for this receiver, too. One that cannot be registered is found by the timeout.
    pub fn add(&self, id: PortId, receiver: &dyn Receive) {
        for descriptor in receiver.descriptors() {
            if let Err(error) = self.0.add(descriptor, readable(id.0.into())) {
                tracing::warn!(port = ?id, %error, "frames of a port cannot be waited for");
            }
        }
    }

    /// Forgets a receiver before it is closed.
    pub fn remove(&self, receiver: &dyn Receive) {
        for descriptor in receiver.descriptors() {
            // It is forgotten anyway when its last descriptor is closed.
            let _ = self.0.delete(descriptor);
        }
    }

    /// Waits so many milliseconds at most, tells `ready` of each port with something to receive, and
    /// returns whether the mailbox's bell rang.
    pub fn wait(&self, milliseconds: u16, mut ready: impl FnMut(PortId)) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS];
        // An interrupted wait is a short wait.
        let count = self.0.wait(&mut events, EpollTimeout::from(milliseconds)).unwrap_or(0);
        let mut rang = false;
        for event in events.iter().take(count) {
            match u16::try_from(event.data()) {
                Ok(number) => ready(PortId(number)),
                Err(_) => rang = true,
            }
        }
        rang
    }
}

fn readable(mark: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, mark)
}
