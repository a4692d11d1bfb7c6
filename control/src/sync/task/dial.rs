//! The dialling side, for links and for pairing.

use super::{Arrival, SyncError};
use crate::sync::identity::Fingerprint;
use crate::sync::link::{LinkError, secure_dialled};
use crate::sync::pairing::{ACCEPTANCE, Code, Joining, PairingError, REPLY};
use crate::sync::status::Shared;
use crate::sync::trust::Trust;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsStream;

/// How long a connection and its handshake may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts: short, since connections are told from the first moment on.
const PAUSE: Duration = Duration::from_millis(250);

/// How long the other node may take before this one dials in its place.
const OUT_OF_TURN: Duration = Duration::from_secs(3);

/// Dials whenever the link is down and it is this node's part, until cancelled. When nobody comes the
/// other side dials too: after a reinstallation both may believe that it is for the other to do, and
/// only a connection tells them that their keys do not fit.
pub(super) async fn keep(
    peer: SocketAddr,
    trust: Arc<Trust>,
    shared: Arc<Shared>,
    arriving: Sender<Arrival>,
) {
    let mut followed = trust.follow_peer();
    loop {
        let known = *followed.borrow_and_update();
        let Some(key) = known else {
            if followed.changed().await.is_err() {
                return;
            }
            continue;
        };
        if trust.identity().fingerprint() > key {
            tokio::select! {
                changed = followed.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = sleep(OUT_OF_TURN) => {}
            }
            if shared.is_up() {
                continue;
            }
        }
        let result = match timeout(PATIENCE, connect(peer, &trust, key)).await {
            Ok(result) => result,
            Err(_) => Err(LinkError::Io(io::ErrorKind::TimedOut.into())),
        };
        let (open, ended) = oneshot::channel();
        if arriving.send(Arrival { result, _open: Some(open) }).await.is_err() {
            return;
        }
        let _ = ended.await;
        sleep(PAUSE).await;
    }
}

async fn connect(
    peer: SocketAddr,
    trust: &Trust,
    key: Fingerprint,
) -> Result<Box<TlsStream<TcpStream>>, LinkError> {
    let stream = TcpStream::connect(peer).await.map_err(LinkError::Io)?;
    secure_dialled(stream, trust.identity(), key).await.map(Box::new)
}

/// Pairs with the node at `address` by the code that it shows.
///
/// # Errors
/// When it cannot be reached, or does not accept the code; nothing changes then.
pub async fn join(
    trust: &Trust,
    address: SocketAddr,
    code: &Code,
) -> Result<Fingerprint, SyncError> {
    let failed = |source| SyncError::Connect { address, source };
    let late = || failed(io::ErrorKind::TimedOut.into());
    timeout(2 * PATIENCE, exchange(trust, address, code)).await.map_err(|_| late())?
}

async fn exchange(
    trust: &Trust,
    address: SocketAddr,
    code: &Code,
) -> Result<Fingerprint, SyncError> {
    let failed = |source: io::Error| {
        // The other node closed in the middle: it is no Viaduct, or too old.
        if source.kind() == io::ErrorKind::UnexpectedEof {
            SyncError::Pairing(PairingError::Protocol)
        } else {
            SyncError::Connect { address, source }
        }
    };
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let (joining, hello) = Joining::start(code, trust.identity().fingerprint());
    stream.write_all(&hello).await.map_err(failed)?;
    let mut reply = [0; REPLY];
    stream.read_exact(&mut reply).await.map_err(failed)?;
    let (proving, proof) = joining.answered(&reply)?;
    stream.write_all(&proof).await.map_err(failed)?;
    let mut acceptance = [0; ACCEPTANCE];
    stream.read_exact(&mut acceptance).await.map_err(failed)?;
    let (peer, done) = proving.accepted(&acceptance)?;
    // Remembered first: who hears the last frame may dial at once.
    trust.set_peer(peer)?;
    stream.write_all(&done).await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)?;
    Ok(peer)
}
