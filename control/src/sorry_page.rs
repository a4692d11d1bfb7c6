//! The page that the director itself answers with for a service without real servers: HTTP 503 with
//! `Retry-After`, whatever is asked.
//!
//! The packet path delivers clients' connections to it: over IPv4 to loopback, over IPv6 to one of
//! this host's addresses, because Linux takes nothing for ::1 from outside. Services with the same
//! page share one listener for each family.

use crate::model::{Document, Family, Sorry, VirtualAddress};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections that one page serves at once; further ones wait in the listener's queue.
const AT_ONCE: usize = 1024;

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// The page where the operator gives none.
const USUAL: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
    <title>Service unavailable</title></head>\n<body>\n<h1>Service unavailable</h1>\n\
    <p>This service is not available at the moment. Please try again later.</p>\n</body>\n</html>\n";

/// What one page says, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Wanted {
    at: IpAddr,
    body: Option<String>,
    retry_after: Duration,
}

/// The pages that are served. They end when this is dropped.
#[derive(Debug, Default)]
pub struct SorryPages {
    open: BTreeMap<Wanted, Listener>,
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SorryPages {
    /// Serves the pages of a document's services, and no others. Says where each service's page is,
    /// and why one cannot be served.
    ///
    /// `v6` is an address of this host to serve IPv6 clients at.
    pub async fn follow(
        &mut self,
        document: &Document,
        v6: Option<Ipv6Addr>,
    ) -> (BTreeMap<VirtualAddress, SocketAddr>, Vec<String>) {
        let (mut places, mut troubles) = (BTreeMap::new(), Vec::new());
        let mut services: Vec<(VirtualAddress, Wanted)> = Vec::new();
        for (service, wanted) in wanted(document, v6) {
            match wanted {
                Some(page) => services.push((service, page)),
                None => troubles.push(format!(
                    "no sorry page can be served for {service}: this host has no IPv6 address"
                )),
            }
        }
        self.open.retain(|page, _| services.iter().any(|(_, wanted)| wanted == page));
        for (service, page) in services {
            match self.listener(page).await {
                Ok(address) => {
                    places.insert(service, address);
                }
                Err(error) => troubles.push(format!("no sorry page can be served: {error}")),
            }
        }
        troubles.dedup();
        (places, troubles)
    }

    async fn listener(&mut self, page: Wanted) -> io::Result<SocketAddr> {
        if let Some(listener) = self.open.get(&page) {
            return Ok(listener.address);
        }
        let socket = TcpListener::bind((page.at, 0)).await?;
        let address = socket.local_addr()?;
        let task = tokio::spawn(serve(socket, Arc::new(page.clone())));
        self.open.insert(page, Listener { address, task });
        Ok(address)
    }
}

/// The services with a page, and the page unless there is no address to serve it at.
fn wanted(
    document: &Document,
    v6: Option<Ipv6Addr>,
) -> impl Iterator<Item = (VirtualAddress, Option<Wanted>)> {
    document.services.iter().filter_map(move |service| match &service.sorry {
        Some(Sorry::Page { body, retry_after }) => {
            let at = match service.address.family() {
                Family::V4 => Some(Ipv4Addr::LOCALHOST.into()),
                Family::V6 => v6.map(IpAddr::from),
            };
            let page = |at| Wanted { at, body: body.clone(), retry_after: *retry_after };
            Some((service.address, at.map(page)))
        }
        Some(Sorry::Server { .. }) | None => None,
    })
}

/// Answers every connection until aborted; those under way end with it.
async fn serve(listener: TcpListener, page: Arc<Wanted>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = Arc::clone(&page);
                connections.spawn(async move {
                    let answer = service_fn(move |request| {
                        let answer = answer(&page, &request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let mut server = hyper::server::conn::http1::Builder::new();
                    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
                    // A client that goes away or speaks no HTTP is its own affair.
                    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                    drop(permit);
                });
            }
            // No descriptors left, most likely: waiting is all that helps.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

fn answer(page: &Wanted, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let text = page.body.as_deref().unwrap_or(USUAL);
    let body = match *request.method() {
        Method::HEAD => Bytes::new(),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    headers.insert(RETRY_AFTER, page.retry_after.as_secs().into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn document(bodies: &[Option<&str>]) -> Document {
        let services = bodies.iter().zip(1u16..).map(|(body, port)| {
            let address = VirtualAddress::Socket {
                protocol: model::Protocol::Tcp,
                address: SocketAddr::from(([192, 0, 2, 1], port)),
            };
            let mut service = model::Service::new(address, model::Method::Nat);
            let body = body.map(str::to_owned);
            service.sorry = Some(Sorry::Page { body, retry_after: Duration::from_secs(30) });
            Arc::new(service)
        });
        Document { services: services.collect(), ..Document::default() }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn whatever_is_asked_the_answer_is_503_with_the_page() {
        let mut pages = SorryPages::default();
        let (places, troubles) =
            pages.follow(&document(&[None, Some("<p>back at noon</p>")]), None).await;
        assert!(troubles.is_empty());
        let places: Vec<SocketAddr> = places.into_values().collect();
        let usual = ask(places[0], "GET /shop?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(usual.starts_with("HTTP/1.1 503 "), "{usual}");
        assert!(usual.contains("retry-after: 30\r\n") && usual.ends_with(USUAL), "{usual}");
        let own = ask(places[1], "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi").await;
        assert!(own.starts_with("HTTP/1.0 503 ") && own.ends_with("<p>back at noon</p>"), "{own}");
        let head = ask(places[0], "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        let nonsense = ask(places[0], "\u{16}\u{3}\u{1}nonsense\r\n\r\n").await;
        assert!(nonsense.is_empty() || nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
    }

    #[tokio::test]
    async fn equal_pages_share_a_listener_and_one_that_nobody_wants_is_closed() {
        let mut pages = SorryPages::default();
        let (places, _) = pages.follow(&document(&[None, None, Some("other")]), None).await;
        let before: Vec<SocketAddr> = places.into_values().collect();
        assert!(before[0] == before[1] && before[0] != before[2]);
        let (places, _) = pages.follow(&document(&[None]), None).await;
        assert_eq!(places.into_values().collect::<Vec<_>>(), [before[0]]);
        let closed = async || TcpStream::connect(before[2]).await.is_err();
        while !closed().await {
            tokio::task::yield_now().await;
        }
    }
}
