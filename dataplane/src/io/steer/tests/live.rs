//! Steering between real hosts: a client, and a director whose stack must not notice.
#![allow(clippy::disallowed_methods)]

use super::*;
use crate::frame::Batch;
use crate::io::{Attach, Attachment, Backend, Port, attach};
use crate::table::PortId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(300);

/// A client 10.9.0.2 and a director 10.9.0.1 that also has the VIP 10.9.0.10 on its interface.
fn client_and_director() -> (Host, Host) {
    let (client, director) = (Host::new(), Host::new());
    client.join("c0", &director, "d0");
    client.ip("addr add 10.9.0.2/24 dev c0");
    director.ip("addr add 10.9.0.1/24 dev d0");
    director.ip("addr add 10.9.0.10/24 dev d0");
    (client, director)
}

fn web_on_the_vip() -> SteeringRules {
    SteeringRules {
        owned: [ip("10.9.0.10")].into(),
        services: [endpoint(Protocol::Tcp, "10.9.0.10", Ports::One(80))].into(),
        local: [ip("10.9.0.1"), ip("10.9.0.10")].into(),
        ..SteeringRules::default()
    }
}

fn attached(rules: &SteeringRules, backend: Backend) -> (Steering, Attachment, Port) {
    let steering = Steering::new().unwrap();
    steering.apply(rules).unwrap();
    let (attachment, mut ports) = attach(&Attach {
        interface: "d0",
        port: PortId(0),
        backend: Some(backend),
        workers: 1,
        steering: Some(&steering),
    })
    .unwrap();
    attachment.guard.as_ref().expect("this kernel has tcx");
    let port = ports.remove(0);
    assert!(port.withheld);
    (steering, attachment, port)
}

/// Serves connections with their own bytes until the test ends.
fn echo_server(host: &Host, at: &str) {
    let at: SocketAddr = at.parse().unwrap();
    let listener = host.run(move || TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn connect(host: &Host, to: &str, patience: Duration) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    host.run(move || TcpStream::connect_timeout(&to, patience))
}

/// Sends `count` bytes and reads them back.
fn transfer(stream: &TcpStream, count: usize) {
    let data: Vec<u8> = (0..count).map(|i| (i / 7) as u8).collect();
    let sent = data.clone();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&sent));
    let mut got = vec![0; count];
    let mut reader = stream.try_clone().unwrap();
    reader.set_read_timeout(Some(10 * SECOND)).unwrap();
    reader.read_exact(&mut got).unwrap();
    assert!(got == data, "what comes back is what was sent");
    writing.join().unwrap().unwrap();
}

fn received(port: &mut Port, patience: u16) -> Vec<Vec<u8>> {
    let descriptor = port.receive.descriptor().unwrap();
    let timeout = PollTimeout::from(patience);
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout).unwrap();
    let mut frames = Vec::new();
    for _ in 0..4 {
        let mut batch = Batch::new();
        port.receive.receive(&mut batch).unwrap();
        frames.extend(batch.iter().map(|frame| frame.bytes().to_vec()));
        drop(batch);
        port.receive.release(0);
    }
    frames
}

#[test]
fn a_service_is_withheld_from_the_host_and_everything_else_is_not() {
    for backend in [Backend::Ring, Backend::Pnet, Backend::Xdp, Backend::XdpGeneric] {
        withheld_by(backend);
    }
}

fn withheld_by(backend: Backend) {
    let (client, director) = client_and_director();
    echo_server(&director, "10.9.0.10:80");
    echo_server(&director, "10.9.0.10:22");
    echo_server(&director, "10.9.0.1:80");
    connect(&client, "10.9.0.10:80", 10 * SECOND).expect("before, the host answers");
    let (steering, attachment, mut port) =
        director.run(move || attached(&web_on_the_vip(), backend));
    let error = connect(&client, "10.9.0.10:80", SOON).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "the host stays silent: no RST");
    let frames = received(&mut port, 1000);
    assert!(frames.iter().any(|frame| frame[23] == 6 && frame[36..38] == [0, 80]));
    for to in ["10.9.0.10:22", "10.9.0.1:80"] {
        transfer(&connect(&client, to, 10 * SECOND).unwrap(), 100_000);
    }
    let frames = received(&mut port, 0);
    let foreign = |frame: &&Vec<u8>| frame[12..14] == [8, 0] && frame[36..38] != [0, 80];
    assert_eq!(frames.iter().filter(foreign).count(), 0, "host traffic does not load the ring");
    drop((attachment, port, steering));
    connect(&client, "10.9.0.10:80", 10 * SECOND).expect("afterwards, the host answers again");
}

