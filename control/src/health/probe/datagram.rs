//! A question in one datagram, asked again when it gets lost.

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::{Attempt, Fault};

/// Times a question is asked within an attempt's timeout: a lost datagram says nothing about the
/// server.
const TRIES: u32 = 3;

/// Longest datagram there is.
const DATAGRAM_LIMIT: usize = 65_535;

/// Asks, and asks again when nothing comes, until `accept` takes an answer. Answers that it does
/// not take (`None`) are somebody else's or late, and are passed over.
pub(super) async fn ask<T>(
    attempt: &mut Attempt<'_>,
    socket: &UdpSocket,
    question: &[u8],
    expected: &'static str,
    mut accept: impl FnMut(&[u8]) -> Option<Result<T, Fault>>,
) -> Result<T, Fault> {
    attempt.waiting_for = expected;
    let patience = (attempt.timeout / TRIES).max(Duration::from_millis(1));
    let mut answer = vec![0; DATAGRAM_LIMIT];
    for try_number in 1.. {
        socket.send(question).await.map_err(|error| Fault::from_io(error, expected))?;
        let until = Instant::now() + patience;
        loop {
            let received = if try_number < TRIES {
                match timeout_at(until, socket.recv(&mut answer)).await {
                    Ok(received) => received,
                    Err(_) => break,
                }
            } else {
                // The attempt's own timeout ends the last wait.
                socket.recv(&mut answer).await
            };
            let length = received.map_err(|error| Fault::from_io(error, expected))?;
            if let Some(verdict) = accept(&answer[..length]) {
                return verdict;
            }
        }
    }
    Err(Fault::closed(expected))
}
