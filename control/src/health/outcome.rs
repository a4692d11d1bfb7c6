//! What one probe found.

use std::fmt;
use std::time::Duration;

use crate::health::weight::AgentWeight;

/// The result of one probe of one real server.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// What it means for the server.
    pub verdict: Verdict,
    /// Time from the first packet to the verdict.
    pub took: Duration,
    /// What the answer told besides up or down.
    pub measured: Measured,
}

/// What one probe means for the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The server did what it should; the text is what it said ("HTTP 200").
    Passed(String),
    /// The server did not.
    Failed(Failure),
    /// The probe could not be made because of this director (no file descriptors). It says nothing
    /// about the server and is never counted against it.
    Unable(String),
    /// The probe could not be sent, because this director has no way to the server: no route, no
    /// source address, a local filter. Whether the server works is unknown; clients' packets would
    /// not reach it either.
    Unsent(String),
}

/// Why a server failed its probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The host answered that nothing listens there.
    Refused,
    /// No way to the host, in the kernel's words.
    Unreachable(String),
    /// Time ran out; the text is what was being waited for ("connect", "HTTP response").
    Timeout(&'static str),
    /// The server ended the connection while this was expected.
    Closed(&'static str),
    /// The server reset the connection while this was expected.
    Reset(&'static str),
    /// The server answered something else than it should have.
    Unexpected {
        /// What it answered.
        got: String,
        /// What would have been right.
        expected: String,
    },
    /// The answer broke the rules of its protocol.
    Malformed(String),
    /// The TLS handshake failed.
    Tls(String),
}

impl Failure {
    /// An answer other than the one wanted.
    pub fn unexpected(got: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Unexpected { got: got.into(), expected: expected.into() }
    }

    /// The failure together with how long it took to see it: "HTTP 500 after 12 ms; expected 200-399".
    fn describe(&self, took: Duration) -> String {
        let took = Took(took);
        match self {
            Self::Unexpected { got, expected } => {
                format!("{got} after {took}; expected {expected}")
            }
            Self::Timeout(what) => format!("timeout after {took} waiting for {what}"),
            Self::Refused => format!("connection refused after {took}"),
            Self::Unreachable(why) => format!("{why} after {took}"),
            Self::Closed(what) => format!("connection closed after {took}; expected {what}"),
            Self::Reset(what) => format!("connection reset after {took}; expected {what}"),
            Self::Malformed(what) => format!("{what} after {took}"),
            Self::Tls(why) => format!("TLS: {why} after {took}"),
        }
    }
}

/// Facts that came with an answer.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Measured {
    /// Weight that the server's agent asks for.
    pub weight: Option<AgentWeight>,
    /// How far the server's clock is ahead of this director's, in seconds, and how far off that
    /// may be. From an HTTP Date header, whose resolution is one second.
    pub clock: Option<ClockReading>,
    /// When the server's TLS certificate ends, in seconds since the Unix epoch.
    pub certificate_ends: Option<i64>,
    /// What a check script printed, cut to a limit.
    pub output: Option<String>,
}

/// One reading of another machine's clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClockReading {
    /// Seconds by which the other clock is ahead of ours; negative when behind.
    pub ahead: f64,
    /// Largest error of `ahead`, in seconds.
    pub error: f64,
}

impl Outcome {
    /// A passed probe without further facts.
    pub fn passed(detail: impl Into<String>, took: Duration) -> Self {
        Self { verdict: Verdict::Passed(detail.into()), took, measured: Measured::default() }
    }

    /// A failed probe without further facts.
    pub fn failed(failure: Failure, took: Duration) -> Self {
        Self { verdict: Verdict::Failed(failure), took, measured: Measured::default() }
    }

    /// A probe that could not be made.
    pub fn unable(why: impl Into<String>, took: Duration) -> Self {
        Self { verdict: Verdict::Unable(why.into()), took, measured: Measured::default() }
    }

    /// A probe that could not be sent.
    pub fn unsent(why: impl Into<String>, took: Duration) -> Self {
        Self { verdict: Verdict::Unsent(why.into()), took, measured: Measured::default() }
    }

    /// The outcome in an operator's words, with its duration.
    pub fn reason(&self) -> String {
        match &self.verdict {
            Verdict::Passed(detail) => format!("{detail} after {}", Took(self.took)),
            Verdict::Failed(failure) => failure.describe(self.took),
            Verdict::Unable(why) | Verdict::Unsent(why) => format!("could not check: {why}"),
        }
    }
}

/// A duration as operators read it: "0.4 ms", "12 ms", "1.3 s".
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros < 10_000 {
            let tenths = micros / 100;
            write!(out, "{}.{} ms", tenths / 10, tenths % 10)
        } else if micros < 1_000_000 {
            write!(out, "{} ms", micros / 1000)
        } else {
            let tenths = micros / 100_000;
            write!(out, "{}.{} s", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_reason_reads_as_a_sentence_with_its_duration() {
        let unexpected = Failure::unexpected("HTTP 500", "200-399");
        assert_eq!(
            Outcome::failed(unexpected, ms(12)).reason(),
            "HTTP 500 after 12 ms; expected 200-399"
        );
        assert_eq!(
            Outcome::failed(Failure::Timeout("connect"), ms(10_000)).reason(),
            "timeout after 10.0 s waiting for connect"
        );
        assert_eq!(
            Outcome::passed("HTTP 200", Duration::from_micros(430)).reason(),
            "HTTP 200 after 0.4 ms"
        );
        assert_eq!(
            Outcome::unable("too many open files", ms(0)).reason(),
            "could not check: too many open files"
        );
    }

    #[test]
    fn durations_keep_two_or_three_digits() {
        let text = |micros| Took(Duration::from_micros(micros)).to_string();
        assert_eq!(text(0), "0.0 ms");
        assert_eq!(text(9_999), "9.9 ms");
        assert_eq!(text(10_000), "10 ms");
        assert_eq!(text(999_999), "999 ms");
        assert_eq!(text(1_000_000), "1.0 s");
        assert_eq!(text(61_550_000), "61.5 s");
    }
}
