//! Both ends of the conversations that the guest forwards, as frames made here: a client outside, a
//! real server inside.

use anyhow::{Result, ensure};
use harness::craft;
use harness::guest::Wire;
use std::time::Duration;

/// Frames that are under way at once.
pub const BURST: usize = 32;
/// How long the guest may take for a frame.
const PATIENCE: Duration = Duration::from_secs(20);

const CLIENT: [u8; 4] = [10, 1, 0, 1];
const VIP: [u8; 4] = [192, 0, 2, 10];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const REAL_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// The ends of both cables.
pub struct Talk {
    outside: Wire,
    inside: Wire,
    macs: [[u8; 6]; 2],
    started: u32,
}

/// Something to be done a number of times.
pub trait Work {
    /// Does it [`BURST`] times.
    fn burst(talk: &mut Talk) -> Result<()>;
}

pub struct UdpPackets;
pub struct TcpConnections;

impl Talk {
    pub fn new(outside: Wire, inside: Wire, macs: [[u8; 6]; 2]) -> Self {
        Self { outside, inside, macs, started: 0 }
    }

    pub fn run<W: Work>(&mut self, count: usize) -> Result<()> {
        for _ in 0..count / BURST {
            W::burst(self)?;
        }
        Ok(())
    }

    /// Sends IP packets from the client and returns what arrives at the real server.
    fn inwards(&mut self, packets: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        pass(&self.outside, self.macs[0], CLIENT_MAC, packets, &mut self.inside, REAL_MAC)
    }

    /// The other way.
    fn outwards(&mut self, packets: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        pass(&self.inside, self.macs[1], REAL_MAC, packets, &mut self.outside, CLIENT_MAC)
    }
}

fn pass(
    from: &Wire,
    guest: [u8; 6],
    own: [u8; 6],
    packets: &[Vec<u8>],
    to: &mut Wire,
    receiver: [u8; 6],
) -> Result<Vec<Vec<u8>>> {
    for packet in packets {
        let mut frame = [&guest[..], &own, &[8, 0], packet].concat();
        frame.resize(frame.len().max(60), 0);
        from.send(&frame)?;
    }
    let mut arrived = Vec::new();
    while arrived.len() < packets.len() {
        let frame = to.receive(PATIENCE)?;
        ensure!(frame.is_some(), "{} of {} frames arrived", arrived.len(), packets.len());
        let Some(frame) = frame else { continue };
        // Neighbour discovery and the like are not what was sent.
        if frame.len() >= 34 && frame[..6] == receiver && frame[12..14] == [8, 0] {
            let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            arrived.push(frame[14..frame.len().min(14 + length)].to_vec());
        }
    }
    Ok(arrived)
}

impl Work for UdpPackets {
    /// 64 bytes on the wire, in 256 flows.
    fn burst(talk: &mut Talk) -> Result<()> {
        let packets: Result<Vec<_>> = (0..BURST as u32)
            .map(|_| {
                talk.started = talk.started.wrapping_add(1);
                let port = 10_000 + (talk.started % 256) as u16;
                craft::udp((CLIENT, port).into(), (VIP, 53).into(), &[7; 18])
            })
            .collect();
        talk.inwards(&packets?).map(drop)
    }
}

impl Work for TcpConnections {
    /// Handshake, request, answer, and the end from both sides: eight packets.
    fn burst(talk: &mut Talk) -> Result<()> {
        let segment = |number: u32, flags, data: &[u8]| {
            let port = 1024 + (number % 60_000) as u16;
            let answered = if flags & SYN == 0 { 5001 } else { 0 };
            tcp((CLIENT, port), (VIP, 80), (number, answered), flags, data)
        };
        let numbers: Vec<u32> = (0..BURST as u32).map(|at| talk.started + at).collect();
        talk.started += BURST as u32;
        let all = |flags, data: &[u8]| -> Vec<Vec<u8>> {
            numbers.iter().map(|number| segment(*number, flags, data)).collect()
        };
        let opened = talk.inwards(&all(SYN, b""))?;
        talk.outwards(&answers(&opened, SYN | ACK, b""))?;
        talk.inwards(&all(ACK, b""))?;
        talk.inwards(&all(ACK | PSH, &[b'q'; 100]))?;
        talk.outwards(&answers(&opened, ACK | PSH, &[b'a'; 200]))?;
        talk.outwards(&answers(&opened, ACK | FIN, b""))?;
        talk.inwards(&all(ACK | FIN, b""))?;
        talk.outwards(&answers(&opened, ACK, b"")).map(drop)
    }
}

/// What the real server answers to these packets.
fn answers(packets: &[Vec<u8>], flags: u8, data: &[u8]) -> Vec<Vec<u8>> {
    let answer = |packet: &Vec<u8>| {
        let address = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
        let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let sequence = u32::from_be_bytes(address(24));
        let (client, server) = ((address(12), port(20)), (address(16), port(22)));
        tcp(server, client, (5000, sequence.wrapping_add(1)), flags, data)
    };
    packets.iter().map(answer).collect()
}

/// An IPv4 packet with one TCP segment.
fn tcp(
    (from, from_port): ([u8; 4], u16),
    (to, to_port): ([u8; 4], u16),
    (sequence, answered): (u32, u32),
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20 + data.len());
    segment.extend(from_port.to_be_bytes());
    segment.extend(to_port.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(answered.to_be_bytes());
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let length = segment.len() as u16;
    let pseudo = [&from[..], &to, &[0, 6], &length.to_be_bytes()].concat();
    let sum = craft::checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut header = vec![0x45, 0];
    header.extend((20 + length).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    header.extend(from);
    header.extend(to);
    let sum = craft::checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, segment].concat()
}
