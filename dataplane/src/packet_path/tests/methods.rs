//! Each forwarding method, both families, from the handshake to the last packet.

use super::fixture::packet::*;
use super::fixture::*;
use crate::frame::Segmentation;
use crate::packet_path::*;
use crate::table::*;
use crate::wire::ip::v4;

pub const NAT: Method = Method::Nat;

pub fn client(v6: bool) -> (&'static str, u16) {
    (if v6 { CLIENT6 } else { CLIENT4 }, 4242)
}

pub fn vip(v6: bool) -> (&'static str, u16) {
    (if v6 { VIP6 } else { VIP4 }, 80)
}

pub fn network(v6: bool, protocol: Protocol, method: Method) -> Network {
    Network::new(vec![service(0, v6, protocol, method)])
}

#[test]
fn nat_rewrites_both_directions_and_keeps_checksums() {
    for v6 in [false, true] {
        let mut net = network(v6, Protocol::Tcp, NAT);
        let (verdict, left) = net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
        assert_eq!(verdict, Verdict::Send(INSIDE));
        let real = real_ip(v6, 13);
        assert_eq!(ends(&left[0].bytes), format!("{}:4242 > {real}:8080", client(v6).0));
        assert_eq!(macs(&left[0].bytes), (INSIDE_MAC, real_mac(13)));
        assert_sound(&left[0].bytes[14..]);
        let real_text = real.to_string();
        let reply = tcp(((&real_text, 8080), client(v6)), "SA", b"");
        let (verdict, left) = net.arrive(INSIDE, &reply);
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        assert_eq!(ends(&left[0].bytes), format!("{}:80 > {}:4242", vip(v6).0, client(v6).0));
        assert_eq!(macs(&left[0].bytes), (OUTSIDE_MAC, ROUTER_MAC));
        assert_sound(&left[0].bytes[14..]);
        net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "A", b"GET /"));
        let line = net.listing();
        assert!(line[0].starts_with("6 ESTABLISHED 900 "), "{line:?}");
        let traffic = net.director.traffic(RealId(0));
        assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (1, 2, 1));
        assert_eq!(net.director.reals().load(RealId(0)).active, 1);
    }
}

#[test]
fn round_robin_alternates_and_the_hop_limit_goes_down() {
    let mut net = network(false, Protocol::Tcp, NAT);
    let mut chosen = Vec::new();
    for port in 1..=6 {
        let (_, left) = net.arrive(OUTSIDE, &tcp(((CLIENT4, port), vip(false)), "S", b""));
        assert_eq!(left[0].bytes[14 + v4::TTL], 63);
        chosen.push(parsed(&left[0].bytes).destination.low() as u8);
    }
    assert_eq!(chosen, [13, 12, 11, 13, 12, 11]);
}

#[test]
fn direct_routing_changes_nothing_above_ethernet_but_the_hop_limit() {
    for v6 in [false, true] {
        let mut net = network(v6, Protocol::Udp, Method::DirectRouting);
        let original = udp((client(v6), vip(v6)), b"question");
        let (verdict, left) = net.arrive(OUTSIDE, &original);
        assert_eq!(verdict, Verdict::Send(INSIDE));
        assert_eq!(ends(&left[0].bytes), ends(&original));
        assert_eq!(macs(&left[0].bytes), (INSIDE_MAC, real_mac(13)));
        assert_sound(&left[0].bytes[14..]);
        let traffic = net.director.traffic(RealId(0));
        assert_eq!((traffic.in_packets, traffic.out_packets), (1, 0));
        assert!(net.listing()[0].starts_with("17 UDP 300 "));
    }
}

#[test]
fn direct_routing_connections_go_to_fin_wait_when_the_client_closes() {
    let mut net = network(false, Protocol::Tcp, Method::DirectRouting);
    let from_client = |flags| tcp((client(false), vip(false)), flags, b"");
    net.arrive(OUTSIDE, &from_client("S"));
    net.arrive(OUTSIDE, &from_client("A"));
    assert!(net.listing()[0].starts_with("6 ESTABLISHED 900 "));
    net.arrive(OUTSIDE, &from_client("FA"));
    assert!(net.listing()[0].starts_with("6 FIN_WAIT 120 "));
    let load = net.director.reals().load(RealId(0));
    assert_eq!((load.active, load.inactive), (0, 1));
    net.pass(121);
    assert_eq!(net.listing(), Vec::<String>::new());
    assert_eq!(net.director.reals().load(RealId(0)), Default::default());
}

