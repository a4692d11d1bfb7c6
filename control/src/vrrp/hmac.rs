//! keepalived's `auth_hmac`: 28 bytes behind the message that prove who sent it, and when.
//!
//! ```text
//!  kind = 1        key id          reserved = 0
//!  seconds since 1970 (UTC)
//!  1/65536 seconds                 counter
//!  HMAC-SHA-256, first 16 bytes
//! ```
//! The HMAC covers a pseudo header (family, version, VRID, source address), the message with its checksum
//! as zero, and the trailer with its HMAC as zeros. This is the only part of VRRP that needs wall-clock
//! time; callers pass it in.

use super::packet::{Format, Path, Rejected, TRAILER};
use super::{Version, Vrid};
use hmac::{Hmac as Mac, Mac as _};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// HMAC-SHA-256 cut to 128 bits.
const KIND: u8 = 1;
const TAG: usize = 16;
const SIGNED: usize = TRAILER - TAG;
/// Senders whose last sequence number is kept. More than a few at once means a contest or a flood, and
/// only senders with the key get here, so the oldest gives way.
const SENDERS: usize = 8;

/// Which packets must carry an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Sends without, checks what has one. First step of an upgrade.
    ReceiveOnly,
    /// Sends with, accepts without. Second step.
    Permissive,
    /// Sends with, demands one.
    #[default]
    Enforce,
}

/// How replayed packets are recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// The sender's clock is within this distance of ours, and the number grows.
    Window(Duration),
    /// The number grows; clocks may differ. A recording made before our start passes once.
    Growing,
}

/// Keys and rules of one instance.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    keys: BTreeMap<u8, Vec<u8>>,
    active: u8,
    /// Which packets must carry an HMAC.
    pub mode: Mode,
    /// How replayed packets are recognised.
    pub freshness: Freshness,
}

impl std::fmt::Debug for Keys {
    /// Ids only: keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("ids", &self.keys.keys())
            .field("active", &self.active)
            .field("mode", &self.mode)
            .field("freshness", &self.freshness)
            .finish()
    }
}

/// Why a set of keys is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysError {
    /// keepalived takes 32 to 64 bytes.
    #[error("an HMAC key has 32 to 64 bytes")]
    Length,
    /// The key to sign with must be among the keys.
    #[error("the active HMAC key is not configured")]
    Active,
}

impl Keys {
    /// Checks a set of keys by id, of which `active` signs.
    ///
    /// # Errors
    /// When a key has a wrong length or the active one is missing.
    pub fn new(
        keys: BTreeMap<u8, Vec<u8>>,
        active: u8,
        mode: Mode,
        freshness: Freshness,
    ) -> Result<Self, KeysError> {
        if keys.values().any(|key| !(32..=64).contains(&key.len())) {
            return Err(KeysError::Length);
        }
        if !keys.contains_key(&active) {
            return Err(KeysError::Active);
        }
        Ok(Self { keys, active, mode, freshness })
    }

    fn tag(&self, id: u8, parts: [&[u8]; 3]) -> Option<Mac<Sha256>> {
        let mut mac = Mac::<Sha256>::new_from_slice(self.keys.get(&id)?).ok()?;
        for part in parts {
            mac.update(part);
        }
        mac.update(&[0; TAG]);
        Some(mac)
    }
}

/// Keys with the sequence numbers sent and seen.
#[derive(Debug)]
pub struct Authenticator {
    keys: Keys,
    sent: u64,
    /// Last number of each sender, the one heard longest ago first.
    seen: Vec<(IpAddr, u64)>,
}

impl Authenticator {
    /// Starts with nothing sent and nothing seen.
    pub const fn new(keys: Keys) -> Self {
        Self { keys, sent: 0, seen: Vec::new() }
    }

    /// Takes new keys and keeps the sequence numbers.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// The configured keys.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Appends a trailer to a message whose checksum is still zero, unless the mode says not to. The copies
    /// of one advert to several peers share it. `wall` is the time since 1970.
    pub fn sign(&mut self, format: &Format, source: IpAddr, message: &mut Vec<u8>, wall: Duration) {
        if self.keys.mode == Mode::ReceiveOnly {
            return;
        }
        let [a, b, c, d, e, f, g, h] = self.next_number(wall).to_be_bytes();
        let signed = [KIND, self.keys.active, 0, 0, a, b, c, d, e, f, g, h];
        let pseudo = pseudo_header(format.version(), format.vrid(), source);
        let Some(mac) = self.keys.tag(self.keys.active, [&pseudo, message, &signed]) else {
            return;
        };
        message.extend(signed);
        message.extend(mac.finalize().into_bytes().iter().take(TAG));
    }

