//! How two nodes learn each other's key from a code that a person types once.
//!
//! SPAKE2 turns the short code into a strong common key; who listens in learns nothing to guess the code
//! with, and who guesses must ask one of the nodes for every guess, which allows three. The key then proves
//! both fingerprints. All frames have a fixed size.
//!
//! ```text
//!   joins (typed the code)                     invites (showed the code)
//!     "VDPAIR1\0", SPAKE2 message  --------->
//!                       <------------------    status, SPAKE2 message
//!     own fingerprint, proof  -------------->
//!                       <------------------    status, own fingerprint, proof
//!     last proof  -------------------------->  both remember
//! ```

use super::identity::Fingerprint;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use spake2::{Ed25519Group, Identity as Name, Password, Spake2};
use std::fmt;
use std::str::FromStr;

/// First bytes of a pairing, unlike those of TLS.
pub const MAGIC: [u8; 8] = *b"VDPAIR1\0";
/// Bytes of the first frame.
pub const HELLO: usize = 8 + KEY_SHARE;
/// Bytes of the answer to it.
pub const REPLY: usize = 1 + KEY_SHARE;
/// Bytes of the second frame.
pub const PROOF: usize = 32 + 32;
/// Bytes of the answer to it.
pub const ACCEPTANCE: usize = 1 + PROOF;
/// Bytes of the last frame.
pub const DONE: usize = 32;
/// Guesses that one code allows.
pub const ATTEMPTS: u8 = 3;

const KEY_SHARE: usize = 33;
/// No I, L, O or U: nothing that reads like a digit, no words.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LETTERS: usize = 8;

const OK: u8 = 0;
const WRONG_CODE: u8 = 1;
const NOT_PAIRING: u8 = 2;

type Share = [u8; KEY_SHARE];

/// A pairing code: eight letters, 40 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; LETTERS]);

impl Code {
    /// A code of the lowest 40 of `bits`.
    pub fn from_bits(bits: u64) -> Self {
        let letter = |at: usize| ALPHABET.get((bits >> (5 * at)) as usize & 31).copied();
        Self(std::array::from_fn(|at| letter(at).unwrap_or(b'0')))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.0.split_at(LETTERS / 2);
        let text = |letters: &[u8]| letters.iter().copied().map(char::from).collect::<String>();
        write!(f, "{}-{}", text(first), text(second))
    }
}

impl fmt::Debug for Code {
    /// Codes stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

/// Text that is no code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a pairing code has eight letters and digits, such as 7K2M-PX4D")]
pub struct NoCode;

impl FromStr for Code {
    type Err = NoCode;

    /// Forgives case, blanks and hyphens, and letters that look like digits.
    fn from_str(text: &str) -> Result<Self, NoCode> {
        let letters = text.bytes().filter(|byte| !matches!(byte, b'-' | b' '));
        let letters: Vec<u8> = letters
            .map(|byte| match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            })
            .collect();
        if !letters.iter().all(|letter| ALPHABET.contains(letter)) {
            return Err(NoCode);
        }
        letters.try_into().map(Self).map_err(|_| NoCode)
    }
}

/// Why two nodes are not paired now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PairingError {
    /// The codes differ, seen by the node that joins.
    #[error("the code is wrong: compare it with the one that the other node shows")]
    WrongCode,
    /// The codes differ, seen by the node that invites.
    #[error("the other node typed a wrong code")]
    PeerWrongCode,
    /// Nobody asked the other node to pair, the code has expired or too many guesses were made.
    #[error("the other node is not waiting to be paired: run `viaduct pair` there for a new code")]
    NotPairing,
    /// The answer is not one that a node without a fault gives.
    #[error("the other node does not speak this pairing protocol")]
    Protocol,
}

fn password(code: &Code) -> Password {
    Password::new(code.0)
}

fn names() -> (Name, Name) {
    (Name::new(b"viaduct joins"), Name::new(b"viaduct invites"))
}

/// The keys that prove each step, bound to both key shares.
struct Keys {
    hkdf: Hkdf<Sha256>,
    shares: [Share; 2],
}

impl Keys {
    fn new(secret: &[u8], joins: Share, invites: Share) -> Self {
        Self { hkdf: Hkdf::new(Some(&MAGIC), secret), shares: [joins, invites] }
    }

    /// A proof of `what`, which names the step and who makes it.
    fn proof(&self, step: &str, what: &[Fingerprint]) -> Option<Hmac<Sha256>> {
        let mut key = [0; 32];
        self.hkdf.expand(step.as_bytes(), &mut key).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        self.shares.iter().for_each(|share| mac.update(share));
        what.iter().for_each(|fingerprint| mac.update(&fingerprint.0));
        Some(mac)
    }

    fn make(&self, step: &str, what: &[Fingerprint]) -> Result<[u8; 32], PairingError> {
        let mac = self.proof(step, what).ok_or(PairingError::Protocol)?;
        Ok(mac.finalize().into_bytes().into())
    }

    fn check(&self, step: &str, what: &[Fingerprint], proof: &[u8]) -> bool {
        self.proof(step, what).is_some_and(|mac| mac.verify_slice(proof).is_ok())
    }
}

const JOINS: &str = "joins";
const INVITES: &str = "invites";
const LAST: &str = "done";

