//! What strangers may send about connections and neighbours, and how little of it is believed.

use super::fixture::packet::*;
use super::fixture::*;
use super::methods::{NAT, client, network, vip};
use crate::packet_path::*;
use crate::table::*;
use crate::wire::checksum::pseudo_header;
use crate::wire::{be16, ip as numbers, ip::v4, ip::v6, put16};

const IPIP: Method = Method::Tunnel(Tunnel::Ipip);

/// The outer addresses of tunnels to real servers: this director's, a stranger's, a router's.
fn outside_of(outer_v6: bool) -> [&'static str; 3] {
    if outer_v6 {
        ["2001:db8:2::1", "2001:db8:2::66", "2001:db8:2::fe"]
    } else {
        ["10.0.0.1", "10.0.0.66", "10.0.0.254"]
    }
}

/// A service whose clients are of one family, and its first real server of the other or the same.
fn tunnel_service(id: u32, v6: bool, outer_v6: bool) -> Service {
    let mut one = service(id, v6, Protocol::Tcp, IPIP);
    one.reals = [real(id * 10, outer_v6, 13, IPIP)].into();
    one
}

/// The beginning of a packet in a tunnel, as a frame.
fn carrier(from: &str, to: &str, inner_v6: bool) -> Vec<u8> {
    let inner = tcp((client(inner_v6), vip(inner_v6)), "A", &[1; 100]);
    let mut outer = udp(((from, 0), (to, 0)), &inner[14 + 8..]);
    let l4 = parsed(&outer).l4;
    outer[l4..].copy_from_slice(&inner[14..]);
    let protocol = if inner_v6 { numbers::IPV6_IN_IP } else { numbers::IPIP };
    let outer_v6 = outer[14] >> 4 == 6;
    outer[14 + if outer_v6 { v6::NEXT_HEADER } else { v4::PROTOCOL }] = protocol;
    outer
}

#[test]
fn an_error_about_a_tunnel_counts_only_for_packets_that_the_director_sent() {
    for outer_v6 in [false, true] {
        let [own, stranger, router] = outside_of(outer_v6);
        let to = real_ip(outer_v6, 13).to_string();
        for (from, believed) in [(stranger, false), (own, true)] {
            let mut net = Network::new(vec![tunnel_service(0, false, outer_v6)]);
            let error = too_big(router, own, 1400, &carrier(from, &to, false));
            assert_eq!(net.arrive(INSIDE, &error).0, Verdict::Host);
            let limit = net.director.reals().path_limit(RealId(0), 1500);
            assert_eq!(limit, if believed { 1400 } else { 1500 }, "quoted from {from}");
        }
    }
}

#[test]
fn no_error_makes_a_tunnel_narrower_than_what_every_path_carries() {
    // Of 1280 bytes for IPv6 clients, all are left by the tunnel's own header.
    for (v6, outer_v6, least) in
        [(false, false, 552), (false, true, 1280), (true, false, 1300), (true, true, 1320)]
    {
        let [own, _, router] = outside_of(outer_v6);
        let to = real_ip(outer_v6, 13).to_string();
        for mtu in [0, 1, 551] {
            let mut net = Network::new(vec![tunnel_service(0, v6, outer_v6)]);
            net.arrive(INSIDE, &too_big(router, own, mtu, &carrier(own, &to, v6)));
            assert_eq!(net.director.reals().path_limit(RealId(0), 1500), least, "{v6} {outer_v6}");
        }
    }
}

#[test]
fn every_tunnel_to_an_address_learns_of_the_limit_and_nothing_else_does() {
    let nat = service(2, false, Protocol::Udp, NAT);
    let [one, two] = [0, 1].map(|id| tunnel_service(id, id == 1, false));
    let mut net = Network::new(vec![one, two, nat]);
    let to = real_ip(false, 13).to_string();
    net.arrive(INSIDE, &too_big("10.0.0.254", "10.0.0.1", 1400, &carrier("10.0.0.1", &to, false)));
    let limits = [0, 10, 20].map(|id| net.director.reals().path_limit(RealId(id), 1500));
    assert_eq!(limits, [1400, 1400, 1500]);
}

#[test]
fn an_error_about_a_nat_connection_limits_no_real_server() {
    for method in [NAT, Method::FullNat] {
        let mut net = network(false, Protocol::Tcp, method);
        let (_, left) = net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
        let sent = parsed(&left[0].bytes);
        let to_client = tcp((vip(false), client(false)), "SA", b"");
        net.arrive(OUTSIDE, &too_big("198.51.100.254", VIP4, 1, &to_client));
        net.arrive(INSIDE, &too_big("10.0.0.254", &sent.source.to_string(), 1, &left[0].bytes));
        let limits = [0, 1, 2].map(|id| net.director.reals().path_limit(RealId(id), 1500));
        assert_eq!(limits, [1500; 3]);
    }
}

