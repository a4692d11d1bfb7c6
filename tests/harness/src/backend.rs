//! Servers inside this process that say who they are: HTTP and a telnet-like line echo.
//!
//! They run on the lab's runtime, but their sockets belong to the host's namespace.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};

use crate::host::Host;

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Lines,
}

/// A running server; stopped on drop.
#[derive(Debug)]
pub struct Backend {
    host: Host,
    kind: Kind,
    address: SocketAddr,
    served: Arc<AtomicU64>,
    clock: Arc<AtomicI64>,
    acceptor: Option<AbortHandle>,
}

impl Backend {
    /// Serves HTTP/1.1 with keep-alive. `/` answers the host's name and a newline, `/client` the
    /// address that the connection came from, `/bytes/N` N bytes; anything else is 404.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn http(host: &Host, address: &str) -> Result<Self> {
        Self::new(host, Kind::Http, address)
    }

    /// Greets with the host's name, then echoes line by line, as a telnet service would.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn lines(host: &Host, address: &str) -> Result<Self> {
        Self::new(host, Kind::Lines, address)
    }

    fn new(host: &Host, kind: Kind, address: &str) -> Result<Self> {
        let address = address.parse().with_context(|| format!("address {address:?}"))?;
        let served = Arc::new(AtomicU64::new(0));
        let clock = Arc::new(AtomicI64::new(0));
        let mut backend = Self { host: host.clone(), kind, address, served, clock, acceptor: None };
        backend.start()?;
        Ok(backend)
    }

    /// Begins to listen, if it does not already.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(&mut self) -> Result<()> {
        if self.acceptor.is_some() {
            return Ok(());
        }
        let listener = self
            .host
            .enter(|| listen(self.address))?
            .with_context(|| format!("{} on {}", self.address, self.host.name()))?;
        let name = self.host.name().to_owned();
        let (served, clock) = (Arc::clone(&self.served), Arc::clone(&self.clock));
        let work = accept(listener, self.kind, name, served, clock);
        self.acceptor = Some(self.host.runtime().spawn(work).abort_handle());
        Ok(())
    }

    /// Dies as a killed server does: the listener and every connection are closed.
    pub fn stop(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
        }
    }

    /// Whether it listens.
    pub fn is_up(&self) -> bool {
        self.acceptor.is_some()
    }

    /// Sets its clock, which it tells in the `Date` header, so many seconds ahead of the machine's.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.clock.store(seconds, Ordering::Relaxed);
    }

    /// Requests or lines answered since it was made.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that comes back must not wait for its old connections.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts until aborted; the connections end with it.
async fn accept(
    listener: TcpListener,
    kind: Kind,
    name: String,
    served: Arc<AtomicU64>,
    clock: Arc<AtomicI64>,
) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await?;
        let (name, served, clock) = (name.clone(), Arc::clone(&served), Arc::clone(&clock));
        connections.spawn(async move {
            // A client that goes away mid-request is its own affair.
            let _ = match kind {
                Kind::Http => serve_http(stream, peer, &name, (&served, &clock)).await,
                Kind::Lines => serve_lines(stream, &name, &served).await,
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_http(
    stream: TcpStream,
    peer: SocketAddr,
    name: &str,
    (served, clock): (&AtomicU64, &AtomicI64),
) -> Result<()> {
    const LONGEST_HEADER: u64 = 16 * 1024;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut close, mut line) = (None, false, String::new());
        let mut header = (&mut stream).take(LONGEST_HEADER);
        loop {
            line.clear();
            if header.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            match &path {
                None => {
                    path = text.split(' ').nth(1).map(str::to_owned);
                    close = text.ends_with("HTTP/1.0");
                }
                Some(_) => close |= text.eq_ignore_ascii_case("connection: close"),
            }
        }
        let date = date(clock.load(Ordering::Relaxed));
        let answer = answer(path.as_deref().unwrap_or("/"), name, peer, (close, &date));
        served.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(&answer).await?;
        if close {
            return Ok(stream.get_mut().shutdown().await?);
        }
    }
}

/// The time of day by a clock that is so many seconds ahead, as HTTP writes it.
#[allow(clippy::disallowed_methods, reason = "a server tells the time")]
fn date(ahead: i64) -> String {
    let shift = std::time::Duration::from_secs(ahead.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if ahead < 0 { now - shift } else { now + shift })
}

fn answer(path: &str, name: &str, peer: SocketAddr, (close, date): (bool, &str)) -> Vec<u8> {
    const MOST_BYTES: usize = 64 << 20;
    let length = path.strip_prefix("/bytes/").and_then(|count| count.parse::<usize>().ok());
    let (status, body) = match (path, length) {
        ("/", _) => ("200 OK", format!("{name}\n").into_bytes()),
        ("/client", _) => ("200 OK", format!("{}\n", peer.ip()).into_bytes()),
        (_, Some(length)) if length <= MOST_BYTES => ("200 OK", vec![b'v'; length]),
        _ => ("404 Not Found", b"no such page\n".to_vec()),
    };
    let after = if close { "close" } else { "keep-alive" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nX-Server: {name}\r\nDate: {date}\r\nContent-Length: {}\r\nConnection: {after}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

async fn serve_lines(stream: TcpStream, name: &str, served: &AtomicU64) -> Result<()> {
    const LONGEST_LINE: u64 = 4096;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(format!("{name} ready\r\n").as_bytes()).await?;
    loop {
        let mut line = Vec::new();
        if (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        served.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(&line).await?;
    }
}
