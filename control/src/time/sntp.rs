//! SNTP (RFC 4330, RFC 5905): the packet, and what a client makes of an answer.
//!
//! ```text
//!   T1 client sends ---> T2 server receives
//!   T4 client receives <--- T3 server sends
//!   offset = ((T2 - T1) + (T3 - T4)) / 2      delay = (T4 - T1) - (T3 - T2)
//! ```

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Bytes of a packet without extensions.
pub const LENGTH: usize = 48;

/// Well-known port.
pub const PORT: u16 = 123;

/// Seconds from 1900-01-01, where NTP's time begins, to 1970-01-01.
const UNIX_EPOCH: u64 = 2_208_988_800;

/// A server that is further from its source than this does not know the time (RFC 5905, MAXDISP).
const MAX_DISTANCE: f64 = 16.0;

/// No honest server keeps a request longer; one that seems to has lost its clock meanwhile.
const MAX_PROCESSING: f64 = 4.0;

/// A moment as NTP writes it: 32 bits of seconds and 32 of fraction, from 1900, wrapping every
/// 136 years.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Seconds from `earlier` to `self`, right across the wrap for moments up to 68 years apart.
    pub fn since(self, earlier: Self) -> f64 {
        self.0.wrapping_sub(earlier.0) as i64 as f64 / 4_294_967_296.0
    }

    /// The moment `later` than this.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        let fraction = (u64::from(later.subsec_nanos()) << 32) / 1_000_000_000;
        Self(self.0.wrapping_add(later.as_secs() << 32).wrapping_add(fraction))
    }

    fn is_unknown(self) -> bool {
        self.0 == 0
    }
}

impl From<SystemTime> for Timestamp {
    fn from(moment: SystemTime) -> Self {
        let epoch = Self(UNIX_EPOCH << 32);
        match moment.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => epoch.after(since),
            Err(before) => {
                let before = Self(0).after(before.duration());
                Self(epoch.0.wrapping_sub(before.0))
            }
        }
    }
}

/// Who a server gets its time from: four letters at stratum 1 and in kisses, else an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReferenceId(pub [u8; 4]);

impl fmt::Display for ReferenceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        if !text.is_empty() && text.iter().all(u8::is_ascii_graphic) {
            out.write_str(&String::from_utf8_lossy(text))
        } else {
            let [a, b, c, d] = self.0;
            write!(out, "{a}.{b}.{c}.{d}")
        }
    }
}

/// Leap indicator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leap {
    /// Nothing special.
    None,
    /// The last minute of the day has 61 seconds.
    Insert,
    /// The last minute of the day has 59 seconds.
    Delete,
    /// The server's clock is not synchronised.
    Unsynchronised,
}

/// An NTP packet's 48 fixed bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Packet {
    /// Leap indicator.
    pub leap: Leap,
    /// Protocol version, 1 to 7.
    pub version: u8,
    /// 3 client, 4 server.
    pub mode: u8,
    /// 1 primary, 2 to 15 secondary, 0 a kiss, above unsynchronised.
    pub stratum: u8,
    /// Seconds between requests, as a power of two.
    pub poll: i8,
    /// Resolution of the server's clock, as a power of two of seconds.
    pub precision: i8,
    /// Way to the primary source and back, in 1/65536 s.
    pub root_delay: u32,
    /// Largest error to the primary source, in 1/65536 s.
    pub root_dispersion: u32,
    /// Where the time comes from.
    pub reference_id: ReferenceId,
    /// When the server's clock was last set.
    pub reference: Timestamp,
    /// T1, or the client's nonce.
    pub originate: Timestamp,
    /// When the request arrived at the server (T2).
    pub receive: Timestamp,
    /// T3; in a request what the server is to return as `originate`.
    pub transmit: Timestamp,
}

impl Packet {
    /// A client's request. Everything but the nonce is zero: a server needs nothing else, and
    /// nobody learns what this clock shows.
    pub fn request(nonce: u64) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = 4 << 3 | 3;
        bytes[40..].copy_from_slice(&nonce.to_be_bytes());
        bytes
    }

    /// Reads a packet. Extensions and signatures after it are left alone.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<LENGTH>()?;
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let moment = |at: usize| Timestamp(u64::from(word(at)) << 32 | u64::from(word(at + 4)));
        Some(Self {
            leap: match bytes[0] >> 6 {
                0 => Leap::None,
                1 => Leap::Insert,
                2 => Leap::Delete,
                _ => Leap::Unsynchronised,
            },
            version: bytes[0] >> 3 & 7,
            mode: bytes[0] & 7,
            stratum: bytes[1],
            poll: bytes[2] as i8,
            precision: bytes[3] as i8,
            root_delay: word(4),
            root_dispersion: word(8),
            reference_id: ReferenceId(word(12).to_be_bytes()),
            reference: moment(16),
            originate: moment(24),
            receive: moment(32),
            transmit: moment(40),
        })
    }

    /// Writes a packet.
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let leap = match self.leap {
            Leap::None => 0,
            Leap::Insert => 1,
            Leap::Delete => 2,
            Leap::Unsynchronised => 3,
        };
        let mut bytes = [0; LENGTH];
        bytes[0] = leap << 6 | (self.version & 7) << 3 | self.mode & 7;
        bytes[1..4].copy_from_slice(&[self.stratum, self.poll as u8, self.precision as u8]);
        bytes[4..8].copy_from_slice(&self.root_delay.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.root_dispersion.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.reference_id.0);
        let moments = [self.reference, self.originate, self.receive, self.transmit];
        for (place, moment) in bytes[16..].chunks_mut(8).zip(moments) {
            place.copy_from_slice(&moment.0.to_be_bytes());
        }
        bytes
    }
}

