//! A packet in borrowed memory: a ring slot, a capture record, a test's bytes.
//!
//! Below both `io`, which fills frames, and `packet_path`, which judges them.

use crate::table::PortId;
use arrayvec::ArrayVec;

/// Frames handled in one turn of a worker. One bit each in a `u64`.
pub const BATCH: usize = 64;

/// Bytes kept free before each received frame: the largest set of headers that a tunnel adds
/// (IPv6 40, UDP 8, GUE 4 with 8 private) rounded up, and a VLAN tag.
pub const HEADROOM: usize = 128;

/// Frames of one turn, borrowed from the backend that received them.
pub type Batch<'r> = ArrayVec<Frame<'r>, BATCH>;

/// What the sender left for the network card to do. Rides through untouched unless the packet path
/// does the work itself. Follows the virtio-net header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// The transport checksum field holds only the pseudo-header's sum, not complemented; whoever
    /// puts the packet on a wire finishes it.
    pub partial_checksum: bool,
    /// Where the unfinished checksum starts, from the first byte of the frame.
    pub checksum_start: u16,
    /// Where its field is, from `checksum_start`.
    pub checksum_offset: u16,
    /// Larger than the MTU: to be cut into segments on the way out.
    pub segmentation: Segmentation,
    /// Payload bytes of each segment.
    pub segment_size: u16,
    /// Bytes of headers to repeat on each segment.
    pub header_length: u16,
}

/// Kinds of super-frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Segmentation {
    /// An ordinary frame.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4 {
        /// Congestion window reduced is set on the first segment only.
        ecn: bool,
    },
    /// TCP over IPv6.
    Tcp6 {
        /// Congestion window reduced is set on the first segment only.
        ecn: bool,
    },
    /// UDP datagrams of equal size (USO).
    Udp,
}

/// An Ethernet frame that can be rewritten in place and grow at the front.
#[derive(Debug)]
pub struct Frame<'r> {
    buffer: &'r mut [u8],
    // Small numbers, so that their sum needs no check.
    start: u32,
    length: u32,
    /// Where it came in.
    pub ingress: PortId,
    /// Work left to a network card.
    pub offload: Offload,
    /// Where the buffer lives, for a backend that can send it without copying; its own business.
    pub token: u64,
}

impl<'r> Frame<'r> {
    /// A frame in `buffer[start..end]`. The bounds are clamped to the buffer.
    pub fn new(buffer: &'r mut [u8], start: usize, end: usize, ingress: PortId) -> Self {
        let end = u32::try_from(end.min(buffer.len())).unwrap_or(0);
        let start = u32::try_from(start).unwrap_or(end).min(end);
        let offload = Offload::default();
        Self { buffer, start, length: end - start, ingress, offload, token: u64::MAX }
    }

    /// The frame from its Ethernet header on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = self.start as usize;
        self.buffer.get(start..start + self.length as usize).unwrap_or_default()
    }

    /// The frame from its Ethernet header on.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.start as usize;
        self.buffer.get_mut(start..start + self.length as usize).unwrap_or_default()
    }

    /// As [`Frame::bytes`], unless it is shorter than `length`.
    #[inline(always)]
    pub fn at_least(&self, length: usize) -> Option<&[u8]> {
        let start = self.start as usize;
        let bytes = self.buffer.get(start..start + self.length as usize)?;
        (bytes.len() >= length).then_some(bytes)
    }

    /// As [`Frame::bytes_mut`], unless it is shorter than `length`.
    #[inline(always)]
    pub fn at_least_mut(&mut self, length: usize) -> Option<&mut [u8]> {
        let start = self.start as usize;
        let bytes = self.buffer.get_mut(start..start + self.length as usize)?;
        (bytes.len() >= length).then_some(bytes)
    }

    /// As [`Frame::at_least_mut`], with the work left to a network card.
    #[inline(always)]
    pub fn with_offload(&mut self, length: usize) -> Option<(&mut [u8], &Offload)> {
        let start = self.start as usize;
        let bytes = self.buffer.get_mut(start..start + self.length as usize)?;
        (bytes.len() >= length).then_some((bytes, &self.offload))
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Room before the frame, in bytes.
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Room after the frame, in bytes.
    pub fn tailroom(&self) -> usize {
        self.buffer.len() - self.start as usize - self.length as usize
    }

    /// Where the frame starts in its buffer, for the backend that owns the buffer.
    pub fn offset(&self) -> usize {
        self.start as usize
    }

    /// Makes room for `count` bytes at the front; their content is whatever was there. `None`, and
    /// nothing changed, when there is no headroom.
    #[must_use]
    pub fn push_front(&mut self, count: usize) -> Option<()> {
        let count = u32::try_from(count).ok()?;
        self.start = self.start.checked_sub(count)?;
        self.length += count;
        Some(())
    }

    /// Takes `count` bytes off the front. `None`, and nothing changed, when the frame is shorter.
    #[must_use]
    pub fn pull_front(&mut self, count: usize) -> Option<()> {
        let count = u32::try_from(count).ok()?;
        self.length = self.length.checked_sub(count)?;
        self.start += count;
        Some(())
    }

    /// Makes the frame `length` bytes long by moving its end. `None`, and nothing changed, when the
    /// buffer is too short.
    #[must_use]
    pub fn set_len(&mut self, length: usize) -> Option<()> {
        if length > self.buffer.len() - self.start as usize {
            return None;
        }
        self.length = u32::try_from(length).ok()?;
        Some(())
    }
}
