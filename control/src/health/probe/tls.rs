//! TLS as a check asks for it: whom to trust, which name, which certificate to show.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

use crate::model;

/// Why TLS cannot be set up as asked.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no PEM block of the kind wanted.
    #[error("{} holds no {wanted}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
    },
    /// A certificate without its key, or the other way round.
    #[error("a client certificate needs its key")]
    HalfAnIdentity,
    /// The operating system's authorities could not be read.
    #[error("no certificate authorities found on this system")]
    NoSystemAuthorities,
    /// The name is neither a DNS name nor an address.
    #[error("{0:?} is not a server name")]
    ServerName(String),
    /// rustls refuses the combination.
    #[error(transparent)]
    Refused(#[from] rustls::Error),
    /// The authorities are refused as a set.
    #[error(transparent)]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// TLS ready for use, shared by all servers of a check.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: tokio_rustls::TlsConnector,
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// Prepares TLS as `wanted`, reading its files. `host` is the name to ask for unless `wanted`
    /// has its own; `alpn` are the protocols to offer.
    pub fn load(wanted: &model::Tls, host: Option<&str>, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let verifier = match (&wanted.ca, wanted.verify) {
            (_, false) => Arc::new(AcceptAnyone(provider())),
            (Some(ca), true) => authorities(ca)?,
            (None, true) => system_authorities()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&wanted.certificate, &wanted.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(chain), Some(key)) => {
                builder.with_client_auth_cert(certificates(chain)?, private_key(key)?)?
            }
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::HalfAnIdentity),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // A resumed session would show the certificate of yesterday.
        config.resumption = Resumption::disabled();
        let name = match wanted.sni.as_deref().or(host) {
            Some(name) => Some(server_name(name)?),
            None => None,
        };
        Ok(Self { connector: tokio_rustls::TlsConnector::from(Arc::new(config)), name })
    }

    /// The same, remembering sessions for as long as the result lives.
    pub fn with_own_sessions(&self) -> Self {
        let mut config = ClientConfig::clone(self.connector.config());
        config.resumption = Resumption::in_memory_sessions(8);
        Self {
            connector: tokio_rustls::TlsConnector::from(Arc::new(config)),
            name: self.name.clone(),
        }
    }

    pub fn connector(&self) -> &tokio_rustls::TlsConnector {
        &self.connector
    }

    /// The name to ask for at `server`.
    pub fn server_name(&self, server: IpAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or_else(|| ServerName::from(server))
    }
}

/// A name, or an address in its usual forms, brackets and port included.
fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = match text.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((inside, _)) => inside.to_owned(),
            None if text.matches(':').count() == 1 => {
                text.split(':').next().unwrap_or_default().to_owned()
            }
            None => text.to_owned(),
        },
    };
    ServerName::try_from(bare).map_err(|_| TlsError::ServerName(text.to_owned()))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

fn authorities(path: &Path) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}

/// The system's authorities, read once: it takes milliseconds and memory, and there may be
/// thousands of checks.
fn system_authorities() -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    static SYSTEM: OnceLock<Arc<WebPkiServerVerifier>> = OnceLock::new();
    if let Some(verifier) = SYSTEM.get() {
        let verifier: Arc<WebPkiServerVerifier> = Arc::clone(verifier);
        return Ok(verifier);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoSystemAuthorities);
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let verifier: Arc<WebPkiServerVerifier> = Arc::clone(SYSTEM.get_or_init(|| verifier));
    Ok(verifier)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(TlsError::Pem { path: path.to_owned(), wanted: "certificate" }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsError::Pem { path: path.to_owned(), wanted: "private key" })
}

/// Signature schemes that ring cannot verify, and that servers with old software or unusual keys sign with.
const UNVERIFIABLE: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

/// Trusts every server. Its signature proves only that it holds the key of a certificate that anybody could
/// have made, and checking it would refuse what clients accept: certificates of version 1, for example.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend(UNVERIFIABLE);
        schemes
    }
}

/// A failed handshake in an operator's words. A server without a protocol version or cipher suite in common
/// with this check may serve its clients well.
pub(super) fn handshake_failure(error: &rustls::Error) -> String {
    use rustls::AlertDescription::{HandshakeFailure, InsufficientSecurity, ProtocolVersion};
    use rustls::Error::{AlertReceived, PeerIncompatible};
    if let AlertReceived(HandshakeFailure | InsufficientSecurity | ProtocolVersion)
    | PeerIncompatible(_) = error
    {
        return format!(
            "{error}: the server may speak only TLS that checks do not, which is TLS below 1.2, CBC, \
             static RSA, finite-field DHE or an RSA-PSS key; then check it by type = \"tcp\", or by \
             type = \"script\" with curl -k,"
        );
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_with_or_without_a_port() {
        let name = |text| server_name(text).unwrap().to_str().into_owned();
        assert_eq!(name("www.example.org"), "www.example.org");
        assert_eq!(name("www.example.org:8443"), "www.example.org");
        assert_eq!(name("192.0.2.1:443"), "192.0.2.1");
        assert_eq!(name("[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(name("2001:db8::1"), "2001:db8::1");
        assert!(server_name("not a name").is_err());
    }

    #[test]
    fn unusable_files_are_named() {
        let load = |tls: model::Tls| Tls::load(&tls, None, &[]).err().unwrap().to_string();
        let missing = model::Tls {
            verify: true,
            ca: Some("/nonexistent/ca.pem".into()),
            ..model::Tls::default()
        };
        assert_eq!(load(missing), "/nonexistent/ca.pem: No such file or directory (os error 2)");
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty =
            model::Tls { verify: true, ca: Some(file.path().to_owned()), ..model::Tls::default() };
        assert!(load(empty).ends_with("holds no certificate"));
        let half = model::Tls { key: Some("/k.pem".into()), ..model::Tls::default() };
        assert_eq!(load(half), "a client certificate needs its key");
    }
}
