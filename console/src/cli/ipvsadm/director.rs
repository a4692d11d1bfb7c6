//! How requests reach the director.

use control::ipvs::{Reply, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whoever answers requests: the daemon, or a stand-in in tests.
pub trait Director {
    /// Carries out one request.
    ///
    /// # Errors
    /// The request did not arrive, or its answer did not. A refusal is a [`Reply`].
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable>;
}

/// Why the director could not be asked.
#[derive(Debug)]
pub enum Unreachable {
    /// Nobody listens on the socket.
    NotRunning(PathBuf, io::Error),
    /// The socket may not be opened.
    Forbidden,
    /// The daemon broke off, or answered something else.
    Broken(String),
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning(socket, error) => {
                write!(f, "Viaduct is not running ({}: {})", socket.display(), plain(error))
            }
            Self::Forbidden => write!(f, "Permission denied (you must be root)"),
            Self::Broken(what) => write!(f, "Viaduct did not answer ({what})"),
        }
    }
}

/// An error without the number that Rust appends.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Longer than any commit to a slow disk should take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The daemon behind its Unix socket. Connects at the first request and keeps the connection.
pub struct Daemon<'a> {
    socket: &'a Path,
    connection: Option<Connection>,
}

struct Connection {
    runtime: tokio::runtime::Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl<'a> Daemon<'a> {
    /// The daemon that listens on `socket`.
    pub const fn new(socket: &'a Path) -> Self {
        Self { socket, connection: None }
    }
}

impl Director for Daemon<'_> {
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(self.socket)?),
        };
        let body = serde_json::to_vec(request).map_err(broken)?;
        let Connection { runtime, sender } = connection;
        runtime.block_on(async {
            let answer = tokio::time::timeout(DEADLINE, post(sender, body)).await;
            answer.map_err(|_| Unreachable::Broken("no answer within a minute".into()))?
        })
    }
}

fn connect(socket: &Path) -> Result<Connection, Unreachable> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(broken)?;
    let sender = runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket).await;
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Unreachable::Forbidden,
            _ => Unreachable::NotRunning(socket.to_owned(), error),
        })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its errors reach whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    })?;
    Ok(Connection { runtime, sender })
}

async fn post(sender: &mut SendRequest<Full<Bytes>>, body: Vec<u8>) -> Result<Reply, Unreachable> {
    let request = hyper::Request::post("/v1/ipvs")
        .header("host", "viaduct")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(broken)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    match status {
        hyper::StatusCode::OK => serde_json::from_slice(&body).map_err(broken),
        hyper::StatusCode::FORBIDDEN | hyper::StatusCode::UNAUTHORIZED => {
            Err(Unreachable::Forbidden)
        }
        _ => Err(Unreachable::Broken(format!("{status}: {}", String::from_utf8_lossy(&body)))),
    }
}

fn broken(error: impl std::fmt::Display) -> Unreachable {
    Unreachable::Broken(error.to_string())
}
