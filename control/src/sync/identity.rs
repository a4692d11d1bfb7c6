//! Who a node is to its peer: a self-signed certificate made once, known to the other by its SHA-256.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const IDENTITY: &str = "identity.pem";
const PEER: &str = "peer.fingerprint";

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate as it is on the wire.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The first bytes, for messages to people.
    pub fn short(&self) -> String {
        self.0.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let (pairs, rest) = text.trim().as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NoFingerprint);
            let [high, low] = [digit(pair[0])?, digit(pair[1])?];
            u8::try_from(high << 4 | low).map_err(|_| NoFingerprint)
        };
        let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Result<_, _>>()?;
        if !rest.is_empty() {
            return Err(NoFingerprint);
        }
        bytes.try_into().map(Self).map_err(|_| NoFingerprint)
    }
}

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory or a file in it.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is there but holds no key and certificate.
    #[error("{0}: not a key and a certificate; delete it and pair again")]
    Damaged(PathBuf),
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Make(#[from] rcgen::Error),
}

/// A node's key and certificate.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the identity in `directory`, or makes it there.
    ///
    /// # Errors
    /// When it cannot be read, made or written.
    pub fn load_or_make(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY);
        match std::fs::read(&path) {
            Ok(pem) => Self::from_pem(&pem).ok_or(IdentityError::Damaged(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = Self::make()?;
                let file = |source| IdentityError::File { path: directory.to_owned(), source };
                std::fs::create_dir_all(directory).map_err(file)?;
                write_durably(directory, IDENTITY, pem.as_bytes()).map_err(file)?;
                Self::from_pem(pem.as_bytes()).ok_or(IdentityError::Damaged(path))
            }
            Err(source) => Err(IdentityError::File { path, source }),
        }
    }

    fn make() -> Result<String, rcgen::Error> {
        let made = rcgen::generate_simple_self_signed(["viaduct".to_owned()])?;
        Ok(made.signing_key.serialize_pem() + &made.cert.pem())
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        Some(Self { certificate, key })
    }

    /// What the peer must pin.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// The peer that `directory` remembers; `None` before pairing.
///
/// # Errors
/// When the file is there and cannot be understood.
pub fn load_peer(directory: &Path) -> Result<Option<Fingerprint>, IdentityError> {
    let path = directory.join(PEER);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.parse().map(Some).map_err(|_| IdentityError::Damaged(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File { path, source }),
    }
}

/// Remembers the peer in `directory`; it survives a power cut once this returns.
///
/// # Errors
/// When it cannot be written.
pub fn save_peer(directory: &Path, peer: &Fingerprint) -> Result<(), IdentityError> {
    let file = |source| IdentityError::File { path: directory.join(PEER), source };
    write_durably(directory, PEER, format!("{peer}\n").as_bytes()).map_err(file)
}

/// A new file first, so a power cut leaves the old one or the new one.
fn write_durably(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = directory.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("peer");
        let first = Identity::load_or_make(&directory).unwrap().fingerprint();
        assert_eq!(Identity::load_or_make(&directory).unwrap().fingerprint(), first);
        let mode = std::fs::metadata(directory.join(IDENTITY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Identity::load_or_make(other.path()).unwrap().fingerprint(), first);
    }

    #[test]
    fn a_damaged_identity_is_not_replaced_silently() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(IDENTITY), "nonsense").unwrap();
        let error = Identity::load_or_make(folder.path()).unwrap_err();
        assert!(error.to_string().contains("pair again"), "{error}");
    }

    #[test]
    fn the_peer_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load_peer(folder.path()).unwrap(), None);
        let peer = Fingerprint([0xa5; 32]);
        save_peer(folder.path(), &peer).unwrap();
        assert_eq!(load_peer(folder.path()).unwrap(), Some(peer));
        std::fs::write(folder.path().join(PEER), "a5a5").unwrap();
        assert!(load_peer(folder.path()).is_err());
    }

    #[test]
    fn fingerprints_survive_their_text() {
        let print = Fingerprint(std::array::from_fn(|at| at as u8));
        assert_eq!(print.to_string().parse(), Ok(print));
        assert_eq!(print.short(), "00:01:02:03:04:05");
        for bad in ["", "0", "zz", &print.to_string()[1..], &format!("{print}00")] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NoFingerprint), "{bad}");
        }
    }
}
