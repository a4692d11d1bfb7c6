//! SIP (RFC 3261): OPTIONS over UDP, TCP or TLS.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;

use super::http::set_text;
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError, datagram, excerpt, random, stream};
use crate::model::{SipProbe, StatusSet};

/// Longest head of an answer.
const HEAD_LIMIT: usize = 16 * 1024;

/// An OPTIONS request and the statuses that are good.
pub(super) struct Sip {
    tcp: bool,
    tls: Option<Tls>,
    uri: Option<String>,
    statuses: StatusSet,
}

/// An answer's status.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Status {
    code: u16,
    reason: String,
}

impl Sip {
    pub fn prepare(wanted: &SipProbe) -> Result<Self, PrepareError> {
        Ok(Self {
            tcp: wanted.tcp || wanted.tls.is_some(),
            tls: wanted.tls.as_ref().map(|tls| Tls::load(tls, None, &[])).transpose()?,
            uri: wanted.uri.clone(),
            statuses: wanted.expect_status.clone(),
        })
    }

    pub fn is_tcp(&self) -> bool {
        self.tcp
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let call = random::<8>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let status =
            if self.tcp {
                self.over_stream(attempt, &call).await?
            } else {
                let socket = stream::udp(attempt)?;
                let local = socket.local_addr().map_err(Fault::local)?;
                let request = self.request(&call, "UDP", local, attempt.target.address);
                datagram::ask(attempt, &socket, request.as_bytes(), "SIP response", |bytes| {
                    match parse(bytes, &call) {
                        Some(Some(status)) => Some(Ok(status)),
                        Some(None) | None => None,
                    }
                })
                .await?
            };
        let said = format!("SIP {} {}", status.code, status.reason);
        if self.statuses.contains(status.code) {
            Ok(said)
        } else {
            Err(Fault::unexpected(said, set_text(&self.statuses)))
        }
    }

    async fn over_stream(&self, attempt: &mut Attempt<'_>, call: &str) -> Result<Status, Fault> {
        let mut stream = stream::open(attempt, self.tls.as_ref()).await?;
        let transport = if self.tls.is_some() { "TLS" } else { "TCP" };
        let local = stream.local_addr().map_err(Fault::local)?;
        let request = self.request(call, transport, local, attempt.target.address);
        attempt.waiting_for = "SIP response";
        stream::send(&mut stream, request.as_bytes(), "SIP response").await?;
        let mut heard = Vec::new();
        loop {
            while let Some(end) = head_end(&heard) {
                let head: Vec<u8> = heard.drain(..end).collect();
                match parse(&head, call) {
                    Some(Some(status)) => return Ok(status),
                    Some(None) => {} // provisional; these have no body
                    None => {
                        let got = format!("{:?}", excerpt(&head));
                        return Err(Fault::unexpected(got, "SIP response"));
                    }
                }
            }
            if heard.len() > HEAD_LIMIT {
                return Err(Fault::malformed("a response over 16 KiB"));
            }
            let mut chunk = [0; 2048];
            let read = stream.read(&mut chunk).await;
            let n = read.map_err(|error| Fault::from_io(error, "SIP response"))?;
            if n == 0 {
                return Err(Fault::closed("SIP response"));
            }
            heard.extend_from_slice(&chunk[..n]);
        }
    }

    fn request(
        &self,
        call: &str,
        transport: &str,
        local: SocketAddr,
        server: SocketAddr,
    ) -> String {
        let uri = self.uri.clone().unwrap_or_else(|| format!("sip:{server}"));
        format!(
            "OPTIONS {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};branch=z9hG4bK{call};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:viaduct@{local}>;tag={call}\r\n\
             To: <{uri}>\r\n\
             Call-ID: {call}\r\n\
             CSeq: 1 OPTIONS\r\n\
             Contact: <sip:viaduct@{local}>\r\n\
             Accept: application/sdp\r\n\
             User-Agent: viaduct\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}

/// Where the first head in `bytes` ends.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a response to our call: `Some(None)` when it is provisional (1xx), `None` when it is none.
fn parse(bytes: &[u8], call: &str) -> Option<Option<Status>> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let (code, reason) = lines.next()?.strip_prefix("SIP/2.0 ")?.split_at_checked(3)?;
    let code: u16 = code.parse().ok().filter(|code| (100..700).contains(code))?;
    let ours = lines.take_while(|line| !line.is_empty()).any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            let name = name.trim();
            let is_call_id = name.eq_ignore_ascii_case("call-id") || name.eq_ignore_ascii_case("i");
            is_call_id && value.trim() == call
        })
    });
    if !ours {
        return None;
    }
    let reason = excerpt(reason.trim().as_bytes());
    Some((code >= 200).then_some(Status { code, reason }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model;

    fn sip(tcp: bool) -> Probe {
        prepare(model::Probe::Sip(SipProbe {
            tcp,
            tls: None,
            uri: None,
            expect_status: StatusSet(vec![(200, 200)]),
        }))
    }

    /// Answers to a request: every header that identifies it comes back.
    fn answer(request: &[u8], status: &str) -> Vec<u8> {
        let request = String::from_utf8_lossy(request);
        let back: Vec<_> = request
            .split("\r\n")
            .filter(|line| {
                ["Via", "From", "To", "Call", "CSeq"].iter().any(|h| line.starts_with(h))
            })
            .collect();
        format!("SIP/2.0 {status}\r\n{}\r\nContent-Length: 0\r\n\r\n", back.join("\r\n")).into()
    }

    #[tokio::test]
    async fn options_are_answered_over_udp_and_tcp() {
        let server =
            answers_udp(|request| vec![answer(request, "100 Trying"), answer(request, "200 OK")]);
        assert_eq!(passed(&sip(false), server.await).await, "SIP 200 OK");
        let server = serve(|mut stream| async move {
            let mut request = [0; 2048];
            let n = stream.read(&mut request).await.unwrap();
            let both = [answer(&request[..n], "100 Trying"), answer(&request[..n], "200 OK")];
            stream.write_all(&both.concat()).await.unwrap();
        });
        assert_eq!(passed(&sip(true), server.await).await, "SIP 200 OK");
    }

    #[tokio::test]
    async fn refusals_strangers_and_silence_fail() {
        let server = answers_udp(|request| vec![answer(request, "503 Service Unavailable")]).await;
        let got = failed(&sip(false), server).await;
        assert_eq!(got, Failure::unexpected("SIP 503 Service Unavailable", "200"));
        let stranger = answers_udp(|request| {
            let mut other = answer(request, "200 OK");
            let at = other.windows(8).position(|w| w == b"Call-ID:").unwrap();
            other[at + 10] = b'x';
            vec![other]
        });
        times_out_waiting_for("SIP response", &sip(false), stranger.await).await;
        let got = failed(&sip(true), says(&[b"HTTP/1.1 400 Bad\r\n\r\n"]).await).await;
        assert_eq!(got, Failure::unexpected("\"HTTP/1.1 400 Bad\"", "SIP response"));
        assert_eq!(failed(&sip(true), says(&[]).await).await, Failure::Closed("SIP response"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(SIP/2\\.0 )?.{0,40}(\r\n)?.{0,40}") {
            let _ = parse(text.as_bytes(), "abc");
            let _ = head_end(text.as_bytes());
        }
    }
}
