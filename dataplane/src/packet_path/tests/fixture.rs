//! A director between an outside and an inside network, both families on each.
//!
//! Outside (port 0): 192.0.2.0/24 and 2001:db8:1::/64, router .254 towards everything else. Inside
//! (port 1): 10.0.0.0/24 and 2001:db8:2::/64 with three real servers, .11 to .13. The director is .1
//! everywhere; VIPs are 192.0.2.10 and 2001:db8:1::10.

use crate::packet_path::connections::HashKeys;
use crate::packet_path::outbox::OwnFrame;
use crate::packet_path::*;
use crate::table::*;
use crate::tick::tests::moment;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, sync_channel};

pub const OUTSIDE: PortId = PortId(0);
pub const INSIDE: PortId = PortId(1);
pub const OUTSIDE_MAC: Mac = [2, 0, 0, 0, 0, 0xd0];
pub const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 0xd1];
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xfe];
pub const VIP4: &str = "192.0.2.10";
pub const VIP6: &str = "2001:db8:1::10";
pub const CLIENT4: &str = "198.51.100.7";
pub const CLIENT6: &str = "2001:db8:9::7";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn real_ip(v6: bool, number: u8) -> IpAddr {
    ip(&if v6 { format!("2001:db8:2::{number}") } else { format!("10.0.0.{number}") })
}

pub fn real_mac(number: u8) -> Mac {
    [2, 0, 0, 0, 1, number]
}

/// A frame that left, and by which port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub port: PortId,
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

pub struct Network {
    pub path: PacketPath,
    pub director: std::sync::Arc<Director>,
    pub now: Tick,
    pub notices: Receiver<Notice>,
}

pub fn real(id: u32, v6: bool, number: u8, method: Method) -> Real {
    Real {
        id: RealId(id),
        address: real_ip(v6, number),
        port: 8080,
        method,
        weight: 1,
        availability: crate::table::Availability::Serving,
        last_weight: 1,
        upper: 0,
        lower: 0,
    }
}

pub fn service(id: u32, v6: bool, protocol: Protocol, method: Method) -> Service {
    let address = ip(if v6 { VIP6 } else { VIP4 });
    let first = id * 10;
    Service {
        id: ServiceId(id),
        key: ServiceKey::Address { protocol, address, port: 80 },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        return_by_mac: false,
        source_pool: [].into(),
        client_address: ClientAddress::Hidden,
        // Newest first: round robin starts with the server added last.
        reals: [13, 12, 11]
            .iter()
            .zip(first..)
            .map(|(number, id)| real(id, v6, *number, method))
            .collect(),
    }
}

/// The director's services, with both VIPs answering ping.
pub fn table(services: Vec<Service>, timeouts: Timeouts, tunables: Tunables) -> ServiceTable {
    let owned = [VIP4, VIP6].map(|address| OwnedAddress {
        address: ip(address),
        mac: None,
        answers_ping: true,
    });
    let services = services.into_iter().map(std::sync::Arc::new);
    ServiceTable::new(services, owned, std::sync::Arc::from([]), timeouts, tunables)
}

