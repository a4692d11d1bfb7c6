//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, as PostgreSQL asks for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// More rounds than any server asks for; a hostile one could ask for a minute of work.
const ROUND_LIMIT: u32 = 200_000;

/// A login in progress.
pub(super) struct Scram {
    first_bare: String,
    nonce: String,
}

/// What the client sends last, and what the server must then say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Final {
    pub message: String,
    pub server_says: String,
}

impl Scram {
    /// Begins a login. PostgreSQL takes the user from its own start-up message.
    pub fn new(nonce: &[u8]) -> Self {
        let nonce = STANDARD.encode(nonce);
        Self { first_bare: format!("n=,r={nonce}"), nonce }
    }

    /// The client's first message: no channel binding.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the server's first message; `None` when it is not one, or does not go with ours.
    pub fn answer(&self, password: &str, server_first: &str) -> Option<Final> {
        let field = |name: &str| {
            server_first.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let nonce = field("r").filter(|r| r.len() > self.nonce.len())?;
        let salt = STANDARD.decode(field("s")?).ok()?;
        let rounds: u32 = field("i")?.parse().ok()?;
        if !nonce.starts_with(&self.nonce) || !(1..=ROUND_LIMIT).contains(&rounds) {
            return None;
        }
        let salted = salted(password.as_bytes(), &salt, rounds);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(client_key), signed.as_bytes());
        let mut proof = client_key;
        proof.iter_mut().zip(signature).for_each(|(key, byte)| *key ^= byte);
        let server_key = mac(&salted, b"Server Key");
        let server = STANDARD.encode(mac(&server_key, signed.as_bytes()));
        Some(Final {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)),
            server_says: format!("v={server}"),
        })
    }
}

/// PBKDF2 with HMAC-SHA-256, one block (RFC 5802 section 2.2, `Hi`).
fn salted(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let mut block = mac(password, &[salt, &1u32.to_be_bytes()].concat());
    let mut out = block;
    for _ in 1..rounds {
        block = mac(password, &block);
        out.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    out
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length.
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(text);
            mac.finalize().into_bytes().into()
        }
        Err(_) => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_is_reproduced() {
        let scram = Scram {
            first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        };
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = scram.answer("pencil", server_first).unwrap();
        assert_eq!(
            answer.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(answer.server_says, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_changes_the_nonce_or_asks_too_much_is_refused() {
        let scram = Scram::new(b"abc");
        let nonce = STANDARD.encode(b"abc");
        let answer = |text: String| scram.answer("pw", &text);
        assert!(answer(format!("r={nonce}xyz,s=AAAA,i=2")).is_some());
        assert!(answer(format!("r={nonce},s=AAAA,i=2")).is_none(), "nothing added");
        assert!(answer("r=other,s=AAAA,i=2".into()).is_none());
        assert!(answer(format!("r={nonce}xyz,s=AAAA,i=0")).is_none());
        assert!(answer(format!("r={nonce}xyz,s=AAAA,i=4000000000")).is_none());
        assert!(answer(format!("r={nonce}xyz,s=?,i=2")).is_none());
        assert!(answer(String::new()).is_none());
    }
}
