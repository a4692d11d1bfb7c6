use super::maps::ENDPOINTS;
use super::*;
use crate::io::netns::Host;
use crate::table::{Mac, Prefix, Protocol};
use proptest::prelude::*;
use std::net::IpAddr;

pub(in crate::io) mod frames;
mod live;
pub(in crate::io) mod runs;
use frames::{OTHER, OWN, VIRTUAL, frame, rules};
use runs::{Arrival, run};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(protocol: Protocol, address: &str, ports: Ports) -> Endpoint {
    Endpoint { protocol, address: ip(address), ports }
}

/// A director: VIP 192.0.2.10 with a web and an FTP service, its own address 192.0.2.2 with full NAT
/// ports 20000-29999, real servers 10.0.0.11 (NAT, 8080; FTP), and a marked network 198.51.100.0/24.
fn director() -> SteeringRules {
    let tcp = Protocol::Tcp;
    SteeringRules {
        owned: [ip("192.0.2.10"), ip("2001:db8::10")].into(),
        services: [
            endpoint(tcp, "192.0.2.10", Ports::One(80)),
            endpoint(tcp, "192.0.2.10", Ports::One(21)),
            endpoint(tcp, "192.0.2.10", Ports::FtpData),
            endpoint(Protocol::Udp, "2001:db8::10", Ports::All),
        ]
        .into(),
        prefixes: [Prefix { address: ip("198.51.100.7"), length: 24 }].into(),
        reals: [
            endpoint(tcp, "10.0.0.11", Ports::One(8080)),
            endpoint(tcp, "10.0.0.11", Ports::FtpData),
            endpoint(Protocol::Udp, "2001:db8:1::11", Ports::All),
        ]
        .into(),
        tunnels: [
            TunnelEnd { address: ip("10.0.9.11"), protocol: 4, port: 0 },
            TunnelEnd { address: ip("10.0.9.12"), protocol: 17, port: 6080 },
        ]
        .into(),
        pools: [(ip("192.0.2.2"), 20000..=29999)].into(),
        local: [ip("192.0.2.2"), ip("10.0.0.1"), ip("198.51.100.1")].into(),
        macs: [(1, VIRTUAL)].into(),
    }
}

fn judged(frame: &[u8]) -> Judgement {
    judge(&Tables::from(&director()), frame, true)
}

fn segment(from: (&str, u16), to: (&str, u16), protocol: u8) -> Vec<u8> {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    frames::packet(ip(from.0), ip(to.0), protocol, &[&ports[..], &[0; 16]].concat())
}

#[test]
fn services_at_owned_addresses_are_claimed_and_nothing_else_there() {
    let client = ("203.0.113.5", 40000);
    for (port, claimed) in
        [(80, true), (21, true), (20, true), (1024, true), (22, false), (443, false)]
    {
        let expected = if claimed { Judgement::Claim } else { Judgement::Host };
        assert_eq!(judged(&segment(client, ("192.0.2.10", port), 6)), expected, "port {port}");
    }
    assert_eq!(judged(&segment(client, ("192.0.2.10", 80), 17)), Judgement::Host);
    let client = ("2001:db8:9::5", 40000);
    assert_eq!(judged(&segment(client, ("2001:db8::10", 9), 17)), Judgement::Claim);
    assert_eq!(judged(&segment(client, ("2001:db8::10", 9), 6)), Judgement::Host);
}

#[test]
fn what_is_for_the_director_itself_stays_its_own() {
    let client = ("203.0.113.5", 40000);
    assert_eq!(judged(&segment(client, ("192.0.2.2", 22), 6)), Judgement::Host);
    // A health probe's reply comes from the very port that serves clients.
    assert_eq!(judged(&segment(("10.0.0.11", 8080), ("10.0.0.1", 50000), 6)), Judgement::Host);
    // An own address inside a marked network.
    assert_eq!(judged(&segment(client, ("198.51.100.1", 22), 6)), Judgement::Host);
    assert_eq!(judged(&frames::echo(ip("203.0.113.5"), ip("192.0.2.2"))), Judgement::Host);
}

#[test]
fn replies_of_nat_servers_are_claimed_and_their_other_traffic_is_not() {
    let client = "203.0.113.5";
    for (port, claimed) in [(8080, true), (20, true), (30000, true), (22, false), (21, false)] {
        let expected = if claimed { Judgement::Claim } else { Judgement::Host };
        assert_eq!(judged(&segment(("10.0.0.11", port), (client, 1), 6)), expected, "port {port}");
    }
    assert_eq!(judged(&segment(("10.0.0.12", 8080), (client, 1), 6)), Judgement::Host);
    assert_eq!(judged(&segment(("10.0.0.11", 8080), (client, 1), 17)), Judgement::Host);
}

