//! NTP: does a time server know the time?

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Attempt, Exchange, Fault, datagram, random, stream};
use crate::health::outcome::ClockReading;
use crate::model::NtpProbe;
use crate::time::sntp::{self, Packet, Refused, Sample, Timestamp};

/// A request and what its answer must be.
pub(super) struct Ntp {
    max_stratum: u8,
    max_offset: Option<Duration>,
}

impl Ntp {
    pub fn prepare(wanted: &NtpProbe) -> Self {
        Self { max_stratum: wanted.max_stratum, max_offset: wanted.max_offset }
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let socket = stream::udp(attempt)?;
        let nonce = u64::from_be_bytes(random());
        let request = Packet::request(nonce);
        let (sent, started) = (Timestamp::from(now()), Instant::now());
        // An answer to a repetition looks late by the wait before it; its offset is off by half of
        // that, within the sample's own error.
        let sample = datagram::ask(attempt, &socket, &request, "NTP answer", |bytes| {
            match sntp::judge(bytes, nonce, sent, started.elapsed()) {
                Ok(sample) => Some(Ok(sample)),
                Err(Refused::NotOurs) => None,
                Err(refused) => Some(Err(Fault::unexpected(refused.to_string(), "the time"))),
            }
        })
        .await?;
        attempt.measured.clock = Some(ClockReading { ahead: sample.offset, error: sample.error });
        self.judge(&sample)
    }

    fn judge(&self, sample: &Sample) -> Exchange {
        if sample.stratum > self.max_stratum {
            let wanted = format!("at most {}", self.max_stratum);
            return Err(Fault::unexpected(format!("stratum {}", sample.stratum), wanted));
        }
        let offset = format!("offset {:+.6} s", sample.offset);
        let limit = self.max_offset.map(|limit| limit.as_secs_f64());
        if let Some(limit) = limit.filter(|limit| sample.offset.abs() > *limit) {
            return Err(Fault::unexpected(offset, format!("at most {limit} s")));
        }
        Ok(format!("stratum {}, {offset}", sample.stratum))
    }
}

#[allow(clippy::disallowed_methods)] // the edge where an answer meets the wall clock
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::{Failure, Verdict};
    use crate::health::probe::{Probe, Target};
    use crate::model;
    use crate::time::sntp::{Leap, ReferenceId};

    fn ntp(max_offset: Option<Duration>) -> Probe {
        prepare(model::Probe::Ntp(NtpProbe { max_stratum: 4, max_offset }))
    }

    fn answer(request: &[u8], ahead: Duration, stratum: u8) -> Vec<u8> {
        let moment = Timestamp::from(now() + ahead);
        let packet = Packet {
            leap: Leap::None,
            version: 4,
            mode: 4,
            stratum,
            poll: 6,
            precision: -20,
            root_delay: 0,
            root_dispersion: 0,
            reference_id: ReferenceId(*b"DENY"),
            reference: moment,
            originate: Packet::parse(request).unwrap().transmit,
            receive: moment,
            transmit: moment,
        };
        packet.to_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_right_server_passes_and_its_offset_is_known() {
        let ahead = Duration::from_secs(100);
        let server = answers_udp(move |request| vec![answer(request, ahead, 2)]).await;
        let outcome = run_at(&ntp(None), &Target::new(server)).await;
        assert!(matches!(outcome.verdict, Verdict::Passed(_)), "{}", outcome.reason());
        let clock = outcome.measured.clock.unwrap();
        assert!((clock.ahead - 100.0).abs() <= clock.error + 0.001, "{clock:?}");
        let got = failed(&ntp(Some(Duration::from_secs(1))), server).await;
        assert!(matches!(got, Failure::Unexpected { expected, .. } if expected == "at most 1 s"));
    }

    #[tokio::test]
    async fn low_strata_and_kisses_fail() {
        let zero = Duration::ZERO;
        let server = answers_udp(move |request| vec![answer(request, zero, 9)]).await;
        assert_eq!(failed(&ntp(None), server).await, Failure::unexpected("stratum 9", "at most 4"));
        let server = answers_udp(move |request| vec![answer(request, zero, 0)]).await;
        let got = failed(&ntp(None), server).await;
        assert_eq!(got, Failure::unexpected("access denied", "the time"));
        let quiet = answers_udp(|_| vec![]).await;
        times_out_waiting_for("NTP answer", &ntp(None), quiet).await;
    }
}