#[test]
fn frames_given_back_reach_the_host_as_if_they_had_just_arrived() {
    // 20 MB in at most 64 KiB a frame are far fewer frames than segments.
    assert!((300..10_000).contains(&given_back_by(Backend::Ring, 20_000_000)));
    given_back_by(Backend::Pnet, 5_000_000);
    given_back_by(Backend::Xdp, 5_000_000);
}

fn given_back_by(backend: Backend, count: usize) -> u64 {
    let (client, director) = client_and_director();
    echo_server(&director, "10.9.0.10:80");
    let (steering, attachment, mut port) =
        director.run(move || attached(&web_on_the_vip(), backend));
    let (stop, given) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| give_everything_back(&mut port, &stop, &given));
        let stream = connect(&client, "10.9.0.10:80", 5 * SECOND).unwrap();
        transfer(&stream, count);
        stop.store(true, Ordering::Relaxed);
    });
    drop((attachment, steering));
    given.into_inner()
}

fn give_everything_back(port: &mut Port, stop: &AtomicBool, given: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let descriptor = port.receive.descriptor().unwrap();
        poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::from(50u16)).unwrap();
        let mut batch = Batch::new();
        port.receive.receive(&mut batch).unwrap();
        let count = batch.len() as u32;
        if count > 0 {
            let sent = port.host.send(&mut batch, u64::MAX >> (64 - count)).unwrap();
            assert_eq!(sent, crate::io::Sent::default());
        }
        given.fetch_add(count.into(), Ordering::Relaxed);
        drop(batch);
        port.receive.release(0);
    }
}

#[test]
fn a_frame_for_a_virtual_ethernet_address_is_delivered_too() {
    let (client, director) = client_and_director();
    let index = director.index("d0");
    let receiver = director.run(|| UdpSocket::bind("10.9.0.10:5353").unwrap());
    receiver.set_read_timeout(Some(SECOND)).unwrap();
    let mut rules = web_on_the_vip();
    rules.services.insert(endpoint(Protocol::Udp, "10.9.0.10", Ports::One(5353)));
    rules.macs.insert((index, VIRTUAL));
    let (_steering, mut attachment, mut port) =
        director.run(move || attached(&rules, Backend::Ring));
    attachment.listen(&[VIRTUAL].into()).unwrap();
    client.ip("neigh add 10.9.0.10 lladdr 00:00:5e:00:01:32 dev c0");
    client.run(|| {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", "10.9.0.10:5353").unwrap();
    });
    let mut batch = Batch::new();
    let descriptor = port.receive.descriptor().unwrap();
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::from(1000u16)).unwrap();
    port.receive.receive(&mut batch).unwrap();
    assert_eq!(batch.len(), 1);
    assert_eq!(batch[0].bytes()[..6], VIRTUAL);
    port.host.send(&mut batch, 1).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(receiver.recv(&mut buffer).unwrap(), 5);
}

#[test]
fn answers_to_neighbour_resolution_reach_both() {
    for backend in [Backend::Ring, Backend::Pnet, Backend::Xdp] {
        let (_client, director) = client_and_director();
        let (_steering, _attachment, mut port) =
            director.run(move || attached(&web_on_the_vip(), backend));
        director.sh("ping -c 1 -W 2 10.9.0.2");
        let frames = received(&mut port, 1000);
        let reply = |frame: &Vec<u8>| frame[12..14] == [8, 6] && frame[21] == 2;
        assert!(frames.iter().any(reply), "{backend}: {frames:02x?}");
    }
}

