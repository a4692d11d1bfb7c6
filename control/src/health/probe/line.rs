//! Protocols that talk in lines: SMTP, IMAP, POP3, FTP.

use tokio::io::AsyncReadExt;

use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Fault, excerpt};
use crate::model::TlsMode;

/// Longest line taken, without its end.
const LINE_LIMIT: usize = 8 * 1024;

/// Most bytes taken in one conversation.
const TOTAL_LIMIT: usize = 256 * 1024;

/// A conversation in lines.
pub(super) struct Lines {
    stream: Stream,
    unread: Vec<u8>,
    total: usize,
}

/// When a conversation turns to TLS, ready for use.
pub(super) enum Turn {
    Never,
    AtOnce(Tls),
    StartTls(Tls),
}

impl Turn {
    /// Prepares TLS as `mode` asks.
    pub fn prepare(mode: &TlsMode) -> Result<Self, super::TlsError> {
        Ok(match mode {
            TlsMode::Off => Self::Never,
            TlsMode::Implicit(tls) => Self::AtOnce(Tls::load(tls, None, &[])?),
            TlsMode::StartTls(tls) => Self::StartTls(Tls::load(tls, None, &[])?),
        })
    }

    /// The same with a memory for TLS sessions of its own, for the connections of one exchange.
    pub fn with_own_sessions(&self) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::AtOnce(tls) => Self::AtOnce(tls.with_own_sessions()),
            Self::StartTls(tls) => Self::StartTls(tls.with_own_sessions()),
        }
    }

    /// TLS for the first byte on.
    pub fn at_once(&self) -> Option<&Tls> {
        match self {
            Self::AtOnce(tls) => Some(tls),
            Self::Never | Self::StartTls(_) => None,
        }
    }

    /// TLS after the protocol's own request.
    pub fn later(&self) -> Option<&Tls> {
        match self {
            Self::StartTls(tls) => Some(tls),
            Self::Never | Self::AtOnce(_) => None,
        }
    }
}

impl Lines {
    /// Connects to the attempt's target.
    pub async fn open(attempt: &mut Attempt<'_>, turn: &Turn) -> Result<Self, Fault> {
        let stream = stream::open(attempt, turn.at_once()).await?;
        Ok(Self { stream, unread: Vec::new(), total: 0 })
    }

    /// The next line, without its end. Bytes that are not UTF-8 are replaced.
    pub async fn line(
        &mut self,
        attempt: &mut Attempt<'_>,
        expected: &'static str,
    ) -> Result<String, Fault> {
        attempt.waiting_for = expected;
        loop {
            match split_line(&mut self.unread) {
                Split::Line(line) => return Ok(line),
                Split::TooLong => return Err(Fault::malformed("a line over 8 KiB")),
                Split::More => {}
            }
            if self.total > TOTAL_LIMIT {
                return Err(Fault::malformed("an answer over 256 KiB"));
            }
            let mut chunk = [0; 1024];
            let read = self.stream.read(&mut chunk).await;
            let n = read.map_err(|error| Fault::from_io(error, expected))?;
            if n == 0 {
                return Err(Fault::closed(expected));
            }
            self.total += n;
            self.unread.extend_from_slice(&chunk[..n]);
        }
    }

    /// Sends a line.
    pub async fn send(&mut self, line: &str, expected: &'static str) -> Result<(), Fault> {
        stream::send(&mut self.stream, format!("{line}\r\n").as_bytes(), expected).await
    }

    /// Says goodbye. Whether the server hears it no longer matters to the verdict.
    pub async fn farewell(mut self, line: &str) {
        let _ = self.send(line, "end").await;
    }

    /// Turns to TLS after the server agreed.
    pub async fn upgrade(self, attempt: &mut Attempt<'_>, tls: &Tls) -> Result<Self, Fault> {
        // Anything that came before TLS could be a stranger's.
        if !self.unread.is_empty() {
            return Err(Fault::malformed("text before the TLS handshake"));
        }
        let stream = self.stream.upgrade(attempt, tls).await?;
        Ok(Self { stream, ..self })
    }

    /// A reply of SMTP or FTP: three digits, and `-` on every line but the last.
    pub async fn reply(
        &mut self,
        attempt: &mut Attempt<'_>,
        expected: &'static str,
    ) -> Result<Reply, Fault> {
        let mut reply = None;
        loop {
            let line = self.line(attempt, expected).await?;
            if add_reply_line(&mut reply, &line).map_err(|()| {
                Fault::unexpected(format!("{:?}", excerpt(line.as_bytes())), expected)
            })? {
                break;
            }
        }
        reply.ok_or_else(|| Fault::closed(expected))
    }
}

