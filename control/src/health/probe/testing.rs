//! Servers good, bad, silent and broken, inside the test process.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::{Probe, Target};
use crate::health::fsm::Depth;
use crate::health::outcome::{Failure, Outcome, Verdict};
use crate::model;

/// Time for anything that answers at all, on however busy a machine.
const PLENTY: Duration = Duration::from_secs(60);

/// Makes a probe ready that must be usable.
pub(super) fn prepare(wanted: model::Probe) -> Probe {
    Probe::prepare(&wanted, "lb1").unwrap()
}

pub(super) async fn run_at(probe: &Probe, target: &Target) -> Outcome {
    probe.run(target, Depth::Full, PLENTY).await
}

/// Runs a probe that must pass; what the server said.
pub(super) async fn passed(probe: &Probe, server: SocketAddr) -> String {
    let outcome = run_at(probe, &Target::new(server)).await;
    match outcome.verdict {
        Verdict::Passed(detail) => detail,
        Verdict::Failed(_) | Verdict::Unable(_) | Verdict::Unsent(_) => {
            panic!("{}", outcome.reason())
        }
    }
}

/// Runs a probe that must fail; why it did.
pub(super) async fn failed(probe: &Probe, server: SocketAddr) -> Failure {
    let outcome = run_at(probe, &Target::new(server)).await;
    match outcome.verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Passed(_) | Verdict::Unable(_) | Verdict::Unsent(_) => {
            panic!("{}", outcome.reason())
        }
    }
}

/// Runs a probe that must run out of time waiting for `what`. Gives more time as long as it only
/// got as far as an earlier step.
pub(super) async fn times_out_waiting_for(what: &'static str, probe: &Probe, server: SocketAddr) {
    let mut timeout = Duration::from_millis(200);
    loop {
        let outcome = probe.run(&Target::new(server), Depth::Full, timeout).await;
        if outcome.verdict == Verdict::Failed(Failure::Timeout(what)) {
            return;
        }
        let early = matches!(outcome.verdict, Verdict::Failed(Failure::Timeout(_)));
        assert!(early && timeout < PLENTY, "{}", outcome.reason());
        timeout *= 2;
    }
}

/// Serves each connection with `talk`.
pub(super) async fn serve<F, T>(talk: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

/// Accepts and never says a word.
pub(super) async fn silent() -> SocketAddr {
    serve(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await
}

/// A port where nothing listens.
pub(super) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Says these pieces, then hangs up.
pub(super) async fn says(pieces: &[&[u8]]) -> SocketAddr {
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    serve(move |mut stream| {
        let pieces = pieces.clone();
        async move {
            for piece in pieces {
                let _ = stream.write_all(&piece).await;
                tokio::task::yield_now().await;
            }
            let _ = stream.shutdown().await;
            let mut rest = [0; 512];
            while matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {}
        }
    })
    .await
}

/// Never stops talking.
pub(super) async fn floods() -> SocketAddr {
    serve(|mut stream| async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} }).await
}

/// Plays a dialogue: waits for each line's text, then answers.
///
/// The first entry may wait for "" to greet at once. Ends the connection after the last answer, or
/// when the client says something else.
pub(super) async fn plays(dialogue: &[(&str, &str)]) -> SocketAddr {
    let dialogue = owned(dialogue);
    serve(move |mut stream| {
        let dialogue = dialogue.clone();
        async move { play(&mut stream, dialogue).await }
    })
    .await
}

fn owned(dialogue: &[(&str, &str)]) -> Vec<(String, String)> {
    dialogue.iter().map(|(wait, say)| (wait.to_string(), say.to_string())).collect()
}

/// One side of a dialogue, over any stream, which then ends.
pub(super) async fn play(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    dialogue: Vec<(String, String)>,
) {
    talk(&mut stream, dialogue).await;
    let _ = stream.shutdown().await;
}

async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), dialogue: Vec<(String, String)>) {
    let mut heard = Vec::new();
    for (wait, say) in dialogue {
        while !heard.starts_with(wait.as_bytes()) {
            let mut chunk = [0; 512];
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => heard.extend_from_slice(&chunk[..n]),
                Ok(_) | Err(_) => return,
            }
        }
        heard.drain(..wait.len());
        let _ = stream.write_all(say.as_bytes()).await;
        let _ = stream.flush().await;
    }
}

/// Answers each datagram with the ones that `answer` makes of it.
pub(super) async fn answers_udp(
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    loses_udp(0, answer).await
}

/// The same, but hears nothing of the first datagrams.
pub(super) async fn loses_udp(
    lost: usize,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 2048];
        for heard in 0.. {
            let Ok((n, from)) = socket.recv_from(&mut question).await else { return };
            if heard >= lost {
                for reply in answer(&question[..n]) {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        }
    });
    address
}

/// A certificate that signs itself, for servers; its file is the authority for clients.
pub(super) struct Certificate {
    file: tempfile::NamedTempFile,
    der: rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificate {
    pub fn for_name(name: &str) -> Self {
        Self::ending(name, 2040)
    }

    /// Ends on New Year's Day of a year.
    pub fn ending(name: &str, year: i32) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        file.write_all(key.serialize_pem().as_bytes()).unwrap();
        Self { file, der: certificate.der().clone(), key: key.serialize_der() }
    }

    /// A PEM file with the certificate and its key.
    pub fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Takes TLS connections; asks clients for a certificate that this one signed when `mutual`.
    pub fn acceptor(&self, alpn: &[&[u8]], mutual: bool) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.der.clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![self.der.clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Plays a dialogue over TLS.
    pub async fn plays_tls(&self, dialogue: &[(&str, &str)]) -> SocketAddr {
        self.plays_starttls(&[], dialogue).await
    }

    /// Plays one dialogue in clear, then another over TLS.
    pub async fn plays_starttls(
        &self,
        clear: &[(&str, &str)],
        secure: &[(&str, &str)],
    ) -> SocketAddr {
        let (clear, secure) = (owned(clear), owned(secure));
        let acceptor = self.acceptor(&[], false);
        serve(move |mut stream| {
            let (clear, secure, acceptor) = (clear.clone(), secure.clone(), acceptor.clone());
            async move {
                talk(&mut stream, clear).await;
                if let Ok(stream) = acceptor.accept(stream).await {
                    play(stream, secure).await;
                }
            }
        })
        .await
    }
}
