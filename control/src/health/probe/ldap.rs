//! LDAP (RFC 4511): bind, and a search for one object when asked for.

use tokio::io::AsyncReadExt;

use super::ber::{self, ENUMERATED, Front, INTEGER, OCTET_STRING, Reader, SEQUENCE};
use super::expect::Expect;
use super::line::Turn;
use super::stream::{self, Stream};
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::model::{LdapProbe, Login};

/// Longest answer taken.
const MESSAGE_LIMIT: usize = 256 * 1024;

/// Most messages read for one search.
const ENTRY_LIMIT: usize = 16;

const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_REQUEST: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
/// Object identifier of StartTLS (section 4.14.1).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// A bind, and a search.
pub(super) struct Ldap {
    turn: Turn,
    login: Option<Login>,
    base: Option<String>,
    expect: Expect,
}

impl Ldap {
    pub fn prepare(wanted: &LdapProbe) -> Result<Self, PrepareError> {
        Ok(Self {
            turn: Turn::prepare(&wanted.tls)?,
            login: wanted.login.clone(),
            base: wanted.base.clone(),
            expect: Expect::new(&wanted.expect)?,
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut stream = stream::open(attempt, self.turn.at_once()).await?;
        if let Some(tls) = self.turn.later() {
            stream::send(&mut stream, &start_tls(1), "StartTLS response").await?;
            let answer = receive(attempt, &mut stream, "StartTLS response").await?;
            succeeded(&answer, 1, EXTENDED_RESPONSE, "StartTLS")?;
            stream = stream.upgrade(attempt, tls).await?;
        }
        let (name, password) = match &self.login {
            Some(login) => (login.user.as_str(), login.password.as_str()),
            None => ("", ""),
        };
        stream::send(&mut stream, &bind(2, name, password), "bind response").await?;
        let answer = receive(attempt, &mut stream, "bind response").await?;
        succeeded(&answer, 2, BIND_RESPONSE, "bind")?;
        let said = match &self.base {
            Some(base) => self.search(attempt, &mut stream, base).await?,
            None => "bind accepted".into(),
        };
        let _ = stream::send(&mut stream, &unbind(4), "end").await;
        Ok(said)
    }

    /// Reads one object; its distinguished name is judged.
    async fn search(&self, attempt: &mut Attempt<'_>, stream: &mut Stream, base: &str) -> Exchange {
        stream::send(stream, &search(3, base), "search result").await?;
        let mut found = None;
        for _ in 0..ENTRY_LIMIT {
            let message = receive(attempt, stream, "search result").await?;
            match parse(&message).filter(|(id, _, _)| *id == 3) {
                Some((_, SEARCH_ENTRY, body)) => {
                    found = Some(Reader(body).expect(OCTET_STRING).map(<[u8]>::to_vec));
                }
                Some((_, SEARCH_REFERENCE, _)) => {}
                Some((_, SEARCH_DONE, _)) => {
                    succeeded(&message, 3, SEARCH_DONE, "search")?;
                    let Some(name) = found.flatten() else {
                        return Err(Fault::unexpected("no object", "the object"));
                    };
                    self.expect.judge("object", &name)?;
                    return Ok(format!("object {:?}", excerpt(&name)));
                }
                Some(_) | None => return Err(Fault::malformed("an answer that is not LDAP")),
            }
        }
        Err(Fault::unexpected("a flood of results", "one object"))
    }
}

/// Reads one message.
async fn receive(
    attempt: &mut Attempt<'_>,
    stream: &mut Stream,
    expected: &'static str,
) -> Result<Vec<u8>, Fault> {
    attempt.waiting_for = expected;
    let mut message = Vec::new();
    loop {
        match ber::read(&message) {
            Front::Element(_, _) => return Ok(message),
            Front::Invalid => return Err(Fault::malformed("an answer that is not LDAP")),
            Front::Incomplete => {}
        }
        if message.len() > MESSAGE_LIMIT || message.first().is_some_and(|tag| *tag != SEQUENCE) {
            return Err(Fault::malformed("an answer that is not LDAP"));
        }
        // One byte at a time would be slow for long answers, more than a message would lose the
        // beginning of the next: what is surely missing is read.
        let mut chunk = vec![0; missing(&message)];
        let read = stream.read(&mut chunk).await;
        let n = read.map_err(|error| Fault::from_io(error, expected))?;
        if n == 0 {
            return Err(Fault::closed(expected));
        }
        message.extend_from_slice(&chunk[..n]);
    }
}

/// How many bytes at least are missing from an incomplete message.
fn missing(message: &[u8]) -> usize {
    match message {
        [] => 2,
        [_] => 1,
        [_, short @ 0..=0x7f, rest @ ..] => usize::from(*short).saturating_sub(rest.len()).max(1),
        [_, long, rest @ ..] => {
            let size = usize::from(long & 0x7f);
            match rest.split_at_checked(size) {
                None => size - rest.len(),
                Some((digits, rest)) => {
                    let length =
                        digits.iter().fold(0usize, |sum, digit| sum << 8 | usize::from(*digit));
                    length.saturating_sub(rest.len()).clamp(1, 16 * 1024)
                }
            }
        }
    }
}

/// The message's id, the tag of its operation and the operation's contents.
fn parse(message: &[u8]) -> Option<(u32, u8, &[u8])> {
    let mut inside = Reader(Reader(message).expect(SEQUENCE)?);
    let id = inside.number(INTEGER)?;
    let operation = inside.any()?;
    Some((id, operation.tag, operation.contents))
}

/// Whether a message is the wanted response and says success.
fn succeeded(message: &[u8], id: u32, tag: u8, what: &str) -> Result<(), Fault> {
    let not_ldap = || Fault::malformed("an answer that is not LDAP");
    let (got_id, got_tag, body) = parse(message).ok_or_else(not_ldap)?;
    // Notice of disconnection (section 4.4.1) comes with id 0.
    let notice = got_id == 0 && got_tag == EXTENDED_RESPONSE;
    if !notice && (got_id, got_tag) != (id, tag) {
        return Err(not_ldap());
    }
    let mut result = Reader(body);
    let code = result.number(ENUMERATED).ok_or_else(not_ldap)?;
    result.expect(OCTET_STRING).ok_or_else(not_ldap)?; // matched name
    let text = result.expect(OCTET_STRING).ok_or_else(not_ldap)?;
    if code == 0 && !notice {
        return Ok(());
    }
    let text = excerpt(text);
    let name = result_name(code);
    let got = if text.is_empty() { name } else { format!("{name} ({text})") };
    Err(Fault::unexpected(format!("{what}: {got}"), "success"))
}

/// Names of the results a check is likely to meet (appendix A).
fn result_name(code: u32) -> String {
    match code {
        1 => "operations error".into(),
        2 => "protocol error".into(),
        7 => "auth method not supported".into(),
        8 => "stronger auth required".into(),
        10 => "referral".into(),
        13 => "confidentiality required".into(),
        32 => "no such object".into(),
        34 => "invalid DN".into(),
        48 => "inappropriate authentication".into(),
        49 => "invalid credentials".into(),
        50 => "insufficient access rights".into(),
        51 => "busy".into(),
        52 => "unavailable".into(),
        53 => "unwilling to perform".into(),
        80 => "other error".into(),
        code => format!("result {code}"),
    }
}

fn message(id: u32, tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut inside = Vec::new();
    ber::write_number(&mut inside, INTEGER, id);
    ber::write(&mut inside, tag, contents);
    let mut out = Vec::new();
    ber::write(&mut out, SEQUENCE, &inside);
    out
}

fn bind(id: u32, name: &str, password: &str) -> Vec<u8> {
    let mut body = Vec::new();
    ber::write_number(&mut body, INTEGER, 3);
    ber::write(&mut body, OCTET_STRING, name.as_bytes());
    ber::write(&mut body, 0x80, password.as_bytes()); // simple authentication
    message(id, BIND_REQUEST, &body)
}

fn unbind(id: u32) -> Vec<u8> {
    message(id, UNBIND_REQUEST, &[])
}

fn start_tls(id: u32) -> Vec<u8> {
    let mut body = Vec::new();
    ber::write(&mut body, 0x80, START_TLS);
    message(id, EXTENDED_REQUEST, &body)
}

/// Base search for any object, without attributes (section 4.5.1).
fn search(id: u32, base: &str) -> Vec<u8> {
    let mut body = Vec::new();
    ber::write(&mut body, OCTET_STRING, base.as_bytes());
    ber::write_number(&mut body, ENUMERATED, 0); // scope: base object
    ber::write_number(&mut body, ENUMERATED, 0); // never dereference aliases
    ber::write_number(&mut body, INTEGER, 1); // size limit
    ber::write_number(&mut body, INTEGER, 0); // time limit: the server's
    ber::write(&mut body, 0x01, &[0]); // values too
    ber::write(&mut body, 0x87, b"objectClass"); // present
    let mut attributes = Vec::new();
    ber::write(&mut attributes, OCTET_STRING, b"1.1"); // none
    ber::write(&mut body, SEQUENCE, &attributes);
    message(id, SEARCH_REQUEST, &body)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, Expectation, TlsMode};
    use proptest::prelude::*;

    fn result(id: u32, tag: u8, code: u32, text: &str) -> Vec<u8> {
        let mut body = Vec::new();
        ber::write_number(&mut body, ENUMERATED, code);
        ber::write(&mut body, OCTET_STRING, b"");
        ber::write(&mut body, OCTET_STRING, text.as_bytes());
        message(id, tag, &body)
    }

    fn entry(id: u32, name: &str) -> Vec<u8> {
        let mut body = Vec::new();
        ber::write(&mut body, OCTET_STRING, name.as_bytes());
        ber::write(&mut body, SEQUENCE, &[]);
        message(id, SEARCH_ENTRY, &body)
    }

    fn ldap(base: Option<&str>) -> Probe {
        prepare(model::Probe::Ldap(LdapProbe {
            tls: TlsMode::Off,
            login: None,
            base: base.map(str::to_owned),
            expect: Expectation { text: Some("dc=example".into()), ..Expectation::default() },
        }))
    }

    /// Answers each request with the next messages.
    async fn answers(answers: Vec<Vec<u8>>) -> std::net::SocketAddr {
        serve(move |mut stream| {
            let answers = answers.clone();
            async move {
                let mut request = [0; 512];
                for answer in answers {
                    if stream.read(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let _ = stream.write_all(&answer).await;
                }
                let _ = stream.read(&mut request).await;
            }
        })
        .await
    }

    #[test]
    fn requests_have_the_form_of_the_standard() {
        // Message id 1, version 3, no name, simple authentication without a password.
        let bind_bytes = [0x30, 0x0c, 2, 1, 1, 0x60, 7, 2, 1, 3, 4, 0, 0x80, 0];
        assert_eq!(bind(1, "", ""), bind_bytes);
        assert_eq!(unbind(3), [0x30, 5, 2, 1, 3, 0x42, 0]);
    }

    #[tokio::test]
    async fn a_bind_is_enough_unless_a_base_is_given() {
        let server = answers(vec![result(2, BIND_RESPONSE, 0, "")]).await;
        assert_eq!(passed(&ldap(None), server).await, "bind accepted");
        let found = [entry(3, "dc=example,dc=org"), result(3, SEARCH_DONE, 0, "")].concat();
        let server = answers(vec![result(2, BIND_RESPONSE, 0, ""), found]).await;
        let said = passed(&ldap(Some("dc=example,dc=org")), server).await;
        assert_eq!(said, "object \"dc=example,dc=org\"");
    }

    #[tokio::test]
    async fn refusals_and_wrong_objects_fail() {
        let refusal = result(2, BIND_RESPONSE, 49, "bad password");
        let got = failed(&ldap(None), answers(vec![refusal]).await).await;
        assert_eq!(got, Failure::unexpected("bind: invalid credentials (bad password)", "success"));
        let bound = result(2, BIND_RESPONSE, 0, "");
        let absent = result(3, SEARCH_DONE, 32, "");
        let got = failed(&ldap(Some("x")), answers(vec![bound.clone(), absent]).await).await;
        assert_eq!(got, Failure::unexpected("search: no such object", "success"));
        let other = [entry(3, "dc=other"), result(3, SEARCH_DONE, 0, "")].concat();
        let got = failed(&ldap(Some("x")), answers(vec![bound, other]).await).await;
        assert_eq!(got, Failure::unexpected("object \"dc=other\"", "\"dc=example\""));
        let shutdown = result(0, EXTENDED_RESPONSE, 52, "going down");
        let got = failed(&ldap(None), answers(vec![shutdown]).await).await;
        assert_eq!(got, Failure::unexpected("bind: unavailable (going down)", "success"));
    }

    #[tokio::test]
    async fn other_protocols_and_silence_fail() {
        let got = failed(&ldap(None), says(&[b"SSH-2.0-x\r\n"]).await).await;
        assert_eq!(got, Failure::Malformed("an answer that is not LDAP".into()));
        times_out_waiting_for("bind response", &ldap(None), silent().await).await;
        let got = failed(&ldap(None), says(&[&[0x30, 0x0c, 2]]).await).await;
        assert_eq!(got, Failure::Closed("bind response"));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = succeeded(&bytes, 1, BIND_RESPONSE, "bind");
            prop_assert!(missing(&bytes) > 0);
        }

        #[test]
        fn what_is_missing_is_never_more_than_the_message(length in 0usize..70_000) {
            let mut whole = Vec::new();
            ber::write(&mut whole, SEQUENCE, &vec![7; length]);
            for cut in [0, 1, 2, 3, 4, 5, length / 2, length] {
                let cut = cut.min(whole.len() - 1);
                prop_assert!(cut + missing(&whole[..cut]) <= whole.len());
            }
        }

        #[test]
        fn a_truncated_response_is_refused(cut in 0usize..20) {
            let whole = result(1, BIND_RESPONSE, 0, "fine");
            prop_assume!(cut < whole.len());
            prop_assert!(succeeded(&whole[..cut], 1, BIND_RESPONSE, "bind").is_err());
        }
    }
}