/// A reply of SMTP or FTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    /// Three digits.
    pub code: u16,
    /// The text of each line, without the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// The reply if its code is one of `wanted`, else the failure that says so.
    pub fn expect(self, wanted: &[u16]) -> Result<Self, Fault> {
        if wanted.contains(&self.code) {
            return Ok(self);
        }
        let codes: Vec<_> = wanted.iter().map(u16::to_string).collect();
        Err(Fault::unexpected(self.summary(), codes.join(" or ")))
    }

    /// "220 mail.example.org ESMTP".
    pub fn summary(&self) -> String {
        let first = self.lines.first().map_or("", String::as_str);
        excerpt(format!("{} {first}", self.code).as_bytes())
    }
}

/// Takes one line of a reply. `Ok(true)` when it was the last.
///
/// RFC 959 section 4.2 lets lines in the middle of a reply be anything; RFC 5321 is stricter, and
/// the laxer rule covers both.
fn add_reply_line(reply: &mut Option<Reply>, line: &str) -> Result<bool, ()> {
    let coded = line.split_at_checked(3).and_then(|(digits, rest)| {
        let number = digits.bytes().all(|b| b.is_ascii_digit());
        let last = rest.is_empty() || rest.starts_with(' ');
        let fits = number && (last || rest.starts_with('-'));
        let code: u16 = digits.parse().ok().filter(|_| fits)?;
        Some((code, last, rest.get(1..).unwrap_or("").to_owned()))
    });
    match (reply, coded) {
        (reply @ None, Some((code, last, text))) => {
            *reply = Some(Reply { code, lines: vec![text] });
            Ok(last)
        }
        (Some(reply), Some((code, last, text))) if code == reply.code => {
            reply.lines.push(text);
            Ok(last)
        }
        (Some(reply), _) => {
            reply.lines.push(line.to_owned());
            Ok(false)
        }
        (None, None) => Err(()),
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Split {
    Line(String),
    More,
    TooLong,
}

/// Takes the first line out of `unread`.
fn split_line(unread: &mut Vec<u8>) -> Split {
    let Some(end) = unread.iter().position(|byte| *byte == b'\n') else {
        return if unread.len() > LINE_LIMIT { Split::TooLong } else { Split::More };
    };
    if end > LINE_LIMIT {
        return Split::TooLong;
    }
    let line: Vec<u8> = unread.drain(..=end).collect();
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Split::Line(String::from_utf8_lossy(line).into_owned())
}

/// A text as an IMAP quoted string (RFC 3501 section 4.3); `None` when it cannot be one.
pub(super) fn quoted(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control());
    plain.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(text: &str) -> Result<Option<Reply>, ()> {
        let mut reply = None;
        for line in text.lines() {
            if add_reply_line(&mut reply, line)? {
                return Ok(reply);
            }
        }
        Ok(None)
    }

    #[test]
    fn replies_may_span_lines() {
        let got = reply("250-mx.example.org\n250-PIPELINING\n250 STARTTLS").unwrap().unwrap();
        assert_eq!(got.code, 250);
        assert_eq!(got.lines, ["mx.example.org", "PIPELINING", "STARTTLS"]);
        assert_eq!(reply("220").unwrap().unwrap().lines, [""]);
        let odd =
            reply("230-Welcome\n 999 is not a code\n123 nor is this\n230 Done").unwrap().unwrap();
        assert_eq!((odd.code, odd.lines.len()), (230, 4));
    }

    #[test]
    fn what_is_not_a_reply_is_refused() {
        for text in ["hello", "22", "2x0 hi", "2200 hi", "\u{fc}\u{fc} hi", ""] {
            assert_eq!(reply(&format!("{text}\n")), Err(()), "{text:?}");
        }
        assert_eq!(reply("250-first"), Ok(None), "unfinished");
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return() {
        let mut unread = b"one\r\ntwo\nthree".to_vec();
        assert_eq!(split_line(&mut unread), Split::Line("one".into()));
        assert_eq!(split_line(&mut unread), Split::Line("two".into()));
        assert_eq!(split_line(&mut unread), Split::More);
        assert_eq!(unread, b"three");
        assert_eq!(split_line(&mut vec![b'x'; LINE_LIMIT + 1]), Split::TooLong);
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted(r#"a"b\c"#).as_deref(), Some(r#""a\"b\\c""#));
        assert_eq!(quoted("a\r\nb"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_every_line_once(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut unread = bytes.clone();
            let mut lines = 0;
            while matches!(split_line(&mut unread), Split::Line(_)) { lines += 1; }
            prop_assert_eq!(lines, bytes.iter().filter(|b| **b == b'\n').count());
        }

        #[test]
        fn arbitrary_lines_never_panic(lines in proptest::collection::vec(".{0,12}", 0..6)) {
            let mut reply = None;
            for line in lines { let _ = add_reply_line(&mut reply, &line); }
        }
    }
}