#[test]
fn full_nat_ports_of_an_own_address_are_claimed() {
    for (port, claimed) in [(19999, false), (20000, true), (29999, true), (30000, false)] {
        let expected = if claimed { Judgement::Claim } else { Judgement::Host };
        assert_eq!(judged(&segment(("10.0.0.9", 80), ("192.0.2.2", port), 6)), expected);
    }
}

#[test]
fn owned_addresses_are_resolved_and_pinged_by_the_dataplane() {
    assert_eq!(judged(&frames::arp(1, "192.0.2.10")), Judgement::Claim);
    assert_eq!(judged(&frames::arp(1, "192.0.2.2")), Judgement::Host);
    assert_eq!(judged(&frames::arp(2, "192.0.2.2")), Judgement::Both);
    assert_eq!(judged(&frames::solicitation(135, "2001:db8::10")), Judgement::Claim);
    assert_eq!(judged(&frames::solicitation(135, "2001:db8::2")), Judgement::Host);
    assert_eq!(judged(&frames::solicitation(136, "2001:db8::2")), Judgement::Both);
    assert_eq!(judged(&frames::echo(ip("203.0.113.5"), ip("192.0.2.10"))), Judgement::Claim);
    assert_eq!(judged(&frames::echo(ip("2001:db8:9::5"), ip("2001:db8::10"))), Judgement::Claim);
}

#[test]
fn marked_networks_are_claimed_for_every_port_of_one_family() {
    let client = ("203.0.113.5", 40000);
    assert_eq!(judged(&segment(client, ("198.51.100.200", 1), 132)), Judgement::Claim);
    assert_eq!(judged(&segment(client, ("198.51.101.1", 1), 132)), Judgement::Host);
    assert_eq!(judged(&segment(client, ("198.51.100.200", 1), 47)), Judgement::Host);
    let everything6 = Prefix { address: ip("::"), length: 0 };
    let tables = Tables::from(&SteeringRules { prefixes: [everything6].into(), ..director() });
    let four = segment(client, ("198.51.101.1", 1), 6);
    assert_eq!(judge(&tables, &four, true), Judgement::Host);
    let six = segment(("2001:db8:9::5", 1), ("2001:db8:8::5", 1), 6);
    assert_eq!(judge(&tables, &six, true), Judgement::Claim);
}

#[test]
fn fragments_follow_their_addresses() {
    let fragment = |from: &str, to: &str| {
        let mut bytes = frames::packet(ip(from), ip(to), 17, &[0; 32]);
        bytes[20] = 0x20;
        bytes
    };
    assert_eq!(judged(&fragment("203.0.113.5", "192.0.2.10")), Judgement::Claim);
    assert_eq!(judged(&fragment("10.0.0.11", "203.0.113.5")), Judgement::Claim);
    assert_eq!(judged(&fragment("10.0.0.11", "10.0.0.1")), Judgement::Host);
    assert_eq!(judged(&fragment("10.0.0.11", "192.0.2.2")), Judgement::Claim);
    assert_eq!(judged(&fragment("203.0.113.5", "10.0.0.1")), Judgement::Host);
}

#[test]
fn icmp_errors_about_what_was_sent_to_real_servers_are_claimed() {
    let about = |from: &str, from_port: u16, to: &str, to_port: u16| {
        segment((from, from_port), (to, to_port), 6)
    };
    let client = "203.0.113.5";
    assert_eq!(judged(&error(client, about(client, 9, "10.0.0.11", 8080))), Judgement::Claim);
    assert_eq!(judged(&error(client, about(client, 9, "10.0.0.11", 22))), Judgement::Host);
    assert_eq!(
        judged(&error("10.0.0.1", about("10.0.0.1", 9, "10.0.0.11", 8080))),
        Judgement::Host
    );
    let pool = "192.0.2.2";
    assert_eq!(judged(&error(pool, about(pool, 20005, "10.0.0.11", 8080))), Judgement::Claim);
    assert_eq!(judged(&error(pool, about(pool, 50005, "10.0.0.11", 8080))), Judgement::Host);
}

/// "Fragmentation needed", sent to `to` about a packet.
fn error(to: &str, about: Vec<u8>) -> Vec<u8> {
    let body = [&[3, 4, 0, 0, 0, 0, 0, 0], &about[14..]].concat();
    frames::packet(ip("10.0.0.254"), ip(to), 1, &body)
}

