//! HTTP/1.1 and HTTP/2, in clear or over TLS.

mod redirect;

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{
    AUTHORIZATION, CONNECTION, DATE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::http::response::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};

use self::redirect::{Next, Place};
use super::expect::Expect;
use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::health::outcome::ClockReading;
use crate::model::{self, HttpProbe, HttpVersion, StatusSet};

/// Longest body looked at.
const BODY_LIMIT: usize = 1 << 20;

/// Most header fields of a response: more than curl and browsers take.
const MOST_HEADERS: usize = 5000;

/// Longest list of header fields over HTTP/2, in bytes; over HTTP/1.1 hyper's limit is about as large.
const HEADERS_LIMIT: u32 = 400 * 1024;

/// A request and what its answer must be.
pub(super) struct Http {
    method: Method,
    path: PathAndQuery,
    host: Option<Authority>,
    headers: HeaderMap,
    body: Bytes,
    version: HttpVersion,
    redirects: u8,
    statuses: StatusSet,
    expect: Expect,
    tls: Option<Tls>,
    /// For redirects from http to https.
    redirect_tls: Option<Tls>,
}

/// An answer as far as it was read.
struct Answer {
    parts: Parts,
    body: Vec<u8>,
    cut: bool,
}

impl Http {
    pub fn prepare(wanted: &HttpProbe) -> Result<Self, PrepareError> {
        let host = wanted.host.as_deref();
        let alpn: &[&[u8]] = match wanted.version {
            HttpVersion::Http1 => &[b"http/1.1"],
            HttpVersion::Http2 => &[b"h2"],
        };
        let load = |tls: &model::Tls| Tls::load(tls, host, alpn);
        let redirect_tls = match (&wanted.tls, wanted.redirects) {
            (None, 1..) => Some(load(&model::Tls::default())?),
            (Some(_), _) | (None, 0) => None,
        };
        Ok(Self {
            method: Method::from_bytes(wanted.method.as_bytes()).map_err(request)?,
            path: PathAndQuery::try_from(wanted.path.as_str()).map_err(request)?,
            host: host.map(Authority::try_from).transpose().map_err(request)?,
            headers: headers(wanted)?,
            body: Bytes::from(wanted.body.clone().unwrap_or_default()),
            version: wanted.version,
            redirects: wanted.redirects,
            statuses: wanted.expect_status.clone(),
            expect: Expect::new(&wanted.expect_body)?,
            tls: wanted.tls.as_ref().map(load).transpose()?,
            redirect_tls,
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut place = Place {
            secure: self.tls.is_some(),
            address: attempt.target.address,
            path: self.path.clone(),
            method: self.method.clone(),
        };
        for _ in 0..self.redirects {
            let answer = self.ask(attempt, &place).await?;
            let Some(to) = redirect_of(&answer.parts) else { return self.judge(&answer) };
            let host = self.host.as_ref().map(Authority::host);
            match place.follow(answer.parts.status, to, host) {
                Next::Here(next) => place = next,
                Next::Elsewhere(to) => {
                    let got = format!("redirect to {}", excerpt(to.as_bytes()));
                    return Err(Fault::unexpected(got, "the same server"));
                }
            }
        }
        let answer = self.ask(attempt, &place).await?;
        self.judge(&answer)
    }

    fn judge(&self, answer: &Answer) -> Exchange {
        let status = answer.parts.status.as_u16();
        if !self.statuses.contains(status) {
            return Err(Fault::unexpected(format!("HTTP {status}"), set_text(&self.statuses)));
        }
        if answer.cut && self.expect.needs_whole() {
            return Err(Fault::unexpected("body over 1 MiB", "a body whose digest is known"));
        }
        self.expect.judge("body", &answer.body)?;
        Ok(format!("HTTP {status}"))
    }

    async fn ask(&self, attempt: &mut Attempt<'_>, place: &Place) -> Result<Answer, Fault> {
        let tls =
            if place.secure { self.tls.as_ref().or(self.redirect_tls.as_ref()) } else { None };
        attempt.waiting_for = "connect";
        let tcp = stream::tcp_to(attempt, place.address).await?;
        let stream = match tls {
            Some(tls) => stream::secure(attempt, tcp, tls).await?,
            None => Stream::Plain(tcp),
        };
        let request = self.request(place)?;
        match self.version {
            HttpVersion::Http1 => self.http1(attempt, stream, request).await,
            HttpVersion::Http2 => {
                if place.secure && stream.alpn() != Some(b"h2") {
                    return Err(Fault::unexpected("no HTTP/2 over TLS", "HTTP/2"));
                }
                self.http2(attempt, stream, request).await
            }
        }
    }

    fn request(&self, place: &Place) -> Result<Request<Full<Bytes>>, Fault> {
        let authority = match &self.host {
            Some(host) => host.clone(),
            None => place.authority().map_err(|error| Fault::Unable(error.to_string()))?,
        };
        let mut uri = Uri::builder().path_and_query(place.path.clone());
        let mut headers = self.headers.clone();
        let version = match self.version {
            HttpVersion::Http1 => {
                let host = HeaderValue::from_str(authority.as_str());
                headers.insert(HOST, host.map_err(|error| Fault::Unable(error.to_string()))?);
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
                Version::HTTP_11
            }
            HttpVersion::Http2 => {
                let scheme = if place.secure { Scheme::HTTPS } else { Scheme::HTTP };
                uri = uri.scheme(scheme).authority(authority);
                Version::HTTP_2
            }
        };
        let uri = uri.build().map_err(|error| Fault::Unable(error.to_string()))?;
        let body = if place.method == self.method { self.body.clone() } else { Bytes::new() };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = place.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn http1(
        &self,
        attempt: &mut Attempt<'_>,
        stream: Stream,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Fault> {
        attempt.waiting_for = "HTTP response";
        let io = TokioIo::new(stream);
        // What clients forgive, a check must forgive too: otherwise it takes out a server that works.
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .max_headers(MOST_HEADERS)
            .handshake(io)
            .await
            .map_err(http_fault)?;
        let exchange = async {
            let sent = now();
            let response = sender.send_request(request).await.map_err(http_fault)?;
            read(attempt, response, sent).await
        };
        drive(exchange, connection).await
    }

    async fn http2(
        &self,
        attempt: &mut Attempt<'_>,
        stream: Stream,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Fault> {
        attempt.waiting_for = "HTTP response";
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(HEADERS_LIMIT)
                .handshake(io)
                .await
                .map_err(http_fault)?;
        let exchange = async {
            let sent = now();
            let response = sender.send_request(request).await.map_err(http_fault)?;
            read(attempt, response, sent).await
        };
        drive(exchange, connection).await
    }
}

/// Runs the exchange and the connection under it until the exchange is done.
async fn drive<T>(
    exchange: impl Future<Output = Result<T, Fault>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<T, Fault> {
    let mut exchange = std::pin::pin!(exchange);
    // The block drops the connection when it ends, which ends an exchange that still waits for it.
    let mut connection = std::pin::pin!(async move {
        let _ = connection.await;
    });
    tokio::select! {
        biased;
        done = &mut exchange => done,
        () = &mut connection => exchange.await,
    }
}

/// Reads a response's body up to the limit, and its Date header.
async fn read<B>(
    attempt: &mut Attempt<'_>,
    response: Response<B>,
    sent: SystemTime,
) -> Result<Answer, Fault>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let (parts, mut frames) = response.into_parts();
    attempt.measured.clock = clock(&parts.headers, sent, now());
    attempt.waiting_for = "HTTP body";
    let mut body = Vec::new();
    while let Some(frame) = frames.frame().await {
        let frame = frame.map_err(http_fault)?;
        if let Some(data) = frame.data_ref() {
            body.extend_from_slice(&data[..data.len().min(BODY_LIMIT - body.len())]);
            if body.len() == BODY_LIMIT {
                return Ok(Answer { parts, body, cut: true });
            }
        }
    }
    Ok(Answer { parts, body, cut: false })
}

/// The server's clock against ours. A Date header names the second in which the answer was made:
/// on average half a second ago, and the answer was made between `sent` and `received`.
fn clock(headers: &HeaderMap, sent: SystemTime, received: SystemTime) -> Option<ClockReading> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let trip = received.duration_since(sent).ok()?.as_secs_f64();
    let date = seconds(date) + 0.5;
    Some(ClockReading { ahead: date - (seconds(sent) + trip / 2.0), error: 0.5 + trip / 2.0 })
}

fn seconds(moment: SystemTime) -> f64 {
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[allow(clippy::disallowed_methods)] // the edge where an answer meets the wall clock
fn now() -> SystemTime {
    SystemTime::now()
}

fn redirect_of(parts: &Parts) -> Option<&str> {
    let follows = matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    parts.headers.get(LOCATION).filter(|_| follows)?.to_str().ok()
}

fn headers(wanted: &HttpProbe) -> Result<HeaderMap, PrepareError> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("viaduct"));
    for (name, value) in &wanted.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(request)?;
        let value = HeaderValue::from_str(value).map_err(request)?;
        if name == USER_AGENT {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    if let Some(login) = &wanted.login {
        let pair = STANDARD.encode(format!("{}:{}", login.user, login.password));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).map_err(request)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn request(error: impl std::error::Error) -> PrepareError {
    PrepareError::Request(error.to_string())
}

/// What hyper found, in our words.
fn http_fault(error: hyper::Error) -> Fault {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            let copy = match io.raw_os_error() {
                Some(number) => std::io::Error::from_raw_os_error(number),
                None => std::io::Error::new(io.kind(), io.to_string()),
            };
            return Fault::from_io(copy, "HTTP response");
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Fault::closed("HTTP response");
    }
    if error.is_parse_too_large() {
        return Fault::malformed("HTTP response header too large for a check");
    }
    if error.is_parse() {
        return Fault::unexpected("an answer that is not HTTP", "HTTP response");
    }
    Fault::malformed(format!("HTTP: {error}"))
}

/// "200-399", "200,204,301-302".
pub(super) fn set_text(set: &StatusSet) -> String {
    let range = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    set.0.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