impl Network {
    pub fn new(services: Vec<Service>) -> Self {
        let (sender, notices) = sync_channel(64);
        let capacity = Capacity { connections: 1000, services: 32, reals: 64, workers: 1 };
        let keys = HashKeys([1, 2, 3, 4].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let director = std::sync::Arc::new(Director::new(capacity, keys, sender));
        let path = PacketPath::new(std::sync::Arc::clone(&director), 0, 42);
        let mut network = Self { path, director, now: moment(1000), notices };
        network.director.publish_hops(hops());
        network.configure(services, Tunables::default());
        network
    }

    pub fn configure(&mut self, services: Vec<Service>, tunables: Tunables) {
        self.director.publish(table(services, Timeouts::default(), tunables), self.now);
    }

    /// Lets a frame arrive. What leaves because of it, and its verdict.
    pub fn arrive(&mut self, port: PortId, bytes: &[u8]) -> (Verdict, Vec<Left>) {
        self.arrive_with(port, bytes, Offload::default())
    }

    pub fn arrive_with(
        &mut self,
        port: PortId,
        bytes: &[u8],
        offload: Offload,
    ) -> (Verdict, Vec<Left>) {
        let mut buffer = vec![0xa5; crate::frame::HEADROOM + bytes.len() + 2048];
        let end = crate::frame::HEADROOM + bytes.len();
        buffer[crate::frame::HEADROOM..end].copy_from_slice(bytes);
        let mut batch = Batch::new();
        let mut frame = Frame::new(&mut buffer, crate::frame::HEADROOM, end, port);
        frame.offload = offload;
        batch.push(frame);
        let director = std::sync::Arc::clone(&self.director);
        let (table, hops) = (director.table(), director.hops());
        let view = View { director: &director, table: &table, hops: &hops, now: self.now };
        let mut verdicts = Verdicts::new();
        self.path.process(view, &mut batch, &mut verdicts);
        let verdict = verdicts[0];
        let mut left = Vec::new();
        if let Verdict::Send(port) = verdict {
            let frame = &batch[0];
            left.push(Left { port, bytes: frame.bytes().to_vec(), offload: frame.offload });
        }
        left.extend(self.outbox());
        (verdict, left)
    }

    pub fn outbox(&mut self) -> Vec<Left> {
        let left = self.path.outbox.ready().iter_mut().filter_map(|own: &mut OwnFrame| {
            let port = own.port?;
            let offload = own.offload;
            Some(Left { port, bytes: own.frame().bytes().to_vec(), offload })
        });
        let left = left.collect();
        self.path.outbox.clear();
        left
    }

    /// Lets time pass, a second at a time, with the sweep running. What left meanwhile.
    pub fn pass(&mut self, seconds: u32) -> Vec<Left> {
        let mut left = Vec::new();
        for _ in 0..seconds * 4 {
            self.now = self.now.after(crate::tick::Ticks(64));
            let director = std::sync::Arc::clone(&self.director);
            let (table, hops) = (director.table(), director.hops());
            let view = View { director: &director, table: &table, hops: &hops, now: self.now };
            while self.path.expire(view) {}
            director.expire(self.now);
            left.extend(self.outbox());
        }
        left
    }

    /// What the connection table says, as `protocol state seconds client virtual real`.
    pub fn listing(&self) -> Vec<String> {
        let reals = self.director.reals();
        let page = self.director.connections().page(0, 1000, reals, self.now);
        let mut lines: Vec<String> = page
            .connections
            .iter()
            .map(|c| {
                format!(
                    "{} {} {} {}:{} {}:{} {}:{}",
                    c.meta.protocol,
                    states::name(c.meta.protocol, c.meta.state),
                    c.remaining.as_secs(),
                    c.client,
                    c.client_port,
                    c.virtual_address,
                    c.virtual_port,
                    c.real_address,
                    c.real_port
                )
            })
            .collect();
        lines.sort();
        lines
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.director.drops(reason)
    }
}

pub fn hops() -> Hops {
    hops_with(&[], 1)
}

/// The director's next hops with further neighbours inside.
pub fn hops_with(known: &[(IpAddr, Mac)], generation: u64) -> Hops {
    let prefix = |text: &str, length| Prefix { address: ip(text), length };
    let port = |name: &str, mac, v4, v6| PortInfo {
        name: name.into(),
        index: 1,
        mac,
        mtu: 1500,
        addresses: vec![prefix(v4, 24), prefix(v6, 64)],
    };
    let ports = vec![
        Some(port("outside", OUTSIDE_MAC, "192.0.2.1", "2001:db8:1::1")),
        Some(port("inside", INSIDE_MAC, "10.0.0.1", "2001:db8:2::1")),
    ];
    let route = |p, via: Option<&str>, port| Route {
        prefix: p,
        via: via.map(ip),
        port: Some(port),
        source: None,
        mtu: 0,
        metric: 0,
    };
    let routes = vec![
        route(prefix("192.0.2.0", 24), None, OUTSIDE),
        route(prefix("2001:db8:1::", 64), None, OUTSIDE),
        route(prefix("10.0.0.0", 24), None, INSIDE),
        route(prefix("2001:db8:2::", 64), None, INSIDE),
        route(prefix("0.0.0.0", 0), Some("192.0.2.254"), OUTSIDE),
        route(prefix("::", 0), Some("2001:db8:1::fe"), OUTSIDE),
    ];
    let mut neighbours = HashMap::new();
    neighbours.insert((OUTSIDE, ip("192.0.2.254")), ROUTER_MAC);
    neighbours.insert((OUTSIDE, ip("2001:db8:1::fe")), ROUTER_MAC);
    for number in 11..=13 {
        for v6 in [false, true] {
            neighbours.insert((INSIDE, real_ip(v6, number)), real_mac(number));
        }
    }
    neighbours.extend(known.iter().map(|(address, mac)| ((INSIDE, *address), *mac)));
    let local = ["192.0.2.1", "2001:db8:1::1", "10.0.0.1", "2001:db8:2::1"];
    Hops::new(ports, routes, neighbours, local.map(ip), None, generation)
}

/// Builders of frames, by a library that is not ours.
pub mod packet {
    use super::*;
    use etherparse::PacketBuilder;

