use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::service::service_fn;
use proptest::prelude::*;

use super::super::testing::*;
use super::*;
use crate::health::outcome::{Failure, Verdict};
use crate::health::probe::{Probe, Target};
use crate::model::{Expectation, Login};

fn http(change: impl FnOnce(&mut HttpProbe)) -> Probe {
    let mut wanted = HttpProbe::default();
    change(&mut wanted);
    prepare(model::Probe::Http(wanted))
}

/// What the test server answers: the request's own words, or what the path asks for.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = |name: HeaderName| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("-").to_owned()
    };
    let authority = request.uri().authority().map(ToString::to_string);
    let said = format!(
        "{} {} host={} auth={} agent={} x={}",
        request.method(),
        request.uri().path(),
        authority.unwrap_or_else(|| text(HOST)),
        text(AUTHORIZATION),
        text(USER_AGENT),
        text(HeaderName::from_static("x-check")),
    );
    let path = request.uri().path().to_owned();
    let mut response = Response::new(Full::new(Bytes::from(said)));
    if let Some(status) = path.strip_prefix("/status/") {
        *response.status_mut() = status.parse().unwrap();
    }
    if let Some(to) = path.strip_prefix("/to") {
        *response.status_mut() = hyper::StatusCode::FOUND;
        response.headers_mut().insert(LOCATION, HeaderValue::from_str(to).unwrap());
    }
    if path == "/large" {
        *response.body_mut() = Full::new(Bytes::from(vec![b'x'; BODY_LIMIT + 1]));
    }
    if path == "/old" {
        let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:01:00 GMT");
        response.headers_mut().insert(DATE, date);
    }
    Ok(response)
}

