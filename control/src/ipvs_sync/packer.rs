//! Fills messages with records, as many as fit.

use super::Record;
use super::codec::{HEADER_V0, HEADER_V1, MOST_RECORDS, Version, encode_v0, encode_v1};

/// The kernel's default for IPv4: one Ethernet frame.
pub const DEFAULT_LENGTH_V4: usize = 1472;
/// The kernel's default for IPv6.
pub const DEFAULT_LENGTH_V6: usize = 1452;

/// A message under construction.
#[derive(Debug)]
pub struct Packer {
    version: Version,
    sync_id: u8,
    /// Most bytes of a message.
    most: usize,
    bytes: Vec<u8>,
    count: usize,
}

impl Packer {
    /// An empty message for `sync_id`, of at most `most` bytes.
    pub fn new(version: Version, sync_id: u8, most: usize) -> Self {
        let most = most.min(usize::from(u16::MAX));
        Self { version, sync_id, most, bytes: Vec::new(), count: 0 }
    }

    /// Whether no record waits.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record. Returns the message so far when the record had to start a new one. Records that the
    /// version cannot express, or that fit no message, are left out.
    pub fn push(&mut self, record: &Record) -> Option<Vec<u8>> {
        let encoded = match self.version {
            Version::V0 => encode_v0(record),
            Version::V1 => encode_v1(record),
        }?;
        if self.header() + encoded.len() > self.most {
            return None;
        }
        let padded = match self.version {
            Version::V0 => self.bytes.len(),
            Version::V1 => self.bytes.len().next_multiple_of(4),
        };
        let full = self.count >= MOST_RECORDS || padded + encoded.len() > self.most;
        let finished = if full { self.finish() } else { None };
        if self.is_empty() {
            self.bytes = vec![0; self.header()];
        } else {
            // Padding belongs to the next record: the last of a message has none.
            self.bytes.resize(padded, 0);
        }
        self.bytes.extend(encoded);
        self.count += 1;
        finished
    }

    /// Ends the message; `None` when it is empty.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let count = u8::try_from(std::mem::take(&mut self.count)).unwrap_or(u8::MAX);
        let [high, low] = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        let v1 = [0, self.sync_id, high, low, count, 1, 0, 0];
        let v0 = [count, self.sync_id, high, low];
        let header: &[u8] = match self.version {
            Version::V0 => &v0,
            Version::V1 => &v1,
        };
        bytes.get_mut(..header.len())?.copy_from_slice(header);
        Some(bytes)
    }

    const fn header(&self) -> usize {
        match self.version {
            Version::V0 => HEADER_V0,
            Version::V1 => HEADER_V1,
        }
    }
}