#[test]
fn behind_full_nat_no_error_tells_a_real_server_of_less_than_every_path_carries() {
    // To the real server, all clients are one address of the director.
    for (v6, least) in [(false, 552), (true, 1280)] {
        let mut net = network(v6, Protocol::Tcp, Method::FullNat);
        net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
        let router = if v6 { "2001:db8:9::fe" } else { "198.51.100.254" };
        for (mtu, told) in [(1, least), (1400, 1400)] {
            let quoted = tcp((vip(v6), client(v6)), "A", &[7; 200]);
            let (_, left) = net.arrive(OUTSIDE, &too_big(router, vip(v6).0, mtu, &quoted));
            let error = parsed(&left[0].bytes);
            assert_eq!(be16(&left[0].bytes, error.l4 + 6), told);
            assert_sound(&left[0].bytes[14..]);
        }
    }
}

#[test]
fn an_error_whose_hop_limit_is_used_up_goes_no_further() {
    for method in [NAT, Method::FullNat, Method::DirectRouting, IPIP] {
        for (v6, limit) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let mut net = network(v6, Protocol::Tcp, method);
            let (_, left) = net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
            let sent = parsed(&left[0].bytes);
            let router = if v6 { "2001:db8:9::fe" } else { "198.51.100.254" };
            let about_reply = tcp((vip(v6), client(v6)), "A", &[7; 200]);
            let mut errors = vec![(OUTSIDE, too_big(router, vip(v6).0, 1300, &about_reply))];
            if matches!(method, Method::Nat | Method::FullNat) {
                let router = real_ip(v6, 12).to_string();
                let to = sent.source.to_string();
                errors.push((INSIDE, too_big(&router, &to, 1300, &left[0].bytes)));
            }
            let all = errors.len() as u64;
            for (port, mut error) in errors {
                error[14 + if v6 { v6::HOP_LIMIT } else { v4::TTL }] = limit;
                let (verdict, left) = net.arrive(port, &error);
                assert_eq!(verdict, Verdict::Drop(DropReason::TtlExceeded), "{method:?}");
                assert_eq!(left, vec![], "and nobody is told");
            }
            assert_eq!(net.drops(DropReason::TtlExceeded), all);
        }
    }
}

#[test]
fn an_error_loses_a_hop_on_its_way_to_a_real_server_by_every_method() {
    for method in [NAT, Method::FullNat, Method::DirectRouting, IPIP] {
        let mut net = network(false, Protocol::Tcp, method);
        net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
        let quoted = tcp((vip(false), client(false)), "A", &[7; 200]);
        let (_, left) = net.arrive(OUTSIDE, &too_big("198.51.100.254", VIP4, 1300, &quoted));
        let inner = 14 + if method == IPIP { v4::LENGTH } else { 0 };
        assert_eq!(left[0].bytes[inner + v4::TTL], 63, "{method:?}");
        assert_sound(&left[0].bytes[inner..]);
    }
}

/// A frame of neighbour discovery, valid but for what `change` does to its ICMPv6 part.
fn discovery(kind: u8, target: &str, options: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let asker = "2001:db8:1::77";
    let mut body = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    let std::net::IpAddr::V6(address) = ip(target) else { panic!("IPv6") };
    body.extend(address.octets());
    body.extend(options);
    let mut frame = udp(((asker, 0), (target, 0)), &body[8..]);
    let l4 = parsed(&frame).l4;
    frame[14 + v6::NEXT_HEADER] = numbers::ICMPV6;
    frame[14 + v6::HOP_LIMIT] = 255;
    let ends = (Address::from(ip(asker)), Address::from(ip(target)));
    let length = body.len() as u32;
    let sum = pseudo_header(false, ends.0.0, ends.1.0, numbers::ICMPV6, length).bytes(&body);
    put16(&mut body, 2, sum.checksum());
    change(&mut body);
    frame[l4..].copy_from_slice(&body);
    frame
}

/// A solicitation for the VIP.
fn solicitation(options: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    discovery(135, VIP6, options, change)
}

const NONCE: [u8; 8] = [14, 1, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5];
const SOURCE: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0x77];
const TARGET: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 0x88];

