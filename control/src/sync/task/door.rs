//! The listening side: who knocks is the peer, or wants to be paired, or is sent away.

use super::{Arrival, SyncEvent, clock};
use crate::sync::identity::{Fingerprint, IdentityError};
use crate::sync::link::{LinkError, secure_accepted};
use crate::sync::pairing::{
    ACCEPTANCE, DONE, HELLO, Inviting, MAGIC, PROOF, PairingError, REPLY, refusal,
};
use crate::sync::trust::Trust;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// Strangers served at once; more wait in the kernel's queue.
const VISITORS: usize = 8;
/// How long a handshake or a pairing may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Until accepting is tried again when the system has no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until cancelled.
pub(super) async fn keep(
    listener: TcpListener,
    trust: Arc<Trust>,
    arriving: Sender<Arrival>,
    events: Sender<SyncEvent>,
) {
    let visitors = Arc::new(Semaphore::new(VISITORS));
    loop {
        let Ok(place) = Arc::clone(&visitors).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a peer");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (trust, arriving, events) = (Arc::clone(&trust), arriving.clone(), events.clone());
        tokio::spawn(async move {
            let event = match timeout(PATIENCE, receive(stream, &trust)).await {
                Ok(Visit::Peer(result)) => {
                    let arrival = Arrival { result, _open: None };
                    return drop(arriving.send(arrival).await);
                }
                Ok(Visit::Pairing(Ok(peer))) => Some(SyncEvent::Paired { peer }),
                Ok(Visit::Pairing(Err(reason))) => Some(SyncEvent::PairingFailed { from, reason }),
                Ok(Visit::Nobody) | Err(_) => None,
            };
            tell(event, from, &events).await;
            drop(place);
        });
    }
}

async fn tell(event: Option<SyncEvent>, from: SocketAddr, events: &Sender<SyncEvent>) {
    match event {
        Some(event) => drop(events.send(event).await),
        None => tracing::debug!(%from, "an unknown host on the peer port"),
    }
}

enum Visit {
    /// Somebody who speaks TLS: the peer, or one whose key is wrong.
    Peer(Result<Box<TlsStream<TcpStream>>, LinkError>),
    /// Somebody who wants to be paired.
    Pairing(Result<Fingerprint, String>),
    /// Somebody else, or nobody in time.
    Nobody,
}

/// The first byte tells a pairing from TLS.
async fn receive(mut stream: TcpStream, trust: &Trust) -> Visit {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == MAGIC[0] => {
            Visit::Pairing(invite(&mut stream, trust).await.map_err(|error| error.to_string()))
        }
        Ok(1) => match trust.peer() {
            Some(peer) => {
                let secured = secure_accepted(stream, trust.identity(), peer).await;
                match secured {
                    // A stranger who speaks no TLS must not show up as trouble with the peer.
                    Err(LinkError::Tls(_) | LinkError::Io(_)) => Visit::Nobody,
                    other => Visit::Peer(other.map(Box::new)),
                }
            }
            None => Visit::Nobody,
        },
        Ok(_) | Err(_) => Visit::Nobody,
    }
}

#[derive(Debug, thiserror::Error)]
enum InviteError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Pairing(#[from] PairingError),
    #[error("{0}")]
    Save(#[from] IdentityError),
}

async fn invite(stream: &mut TcpStream, trust: &Trust) -> Result<Fingerprint, InviteError> {
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello).await?;
    let started = trust
        .take_attempt(clock())
        .and_then(|code| Inviting::start(&code, trust.identity().fingerprint(), &hello));
    let (inviting, reply) = match started {
        Ok(started) => started,
        Err(error) => return Err(refuse(stream, error, REPLY).await),
    };
    stream.write_all(&reply).await?;
    let mut proof = [0; PROOF];
    stream.read_exact(&mut proof).await?;
    let (accepting, acceptance) = match inviting.proved(&proof) {
        Ok(accepted) => accepted,
        Err(error) => return Err(refuse(stream, error, ACCEPTANCE).await),
    };
    stream.write_all(&acceptance).await?;
    let mut done = [0; DONE];
    stream.read_exact(&mut done).await?;
    let peer = accepting.done(&done)?;
    trust.set_peer(peer)?;
    trust.end_invitation();
    Ok(peer)
}

async fn refuse(stream: &mut TcpStream, error: PairingError, len: usize) -> InviteError {
    match stream.write_all(&refusal(error, len)).await {
        Ok(()) => error.into(),
        Err(io) => io.into(),
    }
}