#[test]
fn every_tunnel_carries_the_packet_unchanged_inside() {
    let tunnels = [
        Tunnel::Ipip,
        Tunnel::Gre { checksum: false },
        Tunnel::Gre { checksum: true },
        Tunnel::Gue { port: 6080, checksum: GueChecksum::None },
        Tunnel::Gue { port: 6080, checksum: GueChecksum::Full },
    ];
    for tunnel in tunnels {
        for (v6, real_v6) in [(false, false), (true, true), (true, false)] {
            let mut service = service(0, v6, Protocol::Tcp, Method::Tunnel(tunnel));
            service.reals = [real(0, real_v6, 11, Method::Tunnel(tunnel))].into();
            let mut net = Network::new(vec![service]);
            let original = tcp((client(v6), vip(v6)), "S", b"");
            let (verdict, left) = net.arrive(OUTSIDE, &original);
            assert_eq!(verdict, Verdict::Send(INSIDE));
            let bytes = &left[0].bytes;
            assert_eq!(macs(bytes), (INSIDE_MAC, real_mac(11)));
            let outer = parsed(bytes);
            assert_eq!(outer.destination.ip(), real_ip(real_v6, 11));
            let own = if real_v6 { "2001:db8:2::1" } else { "10.0.0.1" };
            assert_eq!(outer.source.ip(), ip(own));
            let inner = &bytes[outer.l4 + forward::tunnel::shim_length(tunnel)..];
            assert_sound(inner);
            // All but the hop limit and IPv4's header checksum is as it came.
            let skip = if v6 { 8 } else { 12 };
            assert_eq!(inner.len(), original.len() - 14);
            assert_eq!(inner[skip..], original[14 + skip..]);
        }
    }
}

#[test]
fn full_nat_hides_the_client_and_undoes_it_for_replies() {
    for v6 in [false, true] {
        let mut net = network(v6, Protocol::Tcp, Method::FullNat);
        let (_, left) = net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "S", b""));
        let sent = parsed(&left[0].bytes);
        assert_eq!(sent.source.ip(), ip(if v6 { "2001:db8:2::1" } else { "10.0.0.1" }));
        assert_eq!((sent.destination.ip(), sent.destination_port), (real_ip(v6, 13), 8080));
        assert!(sent.source_port >= 61_000);
        assert_sound(&left[0].bytes[14..]);
        let (real, own) = (sent.destination.to_string(), sent.source.to_string());
        let reply = tcp(((&real, 8080), (&own, sent.source_port)), "SA", b"");
        let (verdict, left) = net.arrive(INSIDE, &reply);
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        assert_eq!(ends(&left[0].bytes), format!("{}:80 > {}:4242", vip(v6).0, client(v6).0));
        assert_sound(&left[0].bytes[14..]);
    }
}

/// Next hops with so many addresses on the inside interface, from `first` on, the last one first.
fn hops_of(first: u32, many: u32) -> Hops {
    let port = |name: &str, addresses: Vec<Prefix>| {
        Some(PortInfo { name: name.into(), index: 1, mac: INSIDE_MAC, mtu: 1500, addresses })
    };
    let prefix =
        |bits, length| Prefix { address: std::net::Ipv4Addr::from_bits(bits).into(), length };
    let addresses = (first..first + many).rev().map(|n| prefix(0x0b00_0000 | n, 8)).collect();
    let route = |port| Route {
        prefix: prefix(0, 0),
        via: None,
        port: Some(port),
        source: None,
        mtu: 0,
        metric: 0,
    };
    let neighbours = (11..=13).map(|n| ((INSIDE, real_ip(false, n)), real_mac(n))).collect();
    let ports = vec![port("outside", vec![]), port("inside", addresses)];
    Hops::new(ports, vec![route(INSIDE)], neighbours, [], None, u64::from(first) + 2)
}

