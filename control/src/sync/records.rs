//! Changes as bytes: about 20 per IPv4 connection and 32 per IPv6 connection.
//!
//! ```text
//!  kind        bit 0 close, 1 IPv6, 2 template, 3-4 protocol (none, TCP, UDP, SCTP)
//!  client      4 or 16 bytes, port 2
//!  vip         address by number, port 2
//!  and unless it is a close:
//!  method      bits 0-2, state in bits 4-7
//!  traits      bit 0 no output, 1 inactive, 2 no client port, 3 assured, 4 controlled,
//!              5 mark follows, 6 local address follows, 7 shifts follow
//!  real        address by number, port 2
//!  timeout     ticks, 7 bits per byte
//!  remaining   the same
//!  [mark]      7 bits per byte    [local] address by number, port 2    [shifts] 6 times 4 bytes
//! ```
//! Addresses of VIPs and servers repeat, so they get numbers as they first appear: 0, the family (4 or 6)
//! and the address define the next number, `n + 1` means number n. Both sides count alike because batches
//! arrive whole and in order; a new snapshot starts to count anew.

use super::connection::{Change, Connection, Key, Traits, Via};
use crate::ipvs_sync::{Shift, Shifts};
use dataplane::tick::Ticks;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses that get numbers; later ones are written out each time.
const MOST_NUMBERED: usize = 4096;

const CLOSE: u8 = 1;
const IPV6: u8 = 2;
const TEMPLATE: u8 = 4;
const PROTOCOL_SHIFT: u8 = 3;
const KIND_BITS: u8 = 0x1f;
const PROTOCOLS: [u8; 4] = [0, 6, 17, 132];

const NO_OUTPUT: u8 = 1;
const INACTIVE: u8 = 2;
const NO_CLIENT_PORT: u8 = 4;
const ASSURED: u8 = 8;
const CONTROLLED: u8 = 16;
const HAS_MARK: u8 = 32;
const HAS_LOCAL: u8 = 64;
const HAS_SHIFTS: u8 = 128;

/// The bytes are not changes, or not those that follow what came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("connection records malformed")]
pub struct Malformed;

/// Writes changes; remembers the numbers of addresses.
#[derive(Debug, Default)]
pub struct Writer {
    numbers: BTreeMap<IpAddr, u32>,
}

impl Writer {
    /// Appends a change. `false`, and nothing is appended, when it cannot be expressed: another protocol,
    /// or client and VIP of two families.
    pub fn write(&mut self, change: &Change, out: &mut Vec<u8>) -> bool {
        let key = change.key();
        let Some(protocol) = PROTOCOLS.iter().position(|number| *number == key.protocol) else {
            return false;
        };
        if !key.is_sound() {
            return false;
        }
        let mut kind = (protocol as u8) << PROTOCOL_SHIFT;
        kind |= if key.client.is_ipv6() { IPV6 } else { 0 };
        kind |= if key.template { TEMPLATE } else { 0 };
        kind |= if matches!(change, Change::Close(_)) { CLOSE } else { 0 };
        out.push(kind);
        push_address(key.client.ip(), out);
        out.extend(key.client.port().to_be_bytes());
        self.endpoint(key.vip, out);
        if let Change::Update(connection) = change {
            self.update(connection, out);
        }
        true
    }

    fn update(&mut self, connection: &Connection, out: &mut Vec<u8>) {
        out.push(connection.via as u8 | connection.state << 4);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let traits = &connection.traits;
        out.push(
            bit(traits.no_output, NO_OUTPUT)
                | bit(traits.inactive, INACTIVE)
                | bit(traits.no_client_port, NO_CLIENT_PORT)
                | bit(traits.assured, ASSURED)
                | bit(traits.controlled, CONTROLLED)
                | bit(connection.mark != 0, HAS_MARK)
                | bit(connection.local.is_some(), HAS_LOCAL)
                | bit(connection.shifts.is_some(), HAS_SHIFTS),
        );
        self.endpoint(connection.real, out);
        push_number(connection.timeout.0, out);
        push_number(connection.remaining.0, out);
        if connection.mark != 0 {
            push_number(connection.mark, out);
        }
        if let Some(local) = connection.local {
            self.endpoint(local, out);
        }
        if let Some(Shifts { inbound, outbound }) = connection.shifts {
            for Shift { start, delta, previous } in [inbound, outbound] {
                [start, delta, previous].iter().for_each(|word| out.extend(word.to_be_bytes()));
            }
        }
    }

