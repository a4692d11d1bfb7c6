//! POP3 (RFC 1939): greeting, STLS and login when asked for, QUIT.

use super::line::{Lines, Turn};
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::model::{Login, LoginProbe};

/// A POP3 conversation.
pub(super) struct Pop {
    turn: Turn,
    login: Option<Login>,
}

impl Pop {
    pub fn prepare(wanted: &LoginProbe) -> Result<Self, PrepareError> {
        Ok(Self { turn: Turn::prepare(&wanted.tls)?, login: wanted.login.clone() })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut lines = Lines::open(attempt, &self.turn).await?;
        let greeting = positive(attempt, &mut lines, "POP3 greeting").await?;
        if let Some(tls) = self.turn.later() {
            lines.send("STLS", "STLS reply").await?;
            positive(attempt, &mut lines, "STLS reply").await?;
            lines = lines.upgrade(attempt, tls).await?;
        }
        if let Some(login) = &self.login {
            lines.send(&format!("USER {}", login.user), "USER reply").await?;
            positive(attempt, &mut lines, "USER reply").await?;
            lines.send(&format!("PASS {}", login.password), "PASS reply").await?;
            positive(attempt, &mut lines, "PASS reply").await?;
        }
        lines.farewell("QUIT").await;
        Ok(greeting)
    }
}

/// Reads a reply, which must be `+OK`.
async fn positive(
    attempt: &mut Attempt<'_>,
    lines: &mut Lines,
    expected: &'static str,
) -> Exchange {
    let line = lines.line(attempt, expected).await?;
    let summary = excerpt(line.as_bytes());
    if line.starts_with("+OK") { Ok(summary) } else { Err(Fault::unexpected(summary, "+OK")) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, LoginProbe, Tls, TlsMode};

    fn pop(login: bool, tls: TlsMode) -> Probe {
        let login = login.then(|| model::Login { user: "joe".into(), password: "pw".into() });
        let expect = model::Expectation::default();
        prepare(model::Probe::Pop(LoginProbe { tls, login, path: None, expect }))
    }

    #[tokio::test]
    async fn a_server_greets_and_takes_a_login() {
        let dialogue = [
            ("", "+OK ready <1@x>\r\n"),
            ("USER joe\r\n", "+OK\r\n"),
            ("PASS pw\r\n", "+OK 2 messages\r\n"),
            ("QUIT\r\n", "+OK\r\n"),
        ];
        let said = passed(&pop(true, TlsMode::Off), plays(&dialogue).await).await;
        assert_eq!(said, "+OK ready <1@x>");
    }

    #[tokio::test]
    async fn a_refused_login_fails() {
        let dialogue =
            [("", "+OK\r\n"), ("USER joe\r\n", "+OK\r\n"), ("PASS pw\r\n", "-ERR no\r\n")];
        let got = failed(&pop(true, TlsMode::Off), plays(&dialogue).await).await;
        assert_eq!(got, Failure::unexpected("-ERR no", "+OK"));
        times_out_waiting_for("POP3 greeting", &pop(false, TlsMode::Off), silent().await).await;
    }

    #[tokio::test]
    async fn tls_from_the_first_byte() {
        let certificate = Certificate::for_name("pop.example.org");
        let server = certificate.plays_tls(&[("", "+OK\r\n"), ("QUIT\r\n", "+OK\r\n")]).await;
        assert_eq!(passed(&pop(false, TlsMode::Implicit(Tls::default())), server).await, "+OK");
        let plain = plays(&[("", "+OK\r\n")]).await;
        let got = failed(&pop(false, TlsMode::Implicit(Tls::default())), plain).await;
        assert!(matches!(got, Failure::Tls(_)), "{got:?}");
    }
}
