//! RADIUS (RFC 2865): Access-Request with a login, Status-Server (RFC 5997) without.

use hmac::{Hmac, Mac};
use md5::{Digest, Md5};

use super::{Attempt, Exchange, Fault, datagram, random, stream};
use crate::model::{Login, RadiusProbe};

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCOUNTING_RESPONSE: u8 = 5;
const ACCESS_CHALLENGE: u8 = 11;
const STATUS_SERVER: u8 = 12;

const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const NAS_IDENTIFIER: u8 = 32;
const MESSAGE_AUTHENTICATOR: u8 = 80;

/// Longest password that fits (section 5.2).
const PASSWORD_LIMIT: usize = 128;

/// A request with its secret.
pub(super) struct Radius {
    secret: String,
    login: Option<Login>,
    node: String,
}

impl Radius {
    pub fn prepare(wanted: &RadiusProbe, node: &str) -> Self {
        Self { secret: wanted.secret.clone(), login: wanted.login.clone(), node: node.to_owned() }
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let [id] = random();
        let authenticator: [u8; 16] = random();
        let request = self.request(id, authenticator);
        let socket = stream::udp(attempt)?;
        let secret = self.secret.as_bytes();
        let code = datagram::ask(attempt, &socket, &request, "RADIUS reply", |reply| {
            genuine(reply, id, &authenticator, secret).map(Ok)
        })
        .await?;
        match (code, &self.login) {
            (ACCESS_ACCEPT, _) => Ok("Access-Accept".into()),
            (ACCOUNTING_RESPONSE, None) => Ok("Accounting-Response".into()),
            (ACCESS_REJECT, _) => Err(Fault::unexpected("Access-Reject", "Access-Accept")),
            (ACCESS_CHALLENGE, _) => Err(Fault::unexpected("Access-Challenge", "Access-Accept")),
            (code, _) => Err(Fault::unexpected(format!("RADIUS code {code}"), "Access-Accept")),
        }
    }

    fn request(&self, id: u8, authenticator: [u8; 16]) -> Vec<u8> {
        let code = if self.login.is_some() { ACCESS_REQUEST } else { STATUS_SERVER };
        let mut packet = vec![code, id, 0, 0];
        packet.extend_from_slice(&authenticator);
        // First of all attributes, as the answer to the 2024 forgery attack asks.
        let signature_at = packet.len() + 2;
        attribute(&mut packet, MESSAGE_AUTHENTICATOR, &[0; 16]);
        attribute(&mut packet, NAS_IDENTIFIER, self.node.as_bytes());
        if let Some(login) = &self.login {
            attribute(&mut packet, USER_NAME, login.user.as_bytes());
            let hidden = hide(login.password.as_bytes(), self.secret.as_bytes(), &authenticator);
            attribute(&mut packet, USER_PASSWORD, &hidden);
        }
        let length = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&length);
        let signature = sign(self.secret.as_bytes(), &[&packet]);
        packet[signature_at..signature_at + 16].copy_from_slice(&signature);
        packet
    }
}

/// Appends an attribute, cut to what one holds.
fn attribute(packet: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(253)];
    packet.extend_from_slice(&[kind, value.len() as u8 + 2]);
    packet.extend_from_slice(value);
}

/// Hides a password (section 5.2).
fn hide(password: &[u8], secret: &[u8], authenticator: &[u8; 16]) -> Vec<u8> {
    let mut padded = password[..password.len().min(PASSWORD_LIMIT)].to_vec();
    padded.resize(padded.len().max(1).next_multiple_of(16), 0);
    let mut previous = authenticator.to_vec();
    for block in padded.chunks_mut(16) {
        let mask = Md5::new().chain_update(secret).chain_update(&previous).finalize();
        block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        previous = block.to_vec();
    }
    padded
}

fn sign(secret: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // HMAC takes keys of every length.
    match Hmac::<Md5>::new_from_slice(secret) {
        Ok(mut mac) => {
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().into()
        }
        Err(_) => [0; 16],
    }
}

/// The code of a reply that the server with this secret made to this request; `None` for all else.
fn genuine(reply: &[u8], id: u8, authenticator: &[u8; 16], secret: &[u8]) -> Option<u8> {
    let (head, _) = reply.split_first_chunk::<20>()?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let reply = reply.get(..length).filter(|reply| reply.len() >= 20)?;
    if head[1] != id {
        return None;
    }
    let digest = Md5::new()
        .chain_update(&reply[..4])
        .chain_update(authenticator)
        .chain_update(&reply[20..])
        .chain_update(secret)
        .finalize();
    if digest.as_slice() != &reply[4..20] {
        return None;
    }
    signature_holds(reply, authenticator, secret).then_some(head[0])
}

/// Whether a reply's Message-Authenticator, if it has one, is right (RFC 3579 section 3.2).
fn signature_holds(reply: &[u8], authenticator: &[u8; 16], secret: &[u8]) -> bool {
    let mut at = 20;
    while let Some([kind, length]) = reply.get(at..at + 2) {
        let length = usize::from(*length);
        let Some(value) = reply.get(at + 2..at + length).filter(|_| length >= 2) else {
            return false;
        };
        if *kind == MESSAGE_AUTHENTICATOR {
            let after = &reply[at + length..];
            let parts = [&reply[..4], authenticator, &reply[20..at + 2], &[0; 16], after];
            return value == sign(secret, &parts);
        }
        at += length;
    }
    true
}

#[cfg(test)]
mod tests;
