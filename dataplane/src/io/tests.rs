//! Claims that hold for every backend: between two ordinary hosts, whose offloads are as they come.
#![allow(clippy::disallowed_methods)]

use super::netns::Host;
use super::steer::{Steering, SteeringRules};
use super::{Attach, Attachment, Backend, Port, attach};
use crate::frame::{BATCH, Batch};
use crate::table::{PortId, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Two hosts 10.7.0.1 and 10.7.0.2, and between them a third that only passes frames on.
struct Line {
    left: Host,
    right: Host,
    _middle: Host,
    _attachments: [Attachment; 2],
    ports: [Port; 2],
    _steering: Option<Steering>,
}

/// Rules by which everything between the two hosts is the dataplane's.
fn everything() -> SteeringRules {
    let net = Prefix { address: IpAddr::from([10, 7, 0, 0]), length: 24 };
    let hosts = [IpAddr::from([10, 7, 0, 1]), IpAddr::from([10, 7, 0, 2])];
    SteeringRules { owned: hosts.into(), prefixes: [net].into(), ..SteeringRules::default() }
}

fn line(backends: [Backend; 2], mtu: usize) -> Line {
    let (left, middle, right) = (Host::new(), Host::new(), Host::new());
    left.join("l0", &middle, "ml");
    right.join("r0", &middle, "mr");
    for (host, interface) in [(&left, "l0"), (&middle, "ml"), (&middle, "mr"), (&right, "r0")] {
        host.ip(&format!("link set dev {interface} mtu {mtu}"));
    }
    left.ip("addr add 10.7.0.1/24 dev l0");
    right.ip("addr add 10.7.0.2/24 dev r0");
    // Frames are addressed to the other host, not to the middle.
    let indices = [middle.index("ml"), middle.index("mr")];
    let mut rules = everything();
    for (host, interface) in [(&left, "l0"), (&right, "r0")] {
        let mac = host.run(move || super::link::mac(interface).unwrap());
        rules.macs.extend(indices.map(|index| (index, mac)));
    }
    let (attachments, ports, steering) = middle.run(move || {
        let steered = backends.iter().any(|b| !matches!(b, Backend::Ring | Backend::Pnet));
        let steering = steered.then(|| Steering::new().unwrap());
        if let Some(steering) = &steering {
            steering.apply(&rules).unwrap();
        }
        let open = |interface, id: usize| {
            let request = Attach {
                interface,
                port: PortId(id as u16),
                backend: Some(backends[id]),
                workers: 1,
                steering: steering.as_ref(),
            };
            let (attachment, mut ports) = attach(&request).unwrap();
            (attachment, ports.remove(0))
        };
        let ((a, left), (b, right)) = (open("ml", 0), open("mr", 1));
        ([a, b], [left, right], steering)
    });
    let (_middle, _attachments, _steering) = (middle, attachments, steering);
    Line { left, right, _middle, _attachments, ports, _steering }
}

/// What passed through the middle.
#[derive(Default)]
struct Passed {
    stop: AtomicBool,
    frames: AtomicU64,
}

/// Passes every frame of one port on by the other until told to stop.
fn pass_on(ports: &mut [Port; 2], passed: &Passed) {
    while !passed.stop.load(Ordering::Relaxed) {
        let [a, b] = ports;
        let count = cross(a, b) + cross(b, a);
        passed.frames.fetch_add(count as u64, Ordering::Relaxed);
        if count == 0 {
            let waited = [&*a, &*b].map(|port| port.receive.descriptor().unwrap());
            let mut polled = waited.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
            poll(&mut polled, PollTimeout::from(20u16)).unwrap();
        }
    }
}

fn cross(from: &mut Port, to: &mut Port) -> usize {
    let mut batch = Batch::new();
    from.receive.receive(&mut batch).unwrap();
    let count = batch.len();
    if count == 0 {
        return 0;
    }
    let sent = to.transmit.send(&mut batch, u64::MAX >> (BATCH - count)).unwrap();
    assert_eq!(sent.refused, 0, "the kernel refuses frames");
    drop(batch);
    from.receive.release(sent.kept);
    count
}

/// Bytes through a TCP connection from `from` to `to`, checked at the end. Returns the time.
fn transfer(from: &Host, to: &Host, address: &'static str, count: usize) -> Duration {
    let at: SocketAddr = format!("{address}:5001").parse().unwrap();
    let listener = to.run(move || TcpListener::bind(at).unwrap());
    let receiving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut got = Vec::with_capacity(count);
        stream.read_to_end(&mut got).unwrap();
        got
    });
    let data: Vec<u8> = (0..count).map(|i| (i / 11) as u8).collect();
    let sent = data.clone();
    let started = Instant::now();
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&sent).unwrap();
    });
    let got = receiving.join().unwrap();
    let took = started.elapsed();
    assert!(got == data, "{} of {count} bytes arrived, or not as sent", got.len());
    took
}

/// UDP datagrams of every size up to the MTU, each answered.
fn echo_datagrams(left: &Host, right: &Host, largest: usize) {
    let server = right.run(|| UdpSocket::bind("10.7.0.2:7").unwrap());
    let client = left.run(|| UdpSocket::bind("10.7.0.1:0").unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    let mut buffer = vec![0; 10_000];
    for size in (0..=largest).step_by(7).chain([largest]) {
        let data: Vec<u8> = (0..size).map(|i| (i + size) as u8).collect();
        client.send_to(&data, "10.7.0.2:7").unwrap();
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..count], from).unwrap();
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..count], data);
    }
}

fn both_directions(backends: [Backend; 2], mtu: usize, count: usize) {
    let Line { left, right, _middle, _attachments, mut ports, _steering } = line(backends, mtu);
    let passed = Passed::default();
    thread::scope(|scope| {
        scope.spawn(|| pass_on(&mut ports, &passed));
        echo_datagrams(&left, &right, mtu - 28);
        for (from, to, address) in [(&left, &right, "10.7.0.2"), (&right, &left, "10.7.0.1")] {
            let took = transfer(from, to, address, count);
            let speed = count as f64 * 8e-6 / took.as_secs_f64();
            let frames = passed.frames.load(Ordering::Relaxed);
            eprintln!("{backends:?}, MTU {mtu}: {speed:.0} Mbit/s, {frames} frames so far");
        }
        passed.stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn ordinary_tcp_and_udp_pass_the_packet_ring() {
    both_directions([Backend::Ring; 2], 1500, 30_000_000);
    both_directions([Backend::Ring; 2], 9000, 30_000_000);
}

#[test]
fn ordinary_tcp_and_udp_pass_pnets_channel() {
    both_directions([Backend::Pnet; 2], 1500, 10_000_000);
}

#[test]
fn ordinary_tcp_and_udp_pass_xdp_sockets() {
    both_directions([Backend::Xdp; 2], 1500, 20_000_000);
    both_directions([Backend::XdpBusyPoll; 2], 1500, 10_000_000);
}

#[test]
fn ordinary_tcp_and_udp_pass_from_one_backend_to_another() {
    both_directions([Backend::Ring, Backend::Xdp], 1500, 10_000_000);
    both_directions([Backend::Ring, Backend::Pnet], 1500, 5_000_000);
}
