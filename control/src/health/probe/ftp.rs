//! FTP (RFC 959, 2228, 2428): greeting, TLS, login and a file when asked for, QUIT.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;

use super::expect::Expect;
use super::line::{Lines, Reply, Turn};
use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError};
use crate::model::{Login, LoginProbe};

/// Longest part of a file looked at.
const FILE_LIMIT: usize = 1 << 20;

/// An FTP conversation.
pub(super) struct Ftp {
    turn: Turn,
    login: Option<Login>,
    path: Option<String>,
    expect: Expect,
}

impl Ftp {
    pub fn prepare(wanted: &LoginProbe) -> Result<Self, PrepareError> {
        Ok(Self {
            turn: Turn::prepare(&wanted.tls)?,
            login: wanted.login.clone(),
            path: wanted.path.clone(),
            expect: Expect::new(&wanted.expect)?,
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        // Many servers let data connections resume the session of the control connection, to know
        // that both are the same client's. Nobody else's session is ever resumed.
        let turn = self.turn.with_own_sessions();
        let mut lines = Lines::open(attempt, &turn).await?;
        let greeting = lines.reply(attempt, "FTP greeting").await?.expect(&[220])?;
        if let Some(tls) = turn.later() {
            ask(attempt, &mut lines, "AUTH TLS", "AUTH reply").await?.expect(&[234])?;
            lines = lines.upgrade(attempt, tls).await?;
        }
        if let Some(login) = self.login_to_use() {
            log_in(attempt, &mut lines, &login).await?;
        }
        if let Some(path) = &self.path {
            let tls = turn.at_once().or(turn.later());
            let file = fetch(attempt, &mut lines, tls, path).await?;
            self.expect.judge("file", &file)?;
        }
        lines.farewell("QUIT").await;
        Ok(greeting.summary())
    }

    /// A file cannot be had without a login, so without one the customary guest is used.
    fn login_to_use(&self) -> Option<Login> {
        let guest = || Login { user: "anonymous".into(), password: "viaduct@".into() };
        self.login.clone().or_else(|| self.path.is_some().then(guest))
    }
}

async fn ask(
    attempt: &mut Attempt<'_>,
    lines: &mut Lines,
    command: &str,
    expected: &'static str,
) -> Result<Reply, Fault> {
    lines.send(command, expected).await?;
    lines.reply(attempt, expected).await
}

async fn log_in(attempt: &mut Attempt<'_>, lines: &mut Lines, login: &Login) -> Result<(), Fault> {
    let user = ask(attempt, lines, &format!("USER {}", login.user), "USER reply").await?;
    if user.expect(&[230, 331])?.code == 331 {
        let pass = ask(attempt, lines, &format!("PASS {}", login.password), "PASS reply").await?;
        pass.expect(&[230, 202])?;
    }
    Ok(())
}

/// Fetches a file over a passive data connection.
async fn fetch(
    attempt: &mut Attempt<'_>,
    lines: &mut Lines,
    tls: Option<&Tls>,
    path: &str,
) -> Result<Vec<u8>, Fault> {
    if tls.is_some() {
        ask(attempt, lines, "PBSZ 0", "PBSZ reply").await?.expect(&[200])?;
        ask(attempt, lines, "PROT P", "PROT reply").await?.expect(&[200])?;
    }
    ask(attempt, lines, "TYPE I", "TYPE reply").await?.expect(&[200])?;
    // Whatever address the server names, its data comes from where we asked.
    let data = SocketAddr::new(attempt.target.address.ip(), passive(attempt, lines).await?);
    let tcp = stream::tcp_to(attempt, data).await?;
    let retrieving = ask(attempt, lines, &format!("RETR {path}"), "RETR reply").await?;
    retrieving.expect(&[125, 150])?;
    let mut stream = match tls {
        Some(tls) => stream::secure(attempt, tcp, tls).await?,
        None => Stream::Plain(tcp),
    };
    attempt.waiting_for = "file";
    let mut file = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    while file.len() < FILE_LIMIT {
        match stream.read(&mut chunk).await {
            Ok(0) => break,
            Ok(n) => file.extend_from_slice(&chunk[..n]),
            // Some servers end the data connection without TLS's own farewell.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(Fault::from_io(error, "file")),
        }
    }
    drop(stream);
    if file.len() < FILE_LIMIT {
        lines.reply(attempt, "end of transfer").await?.expect(&[226, 250])?;
    }
    Ok(file)
}

/// The port that the server opens for data: EPSV, or PASV where that is unknown.
async fn passive(attempt: &mut Attempt<'_>, lines: &mut Lines) -> Result<u16, Fault> {
    let extended = ask(attempt, lines, "EPSV", "EPSV reply").await?;
    if extended.code == 229 {
        return extended_port(&extended).ok_or_else(|| Fault::malformed(extended.summary()));
    }
    let plain = ask(attempt, lines, "PASV", "PASV reply").await?.expect(&[227])?;
    plain_port(&plain).ok_or_else(|| Fault::malformed(plain.summary()))
}

/// `Entering Extended Passive Mode (|||6446|)`, RFC 2428 section 3.
fn extended_port(reply: &Reply) -> Option<u16> {
    let (_, inside) = reply.lines.first()?.rsplit_once('(')?;
    let delimiter = inside.chars().next()?;
    inside.split(delimiter).nth(3)?.parse().ok().filter(|port| *port != 0)
}

/// `Entering Passive Mode (10,0,0,1,25,46)`, parentheses optional.
fn plain_port(reply: &Reply) -> Option<u16> {
    let text = reply.lines.first()?;
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let numbers = text[start..].trim_end_matches(|c: char| !c.is_ascii_digit());
    let numbers: Option<Vec<u8>> = numbers.split(',').map(|n| n.trim().parse().ok()).collect();
    match numbers?.as_slice() {
        [_, _, _, _, high, low] => {
            Some(u16::from_be_bytes([*high, *low])).filter(|port| *port != 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, Expectation, TlsMode};

    fn ftp(login: bool, path: Option<&str>) -> Probe {
        prepare(model::Probe::Ftp(LoginProbe {
            tls: TlsMode::Off,
            login: login.then(|| Login { user: "joe".into(), password: "pw".into() }),
            path: path.map(str::to_owned),
            expect: Expectation { regex: Some("good".into()), ..Expectation::default() },
        }))
    }

    fn reply(text: &str) -> Reply {
        Reply { code: 227, lines: vec![text.into()] }
    }

    #[test]
    fn ports_are_found_in_every_form() {
        assert_eq!(extended_port(&reply("Entering Extended Passive Mode (|||6446|)")), Some(6446));
        assert_eq!(extended_port(&reply("x (!!!6446!)")), Some(6446));
        assert_eq!(extended_port(&reply("x (|||66446|)")), None);
        assert_eq!(extended_port(&reply("x")), None);
        assert_eq!(plain_port(&reply("Entering Passive Mode (10,0,0,1,25,46).")), Some(6446));
        assert_eq!(plain_port(&reply("Entering 10,0,0,1,25,46")), Some(6446));
        assert_eq!(plain_port(&reply("Entering 10,0,0,1,25")), None);
        assert_eq!(plain_port(&reply("Entering 10,0,0,1,25,256")), None);
    }

    #[tokio::test]
    async fn a_greeting_alone_is_enough_unless_more_is_asked() {
        let server = plays(&[("", "220 (vsFTPd 3.0.3)\r\n"), ("QUIT\r\n", "221 bye\r\n")]).await;
        assert_eq!(passed(&ftp(false, None), server).await, "220 (vsFTPd 3.0.3)");
        let full = plays(&[("", "421 too many\r\n")]).await;
        let got = failed(&ftp(false, None), full).await;
        assert_eq!(got, Failure::unexpected("421 too many", "220"));
        times_out_waiting_for("FTP greeting", &ftp(false, None), silent().await).await;
    }

    async fn with_file(content: &'static [u8], plain: bool) -> SocketAddr {
        let data = says(&[content]).await.port();
        let refusal = "500 unknown\r\n".to_string();
        let extended = format!("229 ok (|||{data}|)\r\n");
        let passive = format!("227 ok (1,2,3,4,{},{})\r\n", data >> 8, data & 255);
        let mut dialogue = vec![
            ("", "220 hi\r\n".to_string()),
            ("USER anonymous\r\n", "331 guest ok\r\n".into()),
            ("PASS viaduct@\r\n", "230 in\r\n".into()),
            ("TYPE I\r\n", "200 ok\r\n".into()),
            ("EPSV\r\n", if plain { refusal } else { extended }),
        ];
        if plain {
            dialogue.push(("PASV\r\n", passive));
        }
        dialogue.push(("RETR a.txt\r\n", "150 here\r\n226 done\r\n".into()));
        dialogue.push(("QUIT\r\n", "221 bye\r\n".into()));
        let dialogue: Vec<_> = dialogue.iter().map(|(a, b)| (*a, b.as_str())).collect();
        plays(&dialogue).await
    }

    #[tokio::test]
    async fn a_file_is_fetched_and_judged() {
        let probe = ftp(false, Some("a.txt"));
        assert_eq!(passed(&probe, with_file(b"good\n", false).await).await, "220 hi");
        assert_eq!(passed(&probe, with_file(b"good\n", true).await).await, "220 hi");
        let got = failed(&probe, with_file(b"bad\n", false).await).await;
        assert_eq!(got, Failure::unexpected("file \"bad\"", "/good/"));
    }

    #[tokio::test]
    async fn a_refused_login_fails() {
        let dialogue =
            [("", "220 hi\r\n"), ("USER joe\r\n", "331 ok\r\n"), ("PASS pw\r\n", "530 no\r\n")];
        let got = failed(&ftp(true, None), plays(&dialogue).await).await;
        assert_eq!(got, Failure::unexpected("530 no", "230 or 202"));
    }

    proptest::proptest! {
        #[test]
        fn any_reply_gives_a_port_or_none(text in ".{0,60}") {
            let _ = (extended_port(&reply(&text)), plain_port(&reply(&text)));
        }
    }
}
