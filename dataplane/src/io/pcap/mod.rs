//! Capture files as ports: pcap and pcapng in, pcap and pcapng out, Ethernet only.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Reader, Record};
pub use write::{NgWriter, Writer};

use super::{Receive, Sent, Transmit, memory::MAX_FRAME};
use crate::frame::{BATCH, Batch, Frame, HEADROOM};
use crate::table::PortId;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The only link type that is understood: `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;

/// Why a capture file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The first bytes are neither pcap's nor pcapng's.
    #[error("neither a pcap nor a pcapng file")]
    NotACapture,
    /// Packets are not Ethernet frames.
    #[error("link type {0}, but only Ethernet (1) is understood")]
    LinkType(u32),
    /// The file ends in the middle of a record.
    #[error("the file ends in the middle of a record")]
    Truncated,
    /// A length contradicts the format.
    #[error("a record with a length that cannot be ({0})")]
    Malformed(&'static str),
}

/// The time in a capture: that of the last record received, since the epoch.
#[derive(Clone, Debug, Default)]
pub struct CaptureClock(Arc<AtomicU64>);

impl CaptureClock {
    /// Time of the last record received.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: Duration) {
        // 2^64 nanoseconds last until the year 2554.
        self.0.store(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Reads a capture file as if it arrived. One frame a turn, so that [`CaptureClock::now`] is exact
/// for each.
#[derive(Debug)]
pub struct CaptureReceive<R> {
    reader: Reader<R>,
    ports: Vec<PortId>,
    clock: CaptureClock,
    buffer: Vec<u8>,
    finished: bool,
}

impl<R: Read + Send> CaptureReceive<R> {
    /// Frames of the file's interface `i` come in by `ports[i]`, those of further interfaces by the
    /// last port.
    ///
    /// # Errors
    /// When the file is not a capture.
    pub fn new(file: R, ports: Vec<PortId>) -> Result<Self, CaptureError> {
        let buffer = vec![0; HEADROOM + MAX_FRAME];
        let clock = CaptureClock::default();
        Ok(Self { reader: Reader::new(file)?, ports, clock, buffer, finished: false })
    }

    /// The time of the frame last received.
    pub fn clock(&self) -> CaptureClock {
        self.clock.clone()
    }

    /// Whether the file has been read to its end.
    pub const fn finished(&self) -> bool {
        self.finished
    }
}

impl<R: Read + Send> Receive for CaptureReceive<R> {
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        let Some(record) = self.reader.next_record().map_err(io::Error::other)? else {
            self.finished = true;
            return Ok(());
        };
        let interface = usize::try_from(record.interface).unwrap_or(usize::MAX);
        let port = self.ports.get(interface).or(self.ports.last());
        let port = *port.unwrap_or(&PortId(0));
        self.clock.set(record.at);
        let length = record.bytes.len().min(MAX_FRAME);
        let end = HEADROOM + length;
        self.buffer[HEADROOM..end].copy_from_slice(&record.bytes[..length]);
        batch.push(Frame::new(&mut self.buffer, HEADROOM, end, port));
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Writes what is sent to a pcap file, with the capture's time.
#[derive(Debug)]
pub struct CaptureTransmit<W: Write> {
    writer: Writer<W>,
    clock: CaptureClock,
}

impl<W: Write + Send> CaptureTransmit<W> {
    /// Starts the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(file: W, clock: CaptureClock) -> io::Result<Self> {
        Ok(Self { writer: Writer::new(file)?, clock })
    }

    /// Writes what is still buffered and gives the file back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.writer.finish()
    }
}

impl<W: Write + Send> Transmit for CaptureTransmit<W> {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        for (index, frame) in frames.iter().enumerate().take(BATCH) {
            if selected & (1 << index) != 0 {
                self.writer.write(self.clock.now(), frame.bytes())?;
            }
        }
        Ok(Sent::default())
    }
}