#[test]
fn addresses_that_an_interface_no_longer_has_leave_their_places_to_others() {
    let mut net = network(false, Protocol::Tcp, Method::FullNat);
    for first in 0..600 {
        net.director.publish_hops(hops_of(first, 1));
        net.pass(1);
    }
    let (verdict, left) = net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    assert_eq!(verdict, Verdict::Send(INSIDE));
    assert_eq!(parsed(&left[0].bytes).source.to_string(), "11.0.2.87");
    // As long as a connection is sent from it, it keeps its place.
    for first in 1000..1300 {
        net.director.publish_hops(hops_of(first, 1));
        net.pass(1);
        let (_, left) = net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "A", b""));
        assert_eq!(parsed(&left[0].bytes).source.to_string(), "11.0.2.87");
    }
    let known = |net: &Network| net.director.reals().sources().find(ip("11.0.2.87").into());
    assert!(known(&net).is_some());
    net.pass(1000);
    assert_eq!((net.listing().len(), known(&net)), (0, None));
}

#[test]
fn a_full_book_of_source_addresses_is_told_and_names_the_drop() {
    let mut hidden = service(0, false, Protocol::Tcp, Method::FullNat);
    hidden.source_pool = [ip("11.0.3.3")].into();
    let mut net = Network::new(vec![]);
    net.director.publish_hops(hops_of(0, 300));
    net.pass(2);
    let told = |net: &Network| {
        let sources = |notice| match notice {
            Notice::SourcesMissing { many } => Some(many),
            _ => None,
        };
        net.notices.try_iter().filter_map(sources).collect::<Vec<_>>()
    };
    assert_eq!(told(&net), [300 - 256]);
    net.configure(vec![service(0, false, Protocol::Tcp, Method::FullNat)], Tunables::default());
    let (verdict, _) = net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    assert_eq!(verdict, Verdict::Drop(DropReason::NoSourceAddress));
    // A pool comes first.
    net.configure(vec![hidden], Tunables::default());
    net.pass(2);
    let (_, left) = net.arrive(OUTSIDE, &tcp(((CLIENT4, 5555), vip(false)), "S", b""));
    assert_eq!(parsed(&left[0].bytes).source.to_string(), "11.0.3.3");
    net.director.publish_hops(hops_of(0, 10));
    net.pass(2);
    assert_eq!(told(&net), [0]);
    assert_eq!(net.drops(DropReason::NoSourcePort), 0);
}

#[test]
fn a_real_server_that_is_client_of_its_own_vip_is_answered() {
    let mut net = network(false, Protocol::Tcp, NAT);
    let (_, left) = net.arrive(INSIDE, &tcp((("10.0.0.13", 5), vip(false)), "S", b""));
    let sent = parsed(&left[0].bytes);
    assert_eq!(sent.source.to_string(), "10.0.0.1", "its own address would never answer");
    let reply = tcp((("10.0.0.13", 8080), ("10.0.0.1", sent.source_port)), "SA", b"");
    let (verdict, left) = net.arrive(INSIDE, &reply);
    assert_eq!(verdict, Verdict::Send(INSIDE));
    assert_eq!(ends(&left[0].bytes), "192.0.2.10:80 > 10.0.0.13:5");
}

#[test]
fn stray_segments_are_reset_and_counted() {
    for v6 in [false, true] {
        let mut net = network(v6, Protocol::Tcp, NAT);
        let (verdict, left) = net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "A", b"data"));
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        assert_eq!(ends(&left[0].bytes), format!("{}:80 > {}:4242", vip(v6).0, client(v6).0));
        assert_eq!(parsed(&left[0].bytes).flags, 4, "a reset");
        assert_sound(&left[0].bytes[14..]);
        assert_eq!(net.drops(DropReason::NoConnection), 1);
        let (verdict, _) = net.arrive(OUTSIDE, &tcp((client(v6), vip(v6)), "R", b""));
        assert_eq!(verdict, Verdict::Drop(DropReason::NoConnection));
    }
}

