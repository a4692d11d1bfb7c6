//! The packet path in memory, one core: how many packets a second it judges and rewrites.
//!
//! `cargo bench -p dataplane --bench packet_path [-- FILTER]` prints one line per case. Every packet
//! is copied into a receive buffer first, as a driver would, and belongs to a random known
//! connection, so that large tables miss the caches as they do in life.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)] // A measuring program.

use dataplane::io::{BATCH, Batch, HEADROOM};
use dataplane::packet_path::connections::HashKeys;
use dataplane::packet_path::{Capacity, Director, Frame, PacketPath, Verdict, Verdicts, View};
use dataplane::table::*;
use dataplane::tick::Tick;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

const STRIDE: usize = 2048;
const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Known,
    New,
    Reply,
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    println!("{:<44} {:>9} {:>9}", "case", "Mpps", "ns");
    let methods = [
        ("nat", Method::Nat),
        ("dr", Method::DirectRouting),
        ("tun", Method::Tunnel(Tunnel::Ipip)),
    ];
    for v6 in [false, true] {
        for (name, method) in methods {
            for connections in [1_000, 100_000, 1_000_000, 10_000_000] {
                for size in [64, 1500] {
                    if size == 1500 && connections != 1_000 || v6 && connections > 1_000_000 {
                        continue;
                    }
                    let family = if v6 { "ipv6" } else { "ipv4" };
                    let label = format!("{name} {family} {connections} connections {size} B");
                    if label.contains(&filter) {
                        run(&label, method, v6, connections, size, Case::Known);
                    }
                }
            }
        }
    }
    for (label, case) in
        [("nat ipv4 new connections", Case::New), ("nat ipv4 replies", Case::Reply)]
    {
        if label.contains(&filter) {
            run(label, Method::Nat, false, 1_000_000, 64, case);
        }
    }
}

fn run(label: &str, method: Method, v6: bool, connections: usize, size: usize, case: Case) {
    let mut bench = Bench::new(method, v6, connections, size);
    let packets = if case == Case::Reply { bench.replies() } else { bench.packets() };
    if case != Case::New {
        bench.open();
    }
    let mut best = 0.0f64;
    for _ in 0..3 {
        let rate = if case == Case::New {
            bench = Bench::new(method, v6, connections, size);
            bench.each_once(&packets)
        } else {
            bench.at_random(&packets, if case == Case::Reply { INSIDE } else { OUTSIDE })
        };
        best = best.max(rate);
    }
    println!("{label:<44} {:>9.2} {:>9.1}", best / 1e6, 1e9 / best);
}

struct Bench {
    path: PacketPath,
    director: Arc<Director>,
    buffers: Vec<u8>,
    v6: bool,
    connections: usize,
    size: usize,
}

impl Bench {
    fn new(method: Method, v6: bool, connections: usize, size: usize) -> Self {
        let (sender, _) = sync_channel(1);
        let capacity =
            Capacity { connections: connections + 70_000, services: 16, reals: 16, workers: 1 };
        let director =
            Arc::new(Director::new(capacity, HashKeys([11, 22, 33, 44].map(mix)), sender));
        director.publish_hops(hops());
        director.publish(table(method, v6), Tick(1));
        let path = PacketPath::new(Arc::clone(&director), 0, 1);
        Self { path, director, buffers: vec![0; BATCH * STRIDE], v6, connections, size }
    }

    fn packets(&self) -> Vec<[u8; 64]> {
        (0..self.connections).map(|n| packet(self.v6, n, self.size, 0x10)).collect()
    }

    /// What the real servers answer to [`Bench::packets`].
    fn replies(&self) -> Vec<[u8; 64]> {
        let replies = (0..self.connections).map(|number| {
            let mut bytes = packet(false, number, self.size, 0x10);
            // Round robin over the list, newest first, in the order of opening.
            let real = 0x0a00_0001 + 15 - (number % 16) as u32;
            let client: [u8; 4] = bytes[26..30].try_into().unwrap();
            let port: [u8; 2] = bytes[34..36].try_into().unwrap();
            bytes[26..30].copy_from_slice(&real.to_be_bytes());
            bytes[30..34].copy_from_slice(&client);
            bytes[34..36].copy_from_slice(&8080u16.to_be_bytes());
            bytes[36..38].copy_from_slice(&port);
            bytes
        });
        replies.collect()
    }

    fn open(&mut self) {
        let (connections, size, v6) = (self.connections, self.size, self.v6);
        for flags in [0x02, 0x10] {
            let all: Vec<_> = (0..connections).map(|n| packet(v6, n, size, flags)).collect();
            for chunk in all.chunks(BATCH) {
                self.batch(chunk.iter(), OUTSIDE);
            }
        }
    }

