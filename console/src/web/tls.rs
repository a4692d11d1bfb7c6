//! The console's door: accepts connections over TLS, with limits for strangers who open many, send slowly,
//! or send nothing.

use super::certificate::Certificate;
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at a time; further ones are closed at once.
const MOST: usize = 256;

/// Connections at a time from one address.
const MOST_OF_ONE: usize = 32;

/// For the first byte and the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// For the headers of a request.
const HEADERS: Duration = Duration::from_secs(10);

/// For answers under way once the daemon ends.
const LAST: Duration = Duration::from_secs(3);

/// Connections that are open, by address.
#[derive(Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// A place among the guests, given back when it is dropped.
struct Place {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = guests.values().sum();
        if all >= MOST || guests.get(&address).is_some_and(|own| *own >= MOST_OF_ONE) {
            return None;
        }
        *guests.entry(address).or_default() += 1;
        Some(Place { guests: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = guests.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                guests.remove(&self.address);
            }
        }
    }
}

/// Serves until `stop`; answers under way are finished.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    certificate: Arc<ArcSwap<Certificate>>,
    app: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let guests = Arc::new(Guests::default());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            // A client that has gone, or no descriptors for now: neither ends the console.
            Err(error) => {
                tracing::debug!("console: accepting failed: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = guests.enter(address.ip()) else { continue };
        let visit = visit(stream, address, certificate.load_full(), app.clone(), stop.clone());
        tasks.spawn(async move {
            visit.await;
            drop(place);
        });
    }
    tasks.close();
    // Streams of events would keep it open for ever.
    let _ = timeout(LAST, tasks.wait()).await;
    Ok(())
}

async fn visit(
    stream: TcpStream,
    address: SocketAddr,
    certificate: Arc<Certificate>,
    app: Router,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let mut first = [0; 1];
    match timeout(HANDSHAKE, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first != [TLS_HANDSHAKE] => return say_https(stream).await,
        Ok(Ok(1)) => {}
        _ => return,
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&certificate.config));
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let app = app.layer(axum::Extension(ConnectInfo(address)));
    let service = hyper_util::service::TowerToHyperService::new(app);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(20)));
    builder.http2().max_concurrent_streams(64).max_header_list_size(16 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The first byte of a TLS record that begins a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Somebody who speaks HTTP without TLS is told so instead of being hung up on.
async fn say_https(mut stream: TcpStream) {
    let text = "This console speaks HTTPS only: write https:// before its address.\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = timeout(HANDSHAKE, stream.write_all(answer.as_bytes())).await;
    let _ = timeout(HANDSHAKE, stream.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_places_come_back() {
        let guests = Arc::new(Guests::default());
        let one: Vec<_> = (0..100).filter_map(|_| guests.enter([10, 0, 0, 1].into())).collect();
        assert_eq!(one.len(), MOST_OF_ONE);
        let others: Vec<_> =
            (0..=255).filter_map(|last| guests.enter([10, 0, 1, last].into())).collect();
        assert_eq!(one.len() + others.len(), MOST);
        drop(one);
        assert!(guests.enter([10, 0, 0, 2].into()).is_some());
        assert!(guests.enter([10, 0, 0, 2].into()).is_some(), "the first left");
        drop(others);
        assert!(guests.0.lock().expect("not poisoned").is_empty());
    }
}
