//! Messages of the sync daemons as bytes.
//!
//! ```text
//!  version 1:  0, sync id, size (2), count, 1, 0, 0     records of 36 or 72 bytes and options, each
//!                                                        but the last padded to 4 bytes
//!  version 0:  count, sync id, size (2)                  records of 24 bytes and 24 of options
//! ```
//! Records in front of a fault are good: the kernel applies them before it notices.

use super::{Engine, Flags, Record, Shift, Shifts};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(test)]
pub(crate) mod tests;

/// Bytes of a version 1 header.
pub const HEADER_V1: usize = 8;
/// Bytes of a version 0 header.
pub const HEADER_V0: usize = 4;
/// Most records that the count field can tell.
pub const MOST_RECORDS: usize = 255;

const RECORD_V0: usize = 24;
const RECORD_V4: usize = 36;
const RECORD_V6: usize = 72;
const SEQUENCES: usize = 24;
const LENGTH_MASK: u16 = 0x0fff;
const TYPE_V6: u8 = 1;
const OPTION_SEQUENCES: u8 = 1;
const OPTION_ENGINE_DATA: u8 = 2;
const OPTION_ENGINE_NAME: u8 = 3;
/// An option with this bit may be skipped by who does not know it.
const SKIPPABLE: u8 = 0x40;
const MOST_ENGINE_NAME: usize = 16;

/// Version of the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// Before Linux 2.6.39; `sync_version=0`.
    V0,
    /// Version 1, which all later kernels send.
    #[default]
    V1,
}

/// Why a record was left out while the rest of its message is good. Each is a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// An option that must be understood and is not.
    #[error("unknown mandatory option")]
    UnknownOption,
    /// A protocol that is neither TCP, UDP nor SCTP.
    #[error("unknown protocol")]
    Protocol,
    /// A state that the protocol does not have.
    #[error("unknown state")]
    State,
    /// One-packet connections are never synchronised.
    #[error("one-packet connection")]
    OnePacket,
    /// A template whose client port is yet to come.
    #[error("template without client port")]
    TemplatePort,
    /// A version of records that is yet to be invented.
    #[error("unknown record version")]
    RecordVersion,
}

/// Why the rest of a message cannot be read. Each is a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// Shorter than its header.
    #[error("message too short")]
    Header,
    /// Its size field is not its size: cut by the receive buffer, or foreign.
    #[error("size field does not match")]
    Size,
    /// Meant for other daemons.
    #[error("sync id differs")]
    SyncId,
    /// A record ends behind the message, or is too short for its kind.
    #[error("record length wrong")]
    RecordLength,
    /// A kind of record that is not known.
    #[error("record type unknown")]
    RecordType,
    /// An option twice, empty, or too long.
    #[error("option malformed")]
    Option,
}

/// What was in a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Format that it was in.
    pub version: Version,
    /// Sync id of the sender.
    pub sync_id: u8,
    /// Good records, in order, with the flags that a backup takes over.
    pub records: Vec<Record>,
    /// Records left out.
    pub refused: Vec<Refused>,
    /// Why reading stopped early.
    pub broken: Option<Broken>,
}

/// Reads a message. `sync_id` 0 accepts every sender's, as the kernel's does.
///
/// # Errors
/// When nothing of the message can be used.
pub fn decode(bytes: &[u8], sync_id: u8) -> Result<Message, Broken> {
    let &[first, id, size_high, size_low, ..] = bytes else { return Err(Broken::Header) };
    if usize::from(u16::from_be_bytes([size_high, size_low])) != bytes.len() {
        return Err(Broken::Size);
    }
    if sync_id != 0 && sync_id != id {
        return Err(Broken::SyncId);
    }
    let (version, count, records) = match bytes.split_at_checked(HEADER_V1) {
        Some((&[0, _, _, _, count, 1, 0, 0], records)) => (Version::V1, count, records),
        Some(_) | None => (Version::V0, first, bytes.get(HEADER_V0..).unwrap_or_default()),
    };
    let mut message =
        Message { version, sync_id: id, records: Vec::new(), refused: Vec::new(), broken: None };
    let mut rest = records;
    for _ in 0..count {
        let next = match version {
            Version::V0 => split_v0(rest).map(|(record, rest)| (record_v0(record), rest)),
            Version::V1 => split_v1(rest).and_then(|(record, rest)| Ok((record_v1(record)?, rest))),
        };
        match next {
            Ok((record, after)) => {
                match record.and_then(acceptable) {
                    Ok(record) => message.records.push(record),
                    Err(refused) => message.refused.push(refused),
                }
                rest = after;
            }
            Err(broken) => {
                message.broken = Some(broken);
                break;
            }
        }
    }
    Ok(message)
}

