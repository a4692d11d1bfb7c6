//! IMAP (RFC 3501): greeting, STARTTLS and login when asked for, LOGOUT.

use super::line::{Lines, Turn, quoted};
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::model::{Login, LoginProbe};

/// An IMAP conversation.
pub(super) struct Imap {
    turn: Turn,
    login: Option<String>,
}

impl Imap {
    pub fn prepare(wanted: &LoginProbe) -> Result<Self, PrepareError> {
        let login = wanted.login.as_ref().map(command).transpose()?;
        Ok(Self { turn: Turn::prepare(&wanted.tls)?, login })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut lines = Lines::open(attempt, &self.turn).await?;
        let greeting = lines.line(attempt, "IMAP greeting").await?;
        if !greeting.starts_with("* OK") && !greeting.starts_with("* PREAUTH") {
            let got = format!("{:?}", excerpt(greeting.as_bytes()));
            return Err(Fault::unexpected(got, "* OK"));
        }
        if let Some(tls) = self.turn.later() {
            ask(attempt, &mut lines, "a1", "STARTTLS", "STARTTLS reply").await?;
            lines = lines.upgrade(attempt, tls).await?;
        }
        if let Some(login) = &self.login {
            ask(attempt, &mut lines, "a2", login, "LOGIN reply").await?;
        }
        lines.farewell("a3 LOGOUT").await;
        Ok(excerpt(greeting.trim_start_matches("* ").as_bytes()))
    }
}

fn command(login: &Login) -> Result<String, PrepareError> {
    match (quoted(&login.user), quoted(&login.password)) {
        (Some(user), Some(password)) => Ok(format!("LOGIN {user} {password}")),
        (None, _) | (_, None) => {
            Err(PrepareError::Request("an IMAP login must be printable ASCII".into()))
        }
    }
}

/// Sends a command and reads to its tagged answer, which must be OK.
async fn ask(
    attempt: &mut Attempt<'_>,
    lines: &mut Lines,
    tag: &str,
    command: &str,
    expected: &'static str,
) -> Result<(), Fault> {
    lines.send(&format!("{tag} {command}"), expected).await?;
    loop {
        let line = lines.line(attempt, expected).await?;
        let Some(answer) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) else {
            continue; // untagged news
        };
        if answer.starts_with("OK") {
            return Ok(());
        }
        return Err(Fault::unexpected(excerpt(answer.as_bytes()), "OK"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, LoginProbe, Tls, TlsMode};

    fn imap(login: bool, tls: TlsMode) -> Probe {
        let login = login.then(|| model::Login { user: "joe".into(), password: "a\"b".into() });
        let expect = model::Expectation::default();
        prepare(model::Probe::Imap(LoginProbe { tls, login, path: None, expect }))
    }

    #[tokio::test]
    async fn a_server_greets_and_takes_a_login() {
        let server = plays(&[
            ("", "* OK [CAPABILITY IMAP4rev1] ready\r\n"),
            ("a2 LOGIN \"joe\" \"a\\\"b\"\r\n", "* CAPABILITY x\r\na2 OK in\r\n"),
            ("a3 LOGOUT\r\n", "* BYE\r\n"),
        ]);
        let said = passed(&imap(true, TlsMode::Off), server.await).await;
        assert_eq!(said, "OK [CAPABILITY IMAP4rev1] ready");
    }

    #[tokio::test]
    async fn a_refused_login_and_a_busy_server_fail() {
        let refusing = plays(&[
            ("", "* OK hi\r\n"),
            ("a2 LOGIN \"joe\" \"a\\\"b\"\r\n", "a2 NO [AUTHENTICATIONFAILED]\r\n"),
        ]);
        let got = failed(&imap(true, TlsMode::Off), refusing.await).await;
        assert_eq!(got, Failure::unexpected("NO [AUTHENTICATIONFAILED]", "OK"));
        let busy = plays(&[("", "* BYE too many\r\n")]).await;
        let got = failed(&imap(false, TlsMode::Off), busy).await;
        assert_eq!(got, Failure::unexpected("\"* BYE too many\"", "* OK"));
        times_out_waiting_for("IMAP greeting", &imap(false, TlsMode::Off), silent().await).await;
    }

    #[tokio::test]
    async fn text_smuggled_in_before_tls_is_refused() {
        let server =
            plays(&[("", "* OK hi\r\n"), ("a1 STARTTLS\r\n", "a1 OK go\r\na2 OK you are in\r\n")]);
        let got = failed(&imap(true, TlsMode::StartTls(Tls::default())), server.await).await;
        assert_eq!(got, Failure::Malformed("text before the TLS handshake".into()));
    }
}
