use super::memory::KERNEL_HEADROOM;
use super::*;
use crate::frame::{BATCH, Batch, Frame, HEADROOM};
use crate::io::Sent;
use crate::io::netns::Host;
use crate::io::ring::RingTransmit;
use crate::io::steer::tests::frames::{OWN, frame, rules};
use crate::io::steer::tests::runs::run_xdp;
use crate::io::steer::{Judgement, SteeringRules, addressed, judge};
use crate::table::{Mac, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A host with the ends `one` and `two` of a cable, everything to 198.51.100.0/24 claimed, and both
/// ends opened.
fn cable() -> (Host, Steering, [Opened; 2]) {
    let host = Host::new();
    host.join("one", &host, "two");
    let indices = [("one", host.index("one")), ("two", host.index("two"))];
    let (steering, opened) = host.run(move || {
        let steering = Steering::new().unwrap();
        let net = Prefix { address: IpAddr::from([198, 51, 100, 0]), length: 24 };
        let rules = SteeringRules { prefixes: [net].into(), ..SteeringRules::default() };
        steering.apply(&rules).unwrap();
        let opened = indices.map(|(interface, index)| {
            let request = Request {
                interface,
                index,
                port: PortId(4),
                workers: 1,
                generic: false,
                busy_poll: false,
            };
            open(&request, &steering).unwrap()
        });
        (steering, opened)
    });
    (host, steering, opened)
}

/// A UDP packet that the rules claim, `length` bytes long on the wire.
fn claimed(length: usize, number: u8) -> Vec<u8> {
    let mut bytes = vec![number; length];
    bytes[..6].fill(0xff);
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..34]
        .copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 198, 51, 100, 9]);
    bytes[16..18].copy_from_slice(&(length as u16 - 14).to_be_bytes());
    bytes[34..38].copy_from_slice(&[0, 1, 0, 2]);
    bytes[38..40].copy_from_slice(&(length as u16 - 34).to_be_bytes());
    // No checksum.
    bytes[40..42].fill(0);
    bytes
}

fn send(transmit: &mut dyn Transmit, frames: &[Vec<u8>]) -> Sent {
    let mut buffers: Vec<Vec<u8>> =
        frames.iter().map(|bytes| [&[0; HEADROOM], bytes.as_slice()].concat()).collect();
    let mut list: Vec<Frame<'_>> = buffers
        .iter_mut()
        .map(|buffer| {
            let end = buffer.len();
            Frame::new(buffer, HEADROOM, end, PortId(0))
        })
        .collect();
    transmit.send(&mut list, u64::MAX >> (BATCH - frames.len())).unwrap()
}

fn wait(port: &Port) -> bool {
    let descriptor = port.receive.descriptor().unwrap();
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::from(1000u16)).unwrap() > 0
}

#[test]
fn frames_of_every_length_cross_unchanged_and_in_order() {
    let (_host, _steering, [mut a, mut b]) = cable();
    let lengths: Vec<usize> = (60..=1514).collect();
    for lengths in lengths.chunks(BATCH) {
        let frames: Vec<_> = lengths.iter().map(|l| claimed(*l, *l as u8)).collect();
        assert_eq!(send(a.ports[0].transmit.as_mut(), &frames), Sent::default());
        let mut got = Vec::new();
        while got.len() < frames.len() && wait(&b.ports[0]) {
            let mut batch = Batch::new();
            b.ports[0].receive.receive(&mut batch).unwrap();
            for frame in &batch {
                assert!(frame.headroom() >= KERNEL_HEADROOM.min(HEADROOM));
                got.push(frame.bytes().to_vec());
            }
            drop(batch);
            b.ports[0].receive.release(0);
        }
        assert!(got == frames, "{} of {} frames", got.len(), frames.len());
    }
}

#[test]
fn a_frame_is_sent_from_where_it_was_received_and_no_chunk_is_lost() {
    let (host, steering, [mut a, b]) = cable();
    host.join("three", &host, "four");
    let (three, four) = (host.index("three"), host.index("four"));
    let (c, steering) = host.run(move || {
        let request = Request {
            interface: "three",
            index: three,
            port: PortId(5),
            workers: 1,
            generic: false,
            busy_poll: false,
        };
        (open(&request, &steering).unwrap(), steering)
    });
    let memory = steering.memory(0).unwrap();
    let ports = |mut opened: Opened| (opened.ports.remove(0), opened.redirection);
    let ((mut from, _b), (mut to, _c)) = (ports(b), ports(c));
    let mut far =
        host.run(move || crate::io::ring::open(four, PortId(6), 1500, 1, None).unwrap().remove(0));
    let (mut kept, mut arrived) = (0, 0);
    for round in 0..400u32 {
        let frames: Vec<_> = (0..32).map(|n| claimed(60 + n, round as u8)).collect();
        assert_eq!(send(a.ports[0].transmit.as_mut(), &frames), Sent::default());
        let mut passed = 0;
        while passed < frames.len() && wait(&from) {
            let mut batch = Batch::new();
            from.receive.receive(&mut batch).unwrap();
            let count = batch.len();
            if count == 0 {
                continue;
            }
            // A header in front, as tunnels put it.
            batch.iter_mut().for_each(|frame| frame.push_front(20).unwrap());
            let sent = to.transmit.send(&mut batch, u64::MAX >> (BATCH - count)).unwrap();
            assert_eq!((sent.full, sent.refused), (0, 0));
            kept += sent.kept.count_ones();
            passed += count;
            drop(batch);
            from.receive.release(sent.kept);
        }
        assert_eq!(passed, frames.len());
        let mut batch = Batch::new();
        far.receive.receive(&mut batch).unwrap();
        arrived += batch.len();
        drop(batch);
        far.receive.release(0);
    }
    assert_eq!(kept, 400 * 32, "nothing was copied here");
    assert!(arrived > 300 * 32, "{arrived} arrived");
    drop((a, from, to, _b, _c));
    #[allow(clippy::disallowed_methods)]
    let later = Instant::now() + Duration::from_secs(3);
    let mut pool = memory.pool();
    pool.enroll(later);
    let mut all: Vec<u64> = std::iter::from_fn(|| pool.take(1)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 16_384, "every chunk is free again, and free once");
}