#[test]
fn icmp_errors_about_tunnels_are_claimed() {
    let own = "192.0.2.2";
    let wrapped = |to: &str, protocol| frames::packet(ip(own), ip(to), protocol, &[0; 28]);
    assert_eq!(judged(&error(own, wrapped("10.0.9.11", 4))), Judgement::Claim);
    assert_eq!(judged(&error(own, wrapped("10.0.9.11", 47))), Judgement::Host);
    assert_eq!(judged(&error(own, wrapped("10.0.9.13", 4))), Judgement::Host);
    let gue = |port| segment((own, 40000), ("10.0.9.12", port), 17);
    assert_eq!(judged(&error(own, gue(6080))), Judgement::Claim);
    assert_eq!(judged(&error(own, gue(53))), Judgement::Host);
}

/// A host with an interface `one` whose Ethernet address is [`OWN`], and its index.
fn host_with_interface() -> (Host, u32) {
    let host = Host::new();
    host.join("one", &host, "two");
    let [a, b, c, d, e, f] = OWN;
    host.ip(&format!("link set dev one address {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}"));
    let index = host.index("one");
    (host, index)
}

fn runner(cases: u32) -> proptest::test_runner::TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
}

/// The kernel's test runs refuse IP frames without a whole IP header; tagged ones it does not check.
fn can_be_run(frame: &[u8]) -> bool {
    match frame[12..14] {
        [8, 0] => frame.len() >= 34,
        [0x86, 0xdd] => frame.len() >= 54,
        _ => true,
    }
}

/// All that run at ingress.
const INGRESS: [&str; 3] = ["viaduct_ingress", "viaduct_ingress2", "viaduct_legacy"];

/// Runs the tap, which must judge so, and returns what it leaves for the program at ingress.
fn tapped(steering: &Steering, frame: &[u8], interface: u32, judgement: Judgement) -> [u32; 5] {
    // A socket filter's test run takes an Ethernet header away, which the packet socket does not.
    let doubled = [&frame[..12], &[0, 0], frame].concat();
    let arrival = Arrival { interface, ..Arrival::default() };
    let ran = run::<SocketFilter>(steering, "viaduct_tap", &doubled, &arrival);
    let taken = if judgement == Judgement::Host { 0 } else { -1 };
    assert_eq!(ran.returned, taken, "{judgement:?} {frame:02x?}");
    assert_ne!(ran.control, [0; 5]);
    ran.control
}

#[test]
fn ingress_does_as_the_tap_said_and_judges_what_the_tap_did_not_see() {
    let (host, interface) = host_with_interface();
    host.run(move || {
        let steering = Steering::new().unwrap();
        steering.apply(&director()).unwrap();
        let claimed = segment(("203.0.113.5", 1), ("192.0.2.10", 80), 6);
        let left = segment(("203.0.113.5", 1), ("192.0.2.10", 81), 6);
        let claim = tapped(&steering, &claimed, interface, Judgement::Claim);
        let leave = tapped(&steering, &left, interface, Judgement::Host);
        let half = [claim[0], 7, 0, 0, 0];
        // Rules may change between the two: one judgement holds for both.
        for (frame, control, expected) in [
            (&claimed, leave, -1),
            (&left, claim, 2),
            (&claimed, half, 2),
            (&left, half, -1),
            (&claimed, [0, claim[1], 0, 0, 0], 2),
            (&left, [u32::MAX; 5], -1),
        ] {
            let arrival = Arrival { interface, control };
            let ran = run::<SchedClassifier>(&steering, "viaduct_ingress", frame, &arrival);
            assert_eq!(ran.returned, expected, "{control:x?}");
        }
    });
}

