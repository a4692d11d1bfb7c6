//! Reading pcap (microseconds and nanoseconds) and pcapng, in either byte order.
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

use super::{CaptureError, ETHERNET};
use std::io::Read;
use std::time::Duration;

/// Largest pcapng block and pcap record that is believed; tcpdump's own limit is 256 KiB.
const MAX_BLOCK: usize = 1 << 24;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

/// One captured frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When, since the epoch; 0 when the file does not say.
    pub at: Duration,
    /// Which interface of the file, from 0.
    pub interface: u32,
    /// Its length on the wire; more than `bytes` holds when the capture cut it off.
    pub length: u32,
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
}

/// Reads the records of a capture one by one.
#[derive(Debug)]
pub struct Reader<R> {
    file: R,
    format: Format,
    big_endian: bool,
    /// The record or block body last read.
    block: Vec<u8>,
}

#[derive(Debug)]
enum Format {
    Pcap { nanoseconds: bool },
    Pcapng { interfaces: Vec<Interface> },
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    snap_length: u32,
    /// Ticks a second.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the file is no capture, or not one of Ethernet frames.
    pub fn new(file: R) -> Result<Self, CaptureError> {
        let format = Format::Pcap { nanoseconds: false };
        let mut reader = Self { file, format, big_endian: false, block: Vec::new() };
        if !reader.fill(4)? {
            return Err(CaptureError::NotACapture);
        }
        let magic = word(&reader.block, 0, false)?;
        if magic == SECTION_HEADER {
            reader.format = Format::Pcapng { interfaces: Vec::new() };
            reader.section()?;
            return Ok(reader);
        }
        let (big_endian, nanoseconds) = match magic {
            0xa1b2_c3d4 => (false, false),
            0xa1b2_3c4d => (false, true),
            0xd4c3_b2a1 => (true, false),
            0x4d3c_b2a1 => (true, true),
            _ => return Err(CaptureError::NotACapture),
        };
        reader.big_endian = big_endian;
        reader.format = Format::Pcap { nanoseconds };
        reader.require(20)?;
        // The upper bits may tell of a frame check sequence.
        let link = word(&reader.block, 16, big_endian)? & 0x0fff_ffff;
        if link == ETHERNET { Ok(reader) } else { Err(CaptureError::LinkType(link)) }
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file is damaged from here on.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        match self.format {
            Format::Pcap { nanoseconds } => self.next_pcap(nanoseconds),
            Format::Pcapng { .. } => self.next_pcapng(),
        }
    }