/// Frames that a port has for its worker, which keeps none of them, or all.
fn drain(port: &mut Port, kept: u64) -> usize {
    let mut batch = Batch::new();
    port.receive.receive(&mut batch).unwrap();
    let count = batch.len();
    drop(batch);
    port.receive.release(kept);
    count
}

#[test]
fn a_queue_whose_chunks_were_all_under_way_goes_on_when_some_are_back() {
    let (host, steering, [_a, mut b]) = cable();
    let one = host.index("one");
    // Needs no chunks to send.
    let mut sender = host.run(move || RingTransmit::open(one).unwrap());
    let memory = steering.memory(0).unwrap();
    let burst: Vec<_> = (0..32).map(|n| claimed(60, n)).collect();
    let elsewhere: Vec<u64> = {
        let mut pool = memory.pool();
        std::iter::from_fn(|| pool.take(9999)).collect()
    };
    let mut received = 0;
    for _ in 0..100 {
        send(&mut sender, &burst);
        while wait_briefly(&b.ports[0]) {
            // As if a transmitter had taken all of them.
            received += drain(&mut b.ports[0], u64::MAX);
        }
    }
    assert_eq!(received, 2048, "then the chunks were used up");
    assert!((0..300).all(|_| drain(&mut b.ports[0], 0) == 0));
    {
        let mut pool = memory.pool();
        elsewhere.iter().for_each(|chunk| pool.give_back(*chunk, 9999));
    }
    for _ in 0..3 {
        drain(&mut b.ports[0], 0);
    }
    send(&mut sender, &burst);
    assert!(wait(&b.ports[0]), "nothing is received any more");
    assert!((0..10).map(|_| drain(&mut b.ports[0], 0)).sum::<usize>() == burst.len());
}

fn wait_briefly(port: &Port) -> bool {
    let descriptor = port.receive.descriptor().unwrap();
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::from(2u16)).unwrap() > 0
}

#[test]
fn chunks_given_to_a_socket_whose_interface_has_gone_are_not_used_twice() {
    let (host, steering, [mut a, mut b]) = cable();
    host.join("three", &host, "four");
    let index = host.index("three");
    let (mut gone, _steering) =
        host.run(move || (open(&request("three", index), &steering).unwrap(), steering));
    send(a.ports[0].transmit.as_mut(), &[claimed(60, 1), claimed(60, 2)]);
    assert!(wait(&b.ports[0]));
    host.ip("link del dev three");
    let mut batch = Batch::new();
    b.ports[0].receive.receive(&mut batch).unwrap();
    assert_eq!(batch.len(), 2);
    let sent = gone.ports[0].transmit.send(&mut batch, 0b11).unwrap();
    assert_eq!(sent, Sent { kept: 0b11, refused: 0b11, full: 0 });
}

#[test]
fn what_was_lost_is_told_to_a_worker_that_asks_after_frames_only() {
    let (_host, _steering, [mut a, mut b]) = cable();
    let burst: Vec<_> = (0..BATCH as u8).map(|n| claimed(60, n)).collect();
    let mut missed = 0;
    for _ in 0..40 {
        // More than the ring holds each time, then all of it taken.
        for _ in 0..40 {
            send(a.ports[0].transmit.as_mut(), &burst);
        }
        for _ in 0..40 {
            if drain(&mut b.ports[0], 0) > 0 {
                missed += b.ports[0].receive.missed();
            }
        }
    }
    assert!(missed > 5_000, "{missed} of some 20,000");
}