    /// Grows even while the clock stands still or was set back; with a window it returns to the clock once
    /// the receivers would refuse the old number anyway.
    fn next_number(&mut self, wall: Duration) -> u64 {
        let clock = number(wall);
        let ahead = clock_distance(self.sent, clock);
        let stranded = match self.keys.freshness {
            Freshness::Window(window) => ahead > window.as_secs() as i64,
            Freshness::Growing => false,
        };
        self.sent = if after(clock, self.sent) || self.sent == 0 || stranded {
            clock
        } else {
            self.sent.wrapping_add(1)
        };
        self.sent
    }

    /// Checks the trailer of a message that `packet::parse` accepted.
    ///
    /// # Errors
    /// Why the sender cannot be trusted; nothing is remembered of such a packet.
    pub fn verify(
        &mut self,
        format: &Format,
        path: &Path,
        message: &[u8],
        trailer: Option<&[u8; TRAILER]>,
        wall: Duration,
    ) -> Result<(), Rejected> {
        let Some(trailer) = trailer else {
            return match self.keys.mode {
                Mode::ReceiveOnly | Mode::Permissive => Ok(()),
                Mode::Enforce => Err(Rejected::HmacMissing),
            };
        };
        let (signed, tag) = trailer.split_at(SIGNED);
        let &[kind, key, reserved_high, reserved_low, a, b, c, d, e, f, g, h] = signed else {
            return Err(Rejected::HmacMalformed);
        };
        if kind != KIND || [reserved_high, reserved_low] != [0, 0] {
            return Err(Rejected::HmacMalformed);
        }
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        // Before the digest, so a flood of recordings costs little; it can only refuse.
        if !self.within_window(number, wall) {
            return Err(Rejected::HmacStale);
        }
        let pseudo = pseudo_header(format.version(), format.vrid(), path.source);
        let head = message.get(..6).ok_or(Rejected::Length)?;
        let tail = message.get(8..).ok_or(Rejected::Length)?;
        let blanked = [head, &[0, 0], tail].concat();
        let mac = self.keys.tag(key, [&pseudo, &blanked, signed]).ok_or(Rejected::HmacKey)?;
        mac.verify_truncated_left(tag).map_err(|_| Rejected::Hmac)?;
        self.note(path.source, number, wall)
    }

    fn within_window(&self, number: u64, wall: Duration) -> bool {
        match self.keys.freshness {
            Freshness::Window(window) => {
                clock_distance(number, self::number(wall)).unsigned_abs() <= window.as_secs()
            }
            Freshness::Growing => true,
        }
    }

    fn note(&mut self, source: IpAddr, number: u64, wall: Duration) -> Result<(), Rejected> {
        let known = self.seen.iter().position(|(sender, _)| *sender == source);
        if let Some(at) = known {
            let (_, last) = self.seen[at];
            // A mark outside the window, left by a clock that was wrong, would lock the sender out.
            if !after(number, last) && self.within_window(last, wall) {
                return Err(Rejected::HmacReplay);
            }
            self.seen.remove(at);
        } else if self.seen.len() >= SENDERS {
            self.seen.remove(0);
        }
        self.seen.push((source, number));
        Ok(())
    }
}

fn pseudo_header(version: Version, vrid: Vrid, source: IpAddr) -> [u8; 20] {
    let mut header = [0; 20];
    header[1] = version.number();
    header[2] = vrid.get();
    match source {
        IpAddr::V4(source) => {
            header[0] = 4;
            header[4..8].copy_from_slice(&source.octets());
        }
        IpAddr::V6(source) => {
            header[0] = 6;
            header[4..20].copy_from_slice(&source.octets());
        }
    }
    header
}

/// Seconds in the upper half, 1/65536 s in the next quarter, a counter of zero.
fn number(wall: Duration) -> u64 {
    let fraction = (u64::from(wall.subsec_nanos()) << 16) / 1_000_000_000;
    wall.as_secs() << 32 | fraction << 16
}

/// RFC 1982 order, so the wrap of the seconds in 2106 is survived.
const fn after(number: u64, earlier: u64) -> bool {
    number.wrapping_sub(earlier) as i64 > 0
}

/// Whole seconds from `clock` to `number`.
const fn clock_distance(number: u64, clock: u64) -> i64 {
    ((number >> 32) as u32).wrapping_sub((clock >> 32) as u32) as i32 as i64
}

#[cfg(test)]
mod tests;
