//! Nothing that arrives makes the packet path panic, and what leaves has right checksums.
//!
//! `VIADUCT_MUTATIONS` sets how many mutated packets are sent (default 200,000).

use super::fixture::packet::*;
use super::fixture::*;
use crate::frame::Segmentation;
use crate::packet_path::*;
use crate::table::*;

fn network() -> Network {
    let methods = [
        Method::Nat,
        Method::DirectRouting,
        Method::Tunnel(Tunnel::Ipip),
        Method::Tunnel(Tunnel::Gue { port: 6080, checksum: GueChecksum::Full }),
        Method::FullNat,
    ];
    let mut services = Vec::new();
    for (number, method) in (0u32..).zip(methods) {
        for (offset, v6, protocol) in
            [(0, false, Protocol::Tcp), (1, true, Protocol::Tcp), (2, false, Protocol::Udp)]
        {
            let mut one = service(number * 3 + offset, v6, protocol, method);
            let address = ip(if v6 { VIP6 } else { VIP4 });
            let port = 80 + u16::try_from(number).unwrap();
            one.key = ServiceKey::Address { protocol, address, port };
            one.reals = [real(number * 3 + offset, v6, 11, method)].into();
            services.push(one);
        }
    }
    Network::new(services)
}

fn corpus() -> Vec<(PortId, Vec<u8>)> {
    let mut frames = Vec::new();
    for port in 80..85 {
        for (client, vip) in [(CLIENT4, VIP4), (CLIENT6, VIP6)] {
            for flags in ["S", "A", "FA", "R"] {
                frames.push((OUTSIDE, tcp(((client, 4242), (vip, port)), flags, b"payload")));
            }
            let reply = if vip == VIP4 { "10.0.0.11" } else { "2001:db8:2::11" };
            frames.push((INSIDE, tcp(((reply, 8080), (client, 4242)), "A", b"reply")));
            let packet = tcp(((vip, port), (client, 4242)), "A", b"reply");
            let router = if vip == VIP4 { "198.51.100.9" } else { "2001:db8:9::9" };
            frames.push((OUTSIDE, too_big(router, vip, 1300, &packet)));
        }
        frames.push((OUTSIDE, udp(((CLIENT4, 4242), (VIP4, port)), &[5; 200])));
    }
    frames.push((OUTSIDE, ping(CLIENT4, VIP4)));
    frames.push((OUTSIDE, ping(CLIENT6, VIP6)));
    let mut outbox = outbox::Outbox::default();
    answer::ask_neighbour(&mut outbox, OUTSIDE, ROUTER_MAC, ip("192.0.2.254"), ip(VIP4));
    answer::ask_neighbour(&mut outbox, OUTSIDE, ROUTER_MAC, ip("2001:db8:1::fe"), ip(VIP6));
    frames.extend(outbox.ready().iter_mut().map(|own| (OUTSIDE, own.frame().bytes().to_vec())));
    frames
}

#[test]
fn every_frame_cut_to_every_length_is_survived() {
    let mut net = network();
    for (port, frame) in corpus() {
        for length in 0..=frame.len() {
            net.arrive(port, &frame[..length]);
        }
    }
}

#[test]
fn what_leaves_for_sound_packets_is_sound() {
    let mut net = network();
    for _ in 0..3 {
        for (port, frame) in corpus() {
            for left in net.arrive(port, &frame).1 {
                if crate::wire::be16(&left.bytes, 12) != crate::wire::ethernet::ARP {
                    let end = parsed(&left.bytes).end;
                    assert_sound(&left.bytes[14..end]);
                }
            }
        }
    }
}

#[test]
fn mutated_packets_are_survived() {
    let count: u64 = std::env::var("VIADUCT_MUTATIONS")
        .map_or(200_000, |text| text.parse().expect("VIADUCT_MUTATIONS is a number"));
    let mut net = network();
    let corpus = corpus();
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize
    };
    for round in 0..count {
        let (port, frame) = &corpus[random() % corpus.len()];
        let mut frame = frame.clone();
        for _ in 0..=random() % 4 {
            let at = random() % frame.len();
            frame[at] = random() as u8;
        }
        if random() % 8 == 0 {
            frame.truncate(random() % (frame.len() + 1));
        }
        let offload = match random() % 6 {
            0 => Offload {
                partial_checksum: random() % 2 == 0,
                checksum_start: random() as u16,
                checksum_offset: random() as u16,
                segmentation: Segmentation::Tcp4 { ecn: false },
                segment_size: random() as u16,
                header_length: random() as u16,
            },
            _ => Offload::default(),
        };
        net.arrive_with(*port, &frame, offload);
        if round % 1000 == 0 {
            net.pass(1);
        }
    }
    let (_, left) = net.arrive(OUTSIDE, &tcp(((CLIENT4, 9), (VIP4, 80)), "S", b""));
    assert_eq!(left.len(), 1, "and it still forwards");
}