#[test]
fn the_kernel_accepts_the_programs_and_they_decide_as_the_judgement_does() {
    let (host, interface) = host_with_interface();
    host.run(move || {
        let steering = Steering::new().unwrap();
        let mut runner = runner(200);
        let cases = (rules(interface), proptest::collection::vec(frame(), 1..40));
        runner
            .run(&cases, |(rules, frames)| {
                steering.apply(&rules).unwrap();
                let tables = steering.tables();
                for frame in frames.into_iter().filter(|frame| can_be_run(frame)) {
                    let destination: Mac = *frame.first_chunk().unwrap();
                    let reached = addressed(&tables, interface, OWN, destination);
                    let judgement = judge(&tables, &frame, reached);
                    let expected = if judgement == Judgement::Claim { 2 } else { -1 };
                    let noted = tapped(&steering, &frame, interface, judgement);
                    for control in [[0; 5], noted] {
                        let arrival = Arrival { interface, control };
                        for program in INGRESS {
                            let ran = run::<SchedClassifier>(&steering, program, &frame, &arrival);
                            prop_assert_eq!(
                                ran.returned,
                                expected,
                                "{:?} {:02x?}",
                                judgement,
                                frame
                            );
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn every_kind_of_judgement_is_generated_often() {
    let mut runner = runner(300);
    let counts = std::cell::Cell::new([0u32; 3]);
    runner
        .run(&(rules(1), proptest::collection::vec(frame(), 1..40)), |(rules, frames)| {
            let tables = Tables::from(&rules);
            for frame in frames {
                let mut seen = counts.get();
                seen[judge(&tables, &frame, true) as usize] += 1;
                counts.set(seen);
            }
            Ok(())
        })
        .unwrap();
    let [host, both, claim] = counts.get();
    assert!(host > 500 && both > 50 && claim > 500, "{host} {both} {claim}");
}

#[test]
fn a_frame_for_another_ethernet_address_is_not_claimed_unless_it_is_a_virtual_one() {
    let (host, interface) = host_with_interface();
    host.run(move || {
        let steering = Steering::new().unwrap();
        let rules = SteeringRules { macs: [(interface, VIRTUAL)].into(), ..director() };
        steering.apply(&rules).unwrap();
        let mut frame = segment(("203.0.113.5", 1), ("192.0.2.10", 80), 6);
        for (mac, expected) in [(OWN, 2), (OTHER, -1), (VIRTUAL, 2), ([0xff; 6], 2)] {
            frame[..6].copy_from_slice(&mac);
            let arrival = Arrival { interface, ..Arrival::default() };
            let ran = run::<SchedClassifier>(&steering, "viaduct_ingress", &frame, &arrival);
            assert_eq!(ran.returned, expected, "{mac:x?}");
        }
    });
}

#[test]
fn rules_that_do_not_fit_change_nothing() {
    let (host, interface) = host_with_interface();
    host.run(move || {
        let steering = Steering::new().unwrap();
        steering.apply(&director()).unwrap();
        let mut many = SteeringRules::default();
        many.prefixes.extend((0..=PREFIXES).map(|n| Prefix {
            address: IpAddr::V4(n.wrapping_mul(0x0101_0101).into()),
            length: 32,
        }));
        let error = steering.apply(&many).unwrap_err().to_string();
        assert!(error.contains("4098 networks in mark rules and room for 4096"), "{error}");
        let frame = segment(("203.0.113.5", 1), ("192.0.2.10", 80), 6);
        let arrival = Arrival { interface, ..Arrival::default() };
        let ran = run::<SchedClassifier>(&steering, "viaduct_ingress", &frame, &arrival);
        assert_eq!(ran.returned, 2);
        assert_eq!(*steering.tables(), Tables::from(&director()));
        while Tables::from(&many).prefixes.len() > PREFIXES as usize {
            many.prefixes.pop_last();
        }
        steering.apply(&many).expect("room was given back");
        // As many others as there is room for.
        for prefix in std::mem::take(&mut many.prefixes) {
            let IpAddr::V4(address) = prefix.address else { panic!() };
            let address = IpAddr::V4((address.to_bits() ^ 0x8080).into());
            many.prefixes.insert(Prefix { address, ..prefix });
        }
        steering.apply(&many).expect("the old ones make room for the new ones");
        assert_eq!(*steering.tables(), Tables::from(&many));
    });
}

#[test]
fn interfaces_that_come_and_go_do_not_use_the_room_up() {
    let (host, interface) = host_with_interface();
    host.run(move || {
        let steering = Steering::new().unwrap();
        steering.accept_own(interface, OWN).unwrap();
        for gone in 1000..1000 + MACS * 2 {
            steering.accept_own(gone, OTHER).unwrap();
        }
        assert!(steering.tables().macs.contains(&(interface, OWN)));
        steering.accept_own(interface, OTHER).unwrap();
        assert_eq!(steering.tables().macs, [(interface, OTHER)].into());
    });
}

#[test]
fn the_maps_have_the_room_that_rules_are_checked_for() {
    let mut object = bpf::steering_object().unwrap();
    let expected = [
        ("addresses", ADDRESSES),
        ("endpoints", ENDPOINTS),
        ("prefixes", PREFIXES),
        ("macs", MACS),
    ];
    for (name, most) in expected {
        let (aya::maps::Map::HashMap(map) | aya::maps::Map::LpmTrie(map)) =
            object.take_map(name).unwrap()
        else {
            panic!("{name}");
        };
        assert_eq!(map.info().unwrap().max_entries(), most, "{name}");
    }
}