/// The side that typed the code, after its first frame.
pub struct Joining {
    spake: Spake2<Ed25519Group>,
    own: Fingerprint,
    share: Share,
}

impl Joining {
    /// Begins with a code; the frame goes to the other node.
    pub fn start(code: &Code, own: Fingerprint) -> (Self, Vec<u8>) {
        let (joins, invites) = names();
        let (spake, message) = Spake2::<Ed25519Group>::start_a(&password(code), &joins, &invites);
        let share = Share::try_from(message.as_slice()).unwrap_or([0; KEY_SHARE]);
        (Self { spake, own, share }, [&MAGIC[..], &share].concat())
    }

    /// Takes the answer; the frame in return proves the code and tells the own fingerprint.
    ///
    /// # Errors
    /// When the other node refuses.
    pub fn answered(self, reply: &[u8; REPLY]) -> Result<(Proving, Vec<u8>), PairingError> {
        let [status, share @ ..] = *reply;
        check_status(status)?;
        let secret = self.spake.finish(&share).map_err(|_| PairingError::Protocol)?;
        let keys = Keys::new(&secret, self.share, share);
        let proof = keys.make(JOINS, &[self.own])?;
        let frame = [&self.own.0[..], &proof].concat();
        Ok((Proving { keys, own: self.own }, frame))
    }
}

/// The side that typed the code, waiting to be believed.
pub struct Proving {
    keys: Keys,
    own: Fingerprint,
}

impl Proving {
    /// Takes the other node's proof: its fingerprint, and the last frame.
    ///
    /// # Errors
    /// When the codes differ.
    pub fn accepted(
        self,
        acceptance: &[u8; ACCEPTANCE],
    ) -> Result<(Fingerprint, Vec<u8>), PairingError> {
        let (peer, proof) = acceptance[1..].split_at(32);
        check_status(acceptance[0])?;
        let peer = Fingerprint(peer.try_into().map_err(|_| PairingError::Protocol)?);
        if !self.keys.check(INVITES, &[self.own, peer], proof) {
            return Err(PairingError::WrongCode);
        }
        Ok((peer, self.keys.make(LAST, &[self.own, peer])?.to_vec()))
    }
}

/// The side that showed the code, after its first answer.
pub struct Inviting {
    keys: Keys,
    own: Fingerprint,
}

impl Inviting {
    /// Answers a first frame. The caller counts the attempt before it sends the answer, since the answer is
    /// what a guess needs.
    ///
    /// # Errors
    /// When the frame is none.
    pub fn start(
        code: &Code,
        own: Fingerprint,
        hello: &[u8; HELLO],
    ) -> Result<(Self, Vec<u8>), PairingError> {
        let (magic, theirs) = hello.split_at(MAGIC.len());
        let theirs = Share::try_from(theirs).map_err(|_| PairingError::Protocol)?;
        if magic != MAGIC {
            return Err(PairingError::Protocol);
        }
        let (joins, invites) = names();
        let (spake, message) = Spake2::<Ed25519Group>::start_b(&password(code), &joins, &invites);
        let share = Share::try_from(message.as_slice()).map_err(|_| PairingError::Protocol)?;
        let secret = spake.finish(&theirs).map_err(|_| PairingError::Protocol)?;
        let keys = Keys::new(&secret, theirs, share);
        Ok((Self { keys, own }, [&[OK][..], &share].concat()))
    }

    /// Checks the other node's proof; answers with the own one.
    ///
    /// # Errors
    /// When the codes differ; [`refusal`] tells the other node.
    pub fn proved(self, proof: &[u8; PROOF]) -> Result<(Accepting, Vec<u8>), PairingError> {
        let (peer, proof) = proof.split_at(32);
        let peer = Fingerprint(peer.try_into().map_err(|_| PairingError::Protocol)?);
        if !self.keys.check(JOINS, &[peer], proof) {
            return Err(PairingError::PeerWrongCode);
        }
        let proof = self.keys.make(INVITES, &[peer, self.own])?;
        let frame = [&[OK][..], &self.own.0, &proof].concat();
        Ok((Accepting { keys: self.keys, own: self.own, peer }, frame))
    }
}

/// The side that showed the code, waiting for the last frame.
pub struct Accepting {
    keys: Keys,
    own: Fingerprint,
    peer: Fingerprint,
}

impl Accepting {
    /// Takes the last frame: the other node believes too.
    ///
    /// # Errors
    /// When it is not the right one.
    pub fn done(self, done: &[u8; DONE]) -> Result<Fingerprint, PairingError> {
        if self.keys.check(LAST, &[self.peer, self.own], done) {
            Ok(self.peer)
        } else {
            Err(PairingError::Protocol)
        }
    }
}

/// The frame that refuses a pairing, as long as the one that is awaited.
pub fn refusal(error: PairingError, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    if let Some(status) = frame.first_mut() {
        *status = match error {
            PairingError::WrongCode | PairingError::PeerWrongCode => WRONG_CODE,
            PairingError::NotPairing | PairingError::Protocol => NOT_PAIRING,
        };
    }
    frame
}

const fn check_status(status: u8) -> Result<(), PairingError> {
    match status {
        OK => Ok(()),
        WRONG_CODE => Err(PairingError::WrongCode),
        NOT_PAIRING => Err(PairingError::NotPairing),
        _ => Err(PairingError::Protocol),
    }
}

#[cfg(test)]
mod tests;