    pub type Ends<'a> = ((&'a str, u16), (&'a str, u16));

    fn base(from: &str, to: &str) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        let link = PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], OUTSIDE_MAC);
        match (ip(from), ip(to)) {
            (IpAddr::V4(a), IpAddr::V4(b)) => link.ipv4(a.octets(), b.octets(), 64),
            (IpAddr::V6(a), IpAddr::V6(b)) => link.ipv6(a.octets(), b.octets(), 64),
            _ => panic!("families differ"),
        }
    }

    pub fn tcp((from, to): Ends<'_>, flags: &str, payload: &[u8]) -> Vec<u8> {
        let mut step = base(from.0, to.0).tcp(from.1, to.1, 100, 1000);
        for flag in flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'F' => step.fin(),
                'R' => step.rst(),
                _ => step.ack(5000),
            };
        }
        let mut bytes = Vec::new();
        step.write(&mut bytes, payload).unwrap();
        bytes
    }

    pub fn udp((from, to): Ends<'_>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        base(from.0, to.0).udp(from.1, to.1).write(&mut bytes, payload).unwrap();
        bytes
    }

    pub fn ping(from: &str, to: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        if ip(from).is_ipv4() {
            base(from, to).icmpv4_echo_request(7, 1).write(&mut bytes, b"hello").unwrap();
        } else {
            base(from, to).icmpv6_echo_request(7, 1).write(&mut bytes, b"hello").unwrap();
        }
        bytes
    }

    /// "Fragmentation needed" or "packet too big" from a router about a packet it got.
    pub fn too_big(router: &str, to: &str, mtu: u16, about: &[u8]) -> Vec<u8> {
        let quote = &about[14..about.len().min(14 + 500)];
        let mut bytes = Vec::new();
        if ip(router).is_ipv4() {
            let [a, b] = mtu.to_be_bytes();
            base(router, to).icmpv4_raw(3, 4, [0, 0, a, b]).write(&mut bytes, quote).unwrap();
        } else {
            let mtu = u32::from(mtu).to_be_bytes();
            base(router, to).icmpv6_raw(2, 0, mtu).write(&mut bytes, quote).unwrap();
        }
        bytes
    }

    pub fn parsed(bytes: &[u8]) -> parse::Packet {
        match parse::frame(bytes) {
            Ok(parse::Parsed::Ip(packet)) => packet,
            other => panic!("{other:?} from {bytes:02x?}"),
        }
    }

    /// `source:port > destination:port` of a frame.
    pub fn ends(bytes: &[u8]) -> String {
        let p = parsed(bytes);
        format!("{}:{} > {}:{}", p.source, p.source_port, p.destination, p.destination_port)
    }

    /// Ethernet source and destination.
    pub fn macs(bytes: &[u8]) -> (Mac, Mac) {
        (bytes[6..12].try_into().unwrap(), bytes[..6].try_into().unwrap())
    }

    /// Panics unless every checksum in an IP packet is what an independent library computes.
    pub fn assert_sound(packet: &[u8]) {
        let headers = etherparse::PacketHeaders::from_ip_slice(packet)
            .unwrap_or_else(|error| panic!("{error}: {packet:02x?}"));
        let payload = headers.payload.slice();
        let fragmented = match &headers.net {
            Some(etherparse::NetHeaders::Ipv4(header, _)) => {
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                header.is_fragmenting_payload()
            }
            _ => false,
        };
        if fragmented {
            return;
        }
        let (computed, found) = match (&headers.net, &headers.transport) {
            (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(transport)) => match transport {
                etherparse::TransportHeader::Tcp(t) => {
                    (t.calc_checksum_ipv4(ip, payload).unwrap(), t.checksum)
                }
                etherparse::TransportHeader::Udp(u) if u.checksum != 0 => {
                    (u.calc_checksum_ipv4(ip, payload).unwrap(), u.checksum)
                }
                etherparse::TransportHeader::Icmpv4(i) => {
                    (i.icmp_type.calc_checksum(payload), i.checksum)
                }
                _ => return,
            },
            (Some(etherparse::NetHeaders::Ipv6(ip, _)), Some(transport)) => match transport {
                etherparse::TransportHeader::Tcp(t) => {
                    (t.calc_checksum_ipv6(ip, payload).unwrap(), t.checksum)
                }
                etherparse::TransportHeader::Udp(u) => {
                    (u.calc_checksum_ipv6(ip, payload).unwrap(), u.checksum)
                }
                etherparse::TransportHeader::Icmpv6(i) => {
                    let sum = i.icmp_type.calc_checksum(ip.source, ip.destination, payload);
                    (sum.unwrap(), i.checksum)
                }
                _ => return,
            },
            _ => return,
        };
        assert_eq!(computed, found, "{packet:02x?}");
    }
}