#[test]
fn a_solicitation_is_answered_to_the_address_in_the_option_that_has_it() {
    let asked = |options: &[u8]| {
        let mut net = network(true, Protocol::Tcp, NAT);
        let (verdict, left) = net.arrive(OUTSIDE, &solicitation(options, |_| ()));
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        assert_sound(&left[0].bytes[14..]);
        macs(&left[0].bytes).1
    };
    let (sender, told) = ([2, 9, 9, 9, 9, 9], [2, 0, 0, 0, 0, 0x77]);
    assert_eq!(asked(&SOURCE), told);
    assert_eq!(asked(&[NONCE, SOURCE].concat()), told, "behind another option");
    assert_eq!(asked(&NONCE), sender, "a nonce is no address");
    assert_eq!(asked(&TARGET), sender, "nor is the option of advertisements");
    assert_eq!(asked(&[]), sender);
}

#[test]
fn a_solicitation_that_is_not_valid_is_left_to_the_host() {
    type Change = fn(&mut [u8]);
    let sum: Change = |body| body[3] ^= 1;
    let code: Change = |body| {
        body[1] = 1;
        let sum = be16(body, 2) - 1;
        put16(body, 2, sum);
    };
    let endless = [1, 0, 2, 0, 0, 0, 0, 0x77];
    let overlong = [1, 2, 2, 0, 0, 0, 0, 0x77];
    let nothing: Change = |_| ();
    for (options, change, what) in [
        (SOURCE, sum, "checksum"),
        (SOURCE, code, "code"),
        (endless, nothing, "an option of no length"),
        (overlong, nothing, "an option beyond the end"),
    ] {
        let mut net = network(true, Protocol::Tcp, NAT);
        let verdict = net.arrive(OUTSIDE, &solicitation(&options, change)).0;
        assert_eq!(verdict, Verdict::Host, "{what}");
    }
}

#[test]
fn an_advertisement_claims_an_address_only_if_it_is_valid_and_with_the_mac_that_it_names() {
    let claimed = |options: &[u8], change: fn(&mut [u8])| {
        let mut net = network(true, Protocol::Tcp, NAT);
        let verdict = net.arrive(OUTSIDE, &discovery(136, VIP6, options, change)).0;
        assert_eq!(verdict, Verdict::Host);
        net.notices.try_iter().next().map(|notice| match notice {
            Notice::AddressClaimed { mac, .. } => mac,
            other => panic!("{other:?}"),
        })
    };
    let sender = [2, 9, 9, 9, 9, 9];
    assert_eq!(claimed(&TARGET, |_| ()), Some([2, 0, 0, 0, 0, 0x88]));
    assert_eq!(claimed(&[NONCE, TARGET].concat(), |_| ()), Some([2, 0, 0, 0, 0, 0x88]));
    assert_eq!(claimed(&SOURCE, |_| ()), Some(sender), "the option of solicitations");
    assert_eq!(claimed(&TARGET, |body| body[2] ^= 1), None);
}

#[test]
fn only_who_was_asked_for_is_heard() {
    let mut net = network(false, Protocol::Udp, NAT);
    let mut one = service(0, false, Protocol::Udp, NAT);
    one.reals = [Real { address: ip("10.0.0.99"), ..real(0, false, 11, NAT) }].into();
    net.configure(vec![one], Tunables::default());
    assert_eq!(net.arrive(OUTSIDE, &udp((client(false), vip(false)), b"x")).0, Verdict::Consumed);
    let answer = |last: u8| {
        let mac = [2, 0, 0, 0, 1, last];
        let mut frame = [&INSIDE_MAC[..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac].concat();
        frame.extend([10, 0, 0, last]);
        frame.extend([0; 10]);
        frame
    };
    net.notices.try_iter().count();
    net.arrive(INSIDE, &answer(98));
    assert_eq!(net.notices.try_iter().count(), 0, "a frame waits, but not for this one");
    net.arrive(INSIDE, &answer(99));
    let seen =
        Notice::NeighbourSeen { port: INSIDE, address: ip("10.0.0.99"), mac: [2, 0, 0, 0, 1, 99] };
    assert_eq!(net.notices.try_iter().collect::<Vec<_>>(), [seen]);
}

#[test]
fn a_long_lived_flow_is_not_mistaken_for_a_flood_s() {
    let mut net = network(false, Protocol::Udp, NAT);
    let packet = udp((client(false), vip(false)), b"x");
    for _ in 0..1024 {
        net.arrive(OUTSIDE, &packet);
    }
    for port in 1..=1500 {
        let other = udp((("198.51.100.8", port), vip(false)), b"x");
        net.arrive(OUTSIDE, &other);
        net.arrive(OUTSIDE, &other);
    }
    let kept = net.listing().iter().any(|line| line.contains("198.51.100.7:4242"));
    assert!(kept, "all others had more packets than one as well, so none had to go");
}
