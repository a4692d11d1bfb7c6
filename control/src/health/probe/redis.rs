//! Redis (RESP): AUTH when asked for, PING, and the role when asked for.

use tokio::io::AsyncReadExt;

use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::model::{Login, RedisProbe};

/// Longest reply taken.
const REPLY_LIMIT: usize = 64 * 1024;

/// A PING, with what goes before and after.
pub(super) struct Redis {
    tls: Option<Tls>,
    login: Option<Login>,
    role: Option<String>,
}

/// A reply, as far as checks need them.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Reply {
    Simple(String),
    Error(String),
    Bulk(Vec<u8>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Parsed {
    Reply(Reply, usize),
    Incomplete,
    Invalid,
}

impl Redis {
    pub fn prepare(wanted: &RedisProbe) -> Result<Self, PrepareError> {
        Ok(Self {
            tls: wanted.tls.as_ref().map(|tls| Tls::load(tls, None, &[])).transpose()?,
            login: wanted.login.clone(),
            role: wanted.role.clone(),
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut stream = stream::open(attempt, self.tls.as_ref()).await?;
        if let Some(login) = &self.login {
            let words = ["AUTH", login.user.as_str(), login.password.as_str()];
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            expect_simple(ask(attempt, &mut stream, &words, "AUTH reply").await?, "OK")?;
        }
        let pong = ask(attempt, &mut stream, &["PING"], "PING reply").await?;
        expect_simple(pong, "PONG")?;
        let Some(wanted) = &self.role else { return Ok("PONG".into()) };
        let info = ask(attempt, &mut stream, &["INFO", "replication"], "INFO reply").await?;
        match info {
            Reply::Bulk(text) => {
                let role = role(&text).unwrap_or_else(|| "no role".into());
                if role == *wanted {
                    Ok(format!("role {role}"))
                } else {
                    Err(Fault::unexpected(format!("role {role}"), format!("role {wanted}")))
                }
            }
            Reply::Simple(text) | Reply::Error(text) => Err(Fault::unexpected(text, "INFO")),
        }
    }
}

fn expect_simple(reply: Reply, wanted: &str) -> Result<(), Fault> {
    match reply {
        Reply::Simple(text) if text == wanted => Ok(()),
        Reply::Simple(text) | Reply::Error(text) => Err(Fault::unexpected(text, wanted)),
        Reply::Bulk(text) => Err(Fault::unexpected(excerpt(&text), wanted)),
    }
}

async fn ask(
    attempt: &mut Attempt<'_>,
    stream: &mut Stream,
    words: &[&str],
    expected: &'static str,
) -> Result<Reply, Fault> {
    attempt.waiting_for = expected;
    stream::send(stream, &command(words), expected).await?;
    let mut heard = Vec::new();
    loop {
        match parse(&heard) {
            Parsed::Reply(reply, _) => return Ok(reply),
            Parsed::Invalid => {
                return Err(Fault::unexpected(format!("{:?}", excerpt(&heard)), "a Redis reply"));
            }
            Parsed::Incomplete => {}
        }
        if heard.len() > REPLY_LIMIT {
            return Err(Fault::malformed("a reply over 64 KiB"));
        }
        let mut chunk = [0; 2048];
        let n = stream.read(&mut chunk).await.map_err(|e| Fault::from_io(e, expected))?;
        if n == 0 {
            return Err(Fault::closed(expected));
        }
        heard.extend_from_slice(&chunk[..n]);
    }
}

/// A command as an array of bulk strings.
fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// Reads the reply at the front of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Parsed {
    let Some(kind) = bytes.first() else { return Parsed::Incomplete };
    if !matches!(kind, b'+' | b'-' | b'$') {
        return Parsed::Invalid;
    }
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Parsed::Incomplete;
    };
    let line = String::from_utf8_lossy(&bytes[1..end]).into_owned();
    let after = end + 2;
    match kind {
        b'+' => Parsed::Reply(Reply::Simple(line), after),
        b'-' => Parsed::Reply(Reply::Error(excerpt(line.as_bytes())), after),
        _ => {
            let Ok(length) = line.parse::<u32>() else { return Parsed::Invalid };
            let length = length as usize;
            if length > REPLY_LIMIT {
                return Parsed::Invalid;
            }
            match bytes[after..].get(..length + 2) {
                None => Parsed::Incomplete,
                Some(text) if text.ends_with(b"\r\n") => {
                    Parsed::Reply(Reply::Bulk(text[..length].to_vec()), after + length + 2)
                }
                Some(_) => Parsed::Invalid,
            }
        }
    }
}

fn role(info: &[u8]) -> Option<String> {
    let info = String::from_utf8_lossy(info);
    info.lines().find_map(|line| line.strip_prefix("role:").map(|role| role.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model;
    use proptest::prelude::*;

    fn redis(login: Option<(&str, &str)>, role: Option<&str>) -> Probe {
        prepare(model::Probe::Redis(RedisProbe {
            tls: None,
            login: login
                .map(|(user, password)| Login { user: user.into(), password: password.into() }),
            role: role.map(str::to_owned),
        }))
    }

    const PING: &str = "*1\r\n$4\r\nPING\r\n";

    #[tokio::test]
    async fn a_server_answers_ping() {
        assert_eq!(passed(&redis(None, None), plays(&[(PING, "+PONG\r\n")]).await).await, "PONG");
    }

    #[tokio::test]
    async fn a_login_and_a_role_are_asked_for() {
        let info = "# Replication\r\nrole:slave\r\nmaster_host:x\r\n";
        let dialogue = [
            ("*3\r\n$4\r\nAUTH\r\n$3\r\njoe\r\n$2\r\npw\r\n".to_string(), "+OK\r\n".to_string()),
            (PING.into(), "+PONG\r\n".into()),
            (
                "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n".into(),
                format!("${}\r\n{info}\r\n", info.len()),
            ),
        ];
        let dialogue: Vec<_> = dialogue.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let login = Some(("joe", "pw"));
        let server = plays(&dialogue).await;
        assert_eq!(passed(&redis(login, Some("slave")), server).await, "role slave");
        let got = failed(&redis(login, Some("master")), server).await;
        assert_eq!(got, Failure::unexpected("role slave", "role master"));
    }

    #[tokio::test]
    async fn errors_other_protocols_and_silence_fail() {
        let loading = plays(&[(PING, "-LOADING Redis is loading the dataset in memory\r\n")]).await;
        let got = failed(&redis(None, None), loading).await;
        assert_eq!(
            got,
            Failure::unexpected("LOADING Redis is loading the dataset in memory", "PONG")
        );
        let other = failed(&redis(None, None), says(&[b"HTTP/1.1 400\r\n"]).await).await;
        assert_eq!(other, Failure::unexpected("\"HTTP/1.1 400\"", "a Redis reply"));
        times_out_waiting_for("PING reply", &redis(None, None), silent().await).await;
    }

    #[test]
    fn a_truncated_reply_is_incomplete() {
        for whole in [&b"+PONG\r\n"[..], b"-ERR x\r\n", b"$5\r\nhello\r\n", b"$0\r\n\r\n"] {
            for cut in 0..whole.len() {
                assert_eq!(parse(&whole[..cut]), Parsed::Incomplete);
            }
            assert!(matches!(parse(whole), Parsed::Reply(_, length) if length == whole.len()));
        }
        assert_eq!(parse(b"$-1\r\n"), Parsed::Invalid);
        assert_eq!(parse(b"$99999999999\r\n"), Parsed::Invalid);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
            let mut bulk = b"$7\r\n".to_vec();
            bulk.extend(bytes);
            let _ = parse(&bulk);
        }
    }
}
