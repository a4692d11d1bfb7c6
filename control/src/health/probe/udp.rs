//! A datagram, and its reply if one must come.
//!
//! Where none must come, an ICMP error says that nobody listens. Silence is good only from a host that
//! is there: it has to answer an echo request.

use std::time::Duration;

use super::expect::Expect;
use super::{Attempt, Exchange, Fault, PrepareError, datagram, excerpt, ping, stream};
use crate::model::UdpProbe;

/// How long to listen before silence is taken for consent. An ICMP error comes as fast as a reply
/// would.
const LONGEST_SILENCE: Duration = Duration::from_millis(500);

/// A payload and what its reply must be.
pub(super) struct Udp {
    payload: Vec<u8>,
    reply: bool,
    expect: Expect,
}

impl Udp {
    pub fn prepare(wanted: &UdpProbe) -> Result<Self, PrepareError> {
        let expect = Expect::new(&wanted.expect)?;
        let reply = !wanted.listens_to_silence();
        Ok(Self { payload: wanted.payload.clone(), reply, expect })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let socket = stream::udp(attempt)?;
        if !self.reply {
            return self.listen_to_silence(attempt, &socket).await;
        }
        let judge = |reply: &[u8]| {
            let judged = self.expect.judge("reply", reply);
            Some(judged.map(|()| format!("reply {:?}", excerpt(reply))))
        };
        datagram::ask(attempt, &socket, &self.payload, "reply", judge).await
    }

    async fn listen_to_silence(
        &self,
        attempt: &mut Attempt<'_>,
        socket: &tokio::net::UdpSocket,
    ) -> Exchange {
        let patience = LONGEST_SILENCE.min(attempt.timeout * 3 / 4);
        let fault = |error| Fault::from_io(error, "reply");
        socket.send(&self.payload).await.map_err(fault)?;
        let mut reply = [0; 512];
        let received = match tokio::time::timeout(patience, socket.recv(&mut reply)).await {
            Ok(received) => received,
            // The kernel finds out about a dead host only now, and a router may tell of one.
            Err(_) => tokio::select! {
                biased;
                received = socket.recv(&mut reply) => received,
                alive = ping::echo(attempt) => return alive.map(|_| "no error".into()),
            },
        };
        let length = received.map_err(fault)?;
        Ok(format!("reply {:?}", excerpt(&reply[..length])))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, Expectation};

    fn udp(reply: bool, expect: Option<&str>) -> Probe {
        prepare(model::Probe::Udp(UdpProbe {
            payload: b"ping".to_vec(),
            expect: Expectation { regex: expect.map(str::to_owned), ..Expectation::default() },
            reply,
        }))
    }

    #[tokio::test]
    async fn a_reply_is_judged() {
        let server = answers_udp(|question| vec![[question, b" pong"].concat()]).await;
        assert_eq!(passed(&udp(true, None), server).await, "reply \"ping pong\"");
        assert_eq!(passed(&udp(false, Some("pong$")), server).await, "reply \"ping pong\"");
        let got = failed(&udp(true, Some("pang")), server).await;
        assert_eq!(got, Failure::unexpected("reply \"ping pong\"", "/pang/"));
    }

    #[tokio::test]
    async fn silence_is_consent_only_where_no_reply_is_asked_for() {
        let quiet = answers_udp(|_| vec![]).await;
        assert_eq!(passed(&udp(false, None), quiet).await, "no error");
        times_out_waiting_for("reply", &udp(true, None), quiet).await;
    }

    #[tokio::test]
    async fn an_icmp_error_is_a_refusal() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(failed(&udp(false, None), closed).await, Failure::Refused);
        assert_eq!(failed(&udp(true, None), closed).await, Failure::Refused);
    }
}