#[test]
fn owned_addresses_answer_arp_discovery_and_ping() {
    let mut net = network(false, Protocol::Tcp, NAT);
    for (from, to) in [(CLIENT4, VIP4), (CLIENT6, VIP6)] {
        let (verdict, left) = net.arrive(OUTSIDE, &ping(from, to));
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        let reply = parsed(&left[0].bytes);
        assert_eq!((reply.source.ip(), reply.destination.ip()), (ip(to), ip(from)));
        assert_sound(&left[0].bytes[14..]);
    }
    assert_eq!(net.arrive(OUTSIDE, &ping(CLIENT4, "192.0.2.1")).0, Verdict::Host);
    let mut outbox = outbox::Outbox::default();
    for vip in [VIP4, VIP6, "192.0.2.1"] {
        let from = ip(if vip == VIP6 { "2001:db8:1::fe" } else { "192.0.2.254" });
        answer::ask_neighbour(&mut outbox, OUTSIDE, ROUTER_MAC, from, ip(vip));
    }
    let questions: Vec<Vec<u8>> =
        outbox.ready().iter_mut().map(|own| own.frame().bytes().to_vec()).collect();
    let (verdict, left) = net.arrive(OUTSIDE, &questions[0]);
    assert_eq!(verdict, Verdict::Send(OUTSIDE));
    assert_eq!(macs(&left[0].bytes), (OUTSIDE_MAC, ROUTER_MAC));
    let (verdict, left) = net.arrive(OUTSIDE, &questions[1]);
    assert_eq!(verdict, Verdict::Send(OUTSIDE));
    assert_sound(&left[0].bytes[14..]);
    assert_eq!(parsed(&left[0].bytes).source.ip(), ip(VIP6));
    assert_eq!(net.arrive(OUTSIDE, &questions[2]).0, Verdict::Host, "the host's own address");
}

#[test]
fn what_is_not_for_a_service_stays_the_hosts() {
    let mut net = network(false, Protocol::Tcp, NAT);
    let ssh = tcp((client(false), ("192.0.2.1", 22)), "S", b"");
    assert_eq!(net.arrive(OUTSIDE, &ssh).0, Verdict::Host);
    let probe_reply = tcp((("10.0.0.13", 8080), ("10.0.0.1", 40_000)), "SA", b"");
    assert_eq!(net.arrive(INSIDE, &probe_reply).0, Verdict::Host);
}

#[test]
fn a_frame_waits_for_an_unknown_neighbour_and_leaves_when_it_is_known() {
    let mut service = service(0, false, Protocol::Tcp, NAT);
    service.reals = [real(0, false, 99, NAT)].into();
    let mut net = Network::new(vec![service]);
    let (verdict, left) = net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    assert_eq!(verdict, Verdict::Consumed);
    assert_eq!((left.len(), left[0].port), (1, INSIDE), "an ARP request");
    let asked = Notice::NeighbourNeeded { port: INSIDE, address: real_ip(false, 99) };
    assert_eq!(net.notices.try_recv(), Ok(asked));
    net.director.publish_hops(hops_with(&[(real_ip(false, 99), real_mac(99))], 2));
    let left = net.pass(1);
    assert_eq!(left.len(), 1);
    assert_eq!(ends(&left[0].bytes), "198.51.100.7:4242 > 10.0.0.99:8080");
    assert_eq!(net.pass(2).len(), 0, "and only once");
}

#[test]
fn an_unknown_neighbour_that_never_answers_is_a_counted_drop() {
    let mut service = service(0, false, Protocol::Tcp, NAT);
    service.reals = [real(0, false, 99, NAT)].into();
    let mut net = Network::new(vec![service]);
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    net.pass(2);
    assert_eq!(net.drops(DropReason::NextHopUnresolved), 1);
}

#[test]
fn super_frames_pass_nat_whole_and_are_cut_for_tunnels() {
    let payload = vec![3; 6000];
    let offload = Offload {
        partial_checksum: true,
        checksum_start: 34,
        checksum_offset: 16,
        segmentation: Segmentation::Tcp4 { ecn: false },
        segment_size: 1400,
        header_length: 54,
    };
    let mut net = network(false, Protocol::Tcp, NAT);
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    let big = tcp((client(false), vip(false)), "A", &payload);
    let (verdict, left) = net.arrive_with(OUTSIDE, &big, offload);
    assert_eq!(verdict, Verdict::Send(INSIDE));
    assert_eq!((left[0].bytes.len(), left[0].offload), (big.len(), offload));
    let mut net = network(false, Protocol::Tcp, Method::Tunnel(Tunnel::Ipip));
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    let (verdict, left) = net.arrive_with(OUTSIDE, &big, offload);
    assert_eq!((verdict, left.len()), (Verdict::Consumed, 5));
    let mut seen = 0;
    for segment in &left {
        assert_sound(&segment.bytes[34..]);
        assert_eq!(segment.offload, Offload::default());
        seen += segment.bytes.len() - 14 - 20 - 40;
    }
    assert_eq!(seen, payload.len());
}