async fn server() -> SocketAddr {
    serve(|stream| async {
        let service = service_fn(answer);
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

async fn server_http2() -> SocketAddr {
    serve(|stream| async {
        let service = service_fn(answer);
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

async fn server_tls(certificate: &Certificate, alpn: &[&[u8]], mutual: bool) -> SocketAddr {
    let acceptor = certificate.acceptor(alpn, mutual);
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let (io, service) = (TokioIo::new(stream), service_fn(answer));
            if http2 {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        }
    })
    .await
}

fn body(pattern: &str) -> Expectation {
    Expectation { regex: Some(pattern.into()), ..Expectation::default() }
}

/// Answers with these header lines whatever is asked.
async fn answers_with(headers: &str) -> SocketAddr {
    let text = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 8\r\n\r\nall good");
    plays(&[("GET / HTTP/1.1\r\n", &text)]).await
}

#[tokio::test]
async fn what_clients_forgive_is_forgiven() {
    let probe = http(|wanted| wanted.expect_body = body("^all good$"));
    let cookies: String =
        (0..1000).map(|n| format!("Set-Cookie: c{n}={}\r\n", "x".repeat(40))).collect();
    for (what, headers) in [
        ("a folded header", "X-Info: a,\r\n b\r\n"),
        ("a blank before the colon", "X-Info : a\r\n"),
        ("a line that is no header", "no header at all\r\n"),
        ("a thousand cookies", &cookies),
    ] {
        let server = answers_with(headers).await;
        assert_eq!(passed(&probe, server).await, "HTTP 200", "{what}");
    }
    let endless = answers_with(&cookies.repeat(20)).await;
    assert_eq!(
        failed(&probe, endless).await,
        Failure::Malformed("HTTP response header too large for a check".into())
    );
}

#[tokio::test]
async fn a_status_in_the_set_passes_and_another_does_not() {
    let server = server().await;
    assert_eq!(passed(&http(|_| {}), server).await, "HTTP 200");
    let teapot = http(|wanted| wanted.path = "/status/418".into());
    assert_eq!(failed(&teapot, server).await, Failure::unexpected("HTTP 418", "200-399"));
    let wanted = http(|wanted| {
        wanted.path = "/status/418".into();
        wanted.expect_status = StatusSet(vec![(200, 200), (418, 420)]);
    });
    assert_eq!(passed(&wanted, server).await, "HTTP 418");
    assert_eq!(
        failed(
            &http(|w| {
                w.path = "/status/500".into();
                w.expect_status = StatusSet(vec![(200, 200), (418, 420)]);
            }),
            server
        )
        .await,
        Failure::unexpected("HTTP 500", "200,418-420")
    );
}

#[tokio::test]
async fn the_request_is_as_asked() {
    let server = server().await;
    let plain = http(|wanted| {
        wanted.expect_body = body(&format!("^GET / host={server} auth=- agent=viaduct x=-$"));
    });
    passed(&plain, server).await;
    let full = http(|wanted| {
        wanted.method = "PUT".into();
        wanted.path = "/a/b?c=d".into();
        wanted.host = Some("www.example.org".into());
        wanted.headers =
            vec![("X-Check".into(), "yes".into()), ("User-Agent".into(), "mine".into())];
        wanted.body = Some("hello".into());
        wanted.login = Some(Login { user: "joe".into(), password: "pw".into() });
        wanted.expect_body =
            body("^PUT /a/b host=www.example.org auth=Basic am9lOnB3 agent=mine x=yes$");
    });
    passed(&full, server).await;
    let head = http(|wanted| wanted.method = "HEAD".into());
    passed(&head, server).await;
}

#[tokio::test]
async fn the_body_is_judged() {
    let server = server().await;
    let wrong = http(|wanted| wanted.expect_body = body("^good$"));
    let got = failed(&wrong, server).await;
    assert!(matches!(got, Failure::Unexpected { expected, .. } if expected == "/^good$/"));
    let large = http(|wanted| {
        wanted.path = "/large".into();
        wanted.expect_body = Expectation { digest: Some("00".into()), ..Expectation::default() };
    });
    let got = failed(&large, server).await;
    assert_eq!(got, Failure::unexpected("body over 1 MiB", "a body whose digest is known"));
    passed(&http(|wanted| wanted.path = "/large".into()), server).await;
}

#[tokio::test]
async fn redirects_on_the_server_are_followed_as_far_as_allowed() {
    let server = server().await;
    let to = |path: &str, redirects| {
        let path = path.to_owned();
        http(move |wanted| {
            wanted.path = path;
            wanted.redirects = redirects;
            wanted.expect_status = StatusSet(vec![(200, 299)]);
        })
    };
    assert_eq!(failed(&to("/to/x", 0), server).await, Failure::unexpected("HTTP 302", "200-299"));
    assert_eq!(passed(&to("/to/x", 1), server).await, "HTTP 200");
    assert_eq!(passed(&to("/to/to/x", 2), server).await, "HTTP 200");
    let got = failed(&to("/to/to/x", 1), server).await;
    assert_eq!(got, Failure::unexpected("HTTP 302", "200-299"));
    let got = failed(&to("/tohttp://192.0.2.1/", 3), server).await;
    assert_eq!(got, Failure::unexpected("redirect to http://192.0.2.1/", "the same server"));
}

#[tokio::test]
async fn the_date_header_tells_the_servers_clock() {
    let server = server().await;
    let right = run_at(&http(|_| {}), &Target::new(server)).await;
    let clock = right.measured.clock.unwrap();
    assert!(clock.ahead.abs() <= clock.error + 1.0, "{clock:?}");
    assert!(clock.error >= 0.5, "a date names a second, not a moment");
    let old = run_at(&http(|wanted| wanted.path = "/old".into()), &Target::new(server)).await;
    assert!(old.measured.clock.unwrap().ahead < -1e9);
}

#[tokio::test]
async fn http2_works_with_prior_knowledge_and_over_tls() {
    let http2 = http(|wanted| {
        wanted.version = HttpVersion::Http2;
        wanted.host = Some("www.example.org".into());
        wanted.expect_body = body("host=www.example.org");
    });
    assert_eq!(passed(&http2, server_http2().await).await, "HTTP 200");
    let certificate = Certificate::for_name("www.example.org");
    let over_tls = http(|wanted| {
        wanted.version = HttpVersion::Http2;
        wanted.host = Some("www.example.org".into());
        wanted.tls = Some(model::Tls {
            verify: true,
            ca: Some(certificate.path()),
            ..model::Tls::default()
        });
    });
    let server = server_tls(&certificate, &[b"h2"], false).await;
    assert_eq!(passed(&over_tls, server).await, "HTTP 200");
    let old = server_tls(&certificate, &[], false).await;
    let got = failed(&over_tls, old).await;
    assert_eq!(got, Failure::unexpected("no HTTP/2 over TLS", "HTTP/2"));
}

#[tokio::test]
async fn certificates_are_verified_only_when_asked_and_their_end_is_known() {
    let certificate = Certificate::ending("www.example.org", 2041);
    let server = server_tls(&certificate, &[], false).await;
    let https = |tls: model::Tls| http(|wanted| wanted.tls = Some(tls));
    let outcome = run_at(&https(model::Tls::default()), &Target::new(server)).await;
    assert!(matches!(outcome.verdict, Verdict::Passed(_)), "{}", outcome.reason());
    assert_eq!(outcome.measured.certificate_ends, Some(2_240_611_200));
    let named = |name: &str| model::Tls {
        verify: true,
        sni: Some(name.into()),
        ca: Some(certificate.path()),
        ..model::Tls::default()
    };
    assert_eq!(passed(&https(named("www.example.org")), server).await, "HTTP 200");
    let got = failed(&https(named("other.example.org")), server).await;
    assert!(matches!(&got, Failure::Tls(why) if why.contains("not valid for name")), "{got:?}");
    let stranger = Certificate::for_name("www.example.org");
    let distrust = model::Tls { ca: Some(stranger.path()), ..named("www.example.org") };
    assert!(matches!(failed(&https(distrust), server).await, Failure::Tls(_)));
    let expired = Certificate::ending("www.example.org", 2020);
    let server = server_tls(&expired, &[], false).await;
    let got =
        failed(&https(model::Tls { ca: Some(expired.path()), ..named("www.example.org") }), server)
            .await;
    assert!(matches!(&got, Failure::Tls(why) if why.contains("expired")), "{got:?}");
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let certificate = Certificate::for_name("www.example.org");
    let server = server_tls(&certificate, &[], true).await;
    let with = |identity: bool| {
        let path = identity.then(|| certificate.path());
        let tls = model::Tls { certificate: path.clone(), key: path, ..model::Tls::default() };
        http(|wanted| wanted.tls = Some(tls))
    };
    assert_eq!(passed(&with(true), server).await, "HTTP 200");
    let got = failed(&with(false), server).await;
    assert!(matches!(got, Failure::Tls(_) | Failure::Malformed(_)), "{got:?}");
}

#[tokio::test]
async fn broken_answers_and_silence_fail() {
    let probe = http(|_| {});
    let cases: [(&[&[u8]], Failure); 4] = [
        (&[b"SSH-2.0-x\r\n"], Failure::unexpected("an answer that is not HTTP", "HTTP response")),
        (&[b"HTTP/1.1 200 OK\r\nContent-"], Failure::Closed("HTTP response")),
        (&[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"], Failure::Closed("HTTP response")),
        (&[], Failure::Closed("HTTP response")),
    ];
    for (pieces, wanted) in cases {
        assert_eq!(failed(&probe, says(pieces).await).await, wanted, "{pieces:?}");
    }
    assert_eq!(failed(&probe, closed_port().await).await, Failure::Refused);
    times_out_waiting_for("HTTP response", &probe, silent().await).await;
    let stalls = plays(&[("", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), ("never", "")]);
    times_out_waiting_for("HTTP body", &probe, stalls.await).await;
}

#[test]
fn requests_that_cannot_be_written_are_refused() {
    for change in [
        |wanted: &mut HttpProbe| wanted.method = "G T".into(),
        |wanted: &mut HttpProbe| wanted.path = "/a b".into(),
        |wanted: &mut HttpProbe| wanted.host = Some("a b".into()),
        |wanted: &mut HttpProbe| wanted.headers = vec![("a b".into(), "c".into())],
        |wanted: &mut HttpProbe| wanted.headers = vec![("a".into(), "b\r\nc: d".into())],
    ] {
        let mut wanted = HttpProbe::default();
        change(&mut wanted);
        assert!(Http::prepare(&wanted).is_err());
    }
}

proptest! {
    #[test]
    fn any_date_header_gives_a_finite_reading_or_none(text in "[ -~]{0,40}") {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_str(&text).unwrap());
        let moment = SystemTime::UNIX_EPOCH;
        if let Some(reading) = clock(&headers, moment, moment) {
            prop_assert!(reading.ahead.is_finite());
        }
    }
}
