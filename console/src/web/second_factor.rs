//! Time-based one-time passwords (RFC 6238): SHA-1, six digits, steps of 30 s, as every authenticator
//! application has them; and recovery codes for when the telephone is lost.

use control::access::{User, fingerprint};
use control::state::Refusal;
use totp_rs::{Builder, Secret};

/// Seconds of a step.
const STEP: u64 = 30;

/// Takes a code: whether it is right. One is good once, and those of the step before and after are taken
/// for clocks that differ.
pub fn take(user: &mut User, code: &str, now: u64) -> bool {
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    let Some(secret) = user.totp.clone() else { return false };
    let present = now / STEP;
    for step in [present.saturating_sub(1), present, present + 1] {
        if step > user.totp_step && code_of(&secret, step).is_some_and(|right| right == code) {
            user.totp_step = step;
            return true;
        }
    }
    let given = fingerprint(code.to_ascii_uppercase().as_bytes());
    let before = user.recovery.len();
    user.recovery.retain(|kept| *kept != given);
    user.recovery.len() < before
}

/// A secret that is offered to a user.
pub struct Offer {
    /// In base 32, as authenticator applications take it.
    pub secret: String,
    /// The same as a link that opens such an application.
    pub link: String,
}

/// Offers a new secret of 160 random bits.
///
/// # Errors
/// When the system gives no random numbers.
pub fn offer(name: &str) -> Result<Offer, Refusal> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes)
        .map_err(|_| Refusal::Unavailable("waiting for random numbers".to_owned()))?;
    Ok(offer_again(name, &Secret::from(bytes.to_vec()).to_base32()))
}

/// Offers the same secret again.
pub fn offer_again(name: &str, secret: &str) -> Offer {
    let link = format!("otpauth://totp/Viaduct:{name}?secret={secret}&issuer=Viaduct");
    Offer { secret: secret.to_owned(), link }
}

/// The bytes of an offered secret.
pub fn secret(text: &str) -> Option<Vec<u8>> {
    let secret = Secret::try_from_base32(text).ok()?;
    (secret.as_bytes().len() == 20).then(|| secret.as_bytes().to_vec())
}

fn code_of(secret: &[u8], step: u64) -> Option<String> {
    // Its defaults are RFC 6238's. Secrets made here have 160 bits; a shorter one makes weaker codes.
    let totp = Builder::new().with_secret(secret.to_vec()).build().ok()?;
    Some(totp.generate(step * STEP).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::access::Role;

    fn user(recovery: &[&str]) -> User {
        User {
            role: Role::Viewer,
            password: String::new(),
            totp: Some(b"12345678901234567890".to_vec()),
            totp_step: 0,
            recovery: recovery.iter().map(|code| fingerprint(code.as_bytes())).collect(),
            language: None,
            last: None,
        }
    }

    /// RFC 6238, appendix B, the last six digits.
    #[test]
    fn the_rfcs_codes_are_right() {
        for (now, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert!(take(&mut user(&[]), code, now), "{now}");
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_clocks_one_step_off() {
        let mut own = user(&[]);
        assert!(take(&mut own, "081804", 1_111_111_109 + STEP));
        assert!(!take(&mut own, "081804", 1_111_111_109), "used");
        assert!(!take(&mut user(&[]), "081804", 1_111_111_109 + 2 * STEP), "too late");
        assert!(!take(&mut user(&[]), "", 0));
    }

    #[test]
    fn a_recovery_code_is_good_once_however_it_is_written() {
        let mut own = user(&["ABCD1234", "EFGH5678"]);
        assert!(take(&mut own, "abcd-1234", 1000));
        assert!(!take(&mut own, "ABCD1234", 1000));
        assert_eq!(own.recovery.len(), 1);
    }
}
