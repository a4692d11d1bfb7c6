//! ICMP and ICMPv6 echo (RFC 792, RFC 4443).
//!
//! A datagram socket is tried first: it needs no privilege and gets only its own answers, but the
//! kernel must allow it (`net.ipv4.ping_group_range`). A raw socket is the way out.

mod packet;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use self::packet::{Answer, Echo};
use super::{Attempt, Exchange, Fault, datagram, random, stream};
use crate::health::outcome::Failure;
use crate::model::PingProbe;

/// Payload of the cheap form of other probes.
const USUAL_SIZE: u16 = 56;

/// An echo request.
pub(super) struct Ping {
    size: u16,
}

impl Ping {
    pub fn prepare(wanted: PingProbe) -> Self {
        Self { size: wanted.size }
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        ping(attempt, self.size).await
    }
}

/// The echo that stands in for probes without a connection.
pub(super) async fn echo(attempt: &mut Attempt<'_>) -> Exchange {
    ping(attempt, USUAL_SIZE).await
}

async fn ping(attempt: &mut Attempt<'_>, size: u16) -> Exchange {
    let (socket, raw) = open(attempt)?;
    let [a, b, c, d] = random();
    let echo = Echo {
        v6: attempt.target.address.is_ipv6(),
        // A datagram socket's own identifier replaces this one.
        id: raw.then_some(u16::from_be_bytes([a, b])),
        token: u16::from_be_bytes([c, d]),
        size,
    };
    let request = echo.request();
    let accept = |packet: &[u8]| echo.answer(packet).map(Ok);
    match datagram::ask(attempt, &socket, &request, "echo reply", accept).await? {
        Answer::Reply => Ok("echo reply".into()),
        Answer::Unreachable(why) => Err(Fault::Failed(Failure::Unreachable(why.into()))),
    }
}

/// A socket that sends and gets ICMP, and whether it is a raw one. Tokio's UDP socket serves for
/// both: it only sends and receives datagrams on what it is given.
fn open(attempt: &Attempt<'_>) -> Result<(UdpSocket, bool), Fault> {
    let mut address = attempt.target.address;
    address.set_port(0);
    let protocol = if address.is_ipv6() { Protocol::ICMPV6 } else { Protocol::ICMPV4 };
    let domain = Domain::for_address(address);
    let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(_) => (Socket::new(domain, Type::RAW, Some(protocol)).map_err(Fault::local)?, true),
    };
    stream::prepare(&socket, attempt.target, address).map_err(Fault::local)?;
    // Connected, so that the kernel passes on only what comes from this server.
    socket.connect(&address.into()).map_err(|error| Fault::from_io(error, "echo reply"))?;
    Ok((UdpSocket::from_std(socket.into()).map_err(Fault::local)?, raw))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::testing::*;
    use crate::health::probe::Probe;
    use crate::model::{self, PingProbe};

    fn ping(size: u16) -> Probe {
        prepare(model::Probe::Ping(PingProbe { size }))
    }

    #[tokio::test]
    async fn this_machine_answers_itself_in_both_families() {
        for address in ["127.0.0.1:80", "[::1]:80"] {
            let server: SocketAddr = address.parse().unwrap();
            for size in [0, 1, 56, 1400] {
                assert_eq!(passed(&ping(size), server).await, "echo reply", "{address} {size}");
            }
        }
    }

    #[tokio::test]
    async fn many_pings_at_once_do_not_take_each_others_answers() {
        let tasks: Vec<_> = (1..60)
            .map(|host| {
                let server: SocketAddr = format!("127.0.0.{host}:1").parse().unwrap();
                tokio::spawn(async move { passed(&ping(56), server).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), "echo reply");
        }
    }
}
