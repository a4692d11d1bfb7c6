//! ICMP errors in every direction, and fragments.

use super::fixture::packet::*;
use super::fixture::*;
use super::methods::{NAT, client, network, vip};
use crate::packet_path::*;
use crate::table::*;
use crate::wire::{be16, ip::v4};

#[test]
fn without_real_server_the_client_is_told_port_unreachable() {
    for v6 in [false, true] {
        let mut service = service(0, v6, Protocol::Udp, NAT);
        service.reals = [].into();
        let mut net = Network::new(vec![service]);
        let (verdict, left) = net.arrive(OUTSIDE, &udp((client(v6), vip(v6)), b"question"));
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        let error = parsed(&left[0].bytes);
        assert_eq!((error.source.ip(), error.destination.ip()), (ip(vip(v6).0), ip(client(v6).0)));
        let (kind, code) = (left[0].bytes[error.l4], left[0].bytes[error.l4 + 1]);
        assert_eq!((kind, code), if v6 { (1, 4) } else { (3, 3) });
        assert_sound(&left[0].bytes[14..]);
        assert_eq!(net.drops(DropReason::NoRealServer), 1);
    }
}

#[test]
fn errors_from_outside_reach_the_real_server_translated() {
    for v6 in [false, true] {
        let mut net = network(v6, Protocol::Tcp, NAT);
        net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
        let real = real_ip(v6, 13).to_string();
        let big = tcp(((&real, 8080), client(v6)), "A", &[7; 1000]);
        let (_, left) = net.arrive(INSIDE, &big);
        let router = if v6 { "2001:db8:9::fe" } else { "198.51.100.254" };
        let error = too_big(router, vip(v6).0, 1300, &left[0].bytes);
        let (verdict, left) = net.arrive(OUTSIDE, &error);
        assert_eq!(verdict, Verdict::Send(INSIDE));
        let outer = parsed(&left[0].bytes);
        assert_eq!((outer.source.ip(), outer.destination.ip()), (ip(router), ip(&real)));
        let inner = parse::embedded(&left[0].bytes, outer.l4 + 8, !v6).unwrap();
        assert_eq!((inner.source.ip(), inner.source_port), (ip(&real), 8080));
        assert_eq!((inner.destination.ip(), inner.destination_port), (ip(client(v6).0), 4242));
        assert_sound(&left[0].bytes[14..]);
    }
}

#[test]
fn errors_from_inside_reach_the_client_as_from_the_vip() {
    for v6 in [false, true] {
        for method in [NAT, Method::FullNat] {
            let mut net = network(v6, Protocol::Tcp, method);
            let (_, left) = net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
            let sent = parsed(&left[0].bytes);
            let (router, to) = (real_ip(v6, 12).to_string(), sent.source.to_string());
            let error = too_big(&router, &to, 1300, &left[0].bytes);
            let (verdict, left) = net.arrive(INSIDE, &error);
            assert_eq!(verdict, Verdict::Send(OUTSIDE));
            let outer = parsed(&left[0].bytes);
            assert_eq!(outer.source.ip(), ip(vip(v6).0));
            assert_eq!(outer.destination.ip(), ip(client(v6).0));
            let inner = parse::embedded(&left[0].bytes, outer.l4 + 8, !v6).unwrap();
            assert_eq!((inner.source.ip(), inner.source_port), (ip(client(v6).0), 4242));
            assert_eq!((inner.destination.ip(), inner.destination_port), (ip(vip(v6).0), 80));
            assert_sound(&left[0].bytes[14..]);
        }
    }
}

#[test]
fn a_packet_too_big_for_the_tunnel_is_refused_with_the_mtu_that_fits() {
    for v6 in [false, true] {
        let tunnel = Method::Tunnel(Tunnel::Ipip);
        let mut net = network(v6, Protocol::Tcp, tunnel);
        net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
        let mut big = tcp((client(v6), vip(v6)), "A", &vec![1; if v6 { 1440 } else { 1460 }]);
        if !v6 {
            big[14 + v4::FRAGMENT] = 0x40;
        }
        let (verdict, left) = net.arrive(OUTSIDE, &big);
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        let error = parsed(&left[0].bytes);
        let body = &left[0].bytes[error.l4..];
        // Both families have the MTU's lower half in the same place.
        assert_eq!((body[0], be16(body, 6)), if v6 { (2, 1460) } else { (3, 1480) });
        assert_sound(&left[0].bytes[14..][..error.end - 14]);
        assert_eq!(net.drops(DropReason::TooBig), 1);
    }
}

