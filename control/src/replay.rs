//! The real packet path over a capture file, offline.
//!
//! A capture knows no routes and no neighbours, so they are learned from it: an address that sends
//! is reached by the interface and the Ethernet address that it sends from; every other address is
//! on the first interface, with the made-up Ethernet address 02:00 and its last four bytes. Real
//! servers are taken for neighbours, clients for hosts behind routers. The
//! director's own Ethernet address is the one that frames for a VIP are sent to. Time is the
//! capture's. What the director would send is written; what it leaves to the host is only counted.

use crate::compile::{Generation, Ids, Situation, compile};
use crate::model::Document;
use dataplane::frame::{Batch, Frame, HEADROOM};
use dataplane::io::pcap::{CaptureError, Reader, Writer};

use dataplane::packet_path::connections::HashKeys;
use dataplane::packet_path::{Capacity, Director, DropReason, PacketPath, Verdict, Verdicts, View};
use dataplane::table::{Hops, Mac, PortId, PortInfo, Prefix, Route, ServiceTable};
use dataplane::tick::{Tick, Ticks};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// The same capture always gives the same result.
const KEYS: HashKeys = HashKeys([0x5649_4144, 0x5543_5452, 0x4550_4c41, 0x5900_0001]);
const SEED: u64 = 0x5eed;

/// The director's Ethernet address when the capture does not tell.
const OWN_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];

/// Room after a frame, for one that is answered with a longer one.
const TAILROOM: usize = 512;

/// Connections that a replay holds, however long the capture.
const MOST_CONNECTIONS: usize = 1 << 20;

/// What became of a capture.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replayed {
    /// Frames read.
    pub frames: u64,
    /// Frames written.
    pub sent: u64,
    /// Frames left to the host, or to a process on it.
    pub host: u64,
    /// Frames taken without anything being sent for them (yet).
    pub consumed: u64,
    /// Packets that died, by reason; some of them were answered.
    pub drops: BTreeMap<String, u64>,
    /// Connections at the end.
    pub connections: u64,
}

