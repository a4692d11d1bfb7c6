//! Does anything accept connections, and does it say what it should?

use regex::bytes::Regex;
use tokio::io::AsyncReadExt;

use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::model::{DialogueProbe, DialogueStep};

/// Longest answer looked at.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A TCP connection, with TLS and a conversation when asked for.
pub(super) struct Tcp {
    tls: Option<Tls>,
    steps: Vec<Step>,
}

enum Step {
    Send(String),
    Expect(Regex),
}

impl Tcp {
    pub fn prepare(wanted: &DialogueProbe) -> Result<Self, PrepareError> {
        let tls = wanted.tls.as_ref().map(|tls| Tls::load(tls, None, &[])).transpose()?;
        let mut steps = Vec::new();
        for step in &wanted.steps {
            steps.push(match step {
                DialogueStep::Send(text) => Step::Send(text.clone()),
                DialogueStep::Expect(pattern) => Step::Expect(Regex::new(pattern)?),
            });
        }
        Ok(Self { tls, steps })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        if self.tls.is_none() && self.steps.is_empty() {
            return connect(attempt).await;
        }
        let mut stream = stream::open(attempt, self.tls.as_ref()).await?;
        let mut said = String::from("connected");
        // What was received and not yet matched: an answer may come together with the next one.
        let mut heard = Vec::new();
        for step in &self.steps {
            match step {
                Step::Send(text) => {
                    attempt.waiting_for = "request to be taken";
                    stream::send(&mut stream, text.as_bytes(), "answer").await?;
                }
                Step::Expect(pattern) => {
                    attempt.waiting_for = "answer";
                    said = expect(&mut stream, pattern, &mut heard).await?;
                }
            }
        }
        Ok(said)
    }
}

/// Connects and hangs up.
pub(super) async fn connect(attempt: &mut Attempt<'_>) -> Exchange {
    let tcp = stream::tcp(attempt).await?;
    Stream::forget(&tcp);
    Ok("connected".into())
}

/// Reads until `heard` matches, ends or is too long; leaves what follows the match.
async fn expect(stream: &mut Stream, pattern: &Regex, heard: &mut Vec<u8>) -> Exchange {
    let mut ended = false;
    loop {
        if let Some(found) = pattern.find(heard) {
            let (said, end) = (format!("answer {:?}", excerpt(found.as_bytes())), found.end());
            heard.drain(..end);
            return Ok(said);
        }
        if ended && heard.is_empty() {
            return Err(Fault::closed("answer"));
        }
        if ended || heard.len() >= ANSWER_LIMIT {
            let got = format!("answer {:?}", excerpt(heard));
            return Err(Fault::unexpected(got, format!("/{}/", pattern.as_str())));
        }
        let mut chunk = [0; 2048];
        let n = stream.read(&mut chunk).await.map_err(|e| Fault::from_io(e, "answer"))?;
        heard.extend_from_slice(&chunk[..n]);
        ended = n == 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::{Failure, Verdict};
    use crate::health::probe::{Probe, Target};
    use crate::model;

    fn tcp(steps: &[DialogueStep]) -> Probe {
        prepare(model::Probe::Tcp(DialogueProbe { tls: None, steps: steps.to_vec() }))
    }

    fn send(text: &str) -> DialogueStep {
        DialogueStep::Send(text.into())
    }

    fn expect(pattern: &str) -> DialogueStep {
        DialogueStep::Expect(pattern.into())
    }

    #[tokio::test]
    async fn a_listener_passes_and_a_closed_port_is_refused() {
        assert_eq!(passed(&tcp(&[]), silent().await).await, "connected");
        assert_eq!(failed(&tcp(&[]), closed_port().await).await, Failure::Refused);
    }

    #[tokio::test]
    async fn an_answer_is_found_across_pieces() {
        let server = says(&[b"hel", b"lo wor", b"ld\r\n"]).await;
        assert_eq!(passed(&tcp(&[expect("o w")]), server).await, "answer \"o w\"");
    }

    #[tokio::test]
    async fn a_conversation_goes_step_by_step() {
        let server = plays(&[("", "220 hi\r\n"), ("HELO a\r\n", "250 ok\r\n"), ("Q", "bye")]).await;
        let steps = [expect("^220"), send("HELO a\r\n"), expect("250"), send("Q"), expect("bye$")];
        assert_eq!(passed(&tcp(&steps), server).await, "answer \"bye\"");
    }

    #[tokio::test]
    async fn two_answers_in_one_piece_are_two_answers() {
        let server = says(&[b"one two"]).await;
        assert_eq!(passed(&tcp(&[expect("one"), expect("two")]), server).await, "answer \"two\"");
        let server = says(&[b"one"]).await;
        let again = failed(&tcp(&[expect("one"), expect("one")]), server).await;
        assert_eq!(again, Failure::Closed("answer"));
    }

    #[tokio::test]
    async fn a_wrong_answer_a_hang_up_and_silence_are_told_apart() {
        let probe = tcp(&[expect("good")]);
        let wrong = failed(&probe, says(&[b"bad\n"]).await).await;
        assert_eq!(wrong, Failure::unexpected("answer \"bad\"", "/good/"));
        assert_eq!(failed(&probe, says(&[]).await).await, Failure::Closed("answer"));
        times_out_waiting_for("answer", &probe, silent().await).await;
    }

    #[tokio::test]
    async fn a_proxy_protocol_header_goes_first_where_the_server_expects_one() {
        const HEADER: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        let server = serve(|mut stream| async move {
            let mut heard = [0; 16];
            let proxied = stream.read_exact(&mut heard).await.is_ok() && heard == *HEADER;
            let answer: &[u8] = if proxied { b"good" } else { b"bad" };
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let target = Target { proxy_protocol: true, ..Target::new(server) };
        let outcome = run_at(&tcp(&[expect("^good$")]), &target).await;
        assert!(outcome.reason().starts_with("answer \"good\""), "{}", outcome.reason());
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let got = failed(&tcp(&[expect("good")]), floods().await).await;
        assert!(matches!(got, Failure::Unexpected { .. }), "{got:?}");
    }

    #[tokio::test]
    async fn a_source_address_that_is_gone_leaves_the_server_unknown() {
        let mut target = Target::new(silent().await);
        target.source = Some("192.0.2.77".parse().unwrap());
        let outcome = run_at(&tcp(&[]), &target).await;
        let why = "no source address (cannot assign requested address)";
        assert_eq!(outcome.verdict, Verdict::Unsent(why.into()));
        assert_eq!(outcome.reason(), format!("could not check: {why}"));
    }

    #[tokio::test]
    async fn the_source_address_is_used() {
        let server = serve(|mut stream| async move {
            let peer = stream.peer_addr().unwrap().ip().to_string();
            stream.write_all(peer.as_bytes()).await.unwrap();
        })
        .await;
        let mut target = Target::new(server);
        target.source = Some("127.0.0.9".parse().unwrap());
        let outcome = run_at(&tcp(&[expect(r"^127\.0\.0\.9$")]), &target).await;
        assert!(outcome.reason().starts_with("answer \"127.0.0.9\""), "{}", outcome.reason());
    }
}
