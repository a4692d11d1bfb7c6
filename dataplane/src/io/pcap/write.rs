//! Writing pcap with nanoseconds, and pcapng with named interfaces and comments.

use super::ETHERNET;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// Snap length in file headers: nothing is cut off.
const SNAP_LENGTH: u32 = 1 << 18;

/// Writes a pcap file with nanosecond times.
#[derive(Debug)]
pub struct Writer<W: Write>(BufWriter<W>);

impl<W: Write> Writer<W> {
    /// Starts the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(file: W) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        // Magic, version 2.4, time zone and accuracy (always 0), snap length, link type.
        for field in [0xa1b2_3c4d, 0x0004_0002, 0, 0, SNAP_LENGTH, ETHERNET] {
            file.write_all(&field.to_le_bytes())?;
        }
        Ok(Self(file))
    }

    /// Appends a frame seen at `at` since the epoch. Seconds beyond 2106 wrap, as the format has it.
    ///
    /// # Errors
    /// When the file cannot be written or the frame is longer than 4 GiB.
    pub fn write(&mut self, at: Duration, frame: &[u8]) -> io::Result<()> {
        let length = length(frame)?;
        let [a, b, c, d, ..] = at.as_secs().to_le_bytes();
        self.0.write_all(&[a, b, c, d])?;
        for field in [at.subsec_nanos(), length, length] {
            self.0.write_all(&field.to_le_bytes())?;
        }
        self.0.write_all(frame)
    }

    /// Hands everything to the file, for readers that follow it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Writes what is still buffered and gives the file back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.0.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Writes a pcapng file: interfaces have names and frames may carry a comment.
#[derive(Debug)]
pub struct NgWriter<W: Write> {
    file: BufWriter<W>,
    interfaces: u32,
    block: Vec<u8>,
}

impl<W: Write> NgWriter<W> {
    /// Starts the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(file: W) -> io::Result<Self> {
        let mut writer = Self { file: BufWriter::new(file), interfaces: 0, block: Vec::new() };
        writer.word(0x1a2b_3c4d);
        // Version 1.0, and a section length that says "unknown".
        writer.block.extend_from_slice(&[1, 0, 0, 0]);
        writer.block.extend_from_slice(&u64::MAX.to_le_bytes());
        writer.end_block(0x0a0d_0d0a)?;
        Ok(writer)
    }

    /// Declares an interface and returns its number, to be given to [`NgWriter::write`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        self.word(ETHERNET);
        self.word(SNAP_LENGTH);
        self.option(2, name.as_bytes());
        // Times in nanoseconds.
        self.option(9, &[9]);
        self.option(0, &[]);
        self.end_block(1)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Appends a frame seen on `interface` at `at` since the epoch, with a comment if not empty.
    /// Comments longer than 65,535 bytes are cut off.
    ///
    /// # Errors
    /// When the interface was not declared, or the file cannot be written.
    pub fn write(
        &mut self,
        interface: u32,
        at: Duration,
        frame: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        if interface >= self.interfaces {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface not declared"));
        }
        let length = length(frame)?;
        let stamp = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.word(interface);
        self.block.extend_from_slice(&stamp.rotate_left(32).to_le_bytes());
        self.word(length);
        self.word(length);
        self.block.extend_from_slice(frame);
        self.pad();
        if !comment.is_empty() {
            let end = comment.floor_char_boundary(usize::from(u16::MAX));
            self.option(1, &comment.as_bytes()[..end]);
            self.option(0, &[]);
        }
        self.end_block(6)
    }

    /// Hands everything to the file, for readers that follow it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn word(&mut self, value: u32) {
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.block.extend_from_slice(&code.to_le_bytes());
        self.block.extend_from_slice(&length.to_le_bytes());
        self.block.extend_from_slice(&value[..usize::from(length)]);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn end_block(&mut self, kind: u32) -> io::Result<()> {
        let total = (length(&self.block)? + 12).to_le_bytes();
        self.file.write_all(&kind.to_le_bytes())?;
        self.file.write_all(&total)?;
        self.file.write_all(&self.block)?;
        self.file.write_all(&total)?;
        self.block.clear();
        Ok(())
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
