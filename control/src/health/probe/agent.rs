//! An agent on the server says how much of its weight it wants, or that it wants none.
//!
//! It answers in one line of words: a number is a weight, a number with `%` a share of the
//! configured weight, `drain` no new connections; `down`, `fail`, `stopped` and `maint` mean that
//! the server is down, `up` and `ready` that it is up. Words after `#` are its reason.

use tokio::io::AsyncReadExt;

use super::{Attempt, Exchange, Fault, excerpt, stream};
use crate::health::weight::AgentWeight;
use crate::model::AgentProbe;

/// Longest answer looked at.
const ANSWER_LIMIT: usize = 512;

/// A question to an agent.
pub(super) struct Agent {
    send: Option<String>,
}

/// What an agent said.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Word {
    Up(Option<AgentWeight>),
    Down,
}

impl Agent {
    pub fn prepare(wanted: &AgentProbe) -> Self {
        Self { send: wanted.send.clone() }
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut stream = stream::open(attempt, None).await?;
        attempt.waiting_for = "agent's answer";
        if let Some(text) = &self.send {
            stream::send(&mut stream, text.as_bytes(), "agent's answer").await?;
        }
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && answer.len() < ANSWER_LIMIT {
            let mut chunk = [0; ANSWER_LIMIT];
            let read = stream.read(&mut chunk).await;
            match read.map_err(|error| Fault::from_io(error, "agent's answer"))? {
                0 => break,
                n => answer.extend_from_slice(&chunk[..n]),
            }
        }
        if answer.is_empty() {
            return Err(Fault::closed("agent's answer"));
        }
        let said = format!("agent: {}", excerpt(&answer));
        match parse(&String::from_utf8_lossy(&answer)) {
            Some(Word::Up(weight)) => {
                attempt.measured.weight = weight;
                Ok(said)
            }
            Some(Word::Down) => Err(Fault::unexpected(said, "up")),
            None => Err(Fault::unexpected(said, "a weight")),
        }
    }
}

/// Reads an answer; `None` when there is a word in it that is none of the above.
fn parse(answer: &str) -> Option<Word> {
    let line = answer.lines().next()?;
    let words = line.split('#').next().unwrap_or_default();
    let (mut weight, mut down, mut any) = (None, false, false);
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        any = true;
        match word.to_ascii_lowercase().as_str() {
            "up" | "ready" => {}
            "down" | "fail" | "stopped" | "maint" => down = true,
            "drain" => weight = Some(AgentWeight::Absolute(0)),
            word => {
                weight = Some(match word.strip_suffix('%') {
                    Some(percent) => AgentWeight::Percent(percent.parse().ok()?),
                    None => AgentWeight::Absolute(word.parse().ok()?),
                });
            }
        }
    }
    match (any, down) {
        (false, _) => None,
        (true, true) => Some(Word::Down),
        (true, false) => Some(Word::Up(weight)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::{Failure, Verdict};
    use crate::health::probe::Target;
    use crate::model;

    #[test]
    fn words_are_understood() {
        let absolute = |n| Some(Word::Up(Some(AgentWeight::Absolute(n))));
        let percent = |n| Some(Word::Up(Some(AgentWeight::Percent(n))));
        assert_eq!(parse("40\n"), absolute(40));
        assert_eq!(parse("75%"), percent(75));
        assert_eq!(parse("ready 50% # load 0.5\r\n"), percent(50));
        assert_eq!(parse("up"), Some(Word::Up(None)));
        assert_eq!(parse("DRAIN"), absolute(0));
        assert_eq!(parse("0"), absolute(0));
        assert_eq!(parse("maint"), Some(Word::Down));
        assert_eq!(parse("100% down"), Some(Word::Down));
        for nonsense in ["", "\n", "  ", "# reason", "-1", "ninety", "%", "99999999999", "50%%"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[tokio::test]
    async fn a_number_becomes_a_weight() {
        let probe = prepare(model::Probe::Agent(AgentProbe { send: Some("load?\n".into()) }));
        let server = plays(&[("load?\n", "37%\n")]).await;
        let outcome = run_at(&probe, &Target::new(server)).await;
        assert_eq!(outcome.verdict, Verdict::Passed("agent: 37%".into()));
        assert_eq!(outcome.measured.weight, Some(AgentWeight::Percent(37)));
    }

    #[tokio::test]
    async fn down_nonsense_and_silence_fail() {
        let probe = prepare(model::Probe::Agent(AgentProbe { send: None }));
        let got = failed(&probe, says(&[b"down # disk full\n"]).await).await;
        assert_eq!(got, Failure::unexpected("agent: down # disk full", "up"));
        let got = failed(&probe, says(&[b"<html>\n"]).await).await;
        assert_eq!(got, Failure::unexpected("agent: <html>", "a weight"));
        assert_eq!(failed(&probe, says(&[]).await).await, Failure::Closed("agent's answer"));
        times_out_waiting_for("agent's answer", &probe, silent().await).await;
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(text in ".{0,60}") {
            let _ = parse(&text);
        }
    }
}
