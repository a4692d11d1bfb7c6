//! Whom this node trusts, and whether it is waiting to be paired. Shared by everybody who opens or accepts
//! a link.

use super::identity::{Fingerprint, Identity, IdentityError, load_peer, save_peer};
use super::pairing::{ATTEMPTS, Code, PairingError};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a code is good.
pub const CODE_LIFETIME: Duration = Duration::from_secs(600);

/// Keys of this node and its peer.
#[derive(Debug)]
pub struct Trust {
    directory: PathBuf,
    identity: Arc<Identity>,
    peer: watch::Sender<Option<Fingerprint>>,
    invitation: Mutex<Option<Invitation>>,
}

#[derive(Debug)]
struct Invitation {
    code: Code,
    attempts: u8,
    until: Instant,
}

impl Trust {
    /// Reads or makes this node's identity in `directory`, and reads the peer that it remembers.
    ///
    /// # Errors
    /// When the files cannot be read, understood or written.
    pub fn open(directory: PathBuf) -> Result<Self, IdentityError> {
        let identity = Arc::new(Identity::load_or_make(&directory)?);
        let peer = watch::Sender::new(load_peer(&directory)?);
        Ok(Self { directory, identity, peer, invitation: Mutex::new(None) })
    }

    /// This node.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// This node, for tasks that outlive the borrow.
    pub fn identity_shared(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// The peer's key; `None` before pairing.
    pub fn peer(&self) -> Option<Fingerprint> {
        *self.peer.borrow()
    }

    /// Follows the peer's key.
    pub fn follow_peer(&self) -> watch::Receiver<Option<Fingerprint>> {
        self.peer.subscribe()
    }

    /// Remembers a newly paired peer, for good.
    ///
    /// # Errors
    /// When it cannot be written; nothing changes then.
    pub fn set_peer(&self, peer: Fingerprint) -> Result<(), IdentityError> {
        save_peer(&self.directory, &peer)?;
        self.peer.send_replace(Some(peer));
        Ok(())
    }

    /// Waits for another node to be paired by `code`, in place of any code before.
    pub fn invite(&self, code: Code, now: Instant) {
        let until = now + CODE_LIFETIME;
        *self.invitation() = Some(Invitation { code, attempts: ATTEMPTS, until });
    }

    /// The code to answer one guess with. The guess counts from here on, whatever comes of it.
    ///
    /// # Errors
    /// When there is no code, it has expired, or all guesses are used up.
    pub fn take_attempt(&self, now: Instant) -> Result<Code, PairingError> {
        let mut invitation = self.invitation();
        match &mut *invitation {
            Some(open) if open.attempts > 0 && now < open.until => {
                open.attempts -= 1;
                Ok(open.code.clone())
            }
            Some(_) | None => {
                *invitation = None;
                Err(PairingError::NotPairing)
            }
        }
    }

    /// A pairing succeeded: the code is worth nothing any more.
    pub fn end_invitation(&self) {
        *self.invitation() = None;
    }

    fn invitation(&self) -> MutexGuard<'_, Option<Invitation>> {
        self.invitation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_allows_three_guesses_for_ten_minutes() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::open(folder.path().into()).unwrap();
        #[allow(clippy::disallowed_methods, reason = "any base will do")]
        let now = Instant::now();
        assert_eq!(trust.take_attempt(now), Err(PairingError::NotPairing));
        let code = Code::from_bits(7);
        trust.invite(code.clone(), now);
        for _ in 0..ATTEMPTS {
            assert_eq!(trust.take_attempt(now), Ok(code.clone()));
        }
        assert_eq!(trust.take_attempt(now), Err(PairingError::NotPairing));
        trust.invite(code.clone(), now);
        assert!(trust.take_attempt(now + CODE_LIFETIME).is_err());
        assert!(trust.take_attempt(now).is_err(), "gone for good");
        trust.invite(code, now);
        trust.end_invitation();
        assert!(trust.take_attempt(now).is_err());
    }

    #[test]
    fn a_new_peer_is_told_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::open(folder.path().into()).unwrap();
        let following = trust.follow_peer();
        assert_eq!(trust.peer(), None);
        let peer = Fingerprint([7; 32]);
        trust.set_peer(peer).unwrap();
        assert!(following.has_changed().unwrap());
        let again = Trust::open(folder.path().into()).unwrap();
        assert_eq!(again.peer(), Some(peer));
        assert_eq!(again.identity().fingerprint(), trust.identity().fingerprint());
    }
}