#[test]
fn any_number_of_interfaces_has_packet_memory() {
    let host = Host::new();
    let names: Vec<(String, String)> = (0..9).map(|n| (format!("a{n}"), format!("b{n}"))).collect();
    for (near, far) in &names {
        host.join(near, &host, far);
    }
    let ends: Vec<(String, u32)> =
        names.iter().flat_map(|(a, b)| [a, b]).map(|n| (n.clone(), host.index(n))).collect();
    let (_steering, mut opened) = host.run(move || {
        let steering = Steering::new().unwrap();
        let net = Prefix { address: IpAddr::from([198, 51, 100, 0]), length: 24 };
        let rules = SteeringRules { prefixes: [net].into(), ..SteeringRules::default() };
        steering.apply(&rules).unwrap();
        let opened: Vec<Opened> = ends
            .iter()
            .map(|(name, index)| open(&request(name, *index), &steering).unwrap())
            .collect();
        (steering, opened)
    });
    let burst: Vec<_> = (0..32).map(|n| claimed(60, n)).collect();
    for pair in opened.chunks_exact_mut(2) {
        let [from, to] = pair else { panic!() };
        for _ in 0..100 {
            assert_eq!(send(from.ports[0].transmit.as_mut(), &burst), Sent::default());
            let mut got = 0;
            while got < burst.len() && wait(&to.ports[0]) {
                got += drain(&mut to.ports[0], 0);
            }
            assert_eq!(got, burst.len());
        }
    }
}

#[test]
fn an_interface_is_opened_again_at_once() {
    let host = Host::new();
    host.join("one", &host, "two");
    let index = host.index("one");
    host.run(move || {
        let steering = Steering::new().unwrap();
        for _ in 0..50 {
            drop(open(&request("one", index), &steering).unwrap());
        }
    });
}

fn request(interface: &str, index: u32) -> Request<'_> {
    Request { interface, index, port: PortId(5), workers: 1, generic: false, busy_poll: false }
}

#[test]
fn a_ring_that_nobody_empties_loses_new_frames_and_counts_them() {
    let (_host, _steering, [mut a, mut b]) = cable();
    let burst: Vec<_> = (0..BATCH as u8).map(|n| claimed(60, n)).collect();
    for _ in 0..40 {
        send(a.ports[0].transmit.as_mut(), &burst);
    }
    let (mut got, mut missed) = (0, 0);
    for _ in 0..1000 {
        let mut batch = Batch::new();
        b.ports[0].receive.receive(&mut batch).unwrap();
        got += batch.len() as u64;
        drop(batch);
        b.ports[0].receive.release(0);
        missed += b.ports[0].receive.missed();
    }
    assert_eq!(got, 2048);
    assert_eq!(got + missed, 40 * BATCH as u64);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_host, _steering, [mut a, _b]) = cable();
    let sent = send(a.ports[0].transmit.as_mut(), &[claimed(60, 1), claimed(1600, 2)]);
    assert_eq!(sent, Sent { refused: 0b10, ..Sent::default() });
}

#[test]
fn an_mtu_that_is_too_large_is_said() {
    let host = Host::new();
    host.join("one", &host, "two");
    host.ip("link set dev one mtu 3000");
    let index = host.index("one");
    let error = host.run(move || {
        let steering = Steering::new().unwrap();
        let request = Request {
            interface: "one",
            index,
            port: PortId(0),
            workers: 1,
            generic: false,
            busy_poll: false,
        };
        open(&request, &steering).err().unwrap().to_string()
    });
    assert!(error.contains("MTU 3000") && error.contains("1774"), "{error}");
}

#[test]
fn an_interface_that_is_removed_is_reported() {
    let (host, _steering, [mut a, mut b]) = cable();
    host.ip("link del dev one");
    for port in [&mut a.ports[0], &mut b.ports[0]] {
        let gone = (0..64).any(|_| port.receive.receive(&mut Batch::new()).is_err());
        assert!(gone);
    }
    let mut raw = host.run(|| RingTransmit::open(1).unwrap());
    assert!(raw.send(&mut [], 0).is_ok());
}

#[test]
fn the_drivers_program_decides_as_the_judgement_does() {
    let host = Host::new();
    host.join("one", &host, "two");
    let [a, b, c, d, e, f] = OWN;
    host.ip(&format!("link set dev one address {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}"));
    let index = host.index("one");
    host.run(move || {
        let steering = Steering::new().unwrap();
        let request = Request {
            interface: "one",
            index,
            port: PortId(0),
            workers: 1,
            generic: false,
            busy_poll: false,
        };
        let _opened = open(&request, &steering).unwrap();
        let config =
            ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let cases = (rules(index), proptest::collection::vec(frame(), 1..40));
        runner
            .run(&cases, |(rules, frames)| {
                steering.apply(&rules).unwrap();
                let tables = steering.tables();
                for frame in frames {
                    let destination: Mac = *frame.first_chunk().unwrap();
                    let reached = addressed(&tables, index, OWN, destination);
                    let judgement = judge(&tables, &frame, reached);
                    // XDP_REDIRECT, to the socket, or XDP_PASS.
                    let expected = if judgement == Judgement::Claim { 4 } else { 2 };
                    let returned = run_xdp(&steering, &frame, index);
                    prop_assert_eq!(returned, expected, "{:?} {:02x?}", judgement, frame);
                }
                Ok(())
            })
            .unwrap();
    });
}
