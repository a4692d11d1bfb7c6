//! Waiting for something to become true, always with a deadline and a name for what is awaited.
#![allow(clippy::disallowed_methods, reason = "the lab drives real programs in real time")]

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// Asks `look` until it gives a value.
///
/// # Errors
/// When `limit` has passed without one; the message names `what`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} for {what}");
        }
        std::thread::sleep(POLL);
    }
}

/// Like [`until`], but keeps the last reason why it is not so yet, and puts it into the error.
///
/// # Errors
/// When `limit` has passed and `attempt` still fails.
pub fn until_ok<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut last = None;
    let found = until(what, limit, || match attempt() {
        Ok(value) => Some(value),
        Err(error) => {
            last = Some(error);
            None
        }
    });
    match (found, last) {
        (Err(timeout), Some(last)) => Err(last.context(timeout.to_string())),
        (found, _) => found,
    }
}

/// Lets time pass. For scenes where time itself is the subject: a timeout, a measured run.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Time since some fixed point; differences are durations.
pub fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_names_what_was_awaited_and_why_it_never_came() {
        let error = until_ok::<()>("the moon", Duration::from_millis(30), || bail!("cloudy"));
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("the moon") && text.contains("cloudy"), "{text}");
    }
}