    fn endpoint(&mut self, endpoint: SocketAddr, out: &mut Vec<u8>) {
        let address = endpoint.ip();
        match self.numbers.get(&address) {
            Some(number) => push_number(number + 1, out),
            None => {
                out.extend([0, if address.is_ipv4() { 4 } else { 6 }]);
                push_address(address, out);
                if self.numbers.len() < MOST_NUMBERED {
                    let next = u32::try_from(self.numbers.len()).unwrap_or_default();
                    self.numbers.insert(address, next);
                }
            }
        }
        out.extend(endpoint.port().to_be_bytes());
    }
}

fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

fn push_number(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads changes; remembers the numbers of addresses.
#[derive(Debug, Default)]
pub struct Reader {
    addresses: Vec<IpAddr>,
}

impl Reader {
    /// Reads a whole batch.
    ///
    /// # Errors
    /// When the bytes are not exactly a sequence of changes. The reader must not be used afterwards.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<Change>, Malformed> {
        let mut changes = Vec::new();
        let mut rest = Bytes(bytes);
        while !rest.0.is_empty() {
            changes.push(self.change(&mut rest)?);
        }
        Ok(changes)
    }

    fn change(&mut self, rest: &mut Bytes<'_>) -> Result<Change, Malformed> {
        let kind = rest.byte()?;
        let protocol = PROTOCOLS.get(usize::from(kind >> PROTOCOL_SHIFT)).ok_or(Malformed)?;
        if kind & !KIND_BITS != 0 {
            return Err(Malformed);
        }
        let client = rest.address(kind & IPV6 != 0)?;
        let client = SocketAddr::new(client, rest.port()?);
        let vip = self.endpoint(rest)?;
        let key = Key { protocol: *protocol, template: kind & TEMPLATE != 0, client, vip };
        if !key.is_sound() {
            return Err(Malformed);
        }
        if kind & CLOSE != 0 {
            return Ok(Change::Close(key));
        }
        self.update(key, rest).map(Change::Update)
    }

    fn update(&mut self, key: Key, rest: &mut Bytes<'_>) -> Result<Connection, Malformed> {
        let method = rest.byte()?;
        let via = match method & 0xf {
            0 => Via::Nat,
            1 => Via::Local,
            2 => Via::Tunnel,
            3 => Via::DirectRouting,
            4 => Via::FullNat,
            _ => return Err(Malformed),
        };
        let bits = rest.byte()?;
        let traits = Traits {
            no_output: bits & NO_OUTPUT != 0,
            inactive: bits & INACTIVE != 0,
            no_client_port: bits & NO_CLIENT_PORT != 0,
            assured: bits & ASSURED != 0,
            controlled: bits & CONTROLLED != 0,
        };
        Ok(Connection {
            key,
            real: self.endpoint(rest)?,
            via,
            state: method >> 4,
            traits,
            timeout: rest.ticks()?,
            remaining: rest.ticks()?,
            mark: if bits & HAS_MARK != 0 { rest.number()? } else { 0 },
            local: if bits & HAS_LOCAL != 0 { Some(self.endpoint(rest)?) } else { None },
            shifts: if bits & HAS_SHIFTS != 0 { Some(rest.shifts()?) } else { None },
        })
    }

    fn endpoint(&mut self, rest: &mut Bytes<'_>) -> Result<SocketAddr, Malformed> {
        let address = match rest.number()?.checked_sub(1) {
            Some(number) => {
                let at = usize::try_from(number).map_err(|_| Malformed)?;
                *self.addresses.get(at).ok_or(Malformed)?
            }
            None => {
                let address = match rest.byte()? {
                    4 => rest.address(false)?,
                    6 => rest.address(true)?,
                    _ => return Err(Malformed),
                };
                if self.addresses.len() < MOST_NUMBERED {
                    self.addresses.push(address);
                }
                address
            }
        };
        Ok(SocketAddr::new(address, rest.port()?))
    }
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn port(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    fn address(&mut self, ipv6: bool) -> Result<IpAddr, Malformed> {
        if ipv6 {
            self.take::<16>().map(|bytes| Ipv6Addr::from(bytes).into())
        } else {
            self.take::<4>().map(|bytes| Ipv4Addr::from(bytes).into())
        }
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        let mut number = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| Malformed);
            }
        }
        Err(Malformed)
    }

    /// A span; one beyond what ticks can compare is nonsense.
    fn ticks(&mut self) -> Result<Ticks, Malformed> {
        let ticks = self.number()?;
        if ticks > i32::MAX as u32 { Err(Malformed) } else { Ok(Ticks(ticks)) }
    }

    fn shifts(&mut self) -> Result<Shifts, Malformed> {
        let mut shift = || -> Result<Shift, Malformed> {
            Ok(Shift { start: self.word()?, delta: self.word()?, previous: self.word()? })
        };
        Ok(Shifts { inbound: shift()?, outbound: shift()? })
    }
}

#[cfg(test)]
pub(crate) mod tests;
