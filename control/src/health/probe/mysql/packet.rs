//! The packets of a MySQL handshake and of a simple query.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Command: goodbye.
pub(super) const COM_QUIT: u8 = 1;
/// Command: a query.
pub(super) const COM_QUERY: u8 = 3;

const LONG_PASSWORD: u32 = 0x1;
const CONNECT_WITH_DB: u32 = 0x8;
const PROTOCOL_41: u32 = 0x200;
const TLS: u32 = 0x800;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
/// utf8mb4_general_ci
const CHARSET: u8 = 45;

/// What a server says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Greeting {
    pub version: String,
    pub scramble: Vec<u8>,
    pub plugin: String,
    capabilities: u32,
}

/// An ERR packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServerError {
    pub code: u16,
    pub message: String,
}

/// What a client says next.
pub(super) struct Login<'a> {
    pub user: &'a str,
    pub database: Option<&'a str>,
    pub plugin: &'a str,
    pub answer: Option<Vec<u8>>,
    pub tls: bool,
}

impl Greeting {
    /// Reads protocol version 10, the only one since 1998.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.bytes(1)? != [10] {
            return None;
        }
        let version = String::from_utf8_lossy(reader.until_zero()?).into_owned();
        reader.bytes(4)?; // thread
        let mut scramble = reader.bytes(8)?.to_vec();
        reader.bytes(1)?;
        let low = reader.bytes(2)?;
        let mut capabilities = u32::from(u16::from_le_bytes([low[0], low[1]]));
        let mut plugin = "mysql_native_password".to_owned();
        if let Some(rest) = reader.bytes(5) {
            capabilities |= u32::from(u16::from_le_bytes([rest[3], rest[4]])) << 16;
            let length = usize::from(*reader.bytes(1)?.first()?);
            reader.bytes(10)?;
            if capabilities & SECURE_CONNECTION != 0 {
                // At least 13 bytes, of which the last is a zero.
                let second = reader.bytes(length.saturating_sub(8).max(13))?;
                scramble.extend_from_slice(second.strip_suffix(&[0]).unwrap_or(second));
            }
            if capabilities & PLUGIN_AUTH != 0 {
                plugin = String::from_utf8_lossy(reader.until_zero_or_end()).into_owned();
            }
        }
        Some(Self { version, scramble, plugin, capabilities })
    }

    pub fn offers_tls(&self) -> bool {
        self.capabilities & TLS != 0
    }
}

impl ServerError {
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let [0xff, low, high, rest @ ..] = packet else { return None };
        // The SQL state, unless the error comes before the handshake.
        let text = if rest.first() == Some(&b'#') { rest.get(6..)? } else { rest };
        Some(Self {
            code: u16::from_le_bytes([*low, *high]),
            message: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

impl Login<'_> {
    /// The front of the login, which asks for TLS before the name is sent.
    pub fn tls_request(&self) -> Vec<u8> {
        let mut capabilities =
            LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
        if self.database.is_some() {
            capabilities |= CONNECT_WITH_DB;
        }
        if self.tls {
            capabilities |= TLS;
        }
        let mut out = capabilities.to_le_bytes().to_vec();
        out.extend_from_slice(&(1u32 << 24).to_le_bytes()); // longest packet
        out.push(CHARSET);
        out.extend_from_slice(&[0; 23]);
        out
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.tls_request();
        out.extend_from_slice(self.user.as_bytes());
        out.push(0);
        let answer = self.answer.as_deref().unwrap_or_default();
        out.push(answer.len().min(250) as u8);
        out.extend_from_slice(&answer[..answer.len().min(250)]);
        if let Some(database) = self.database {
            out.extend_from_slice(database.as_bytes());
            out.push(0);
        }
        out.extend_from_slice(self.plugin.as_bytes());
        out.push(0);
        out
    }
}

/// Reads fields one after the other; `None` once there is too little left.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn until_zero(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let front = self.bytes(end)?;
        self.bytes(1)?;
        Some(front)
    }

    fn until_zero_or_end(&mut self) -> &'a [u8] {
        let all = self.0;
        self.until_zero().unwrap_or(all)
    }

    /// A length-encoded number; `None` for NULL too.
    pub fn length(&mut self) -> Option<u64> {
        let count = match *self.bytes(1)?.first()? {
            small @ 0..=0xfa => return Some(u64::from(small)),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xfb | 0xff => return None,
        };
        let digits = self.bytes(count)?;
        Some(digits.iter().rev().fold(0, |sum, digit| sum << 8 | u64::from(*digit)))
    }

    /// A length-encoded text; `None` for NULL too.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.bytes(usize::try_from(length).ok()?)
    }
}

/// A packet with its length and number in front.
pub(super) fn framed(body: &[u8], sequence: u8) -> Vec<u8> {
    // Longer ones would have to be split; requests this long are refused by the server instead.
    let length = body.len().min(0xff_fffe);
    let [a, b, c, _] = (length as u32).to_le_bytes();
    let mut out = vec![a, b, c, sequence];
    out.extend_from_slice(&body[..length]);
    out
}

/// Whether a packet ends a list of columns or rows.
pub(super) fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// The plugin that a server wants instead, and its challenge.
pub(super) fn auth_switch(body: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut reader = Reader(body);
    let name = String::from_utf8_lossy(reader.until_zero()?).into_owned();
    let scramble = reader.0.strip_suffix(&[0]).unwrap_or(reader.0);
    Some((name, scramble.to_vec()))
}

/// `SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password)))`; nothing for an empty password.
pub(super) fn native(password: &str, scramble: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(scramble).chain_update(twice).finalize();
    once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)), scramble)`.
pub(super) fn caching_sha2(password: &str, scramble: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let mask = Sha256::new().chain_update(twice).chain_update(scramble).finalize();
    once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}
