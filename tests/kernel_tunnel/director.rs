//! The packet path between a client's port and the real server's, without interfaces.

use anyhow::{Context, Result, bail};
use dataplane::frame::{Batch, Frame, HEADROOM};

use dataplane::packet_path::connections::HashKeys;
use dataplane::packet_path::{self, Capacity, PacketPath, Verdict, Verdicts, View};
use dataplane::table::{
    ClientAddress, Family, Hops, Mac, Method, OwnedAddress, PortId, PortInfo, Prefix, Protocol,
    Real, RealId, Route, Scheduler, SchedulerFlags, Service, ServiceId, ServiceKey, ServiceTable,
    Timeouts, Tunables, Tunnel,
};
use dataplane::tick::Tick;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
pub const OUTSIDE_MAC: Mac = [2, 0, 0, 0, 0, 0xd0];
const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 0xd1];
/// The real server's gateway: clients are behind it.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xfe];
pub const SERVICE_PORT: u16 = 80;

fn address(family: Family, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(v4).into(),
        Family::V6 => Ipv6Addr::from(v6).into(),
    }
}

pub fn vip(family: Family) -> IpAddr {
    address(family, [192, 0, 2, 10], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10])
}

pub fn real(family: Family) -> IpAddr {
    address(family, [10, 0, 0, 11], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x11])
}

fn own(family: Family) -> IpAddr {
    address(family, [10, 0, 0, 1], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 1])
}

pub struct Director {
    shared: Arc<packet_path::Director>,
    path: PacketPath,
}

impl Director {
    /// A service of the inner family with one real server, at `real_mac` on the inside, reached by
    /// `tunnel` in the outer family.
    pub fn new(real_mac: Mac, tunnel: Tunnel, inner: Family, outer: Family) -> Result<Self> {
        let (notices, _) = sync_channel(16);
        let capacity = Capacity { connections: 64, services: 1, reals: 1, workers: 1 };
        let keys = HashKeys([3, 5, 7, 11].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let shared = Arc::new(packet_path::Director::new(capacity, keys, notices));
        shared.publish_hops(hops(real_mac));
        let owned = OwnedAddress { address: vip(inner), mac: None, answers_ping: true };
        let service = Arc::new(service(tunnel, inner, outer));
        let (timeouts, tunables) = (Timeouts::default(), Tunables::default());
        let table = ServiceTable::new([service], [owned], Arc::from([]), timeouts, tunables);
        shared.publish(table, Tick(1000));
        let path = PacketPath::new(Arc::clone(&shared), 0, 42);
        Ok(Self { shared, path })
    }

    /// What a client's frame becomes on its way to the real server.
    pub fn forward(&mut self, frame: &[u8]) -> Result<Vec<u8>> {
        let end = HEADROOM + frame.len();
        let mut buffer = vec![0; end + 256];
        buffer.get_mut(HEADROOM..end).context("no room for the frame")?.copy_from_slice(frame);
        let mut batch = Batch::new();
        batch.push(Frame::new(&mut buffer, HEADROOM, end, OUTSIDE));
        let (table, hops) = (self.shared.table(), self.shared.hops());
        let view = View { director: &self.shared, table: &table, hops: &hops, now: Tick(1000) };
        let mut verdicts = Verdicts::new();
        self.path.process(view, &mut batch, &mut verdicts);
        if verdicts.first() != Some(&Verdict::Send(INSIDE)) {
            bail!("the packet path's verdict is {verdicts:?}");
        }
        Ok(batch[0].bytes().to_vec())
    }
}

fn service(tunnel: Tunnel, inner: Family, outer: Family) -> Service {
    let real = Real {
        id: RealId(0),
        address: real(outer),
        port: SERVICE_PORT,
        method: Method::Tunnel(tunnel),
        weight: 1,
        availability: dataplane::table::Availability::Serving,
        last_weight: 1,
        upper: 0,
        lower: 0,
    };
    Service {
        id: ServiceId(0),
        key: ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: vip(inner),
            port: SERVICE_PORT,
        },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        return_by_mac: false,
        source_pool: Arc::from([]),
        client_address: ClientAddress::default(),
        reals: Arc::from([real]),
    }
}

fn hops(real_mac: Mac) -> Hops {
    let families = [(Family::V4, 24), (Family::V6, 64)];
    let prefix = |(family, length)| Prefix { address: own(family), length };
    let port = |name: &str, mac, addresses| PortInfo {
        name: name.into(),
        index: 1,
        mac,
        mtu: 1500,
        addresses,
    };
    let inside = families.map(prefix).to_vec();
    let ports = vec![
        Some(port("outside", OUTSIDE_MAC, Vec::new())),
        Some(port("inside", INSIDE_MAC, inside.clone())),
    ];
    let route =
        |prefix| Route { prefix, via: None, port: Some(INSIDE), source: None, mtu: 0, metric: 0 };
    let routes = inside.into_iter().map(route).collect();
    let neighbours: HashMap<_, _> =
        families.iter().map(|(family, _)| ((INSIDE, real(*family)), real_mac)).collect();
    let local = families.iter().map(|(family, _)| own(*family));
    Hops::new(ports, routes, neighbours, local, None, 1)
}