/// Why a capture was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is no capture, or is damaged.
    #[error("{0}")]
    Capture(#[from] CaptureError),
    /// The result cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Replays a capture and writes what the director would send.
///
/// # Errors
/// When the capture cannot be read or the result not written.
pub fn replay(
    document: &Document,
    capture: &[u8],
    out: impl Write,
) -> Result<Replayed, ReplayError> {
    let mut ids = Ids::default();
    let generation = compile(document, &Situation::default(), &mut ids, &Generation::default());
    let seen = Seen::read(capture, &generation.table)?;
    let (notices, _heard) = sync_channel(1);
    let connections = (seen.others.len() * 2).clamp(1024, MOST_CONNECTIONS);
    let capacity = Capacity { connections, workers: 1, ..Capacity::default() };
    let director = Arc::new(Director::new(capacity, KEYS, notices));
    director.publish(ServiceTable::clone(&generation.table), Tick(0));
    director.publish_hops(seen.hops(&generation.table));
    let mut run = Run {
        path: PacketPath::new(Arc::clone(&director), 0, SEED),
        director,
        writer: Writer::new(out)?,
        summary: Replayed::default(),
    };
    let mut reader = Reader::new(capture)?;
    let mut buffer = Vec::new();
    while let Some(record) = reader.next_record()? {
        buffer.clear();
        buffer.resize(HEADROOM, 0);
        buffer.extend_from_slice(record.bytes);
        let end = buffer.len();
        buffer.resize(end + TAILROOM, 0);
        let port = PortId(u16::try_from(record.interface).unwrap_or(u16::MAX));
        run.one((&mut buffer, end), port, record.at, seen.start)?;
    }
    run.writer.finish()?;
    run.summary.connections = run.director.connections().len() as u64;
    let died = DropReason::ALL.iter().map(|reason| (reason, run.director.drops(*reason)));
    run.summary.drops = died
        .filter(|(_, packets)| *packets > 0)
        .map(|(reason, packets)| (reason.label().to_owned(), packets))
        .collect();
    Ok(run.summary)
}

struct Run<W: Write> {
    director: Arc<Director>,
    path: PacketPath,
    writer: Writer<W>,
    summary: Replayed,
}

impl<W: Write> Run<W> {
    fn one(
        &mut self,
        (buffer, end): (&mut [u8], usize),
        port: PortId,
        at: Duration,
        start: Duration,
    ) -> io::Result<()> {
        let now = Tick(0).after(Ticks::from(at.saturating_sub(start)));
        let (table, hops) = (self.director.table(), self.director.hops());
        let view = View { director: &self.director, table: &table, hops: &hops, now };
        self.director.expire(now);
        self.path.expire(view);
        let mut batch = Batch::new();
        batch.push(Frame::new(buffer, HEADROOM, end, port));
        let mut verdicts = Verdicts::new();
        self.path.process(view, &mut batch, &mut verdicts);
        self.summary.frames += 1;
        for (frame, verdict) in batch.iter().zip(&verdicts) {
            match verdict {
                Verdict::Send(_) => {
                    self.summary.sent += 1;
                    self.writer.write(at, frame.bytes())?;
                }
                Verdict::Host | Verdict::Deliver => self.summary.host += 1,
                Verdict::Consumed => self.summary.consumed += 1,
                // Counted by the director, as are those that were answered.
                Verdict::Drop(_) => {}
            }
        }
        for own in self.path.outbox.ready() {
            if let Some(Verdict::Send(_)) = own.verdict {
                self.summary.sent += 1;
                self.writer.write(at, own.frame().bytes())?;
            }
        }
        self.path.outbox.clear();
        Ok(())
    }
}

/// What a capture shows of the network.
struct Seen {
    start: Duration,
    /// Where each address sends from.
    senders: BTreeMap<IpAddr, (PortId, Mac)>,
    /// Addresses that are neither VIPs nor real servers.
    others: Vec<IpAddr>,
    /// The director's Ethernet address on each interface.
    own: Vec<Mac>,
}

impl Seen {
    fn read(capture: &[u8], table: &ServiceTable) -> Result<Self, CaptureError> {
        let mut seen = Self {
            start: Duration::MAX,
            senders: BTreeMap::new(),
            others: Vec::new(),
            own: vec![OWN_MAC],
        };
        let mut reader = Reader::new(capture)?;
        while let Some(record) = reader.next_record()? {
            seen.start = seen.start.min(record.at);
            let port = usize::try_from(record.interface).unwrap_or(0).min(usize::from(u16::MAX));
            if seen.own.len() <= port {
                seen.own.resize(port + 1, OWN_MAC);
            }
            let Some(headers) = Headers::of(record.bytes) else { continue };
            let id = PortId(u16::try_from(port).unwrap_or(u16::MAX));
            let unicast = headers.destination_mac[0] & 1 == 0;
            if table.owned(&headers.destination).is_some() && unicast {
                seen.own[port] = headers.destination_mac;
            }
            seen.senders.entry(headers.source).or_insert((id, headers.source_mac));
            seen.others.push(headers.destination);
        }
        seen.others.extend(table.reals().map(|(_, real)| real.address));
        Ok(seen)
    }

    fn hops(&self, table: &ServiceTable) -> Hops {
        let info = |(at, mac): (usize, &Mac)| PortInfo {
            name: format!("capture{at}"),
            index: u32::try_from(at + 1).unwrap_or(u32::MAX),
            mac: *mac,
            mtu: 1500,
            addresses: Vec::new(),
        };
        let ports = self.own.iter().enumerate().map(|entry| Some(info(entry))).collect();
        let reals: BTreeSet<IpAddr> = table.reals().map(|(_, real)| real.address).collect();
        let mut places: BTreeMap<IpAddr, (PortId, Mac)> = self
            .others
            .iter()
            .filter(|address| table.owned(address).is_none())
            .map(|address| (*address, (PortId(0), made_up(address))))
            .collect();
        places.extend(&self.senders);
        let mut routes = Vec::new();
        let mut neighbours = HashMap::new();
        for (address, (port, mac)) in places {
            routes.push(route(address, port, reals.contains(&address)));
            neighbours.insert((port, address), mac);
        }
        Hops::new(ports, routes, neighbours, [], None, 1)
    }
}

/// Real servers are neighbours; everybody else is behind a router, which has their address and
/// theirs alone: clients are not on the real servers' link.
const fn route(address: IpAddr, port: PortId, is_real: bool) -> Route {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let prefix = Prefix { address, length };
    let via = if is_real { None } else { Some(address) };
    Route { prefix, via, port: Some(port), source: None, mtu: 0, metric: 0 }
}

fn made_up(address: &IpAddr) -> Mac {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    [0x02, 0, a, b, c, d]
}

/// Who sends to whom.
struct Headers {
    source_mac: Mac,
    destination_mac: Mac,
    source: IpAddr,
    destination: IpAddr,
}

impl Headers {
    /// `None` for what is no whole IP header.
    fn of(frame: &[u8]) -> Option<Self> {
        let destination_mac = *frame.first_chunk::<6>()?;
        let source_mac = *frame.get(6..)?.first_chunk::<6>()?;
        let mut kind = frame.get(12..14)?;
        let mut at = 14;
        if kind == [0x81, 0] {
            kind = frame.get(16..18)?;
            at = 18;
        }
        let four = |from: usize| Some(IpAddr::from(*frame.get(at + from..)?.first_chunk::<4>()?));
        let six = |from: usize| Some(IpAddr::from(*frame.get(at + from..)?.first_chunk::<16>()?));
        let (source, destination) = match kind {
            [0x08, 0x00] => (four(12)?, four(16)?),
            [0x86, 0xdd] => (six(8)?, six(24)?),
            _ => return None,
        };
        Some(Self { source_mac, destination_mac, source, destination })
    }
}

#[cfg(test)]
mod tests;