#[test]
fn a_closed_connection_gives_way_to_a_new_one_from_the_same_port() {
    let mut net = network(false, Protocol::Tcp, NAT);
    let send = |net: &mut Network, flags| {
        net.arrive(OUTSIDE, &tcp((client(false), vip(false)), flags, b"")).1
    };
    send(&mut net, "S");
    send(&mut net, "R");
    assert!(net.listing()[0].starts_with("6 SYN_RECV"), "as IPVS: a reset of SYN_RECV stays");
    send(&mut net, "A");
    send(&mut net, "R");
    assert!(net.listing()[0].starts_with("6 CLOSE 10 "), "{:?}", net.listing());
    let left = send(&mut net, "S");
    assert_eq!(parsed(&left[0].bytes).destination.low() as u8, 12, "scheduled anew");
    assert_eq!(net.listing().len(), 1);
}

#[test]
fn a_removed_real_server_ends_its_connections_only_when_asked_to() {
    let mut net = network(false, Protocol::Tcp, NAT);
    let ack = tcp((client(false), vip(false)), "A", b"");
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    let mut fewer = service(0, false, Protocol::Tcp, NAT);
    fewer.reals = fewer.reals.iter().skip(1).cloned().collect();
    net.configure(vec![fewer.clone()], Tunables::default());
    assert_eq!(net.arrive(OUTSIDE, &ack).0, Verdict::Drop(DropReason::RealServerRemoved));
    net.configure(vec![service(0, false, Protocol::Tcp, NAT)], Tunables::default());
    assert_eq!(net.arrive(OUTSIDE, &ack).0, Verdict::Send(INSIDE), "it came back");
    let expire = Tunables { expire_nodest_conn: true, ..Tunables::default() };
    net.configure(vec![fewer], expire);
    net.arrive(OUTSIDE, &ack);
    assert_eq!(net.listing().len(), 0);
}

#[test]
fn a_new_table_never_moves_a_connection() {
    let mut net = network(false, Protocol::Tcp, NAT);
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    let mut changed = service(0, false, Protocol::Tcp, NAT);
    changed.scheduler = Scheduler::Sh;
    changed.reals = changed.reals.iter().rev().cloned().collect();
    net.configure(vec![changed], Tunables::default());
    let (_, left) = net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "A", b""));
    assert_eq!(parsed(&left[0].bytes).destination.low() as u8, 13);
}

#[test]
fn replies_return_by_mac_where_the_service_says_so() {
    let mut by_mac = service(0, false, Protocol::Tcp, NAT);
    by_mac.return_by_mac = true;
    let mut net = Network::new(vec![by_mac]);
    net.arrive(OUTSIDE, &tcp((client(false), vip(false)), "S", b""));
    let (_, left) = net.arrive(INSIDE, &tcp((("10.0.0.13", 8080), client(false)), "SA", b""));
    assert_eq!(macs(&left[0].bytes), (OUTSIDE_MAC, [2, 9, 9, 9, 9, 9]));
}

#[test]
fn one_packet_scheduling_leaves_no_connection() {
    let mut each = service(0, false, Protocol::Udp, NAT);
    each.one_packet = true;
    let mut net = Network::new(vec![each]);
    let chosen = [0; 3].map(|_| {
        let (_, left) = net.arrive(OUTSIDE, &udp((client(false), vip(false)), b"q"));
        parsed(&left[0].bytes).destination.low() as u8
    });
    assert_eq!(chosen, [13, 12, 11]);
    assert_eq!(net.listing().len(), 0);
    assert_eq!(net.director.traffic(RealId(0)).connections, 1);
}

#[test]
fn a_full_table_sheds_half_open_connections_before_refusing_open_ones() {
    let mut net = network(false, Protocol::Tcp, Method::DirectRouting);
    for port in 101..=600u16 {
        net.arrive(OUTSIDE, &tcp(((CLIENT4, port), vip(false)), "S", b""));
        net.arrive(OUTSIDE, &tcp(((CLIENT4, port), vip(false)), "A", b""));
    }
    for port in 1000..=4000u16 {
        net.arrive(OUTSIDE, &tcp(((CLIENT4, port), vip(false)), "S", b""));
    }
    let listing = net.listing();
    let open = listing.iter().filter(|line| line.contains("ESTABLISHED")).count();
    assert_eq!(open, 500, "no open connection was pushed out");
    net.pass(61);
    assert_eq!(net.listing().len(), 500);
}
