//! JSON by HTTP POST, signed when there is a secret.
//!
//! The signature stands in `X-Viaduct-Signature` as `sha256=` and the HMAC-SHA256 of the body in
//! hexadecimal. The body holds the time of sending, so that a receiver can refuse old ones.

use hmac::{Hmac, Mac};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::alert::policy::{Item, Message};
use crate::health::probe::Tls;
use crate::model;

const SIGNATURE: HeaderName = HeaderName::from_static("x-viaduct-signature");

/// The body. Its field names are a contract.
#[derive(Serialize)]
struct Payload<'a> {
    /// Name of the director.
    node: &'a str,
    /// Name of the receiver in the configuration.
    receiver: &'a str,
    /// When it was sent, in milliseconds since 1970.
    sent: u64,
    /// What happened, in order.
    alerts: &'a [Item],
    /// How much more happened.
    omitted: u64,
}

pub(super) async fn post(
    node: &str,
    url: &str,
    secret: Option<&str>,
    message: &Message,
) -> Result<(), String> {
    let payload = Payload {
        node,
        receiver: &message.receiver,
        sent: now_millis(),
        alerts: &message.items,
        omitted: message.omitted,
    };
    let body = serde_json::to_vec(&payload).map_err(|error| error.to_string())?;
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let host = uri.host().ok_or_else(|| format!("{url}: no host"))?.to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
    let request = request(&uri, secret, body)?;
    if !secure {
        return exchange(tcp, request).await;
    }
    let name = bare.to_owned();
    let load = tokio::task::spawn_blocking(move || {
        let wanted = model::Tls { verify: true, ..model::Tls::default() };
        Tls::load(&wanted, Some(&name), &[b"http/1.1"])
    });
    let tls = load.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let address = tcp.peer_addr().map_err(|error| error.to_string())?.ip();
    let stream = tls.connector().connect(tls.server_name(address), tcp).await;
    exchange(stream.map_err(|error| error.to_string())?, request).await
}

fn request(uri: &Uri, secret: Option<&str>, body: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // A name and password in the address are not part of the Host header.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static("viaduct"))
        .header(CONNECTION, HeaderValue::from_static("close"));
    if let Some(secret) = secret {
        request = request.header(SIGNATURE, signature(secret, &body)?);
    }
    request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())
}

fn signature(secret: &str, body: &[u8]) -> Result<String, String> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|error| error.to_string())?;
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("sha256={hex}"))
}

/// Sends the request; any status of success will do, and what follows it is not read.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let mut connection = std::pin::pin!(async move {
        let _ = connection.await;
    });
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        () = &mut connection => answer.await,
    };
    let status = answer.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("HTTP {}", status.as_u16())) }
}

#[allow(clippy::disallowed_methods)] // the edge where a message meets the time of day
fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn message() -> Message {
        let item = Item {
            event: "real_down",
            good: false,
            repeated: false,
            service: Some("web".into()),
            real: Some("10.0.0.11:80".parse().unwrap()),
            text: "10.0.0.11:80 is down".into(),
            time: 1000,
        };
        Message { receiver: "hook".into(), items: vec![item], omitted: 2 }
    }

    /// Takes one request and answers with a status; the request's head and body.
    async fn server(status: u16) -> (String, tokio::task::JoinHandle<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut heard, mut chunk) = (Vec::new(), [0; 1024]);
            loop {
                let n = stream.read(&mut chunk).await.unwrap();
                assert!(n > 0, "the request ends early");
                heard.extend_from_slice(&chunk[..n]);
                let Some(end) = heard.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&heard[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if heard.len() >= end + 4 + length {
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return (head, heard[end + 4..].to_vec());
                }
            }
        });
        (url, heard)
    }

    #[tokio::test]
    async fn the_body_is_json_and_its_signature_can_be_checked() {
        let (url, heard) = server(204).await;
        post("lb1", &url, Some("secret"), &message()).await.unwrap();
        let (head, body) = heard.await.unwrap();
        assert!(head.starts_with("post /hook?x=1 http/1.1\r\n"), "{head}");
        let wanted = signature("secret", &body).unwrap();
        assert!(head.contains(&format!("x-viaduct-signature: {wanted}")), "{head}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["node"], "lb1");
        assert_eq!(body["alerts"][0]["real"], "10.0.0.11:80");
        assert_eq!(body["omitted"], 2);
        assert!(body["sent"].as_u64().unwrap() > 1_600_000_000_000);
    }

    #[test]
    fn the_signature_is_hmac_sha256() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?").unwrap(),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[tokio::test]
    async fn refusals_and_absence_are_errors() {
        let (url, _heard) = server(500).await;
        assert_eq!(post("lb1", &url, None, &message()).await.unwrap_err(), "HTTP 500");
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(post("lb1", &format!("http://{gone}/"), None, &message()).await.is_err());
        assert!(post("lb1", "/no/host", None, &message()).await.is_err());
    }
}