/// What the kernel checks of every record; cuts the flags down to those that a backup takes over.
fn acceptable(mut record: Record) -> Result<Record, Refused> {
    if record.flags.intersects(Flags::ONE_PACKET) {
        return Err(Refused::OnePacket);
    }
    if record.is_template() && record.flags.intersects(Flags::NO_CLIENT_PORT) {
        return Err(Refused::TemplatePort);
    }
    let states = match (record.is_template(), record.protocol) {
        (true, _) => 2,
        (false, 6) => 11,
        (false, 17) => 1,
        (false, 132) => 14,
        (false, _) => return Err(Refused::Protocol),
    };
    if record.state >= states {
        return Err(Refused::State);
    }
    record.flags = record.flags.only(Flags::TAKEN_OVER).with(Flags::SYNC);
    Ok(record)
}

fn split_v0(bytes: &[u8]) -> Result<(&[u8], &[u8]), Broken> {
    let flags = bytes.get(20..22).ok_or(Broken::RecordLength)?;
    let shifted = Flags(be16(flags, 0).into()).intersects(Flags::SEQUENCES);
    let len = if shifted { RECORD_V0 + SEQUENCES } else { RECORD_V0 };
    bytes.split_at_checked(len).ok_or(Broken::RecordLength)
}

/// A whole version 0 record. Sequence numbers are in the byte order of the sender's processor, as which
/// ours has to do.
fn record_v0(bytes: &[u8]) -> Result<Record, Refused> {
    let shifts = bytes.get(RECORD_V0..).filter(|rest| !rest.is_empty());
    Ok(Record {
        protocol: byte(bytes, 1),
        flags: Flags(be16(bytes, 20).into()),
        state: be16(bytes, 22),
        client: v4(bytes, 8),
        client_port: be16(bytes, 2),
        vip: v4(bytes, 12),
        virtual_port: be16(bytes, 4),
        real: v4(bytes, 16),
        real_port: be16(bytes, 6),
        mark: 0,
        timeout: 0,
        shifts: shifts.map(|bytes| shifts_from(bytes, u32::from_ne_bytes)),
        engine: None,
    })
}

