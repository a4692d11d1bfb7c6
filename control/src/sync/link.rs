//! A TLS 1.3 connection to the peer, each side showing exactly the certificate that the other has pinned,
//! and whole messages on it.

use super::identity::{Fingerprint, Identity};
use super::message::{self, HEADER, Message};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    ServerConfig, SignatureScheme,
};
use socket2::SockRef;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// After this long without an acknowledgement the kernel gives a TCP connection up.
const TCP_PATIENCE: Duration = Duration::from_secs(5);

/// Why a link ended or never was.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The network, or the peer's end.
    #[error("{0}")]
    Io(io::Error),
    /// The other side has another key than the pinned one.
    #[error(
        "the peer shows key {seen}, but this node was paired with {expected}: if it was reinstalled, \
         pair again"
    )]
    WrongKey {
        /// Fingerprint that the peer presented.
        seen: String,
        /// Fingerprint pinned at pairing.
        expected: String,
    },
    /// The other side does not accept our key.
    #[error("the peer refuses this node's key {own}: it was paired with another node; pair again")]
    Refused {
        /// Fingerprint of this node's key.
        own: String,
    },
    /// No TLS, or a broken one.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// A message that is none.
    #[error("the peer sent a malformed message: {0}")]
    Malformed(#[from] message::Malformed),
    /// The peer said goodbye, or we did; or versions do not fit.
    #[error("{0}")]
    Closed(String),
    /// Nothing was heard for too long.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct Pinned {
    expected: Fingerprint,
    seen: Mutex<Option<Fingerprint>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let seen = Fingerprint::of(certificate);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        if seen == self.expected {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS 1.2 is not offered, so its signatures never come.
fn no_tls_1_2() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not supported".to_owned())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls_1_2())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls_1_2())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// Opens the secure connection as the side that dialled.
///
/// # Errors
/// In the operator's words.
pub async fn secure_dialled(
    stream: TcpStream,
    identity: &Identity,
    peer: Fingerprint,
) -> Result<TlsStream<TcpStream>, LinkError> {
    tune(&stream).map_err(LinkError::Io)?;
    let pinned = pinned(peer);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&pinned.provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| LinkError::Tls(error.to_string()))?;
    let verifier = Arc::clone(&pinned);
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![identity.certificate()], identity.key())
        .map_err(|error| LinkError::Tls(error.to_string()))?;
    // A resumed session would not show certificates; after a new pairing they must be shown.
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from("viaduct").map_err(|e| LinkError::Tls(e.to_string()))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map(TlsStream::Client).map_err(|error| explain(error, identity, Some(&pinned)))
}

/// Opens the secure connection as the side that accepted.
///
/// # Errors
/// In the operator's words.
pub async fn secure_accepted(
    stream: TcpStream,
    identity: &Identity,
    peer: Fingerprint,
) -> Result<TlsStream<TcpStream>, LinkError> {
    tune(&stream).map_err(LinkError::Io)?;
    let pinned = pinned(peer);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&pinned.provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| LinkError::Tls(error.to_string()))?;
    let verifier = Arc::clone(&pinned);
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate()], identity.key())
        .map_err(|error| LinkError::Tls(error.to_string()))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
    accepted.map(TlsStream::Server).map_err(|error| explain(error, identity, Some(&pinned)))
}

fn pinned(expected: Fingerprint) -> Arc<Pinned> {
    let provider = Arc::new(ring::default_provider());
    Arc::new(Pinned { expected, seen: Mutex::new(None), provider })
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(TCP_PATIENCE))
}

/// What an error of the secure connection means. That the peer refuses our key shows only when something
/// is read from it, after our own handshake succeeded.
pub fn explain_read(error: io::Error, identity: &Identity) -> LinkError {
    explain(error, identity, None)
}

fn explain(error: io::Error, identity: &Identity, pinned: Option<&Pinned>) -> LinkError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
    match tls {
        None => LinkError::Io(error),
        Some(rustls::Error::AlertReceived(AlertDescription::AccessDenied)) => {
            LinkError::Refused { own: identity.fingerprint().short() }
        }
        Some(other) => {
            let seen = pinned
                .and_then(|pinned| *pinned.seen.lock().unwrap_or_else(PoisonError::into_inner));
            match (seen, pinned) {
                (Some(seen), Some(pinned)) if seen != pinned.expected => {
                    LinkError::WrongKey { seen: seen.short(), expected: pinned.expected.short() }
                }
                (Some(_) | None, _) => LinkError::Tls(other.to_string()),
            }
        }
    }
}

/// Reads one message.
///
/// # Errors
/// When the connection ended, or what came is no message.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    identity: &Identity,
) -> Result<Message, LinkError> {
    let failed = |error| explain_read(error, identity);
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).await.map_err(failed)?;
    let (kind, len) = message::header(head)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.map_err(failed)?;
    Ok(Message::decode(kind, &body)?)
}
