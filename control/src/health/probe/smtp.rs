//! SMTP (RFC 5321): greeting, EHLO, STARTTLS and login when asked for, QUIT.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::line::{Lines, Reply, Turn};
use super::{Attempt, Exchange, Fault, PrepareError};
use crate::model::{Login, SmtpProbe};

/// An SMTP conversation.
pub(super) struct Smtp {
    turn: Turn,
    helo: String,
    login: Option<Login>,
}

impl Smtp {
    pub fn prepare(wanted: &SmtpProbe, node: &str) -> Result<Self, PrepareError> {
        Ok(Self {
            turn: Turn::prepare(&wanted.tls)?,
            helo: wanted.helo.clone().unwrap_or_else(|| node.to_owned()),
            login: wanted.login.clone(),
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut lines = Lines::open(attempt, &self.turn).await?;
        let greeting = lines.reply(attempt, "SMTP greeting").await?.expect(&[220])?;
        let mut offers = self.hello(attempt, &mut lines).await?;
        if let Some(tls) = self.turn.later() {
            lines.send("STARTTLS", "STARTTLS reply").await?;
            lines.reply(attempt, "STARTTLS reply").await?.expect(&[220])?;
            lines = lines.upgrade(attempt, tls).await?;
            offers = self.hello(attempt, &mut lines).await?;
        }
        if let Some(login) = &self.login {
            authenticate(attempt, &mut lines, login, &offers).await?;
        }
        lines.farewell("QUIT").await;
        Ok(greeting.summary())
    }

    /// EHLO, or HELO to a server that does not know it.
    async fn hello(&self, attempt: &mut Attempt<'_>, lines: &mut Lines) -> Result<Reply, Fault> {
        lines.send(&format!("EHLO {}", self.helo), "EHLO reply").await?;
        let reply = lines.reply(attempt, "EHLO reply").await?;
        if !(500..=504).contains(&reply.code) {
            return reply.expect(&[250]);
        }
        lines.send(&format!("HELO {}", self.helo), "HELO reply").await?;
        lines.reply(attempt, "HELO reply").await?.expect(&[250])
    }
}

/// AUTH PLAIN (RFC 4616), or LOGIN where only that is offered.
async fn authenticate(
    attempt: &mut Attempt<'_>,
    lines: &mut Lines,
    login: &Login,
    offers: &Reply,
) -> Result<(), Fault> {
    const WHAT: &str = "AUTH reply";
    if offers_only_login(offers) {
        lines.send("AUTH LOGIN", WHAT).await?;
        lines.reply(attempt, WHAT).await?.expect(&[334])?;
        lines.send(&STANDARD.encode(&login.user), WHAT).await?;
        lines.reply(attempt, WHAT).await?.expect(&[334])?;
        lines.send(&STANDARD.encode(&login.password), WHAT).await?;
    } else {
        let plain = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
        lines.send(&format!("AUTH PLAIN {plain}"), WHAT).await?;
    }
    lines.reply(attempt, WHAT).await?.expect(&[235])?;
    Ok(())
}

fn offers_only_login(offers: &Reply) -> bool {
    let methods = offers.lines.iter().find_map(|line| {
        let line = line.to_ascii_uppercase();
        line.strip_prefix("AUTH").map(str::to_owned)
    });
    let Some(methods) = methods else { return false };
    let has = |name| methods.split([' ', '=']).any(|method| method == name);
    has("LOGIN") && !has("PLAIN")
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, Login, SmtpProbe, Tls, TlsMode};

    fn smtp(login: Option<(&str, &str)>, tls: TlsMode) -> Probe {
        let login =
            login.map(|(user, password)| Login { user: user.into(), password: password.into() });
        prepare(model::Probe::Smtp(SmtpProbe { tls, helo: Some("lb1".into()), login }))
    }

    #[tokio::test]
    async fn a_mail_server_greets_and_takes_ehlo() {
        let server = plays(&[
            ("", "220-mx.example.org\r\n220 ESMTP\r\n"),
            ("EHLO lb1\r\n", "250-mx.example.org\r\n250 PIPELINING\r\n"),
            ("QUIT\r\n", "221 bye\r\n"),
        ]);
        assert_eq!(passed(&smtp(None, TlsMode::Off), server.await).await, "220 mx.example.org");
    }

    #[tokio::test]
    async fn an_old_server_is_greeted_the_old_way() {
        let server = plays(&[
            ("", "220 hi\r\n"),
            ("EHLO lb1\r\n", "502 what?\r\n"),
            ("HELO lb1\r\n", "250 hello\r\n"),
        ]);
        passed(&smtp(None, TlsMode::Off), server.await).await;
    }

    #[tokio::test]
    async fn logins_use_what_is_offered() {
        let probe = smtp(Some(("u", "p")), TlsMode::Off);
        let plain = plays(&[
            ("", "220 hi\r\n"),
            ("EHLO lb1\r\n", "250-mx\r\n250 AUTH LOGIN PLAIN\r\n"),
            ("AUTH PLAIN AHUAcA==\r\n", "235 ok\r\n"),
        ]);
        passed(&probe, plain.await).await;
        let login = plays(&[
            ("", "220 hi\r\n"),
            ("EHLO lb1\r\n", "250-mx\r\n250 AUTH=LOGIN\r\n"),
            ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
            ("dQ==\r\n", "334 UGFzc3dvcmQ6\r\n"),
            ("cA==\r\n", "535 no\r\n"),
        ]);
        let refused = failed(&probe, login.await).await;
        assert_eq!(refused, Failure::unexpected("535 no", "235"));
    }

    #[tokio::test]
    async fn starttls_is_followed_by_a_second_ehlo() {
        let certificate = Certificate::for_name("mx.example.org");
        let server = certificate
            .plays_starttls(
                &[
                    ("", "220 hi\r\n"),
                    ("EHLO lb1\r\n", "250 STARTTLS\r\n"),
                    ("STARTTLS\r\n", "220 go\r\n"),
                ],
                &[
                    ("EHLO lb1\r\n", "250 AUTH PLAIN\r\n"),
                    ("AUTH PLAIN AHUAcA==\r\n", "235 ok\r\n"),
                ],
            )
            .await;
        let tls = Tls {
            sni: Some("mx.example.org".into()),
            verify: true,
            ca: Some(certificate.path()),
            ..Tls::default()
        };
        assert_eq!(passed(&smtp(Some(("u", "p")), TlsMode::StartTls(tls)), server).await, "220 hi");
    }

    #[tokio::test]
    async fn a_refusal_a_wrong_protocol_and_silence_fail() {
        let probe = smtp(None, TlsMode::Off);
        let busy = plays(&[("", "421 busy\r\n")]).await;
        assert_eq!(failed(&probe, busy).await, Failure::unexpected("421 busy", "220"));
        let ssh = plays(&[("", "SSH-2.0-x\r\n")]).await;
        assert_eq!(
            failed(&probe, ssh).await,
            Failure::unexpected("\"SSH-2.0-x\"", "SMTP greeting")
        );
        let cut = plays(&[("", "220-hi\r\n22")]).await;
        assert_eq!(failed(&probe, cut).await, Failure::Closed("SMTP greeting"));
        times_out_waiting_for("SMTP greeting", &probe, silent().await).await;
        let sleepy = plays(&[("", "220 hi\r\n"), ("never", "")]).await;
        times_out_waiting_for("EHLO reply", &probe, sleepy).await;
        assert!(matches!(failed(&probe, floods().await).await, Failure::Malformed(_)));
    }
}