/// Takes one record off the front; padding in front of the next goes with it.
fn split_v1(bytes: &[u8]) -> Result<(&[u8], &[u8]), Broken> {
    if bytes.len() < RECORD_V4 {
        return Err(Broken::RecordLength);
    }
    let least = match byte(bytes, 0) {
        0 => RECORD_V4,
        kind if kind & TYPE_V6 != 0 => RECORD_V6,
        _ => return Err(Broken::RecordType),
    };
    let len = usize::from(be16(bytes, 2) & LENGTH_MASK);
    let record = bytes.get(..len).filter(|_| len >= least).ok_or(Broken::RecordLength)?;
    Ok((record, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// A whole version 1 record. The outer error spoils the message, the inner only this record.
fn record_v1(bytes: &[u8]) -> Result<Result<Record, Refused>, Broken> {
    if be16(bytes, 2) & !LENGTH_MASK != 0 {
        return Ok(Err(Refused::RecordVersion));
    }
    let (address, end): (fn(&[u8], usize) -> IpAddr, _) = match byte(bytes, 0) & TYPE_V6 {
        0 => (v4, RECORD_V4),
        _ => (v6, RECORD_V6),
    };
    let step = (end - 24) / 3;
    let mut record = Record {
        protocol: byte(bytes, 1),
        flags: Flags(be32(bytes, 4)),
        state: be16(bytes, 8),
        client: address(bytes, 24),
        client_port: be16(bytes, 10),
        vip: address(bytes, 24 + step),
        virtual_port: be16(bytes, 12),
        real: address(bytes, 24 + 2 * step),
        real_port: be16(bytes, 14),
        mark: be32(bytes, 16),
        timeout: be32(bytes, 20),
        shifts: None,
        engine: None,
    };
    Ok(match options(bytes.get(end..).unwrap_or_default(), &mut record)? {
        true => Ok(record),
        false => Err(Refused::UnknownOption),
    })
}

/// Reads the options; `false` when one must be known and is not.
fn options(mut rest: &[u8], record: &mut Record) -> Result<bool, Broken> {
    let (mut name, mut data) = (None, None);
    let mut understood = true;
    while let [kind, len, after @ ..] = rest {
        let (value, after) = after.split_at_checked(usize::from(*len)).ok_or(Broken::Option)?;
        if value.is_empty() {
            return Err(Broken::Option);
        }
        match kind & !SKIPPABLE {
            OPTION_SEQUENCES if value.len() == SEQUENCES && record.shifts.is_none() => {
                record.shifts = Some(shifts_from(value, u32::from_be_bytes));
            }
            OPTION_ENGINE_DATA if data.is_none() => data = Some(value.to_vec()),
            OPTION_ENGINE_NAME if name.is_none() && value.len() <= MOST_ENGINE_NAME => {
                name = Some(value.to_vec());
            }
            OPTION_SEQUENCES | OPTION_ENGINE_DATA | OPTION_ENGINE_NAME => {
                return Err(Broken::Option);
            }
            _ => understood &= kind & SKIPPABLE != 0,
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Broken::Option);
    }
    record.engine = name.zip(data).map(|(name, data)| Engine { name, data });
    Ok(understood)
}

fn shifts_from(bytes: &[u8], order: fn([u8; 4]) -> u32) -> Shifts {
    let word = |at: usize| match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => order([a, b, c, d]),
        Some(_) | None => 0,
    };
    let shift = |at| Shift { start: word(at), delta: word(at + 4), previous: word(at + 8) };
    Shifts { inbound: shift(0), outbound: shift(12) }
}

fn shifts_to(shifts: &Shifts, order: fn(u32) -> [u8; 4]) -> impl Iterator<Item = u8> {
    let Shifts { inbound, outbound } = shifts;
    let words = [inbound.start, inbound.delta, inbound.previous].into_iter().chain([
        outbound.start,
        outbound.delta,
        outbound.previous,
    ]);
    words.flat_map(order)
}

/// A record of version 0 as bytes; `None` when it is not IPv4.
pub fn encode_v0(record: &Record) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(RECORD_V0 + SEQUENCES);
    bytes.extend([0, record.protocol]);
    for port in [record.client_port, record.virtual_port, record.real_port] {
        bytes.extend(port.to_be_bytes());
    }
    for address in [record.client, record.vip, record.real] {
        let IpAddr::V4(address) = address else { return None };
        bytes.extend(address.octets());
    }
    let flags = wire_flags(record);
    bytes.extend((flags.0 as u16).to_be_bytes());
    bytes.extend(record.state.to_be_bytes());
    if let Some(shifts) = &record.shifts {
        bytes.extend(shifts_to(shifts, u32::to_ne_bytes));
    }
    Some(bytes)
}

/// A record of version 1 as bytes, without padding; `None` when its families are mixed or its persistence
/// engine's data cannot be expressed.
pub fn encode_v1(record: &Record) -> Option<Vec<u8>> {
    let v6 = !record.is_ipv4();
    let mut bytes = Vec::with_capacity(RECORD_V6 + SEQUENCES + 2);
    bytes.extend([u8::from(v6) * TYPE_V6, record.protocol, 0, 0]);
    bytes.extend(wire_flags(record).0.to_be_bytes());
    bytes.extend(record.state.to_be_bytes());
    for port in [record.client_port, record.virtual_port, record.real_port] {
        bytes.extend(port.to_be_bytes());
    }
    bytes.extend(record.mark.to_be_bytes());
    bytes.extend(record.timeout.to_be_bytes());
    for address in [record.client, record.vip, record.real] {
        match address {
            IpAddr::V4(address) if !v6 => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
            IpAddr::V4(_) => return None,
        }
    }
    if let Some(shifts) = &record.shifts {
        bytes.extend([OPTION_SEQUENCES, SEQUENCES as u8]);
        bytes.extend(shifts_to(shifts, u32::to_be_bytes));
    }
    if let Some(Engine { name, data }) = &record.engine {
        if name.is_empty() || name.len() > MOST_ENGINE_NAME || data.is_empty() {
            return None;
        }
        bytes.extend([OPTION_ENGINE_DATA, u8::try_from(data.len()).ok()?]);
        bytes.extend(data);
        bytes.extend([OPTION_ENGINE_NAME, u8::try_from(name.len()).ok()?]);
        bytes.extend(name);
    }
    let len = u16::try_from(bytes.len()).ok()?;
    bytes.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
    Some(bytes)
}

/// Flags for the wire: without the sender's own affairs, and with sequences exactly when they follow.
fn wire_flags(record: &Record) -> Flags {
    let flags = record.flags.without(Flags::HASHED);
    match record.shifts {
        Some(_) if flags.intersects(Flags::SEQUENCES) => flags,
        Some(_) => flags.with(Flags::SEQUENCES),
        None => flags.without(Flags::SEQUENCES),
    }
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([byte(bytes, at), byte(bytes, at + 1)])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

fn v4(bytes: &[u8], at: usize) -> IpAddr {
    Ipv4Addr::from(be32(bytes, at)).into()
}

fn v6(bytes: &[u8], at: usize) -> IpAddr {
    let word = |step: usize| u128::from(be32(bytes, at + 4 * step));
    Ipv6Addr::from(word(0) << 96 | word(1) << 64 | word(2) << 32 | word(3)).into()
}
