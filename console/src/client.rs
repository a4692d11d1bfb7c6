//! How commands reach the daemon: HTTP over its Unix socket.

use crate::web::api::Failure;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Longer than any commit to a slow disk should take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Why the daemon did not do as asked.
#[derive(Debug)]
pub enum ClientError {
    /// No daemon listens on the socket.
    NotRunning(PathBuf, io::Error),
    /// It broke off, or does not answer.
    Broken(String),
    /// The daemon refused the request.
    Refused(Failure),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "permission denied on {}: only its owner may talk to the daemon",
                    path.display()
                )
            }
            Self::NotRunning(path, error) => {
                write!(f, "no daemon listens on {}: {error}", path.display())
            }
            Self::Broken(what) => write!(f, "the daemon did not answer: {what}"),
            Self::Refused(failure) => f.write_str(&failure.error),
        }
    }
}

impl std::error::Error for ClientError {}

/// The daemon behind its socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon that listens on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A GET for JSON.
    ///
    /// # Errors
    /// When the daemon is not there, breaks off or refuses.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        json(&self.send(Method::GET, path, Vec::new(), "application/json")?)
    }

    /// A GET for whatever it is.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        Ok(self.send(Method::GET, path, Vec::new(), "application/json")?.to_vec())
    }

    /// A POST of JSON for JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        json(&self.send(Method::POST, path, body, "application/json")?)
    }

    /// A text or bytes, for JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn send_bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        json(&self.send(method, path, body, "text/plain; charset=utf-8")?)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        kind: &str,
    ) -> Result<Bytes, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(broken)?.block_on(async {
            let exchange = self.exchange(method, path, body, kind);
            let answer = tokio::time::timeout(DEADLINE, exchange).await;
            answer.map_err(|_| broken("no answer within two minutes"))?
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        kind: &str,
    ) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::NotRunning(self.socket.clone(), error))?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its errors reach whoever waits for an answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "viaduct")
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let failure = serde_json::from_slice::<Failure>(&body);
        Err(ClientError::Refused(failure.unwrap_or_else(|_| {
            Failure::bad_request(format!("{status}: {}", String::from_utf8_lossy(&body)))
        })))
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// Part of a URL's query, percent-encoded.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let parts: Vec<String> =
        given.map(|(key, value)| format!("{key}={}", percent_encoded(value))).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let pairs =
            [("a", Some("x y/[::1]:80".to_owned())), ("b", None), ("c", Some(String::new()))];
        assert_eq!(query(&pairs), "?a=x%20y%2F%5B%3A%3A1%5D%3A80&c=");
        assert_eq!(query(&[("b", None)]), "");
    }
}