    fn at_random(&mut self, packets: &[[u8; 64]], from: PortId) -> f64 {
        let mut seed = 88_172_645_463_325_252u64;
        let started = Instant::now();
        let mut count = 0u64;
        while started.elapsed() < Duration::from_millis(700) {
            for _ in 0..64 {
                let chosen = std::array::from_fn::<_, BATCH, _>(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    &packets[(((seed >> 32) * packets.len() as u64) >> 32) as usize]
                });
                self.batch(chosen.into_iter(), from);
                count += BATCH as u64;
            }
        }
        count as f64 / started.elapsed().as_secs_f64()
    }

    fn each_once(&mut self, packets: &[[u8; 64]]) -> f64 {
        let requests: Vec<_> =
            (0..packets.len()).map(|n| packet(self.v6, n, self.size, 0x02)).collect();
        let started = Instant::now();
        for chunk in requests.chunks(BATCH) {
            self.batch(chunk.iter(), OUTSIDE);
        }
        packets.len() as f64 / started.elapsed().as_secs_f64()
    }

    fn batch<'p>(&mut self, packets: impl Iterator<Item = &'p [u8; 64]>, from: PortId) {
        let (table, hops) = (self.director.table(), self.director.hops());
        let view = View { director: &self.director, table: &table, hops: &hops, now: Tick(300) };
        let mut batch = Batch::new();
        for (buffer, packet) in self.buffers.chunks_exact_mut(STRIDE).zip(packets) {
            buffer[HEADROOM..HEADROOM + 64].copy_from_slice(packet);
            batch.push(Frame::new(buffer, HEADROOM, HEADROOM + self.size, from));
        }
        let mut verdicts = Verdicts::new();
        self.path.process(view, &mut batch, &mut verdicts);
        assert!(matches!(verdicts[0], Verdict::Send(_)), "{:?}", verdicts[0]);
    }
}

fn mix(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// The first 64 bytes of a frame of connection `number`. Over IPv6 a TCP header does not fit in 64
/// bytes, so UDP measures the same work there.
fn packet(v6: bool, number: usize, size: usize, flags: u8) -> [u8; 64] {
    let mut bytes = [0; 64];
    let client = number as u32 / 32_000;
    let port = 1024 + (number % 32_000) as u16;
    let ports_at = if v6 {
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes[14] = 0x60;
        bytes[18..20].copy_from_slice(&((size - 54) as u16).to_be_bytes());
        bytes[20] = 17;
        bytes[21] = 64;
        bytes[22..38].copy_from_slice(&(0x2001 << 112 | u128::from(client)).to_be_bytes());
        bytes[38..54].copy_from_slice(&vip(true).to_be_bytes());
        54
    } else {
        bytes[12..14].copy_from_slice(&[0x08, 0]);
        bytes[14] = 0x45;
        bytes[16..18].copy_from_slice(&((size - 14) as u16).to_be_bytes());
        bytes[22] = 64;
        bytes[23] = 6;
        bytes[26..30].copy_from_slice(&(0xc633_0000 + client).to_be_bytes());
        bytes[30..34].copy_from_slice(&(vip(false) as u32).to_be_bytes());
        bytes[46] = 0x50;
        bytes[47] = flags;
        34
    };
    bytes[ports_at..ports_at + 2].copy_from_slice(&port.to_be_bytes());
    bytes[ports_at + 2..ports_at + 4].copy_from_slice(&80u16.to_be_bytes());
    bytes
}

fn vip(v6: bool) -> u128 {
    if v6 { 0x2001_0db8 << 96 | 0x10 } else { 0xc000_020a }
}

fn real_address(v6: bool, number: u32) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(0x2001_0db8_0002 << 80 | u128::from(number + 1)).into()
    } else {
        Ipv4Addr::from_bits(0x0a00_0001 + number).into()
    }
}

fn table(method: Method, v6: bool) -> ServiceTable {
    let address = if v6 {
        IpAddr::from(Ipv6Addr::from_bits(vip(true)))
    } else {
        Ipv4Addr::from_bits(vip(false) as u32).into()
    };
    let reals = (0..16).rev().map(|number| Real {
        id: RealId(number),
        address: real_address(v6, number),
        port: 8080,
        method,
        weight: 1,
        last_weight: 1,
        upper: 0,
        lower: 0,
    });
    let protocol = if v6 { Protocol::Udp } else { Protocol::Tcp };
    let service = Service {
        id: ServiceId(0),
        key: ServiceKey::Address { protocol, address, port: 80 },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        return_by_mac: false,
        source_pool: [].into(),
        client_address: ClientAddress::Hidden,
        reals: reals.collect(),
    };
    let (timeouts, tunables) = (Timeouts::default(), Tunables::default());
    ServiceTable::new([Arc::new(service)], [], [].into(), timeouts, tunables)
}

fn hops() -> Hops {
    let port = |mac| PortInfo {
        name: "bench".into(),
        index: 1,
        mac: [2, 0, 0, 0, 0, mac],
        mtu: 1600,
        addresses: vec![
            Prefix { address: Ipv4Addr::new(10, 0, 0, 200).into(), length: 24 },
            Prefix { address: real_address(true, 200), length: 64 },
        ],
    };
    let route = |address: IpAddr, length, via, port| Route {
        prefix: Prefix { address, length },
        via,
        port: Some(port),
        source: None,
        mtu: 0,
        metric: 0,
    };
    let router = IpAddr::from(Ipv4Addr::new(192, 0, 2, 254));
    let routes = vec![
        route(Ipv4Addr::new(10, 0, 0, 0).into(), 24, None, INSIDE),
        route(real_address(true, 0), 64, None, INSIDE),
        route(Ipv4Addr::new(192, 0, 2, 0).into(), 24, None, OUTSIDE),
        route(Ipv4Addr::UNSPECIFIED.into(), 0, Some(router), OUTSIDE),
    ];
    let mut neighbours = HashMap::new();
    neighbours.insert((OUTSIDE, router), [2, 9, 9, 9, 9, 9]);
    for number in 0..16 {
        for v6 in [false, true] {
            neighbours.insert((INSIDE, real_address(v6, number)), [2, 1, 1, 1, 1, number as u8]);
        }
    }
    Hops::new(vec![Some(port(1)), Some(port(2))], routes, neighbours, HashMap::new(), 1)
}