/// Starts the ignored test `name` inside and waits until it says that it has attached.
fn start_child(director: &Host, name: &'static str) -> Child {
    director.run(move || {
        let mut child: Child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg(format!("io::steer::tests::live::{name}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"attached") && output.read(&mut byte).unwrap() == 1 {
            said.push(byte[0]);
        }
        assert!(said.ends_with(b"attached"));
        child
    })
}

#[test]
fn kill_9_leaves_nothing_behind() {
    let (client, director) = client_and_director();
    echo_server(&director, "10.9.0.10:80");
    for name in ["hold_the_service_until_killed", "hold_the_service_by_xdp_until_killed"] {
        let mut child = start_child(&director, name);
        connect(&client, "10.9.0.10:80", SOON).expect_err("the child has taken the service");
        child.kill().unwrap();
        child.wait().unwrap();
        connect(&client, "10.9.0.10:80", 3 * SECOND).expect("the host has it back");
        let left = director.sh("tc filter show dev d0 ingress; tc filter show dev d0 egress");
        assert_eq!(left, "");
        assert!(!director.sh("ip -d link show dev d0").contains("xdp"));
    }
}

#[test]
fn kill_9_leaves_nothing_in_force_where_the_kernel_keeps_filters() {
    let (client, director) = client_and_director();
    echo_server(&director, "10.9.0.10:80");
    // Twice: the second process takes the place of what the first left.
    for _ in 0..2 {
        let mut child = start_child(&director, "hold_the_service_by_filters_until_killed");
        connect(&client, "10.9.0.10:80", SOON).expect_err("the child has taken the service");
        child.kill().unwrap();
        child.wait().unwrap();
        connect(&client, "10.9.0.10:80", 3 * SECOND).expect("the host has it back");
    }
    let left = director.sh("tc filter show dev d0 ingress");
    assert_eq!(left.matches("handle").count(), 1, "{left}");
}

#[test]
fn filters_withhold_and_give_back_as_links_do() {
    let (client, director) = client_and_director();
    echo_server(&director, "10.9.0.10:80");
    let (steering, guard, mut port) = director.run(by_filters);
    let (stop, given) = (AtomicBool::new(false), AtomicU64::new(0));
    connect(&client, "10.9.0.10:80", SOON).expect_err("the host does not see it");
    thread::scope(|scope| {
        scope.spawn(|| give_everything_back(&mut port, &stop, &given));
        let stream = connect(&client, "10.9.0.10:80", 5 * SECOND).unwrap();
        transfer(&stream, 5_000_000);
        stop.store(true, Ordering::Relaxed);
    });
    director.run(move || drop((port, guard)));
    connect(&client, "10.9.0.10:80", 10 * SECOND).expect("afterwards, the host answers again");
    let left = director.sh("tc filter show dev d0 ingress; tc filter show dev d0 egress");
    assert_eq!(left, "");
    drop(steering);
}

#[test]
fn a_guard_that_follows_another_leaves_no_gap_and_ends_with_the_last() {
    let (client, director) = client_and_director();
    echo_server(&director, "10.9.0.10:80");
    for by_filters in [false, true] {
        let (steering, mut guards) = director.run(move || {
            let steering = Steering::new().unwrap();
            steering.apply(&web_on_the_vip()).unwrap();
            let index = nix::net::if_::if_nametoindex("d0").unwrap();
            let guard = |steering: &Steering| match by_filters {
                true => steering.guard_by_filters(index).unwrap(),
                false => steering.guard(index).unwrap(),
            };
            let mut guards = vec![guard(&steering)];
            for _ in 0..3 {
                guards.push(guard(&steering));
                drop(guards.remove(0));
            }
            guards.push(guard(&steering));
            (steering, guards)
        });
        let older = guards.remove(0);
        director.run(move || drop(older));
        connect(&client, "10.9.0.10:80", SOON).expect_err("the newer one is in force");
        director.run(move || drop(guards));
        connect(&client, "10.9.0.10:80", 10 * SECOND).expect("the host has it back");
        let left = director.sh("tc filter show dev d0 ingress; tc filter show dev d0 egress");
        assert_eq!(left, "");
        drop(steering);
    }
}

fn by_filters() -> (Steering, Guard, Port) {
    let steering = Steering::new().unwrap();
    steering.apply(&web_on_the_vip()).unwrap();
    let index = nix::net::if_::if_nametoindex("d0").unwrap();
    let mut ports = crate::io::ring::open(index, PortId(0), 1500, 1, Some(&steering)).unwrap();
    let guard = steering.guard_by_filters(index).unwrap();
    (steering, guard, ports.remove(0))
}

#[test]
#[ignore = "the process that another test kills"]
fn hold_the_service_until_killed() {
    let _held = attached(&web_on_the_vip(), Backend::Ring);
    println!("attached");
    thread::sleep(30 * SECOND);
}

#[test]
#[ignore = "the process that another test kills"]
fn hold_the_service_by_filters_until_killed() {
    let _held = by_filters();
    println!("attached");
    thread::sleep(30 * SECOND);
}

#[test]
#[ignore = "the process that another test kills"]
fn hold_the_service_by_xdp_until_killed() {
    let _held = attached(&web_on_the_vip(), Backend::Xdp);
    println!("attached");
    thread::sleep(30 * SECOND);
}