/// A server's refusal (kiss-o'-death, RFC 5905 section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kiss {
    /// Ask less often.
    Rate,
    /// Do not ask again.
    Deny,
    /// It has no time to give, for another reason.
    Other(ReferenceId),
}

/// Why an answer gives no time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is not the answer to this request: late, forged, or no answer at all. To be passed over.
    NotOurs,
    /// The server refuses.
    Kiss(Kiss),
    /// The server's own clock is not set.
    Unsynchronised,
    /// The server says impossible things; the text is which.
    Nonsense(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => out.write_str("an answer to another request"),
            Self::Kiss(Kiss::Rate) => out.write_str("asked too often (RATE)"),
            Self::Kiss(Kiss::Deny) => out.write_str("access denied"),
            Self::Kiss(Kiss::Other(code)) => write!(out, "no time to give ({code})"),
            Self::Unsynchronised => out.write_str("the server's clock is not synchronised"),
            Self::Nonsense(what) => out.write_str(what),
        }
    }
}

/// One measurement of a clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Seconds by which the server is ahead of this node; negative when behind.
    pub offset: f64,
    /// Way there and back in seconds.
    pub delay: f64,
    /// Largest error of `offset` against true time, in seconds, if the server is honest.
    pub error: f64,
    /// The server's distance from its primary source.
    pub stratum: u8,
    /// The server's source.
    pub reference_id: ReferenceId,
    /// Leap second announced.
    pub leap: Leap,
}

/// Judges an answer to the request that carried `nonce` and left at `sent`, `elapsed` before the
/// answer came. `elapsed` is measured apart from the clock, which may have been stepped meanwhile.
///
/// # Errors
/// When the answer gives no time.
pub fn judge(
    answer: &[u8],
    nonce: u64,
    sent: Timestamp,
    elapsed: Duration,
) -> Result<Sample, Refused> {
    let packet = Packet::parse(answer).ok_or(Refused::NotOurs)?;
    // A refusal must prove as well that it answers us, or anybody could silence our servers.
    if packet.mode != 4 || packet.originate != Timestamp(nonce) || packet.version == 0 {
        return Err(Refused::NotOurs);
    }
    if packet.stratum == 0 {
        return Err(Refused::Kiss(match &packet.reference_id.0 {
            b"RATE" => Kiss::Rate,
            b"DENY" | b"RSTR" => Kiss::Deny,
            _ => Kiss::Other(packet.reference_id),
        }));
    }
    if packet.leap == Leap::Unsynchronised || packet.stratum > 15 {
        return Err(Refused::Unsynchronised);
    }
    if packet.receive.is_unknown() || packet.transmit.is_unknown() {
        return Err(Refused::Nonsense("the server gives no time"));
    }
    measure(&packet, sent, sent.after(elapsed))
}

fn measure(packet: &Packet, t1: Timestamp, t4: Timestamp) -> Result<Sample, Refused> {
    let root = short(packet.root_delay) / 2.0 + short(packet.root_dispersion);
    if root >= MAX_DISTANCE {
        return Err(Refused::Nonsense("the server's root distance is too large"));
    }
    let processing = packet.transmit.since(packet.receive);
    if !(0.0..=MAX_PROCESSING).contains(&processing) {
        return Err(Refused::Nonsense("the server's clock jumped while it answered"));
    }
    let precision = f64::from(i32::from(packet.precision)).clamp(-30.0, 0.0).exp2();
    let way = t4.since(t1) - processing;
    if way < -precision {
        return Err(Refused::Nonsense("the server took longer than the answer"));
    }
    let delay = way.max(precision);
    let offset = f64::midpoint(packet.receive.since(t1), packet.transmit.since(t4));
    Ok(Sample {
        offset,
        delay,
        error: delay / 2.0 + precision + root,
        stratum: packet.stratum,
        reference_id: packet.reference_id,
        leap: packet.leap,
    })
}

/// NTP's short format, 16 bits of seconds and 16 of fraction.
fn short(value: u32) -> f64 {
    f64::from(value) / 65_536.0
}

#[cfg(test)]
mod tests;