    fn next_pcap(&mut self, nanoseconds: bool) -> Result<Option<Record<'_>>, CaptureError> {
        if !self.fill(16)? {
            return Ok(None);
        }
        let field = |index: usize| word(&self.block, index * 4, self.big_endian);
        let (seconds, fraction) = (field(0)?, field(1)?);
        let (captured, length) = (field(2)?, field(3)?);
        let nanos = u64::from(fraction) * if nanoseconds { 1 } else { 1000 };
        let at = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanos);
        self.require(bounded(captured)?)?;
        Ok(Some(Record { at, interface: 0, length, bytes: &self.block }))
    }

    fn next_pcapng(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        while self.fill(4)? {
            let kind = word(&self.block, 0, self.big_endian)?;
            if kind == SECTION_HEADER {
                self.section()?;
                continue;
            }
            self.require(4)?;
            let total = bounded(word(&self.block, 0, self.big_endian)?)?;
            if total < 12 || total % 4 != 0 {
                return Err(CaptureError::Malformed("block length"));
            }
            self.require(total - 8)?;
            self.block.truncate(total - 12);
            match kind {
                INTERFACE_DESCRIPTION => self.interface()?,
                ENHANCED_PACKET => return self.enhanced().map(Some),
                SIMPLE_PACKET => return self.simple().map(Some),
                // Statistics, names, secrets: nothing that a replay needs.
                _ => {}
            }
        }
        Ok(None)
    }

    /// Reads a section header after its block type, and forgets the interfaces before it.
    fn section(&mut self) -> Result<(), CaptureError> {
        self.require(8)?;
        self.big_endian = match word(&self.block, 4, false)? {
            BYTE_ORDER_MAGIC => false,
            magic if magic == BYTE_ORDER_MAGIC.swap_bytes() => true,
            _ => return Err(CaptureError::NotACapture),
        };
        let total = bounded(word(&self.block, 0, self.big_endian)?)?;
        let rest = total.checked_sub(12).filter(|rest| *rest >= 16);
        self.require(rest.ok_or(CaptureError::Malformed("section length"))?)?;
        self.format = Format::Pcapng { interfaces: Vec::new() };
        Ok(())
    }

    fn interface(&mut self) -> Result<(), CaptureError> {
        let big_endian = self.big_endian;
        let link = u32::from(half(&self.block, 0, big_endian)?);
        if link != ETHERNET {
            return Err(CaptureError::LinkType(link));
        }
        let snap_length = word(&self.block, 4, big_endian)?;
        let mut interface = Interface { snap_length, resolution: 1_000_000, offset: 0 };
        let mut at = 8;
        while let (Ok(code), Ok(length)) =
            (half(&self.block, at, big_endian), half(&self.block, at + 2, big_endian))
        {
            let value = self.block.get(at + 4..at + 4 + usize::from(length));
            match (code, value) {
                (0, _) | (_, None) => break,
                (OPTION_TIME_RESOLUTION, Some(&[exponent])) => {
                    interface.resolution = resolution(exponent)?;
                }
                (OPTION_TIME_OFFSET, Some(value)) => {
                    if let Ok(bytes) = <[u8; 8]>::try_from(value) {
                        let little = i64::from_le_bytes(bytes);
                        interface.offset = if big_endian { little.swap_bytes() } else { little };
                    }
                }
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        if let Format::Pcapng { interfaces } = &mut self.format {
            interfaces.push(interface);
        }
        Ok(())
    }

    fn enhanced(&self) -> Result<Record<'_>, CaptureError> {
        let field = |index: usize| word(&self.block, index * 4, self.big_endian);
        let interface = field(0)?;
        let stamp = u64::from(field(1)?) << 32 | u64::from(field(2)?);
        let known = self.interface_at(interface)?;
        let (captured, length) = (bounded(field(3)?)?, field(4)?);
        let bytes = self.block.get(20..20 + captured);
        let bytes = bytes.ok_or(CaptureError::Malformed("captured length"))?;
        Ok(Record { at: known.time(stamp), interface, length, bytes })
    }

    fn simple(&self) -> Result<Record<'_>, CaptureError> {
        let length = word(&self.block, 0, self.big_endian)?;
        let known = self.interface_at(0)?;
        let limit = if known.snap_length == 0 { u32::MAX } else { known.snap_length };
        let captured = bounded(length.min(limit))?.min(self.block.len() - 4);
        let bytes = &self.block[4..4 + captured];
        Ok(Record { at: Duration::ZERO, interface: 0, length, bytes })
    }

    fn interface_at(&self, index: u32) -> Result<Interface, CaptureError> {
        let interfaces = match &self.format {
            Format::Pcapng { interfaces } => interfaces.as_slice(),
            Format::Pcap { .. } => &[],
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        interfaces.get(index).copied().ok_or(CaptureError::Malformed("interface number"))
    }

    fn require(&mut self, count: usize) -> Result<(), CaptureError> {
        if count == 0 || self.fill(count)? {
            if count == 0 {
                self.block.clear();
            }
            return Ok(());
        }
        Err(CaptureError::Truncated)
    }

    /// Reads the next `count` bytes into `block`. False at the end of the file. Memory grows only
    /// by what the file really holds.
    fn fill(&mut self, count: usize) -> Result<bool, CaptureError> {
        self.block.clear();
        let wanted = u64::try_from(count).unwrap_or(u64::MAX);
        let got = self.file.by_ref().take(wanted).read_to_end(&mut self.block)?;
        if got == 0 {
            return Ok(false);
        }
        if got < count { Err(CaptureError::Truncated) } else { Ok(true) }
    }
}

impl Interface {
    fn time(&self, stamp: u64) -> Duration {
        let seconds = (stamp / self.resolution).saturating_add_signed(self.offset);
        let rest =
            u128::from(stamp % self.resolution) * 1_000_000_000 / u128::from(self.resolution);
        let nanos = u32::try_from(rest).unwrap_or(0);
        Duration::new(seconds, nanos)
    }
}

fn resolution(exponent: u8) -> Result<u64, CaptureError> {
    let power = u32::from(exponent & 0x7f);
    let base: u64 = if exponent & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(power).ok_or(CaptureError::Malformed("time resolution"))
}

fn bounded(length: u32) -> Result<usize, CaptureError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_BLOCK { Err(CaptureError::Malformed("length")) } else { Ok(length) }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> Result<u32, CaptureError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    let found = u32::from_le_bytes(*found.ok_or(CaptureError::Malformed("short block"))?);
    Ok(if big_endian { found.swap_bytes() } else { found })
}

fn half(bytes: &[u8], at: usize, big_endian: bool) -> Result<u16, CaptureError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>());
    let found = u16::from_le_bytes(*found.ok_or(CaptureError::Malformed("short block"))?);
    Ok(if big_endian { found.swap_bytes() } else { found })
}