#[test]
fn errors_about_the_tunnel_itself_reach_the_client_and_are_remembered() {
    let mut net = network(false, Protocol::Tcp, Method::Tunnel(Tunnel::Ipip));
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    let mut big = tcp((client(false), vip(false)), "A", &[1; 1400]);
    big[14 + v4::FRAGMENT] = 0x40;
    let (_, left) = net.arrive(OUTSIDE, &big);
    let error = too_big("10.0.0.254", "10.0.0.1", 1400, &left[0].bytes);
    let (_, left) = net.arrive(INSIDE, &error);
    let told = parsed(&left[0].bytes);
    assert_eq!(told.destination.to_string(), CLIENT4);
    assert_eq!(be16(&left[0].bytes, told.l4 + 6), 1380);
    assert_sound(&left[0].bytes[14..]);
    let (verdict, left) = net.arrive(OUTSIDE, &big);
    assert_eq!(verdict, Verdict::Send(OUTSIDE), "the limit is known now");
    assert_eq!(be16(&left[0].bytes, parsed(&left[0].bytes).l4 + 6), 1380);
}

#[test]
fn a_hop_limit_that_runs_out_is_reported() {
    let mut net = network(false, Protocol::Udp, NAT);
    let mut last = udp((client(false), vip(false)), b"x");
    last[14 + v4::TTL] = 1;
    let (verdict, left) = net.arrive(OUTSIDE, &last);
    assert_eq!(verdict, Verdict::Send(OUTSIDE));
    assert_eq!(left[0].bytes[parsed(&left[0].bytes).l4], 11);
    assert_eq!(net.drops(DropReason::TtlExceeded), 1);
}

/// Cuts a UDP frame into two fragments.
fn in_two(whole: &[u8]) -> [Vec<u8>; 2] {
    let mut pieces = Vec::new();
    forward::split::fragments(&whole[14..], 60, &mut Vec::new(), |piece| {
        pieces.push([&whole[..14], piece].concat());
    });
    pieces.try_into().unwrap()
}

#[test]
fn fragments_follow_their_first_part_in_any_order_and_direction() {
    for method in [NAT, Method::DirectRouting, Method::FullNat, Method::Tunnel(Tunnel::Ipip)] {
        let mut net = network(false, Protocol::Udp, method);
        let whole = udp((client(false), vip(false)), &[9; 60]);
        let [first, second] = in_two(&whole);
        let (verdict, left) = net.arrive(OUTSIDE, &second);
        assert_eq!((verdict, left.len()), (Verdict::Consumed, 0), "{method:?}");
        let (_, left) = net.arrive(OUTSIDE, &first);
        assert_eq!(left.len(), 2, "{method:?}");
        assert_eq!(macs(&left[0].bytes), macs(&left[1].bytes));
        let (one, two) = (parsed(&left[0].bytes), parsed(&left[1].bytes));
        assert_eq!((one.source, one.destination), (two.source, two.destination));
        assert_sound(&left[1].bytes[14..]);
        if method == NAT {
            let reply = udp((("10.0.0.13", 8080), client(false)), &[8; 60]);
            let [first, second] = in_two(&reply);
            let (_, left) = net.arrive(INSIDE, &first);
            assert_eq!(ends(&left[0].bytes), "192.0.2.10:80 > 198.51.100.7:4242");
            let (_, left) = net.arrive(INSIDE, &second);
            assert_eq!(parsed(&left[0].bytes).source.to_string(), VIP4);
        }
    }
}

#[test]
fn fragments_of_a_reply_go_where_the_first_went_when_their_connection_has_ended() {
    let mut by_mac = service(0, false, Protocol::Udp, NAT);
    by_mac.return_by_mac = true;
    let mut net = Network::new(vec![by_mac]);
    net.arrive(OUTSIDE, &udp((client(false), vip(false)), b"question"));
    let reply = udp((("10.0.0.13", 8080), client(false)), &[8; 60]);
    let [first, second] = in_two(&reply);
    let (_, left) = net.arrive(INSIDE, &first);
    let slot = net.director.connections().page(0, 10, net.director.reals(), net.now);
    assert!(net.director.end(slot.connections[0].slot, net.now));
    net.pass(3);
    // The next tenant of the slot is another client's.
    let mut other = udp(((CLIENT4, 5555), vip(false)), b"question");
    other[6..12].copy_from_slice(&[2, 7, 7, 7, 7, 7]);
    net.arrive(OUTSIDE, &other);
    let (_, later) = net.arrive(INSIDE, &second);
    assert_eq!(macs(&later[0].bytes), macs(&left[0].bytes));
}

