//! What an answer must contain.

use regex::bytes::Regex;
use sha2::{Digest, Sha256};

use super::{Fault, excerpt};
use crate::model::Expectation;

/// An expectation ready to judge answers. Matching takes time linear in the answer, whatever the
/// server sends.
#[derive(Default)]
pub(super) struct Expect {
    regex: Option<Regex>,
    text: Option<(String, Regex)>,
    digest: Option<String>,
}

impl Expect {
    /// Prepares an expectation.
    ///
    /// # Errors
    /// With the compiler's explanation of a bad regular expression.
    pub fn new(wanted: &Expectation) -> Result<Self, regex::Error> {
        let text = match &wanted.text {
            Some(text) => Some((text.clone(), Regex::new(&regex::escape(text))?)),
            None => None,
        };
        Ok(Self {
            regex: wanted.regex.as_deref().map(Regex::new).transpose()?,
            text,
            digest: wanted.digest.clone(),
        })
    }

    /// Whether any answer is good.
    pub fn is_anything(&self) -> bool {
        self.regex.is_none() && self.text.is_none() && self.digest.is_none()
    }

    /// Whether the answer must be read to its end to be judged.
    pub fn needs_whole(&self) -> bool {
        self.digest.is_some()
    }

    /// Judges an answer; `what` is its name in the failure ("body").
    pub fn judge(&self, what: &str, answer: &[u8]) -> Result<(), Fault> {
        match self.lacking(answer) {
            None => Ok(()),
            Some(wanted) if self.needs_whole() && wanted.starts_with("SHA-256") => {
                Err(Fault::unexpected(format!("{what} with SHA-256 {}", digest(answer)), wanted))
            }
            Some(wanted) => Err(Fault::unexpected(format!("{what} {:?}", excerpt(answer)), wanted)),
        }
    }

    /// The first condition that an answer does not fulfil, in words.
    pub fn lacking(&self, answer: &[u8]) -> Option<String> {
        if let Some(regex) = self.regex.as_ref().filter(|regex| !regex.is_match(answer)) {
            return Some(format!("/{}/", regex.as_str()));
        }
        if let Some((text, _)) = self.text.as_ref().filter(|(_, finds)| !finds.is_match(answer)) {
            return Some(format!("{text:?}"));
        }
        if let Some(wanted) = self.digest.as_ref().filter(|wanted| **wanted != digest(answer)) {
            return Some(format!("SHA-256 {wanted}"));
        }
        None
    }
}

fn digest(answer: &[u8]) -> String {
    Sha256::digest(answer).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(regex: Option<&str>, text: Option<&str>, digest: Option<&str>) -> Expect {
        Expect::new(&Expectation {
            regex: regex.map(str::to_owned),
            text: text.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
        .unwrap()
    }

    #[test]
    fn every_condition_must_hold() {
        let both = expect(Some("^go+d"), Some("day"), None);
        assert_eq!(both.lacking(b"good day"), None);
        assert_eq!(both.lacking(b"bad day").as_deref(), Some("/^go+d/"));
        assert_eq!(both.lacking(b"good night").as_deref(), Some("\"day\""));
        assert!(expect(None, None, None).judge("body", b"whatever").is_ok());
    }

    #[test]
    fn an_exact_text_is_not_an_expression_and_bytes_need_not_be_text() {
        assert!(expect(None, Some("a.b*"), None).lacking(b"\xff a.b* \0").is_none());
        assert!(expect(None, Some("a.b*"), None).lacking(b"acb").is_some());
        assert!(expect(Some(r"(?-u)\xff"), None, None).lacking(b"\xff").is_none());
    }

    #[test]
    fn a_digest_covers_the_whole_answer() {
        // printf good | sha256sum
        let good = "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c";
        let digest = expect(None, None, Some(good));
        assert!(digest.judge("body", b"good").is_ok());
        let bad = "2f05d4b689d270cafb02285f35f44866f7dc8a2d368a3f9d1124373eeab31fb1";
        let fault =
            Fault::unexpected(format!("body with SHA-256 {bad}"), format!("SHA-256 {good}"));
        assert_eq!(digest.judge("body", b"bad"), Err(fault));
    }
}
