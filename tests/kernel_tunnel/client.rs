//! A TCP client made by hand: its segments go through the director, answers come straight from the
//! real server.

use super::director::{Director, OUTSIDE_MAC, ROUTER_MAC, SERVICE_PORT, vip};
use anyhow::{Context, Result, bail, ensure};
use dataplane::table::Family;
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TransportHeader};
use harness::guest::Wire;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Ends a hang; never reached by a guest that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// Makes the request nearly fill a tunnel's MTU.
const PADDING: usize = 1250;

pub struct Client {
    address: IpAddr,
    destination: IpAddr,
    port: u16,
    /// Of the next byte sent.
    sequence: u32,
    /// Of the next byte expected.
    acknowledged: u32,
}

/// A segment of the server.
struct Answer {
    tcp: TcpHeader,
    payload: Vec<u8>,
}

impl Client {
    pub fn new(family: Family, port: u16) -> Self {
        let address = match family {
            Family::V4 => Ipv4Addr::new(198, 51, 100, 7).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 7).into(),
        };
        Self { address, destination: vip(family), port, sequence: 1000, acknowledged: 0 }
    }

    /// The answer to one HTTP request, headers and page.
    pub fn fetch(mut self, director: &mut Director, wire: &mut Wire) -> Result<String> {
        self.send(director, wire, "S", b"")?;
        let greeting = self.receive(wire).context("waiting for SYN ACK")?;
        ensure!(greeting.tcp.syn && greeting.tcp.ack, "not a SYN ACK: {:?}", greeting.tcp);
        ensure!(greeting.tcp.acknowledgment_number == self.sequence, "{:?}", greeting.tcp);
        self.acknowledged = greeting.tcp.sequence_number.wrapping_add(1);
        self.send(director, wire, "A", b"")?;
        let padding = "x".repeat(PADDING);
        let request = format!("GET / HTTP/1.0\r\nX-Padding: {padding}\r\n\r\n");
        self.send(director, wire, "A", request.as_bytes())?;
        let mut page = Vec::new();
        loop {
            let answer = self.receive(wire).context("waiting for the page")?;
            // Anything else is a repetition of what was seen already.
            if answer.tcp.sequence_number != self.acknowledged {
                continue;
            }
            ensure!(!answer.tcp.rst, "reset by the server");
            let length = answer.payload.len() as u32 + u32::from(answer.tcp.fin);
            self.acknowledged = self.acknowledged.wrapping_add(length);
            page.extend_from_slice(&answer.payload);
            if answer.tcp.fin {
                self.send(director, wire, "FA", b"")?;
                return Ok(String::from_utf8_lossy(&page).into_owned());
            }
            if length > 0 {
                self.send(director, wire, "A", b"")?;
            }
        }
    }

    fn send(
        &mut self,
        director: &mut Director,
        wire: &Wire,
        flags: &str,
        payload: &[u8],
    ) -> Result<()> {
        let link = PacketBuilder::ethernet2(ROUTER_MAC, OUTSIDE_MAC);
        let network = match (self.address, self.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                bail!("two families in one packet")
            }
        };
        let mut tcp = network.tcp(self.port, SERVICE_PORT, self.sequence, 65_535);
        for flag in flags.chars() {
            tcp = match flag {
                'S' => tcp.syn(),
                'F' => tcp.fin(),
                _ => tcp.ack(self.acknowledged),
            };
        }
        let mut frame = Vec::new();
        tcp.write(&mut frame, payload)?;
        let length = payload.len() as u32 + u32::from(flags.contains(['S', 'F']));
        self.sequence = self.sequence.wrapping_add(length);
        wire.send(&director.forward(&frame)?)
    }

    /// The next segment for this client, its checksum verified.
    fn receive(&self, wire: &mut Wire) -> Result<Answer> {
        loop {
            let frame = wire.receive(PATIENCE)?.context("the real server is silent")?;
            let packet = PacketHeaders::from_ethernet_slice(frame).context("a broken frame")?;
            let (Some(net), Some(TransportHeader::Tcp(tcp))) = (packet.net, packet.transport)
            else {
                continue;
            };
            let payload = packet.payload.slice();
            let (from, to, checksum) = match &net {
                NetHeaders::Ipv4(ip, _) => (
                    IpAddr::from(ip.source),
                    IpAddr::from(ip.destination),
                    tcp.calc_checksum_ipv4(ip, payload)?,
                ),
                NetHeaders::Ipv6(ip, _) => (
                    IpAddr::from(ip.source),
                    IpAddr::from(ip.destination),
                    tcp.calc_checksum_ipv6(ip, payload)?,
                ),
                NetHeaders::Arp(_) => continue,
            };
            if (from, to, tcp.destination_port) == (self.destination, self.address, self.port) {
                ensure!(checksum == tcp.checksum, "the server's checksum is wrong: {tcp:?}");
                return Ok(Answer { payload: payload.to_vec(), tcp });
            }
        }
    }
}
