//! A cable between the test and one network card of the guest: whole Ethernet frames, in order,
//! none lost. Needs no privilege.

use super::Nic;
use super::folder::Folder;
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The largest frame that the emulated card hands over (64 KiB of segmentation offload).
const LARGEST: usize = 66 * 1024;

/// The test's end of the cable.
#[derive(Debug)]
pub struct Wire {
    socket: UnixDatagram,
    folder: Folder,
    frame: Vec<u8>,
}

impl Wire {
    /// A cable without a guest yet; boot one with [`Wire::nic`].
    ///
    /// # Errors
    /// No room for a socket in the temporary folder.
    pub fn new() -> Result<Self> {
        let folder = Folder::new("wire")?;
        let path = folder.path().join(TEST_END);
        let socket = UnixDatagram::bind(&path).context("binding the test's end of a wire")?;
        Ok(Self { socket, folder, frame: vec![0; LARGEST] })
    }

    /// The card to give to [`super::Options::nics`].
    pub fn nic(&self) -> Nic {
        Nic::Wire(self.folder.path().to_owned())
    }

    /// Sends one frame; waits while the guest's queue is full.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket
            .send_to(frame, self.folder.path().join(GUEST_END))
            .context("sending to the guest")?;
        Ok(())
    }

    /// The next frame from the guest, or `None` when none came within `patience`.
    ///
    /// # Errors
    /// The socket failed.
    pub fn receive(&mut self, patience: Duration) -> Result<Option<&[u8]>> {
        self.socket.set_read_timeout(Some(patience))?;
        match self.socket.recv(&mut self.frame) {
            Ok(length) => Ok(Some(&self.frame[..length])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error).context("receiving from the guest"),
        }
    }
}

/// Names of the two sockets inside a wire's folder.
pub const TEST_END: &str = "test";
pub const GUEST_END: &str = "guest";
