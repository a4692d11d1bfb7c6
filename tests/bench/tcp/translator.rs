//! A program that translates addresses and does nothing else: the limit of forwarding TCP through
//! a program on this machine. It knows no connections; the client's port decides the real server.

use crate::bare;
use anyhow::{Result, anyhow};
use dataplane::frame::Frame;
use dataplane::io::steer::{Endpoint, Ports, SteeringRules};
use dataplane::io::{Backend, Port, keep_to_a_processor};
use dataplane::table::Protocol;
use dataplane::wire::checksum::{Delta, update};
use dataplane::wire::{be16, be32, put, put16};
use harness::host::written_mac;
use harness::{Site, site};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const REALS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 0, 0, 12)];
const SERVICES: [u16; 2] = [80, 5201];

/// Offsets in frames with headers of the least length, which those of TCP streams have.
const IP: usize = 14;
const IP_CHECKSUM: usize = IP + 10;
const SOURCE: usize = IP + 12;
const DESTINATION: usize = IP + 16;
const TCP: usize = IP + 20;
const TCP_CHECKSUM: usize = TCP + 16;

type Mac = [u8; 6];

/// Addresses on both sides.
#[derive(Clone, Copy)]
struct Neighbours {
    client: Mac,
    reals: [Mac; 2],
    own: [Mac; 2],
}

/// A running translator.
pub struct Translator {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
    _held: bare::Held,
}

impl Translator {
    pub fn start(backend: Backend, site: &Site) -> Result<Self> {
        let mac = |host: &harness::Host| -> Result<Mac> {
            let text = host.run_ok(&["cat", "/sys/class/net/eth0/address"])?;
            let bytes = text.trim().split(':').map(|part| u8::from_str_radix(part, 16));
            let bytes = bytes.collect::<Result<Vec<u8>, _>>()?;
            bytes.try_into().map_err(|_| anyhow!("{text:?} is no Ethernet address"))
        };
        let [outside, inside] = &site.director_interfaces;
        let neighbours = Neighbours {
            client: mac(&site.client)?,
            reals: [mac(&site.reals[0])?, mac(&site.reals[1])?],
            own: [outside.mac, inside.mac],
        };
        // Nobody answers for the VIP, so the client is told.
        let own = written_mac(outside.mac);
        let neighbour = ["neigh", "replace", site::VIP, "lladdr", &own, "dev", "eth0"];
        site.client.run_ok(&[&["ip"], &neighbour[..]].concat())?;
        let bare::Opened { held, outside, inside } = site.director.enter(|| open(backend))??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            keep_to_a_processor(0);
            translate_all(outside, inside, neighbours, &stopped)
        });
        Ok(Self { stop, thread, _held: held })
    }

    pub fn stop(self, site: &Site) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the translator panicked"))??;
        site.client.run_ok(&["ip", "neigh", "del", site::VIP, "dev", "eth0"])?;
        Ok(())
    }
}

fn open(backend: Backend) -> Result<bare::Opened> {
    let endpoint = |address: Ipv4Addr, port| Endpoint {
        protocol: Protocol::Tcp,
        address: IpAddr::V4(address),
        ports: Ports::One(port),
    };
    let rules = SteeringRules {
        owned: [IpAddr::V4(VIP)].into(),
        services: SERVICES.map(|port| endpoint(VIP, port)).into(),
        reals: REALS.iter().flat_map(|real| SERVICES.map(|port| endpoint(*real, port))).collect(),
        ..SteeringRules::default()
    };
    bare::open(&rules, ["eth0", "eth1"], backend)
}

fn translate_all(
    mut outside: Port,
    mut inside: Port,
    neighbours: Neighbours,
    stopped: &AtomicBool,
) -> Result<()> {
    let waiting = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for port in [&outside, &inside] {
        for descriptor in port.receive.descriptors() {
            waiting.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
    }
    while !stopped.load(Ordering::Relaxed) {
        let requests = bare::pass(&mut outside, &mut inside, |frame| to_real(frame, &neighbours))?;
        let answers = bare::pass(&mut inside, &mut outside, |frame| to_client(frame, &neighbours))?;
        if requests + answers == 0 {
            let _ = waiting.wait(&mut [EpollEvent::empty(); 4], EpollTimeout::from(20u16));
        }
    }
    Ok(())
}

fn has_tcp(frame: &Frame<'_>) -> bool {
    frame.len() > TCP_CHECKSUM + 2
}

fn to_real(frame: &mut Frame<'_>, neighbours: &Neighbours) {
    if !has_tcp(frame) {
        return;
    }
    let bytes = frame.bytes();
    let web = be16(bytes, TCP + 2) == SERVICES[0];
    let real = if web { usize::from(be16(bytes, TCP)) % REALS.len() } else { 0 };
    readdress(frame, DESTINATION, REALS[real]);
    address_frame(frame, neighbours.reals[real], neighbours.own[1]);
}

fn to_client(frame: &mut Frame<'_>, neighbours: &Neighbours) {
    if !has_tcp(frame) {
        return;
    }
    readdress(frame, SOURCE, VIP);
    address_frame(frame, neighbours.client, neighbours.own[0]);
}

fn address_frame(frame: &mut Frame<'_>, to: Mac, from: Mac) {
    put(frame.bytes_mut(), 0, &to);
    put(frame.bytes_mut(), 6, &from);
}

/// Writes an address, and what it changes in both checksums.
fn readdress(frame: &mut Frame<'_>, at: usize, address: Ipv4Addr) {
    let partial = frame.offload.partial_checksum;
    let bytes = frame.bytes_mut();
    let delta = Delta::default().long(be32(bytes, at), address.to_bits());
    put(bytes, at, &address.octets());
    update(bytes, IP_CHECKSUM, delta);
    if partial {
        let sum = be16(bytes, TCP_CHECKSUM);
        put16(bytes, TCP_CHECKSUM, delta.apply_partial(sum));
    } else {
        update(bytes, TCP_CHECKSUM, delta);
    }
}