#[test]
fn the_first_part_of_sctp_is_refused_only_where_its_checksum_cannot_follow_the_ports() {
    for (method, port, passes) in [
        (NAT, 8080, false),
        (NAT, 80, true),
        (Method::FullNat, 80, false),
        (Method::DirectRouting, 8080, true),
    ] {
        let mut one = service(0, false, Protocol::Sctp, method);
        one.reals = [Real { port, ..real(0, false, 13, method) }].into();
        let mut net = Network::new(vec![one]);
        // An INIT chunk where UDP's payload begins after four bytes.
        let mut whole = udp((client(false), vip(false)), &[0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9]);
        whole.resize(whole.len() + 40, 9);
        let total = (whole.len() - 14) as u16;
        whole[14 + 2..14 + 4].copy_from_slice(&total.to_be_bytes());
        whole[14 + v4::PROTOCOL] = crate::wire::ip::SCTP;
        let [first, second] = in_two(&whole);
        let (verdict, _) = net.arrive(OUTSIDE, &first);
        let refused = Verdict::Drop(DropReason::UnsupportedByMethod);
        assert_eq!(verdict == refused, !passes, "{method:?} {port}: {verdict:?}");
        if passes {
            assert_eq!(net.arrive(OUTSIDE, &second).0, Verdict::Send(INSIDE));
        }
    }
}

#[test]
fn fragments_of_what_is_the_host_s_are_the_host_s_in_any_order() {
    let no_service = (VIP4, 81);
    let own_account = (("10.0.0.13", 4711), ("198.51.100.99", 53));
    for (port, ends) in [(OUTSIDE, (client(false), no_service)), (INSIDE, own_account)] {
        let [first, second] = in_two(&udp(ends, &[9; 60]));
        let mut net = network(false, Protocol::Udp, NAT);
        assert_eq!(net.arrive(port, &first), (Verdict::Host, vec![]));
        assert_eq!(net.arrive(port, &second), (Verdict::Host, vec![]));
        let mut net = network(false, Protocol::Udp, NAT);
        assert_eq!(net.arrive(port, &second).0, Verdict::Consumed);
        let (verdict, left) = net.arrive(port, &first);
        assert_eq!(verdict, Verdict::Host);
        let later: Vec<_> = left.iter().map(|left| (left.port, &left.bytes)).collect();
        assert_eq!(later, [(port, &second)], "given back as it came");
        assert_eq!(net.drops(DropReason::OrphanFragment), 0);
    }
}

#[test]
fn datagrams_under_way_are_forgotten_oldest_first_and_first_parts_may_come_twice() {
    let mut net = network(false, Protocol::Udp, NAT);
    let pieces: Vec<[Vec<u8>; 2]> = (0..5000u16)
        .map(|number| {
            let mut whole = udp((client(false), (VIP4, 81)), &[9; 60]);
            whole[14 + v4::ID..14 + v4::ID + 2].copy_from_slice(&number.to_be_bytes());
            in_two(&whole)
        })
        .collect();
    for [first, _] in &pieces {
        for _ in 0..2 {
            assert_eq!(net.arrive(OUTSIDE, first).0, Verdict::Host);
        }
    }
    assert_eq!(net.arrive(OUTSIDE, &pieces[4999][1]).0, Verdict::Host);
    assert_eq!(net.arrive(OUTSIDE, &pieces[5000 - 4096][1]).0, Verdict::Host);
    assert_eq!(net.arrive(OUTSIDE, &pieces[5000 - 4097][1]).0, Verdict::Consumed);
    // The sender uses an identification again.
    net.pass(40);
    let [first, second] = &pieces[4999];
    assert_eq!(net.arrive(OUTSIDE, second).0, Verdict::Consumed, "forgotten");
    assert_eq!(net.arrive(OUTSIDE, first).0, Verdict::Host);
    assert_eq!(net.arrive(OUTSIDE, second).0, Verdict::Host);
}

#[test]
fn a_fragment_without_its_first_part_is_dropped_after_a_while() {
    let mut net = network(false, Protocol::Udp, NAT);
    let [_, second] = in_two(&udp((client(false), vip(false)), &[9; 60]));
    net.arrive(OUTSIDE, &second);
    net.pass(3);
    assert_eq!(net.drops(DropReason::OrphanFragment), 1);
}
