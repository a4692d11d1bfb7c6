//! What the packet path sees of servers that do not do their part.

use super::fixture::packet::*;
use super::fixture::*;
use crate::packet_path::counters::Handshakes;
use crate::packet_path::*;
use crate::table::*;
use std::net::IpAddr;

const NAT: Method = Method::Nat;

fn client() -> (&'static str, u16) {
    (CLIENT4, 4242)
}

fn vip() -> (&'static str, u16) {
    (VIP4, 80)
}

fn network(method: Method) -> Network {
    Network::new(vec![service(0, false, Protocol::Tcp, method)])
}

/// Over all real servers.
fn handshakes(net: &Network) -> Handshakes {
    let each = (0..8).map(|id| net.director.handshakes(RealId(id)));
    each.fold(Handshakes::default(), |sum, seen| Handshakes {
        completed: sum.completed + seen.completed,
        refused: sum.refused + seen.refused,
    })
}

/// A frame by which a host says that it has an address.
fn arp_reply(mac: Mac, address: &str) -> Vec<u8> {
    let IpAddr::V4(address) = ip(address) else { panic!("IPv4") };
    let mut frame = [&OUTSIDE_MAC[..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac].concat();
    frame.extend(address.octets());
    frame.extend([0; 10]);
    frame
}

#[test]
fn who_else_answers_for_an_owned_address_is_told_of_at_most_sixteen_times_a_second() {
    let mut net = network(NAT);
    for (mac, address) in [(OUTSIDE_MAC, VIP4), (real_mac(3), "192.0.2.77")] {
        assert_eq!(net.arrive(OUTSIDE, &arp_reply(mac, address)).0, Verdict::Host);
        assert!(net.notices.try_recv().is_err(), "{address} by {mac:?} is nobody's business");
    }
    for _ in 0..20 {
        assert_eq!(net.arrive(OUTSIDE, &arp_reply(real_mac(3), VIP4)).0, Verdict::Host);
    }
    let claim = Notice::AddressClaimed { port: OUTSIDE, address: ip(VIP4), mac: real_mac(3) };
    assert_eq!(net.notices.try_iter().collect::<Vec<_>>(), vec![claim; 16]);
    net.pass(1);
    net.arrive(OUTSIDE, &arp_reply(real_mac(3), VIP4));
    assert_eq!(net.notices.try_iter().count(), 1);
}

#[test]
fn handshakes_are_counted_when_they_end() {
    let server = ("10.0.0.13", 8080);
    let mut net = network(NAT);
    let first = Handshakes { completed: 1, refused: 0 };
    net.arrive(OUTSIDE, &tcp((client(), vip()), "S", b""));
    net.arrive(INSIDE, &tcp((server, client()), "SA", b""));
    assert_eq!(handshakes(&net), Handshakes::default(), "half open");
    net.arrive(OUTSIDE, &tcp((client(), vip()), "A", b""));
    net.arrive(OUTSIDE, &tcp((client(), vip()), "A", b"more"));
    assert_eq!(handshakes(&net), first);
    let mut net = network(NAT);
    net.arrive(OUTSIDE, &tcp((client(), vip()), "S", b""));
    net.arrive(INSIDE, &tcp((server, client()), "R", b""));
    assert_eq!(handshakes(&net), Handshakes { completed: 0, refused: 1 });
    let mut net = network(Method::DirectRouting);
    net.arrive(OUTSIDE, &tcp((client(), vip()), "S", b""));
    net.arrive(OUTSIDE, &tcp((client(), vip()), "A", b""));
    assert_eq!(handshakes(&net), first, "half of it is enough");
}

/// Sequence number, acknowledgement and flags of a TCP segment behind plain headers.
fn numbers(frame: &[u8]) -> (u32, u32, u8) {
    let at = |at: usize| u32::from_be_bytes(frame[34 + at..38 + at].try_into().unwrap());
    (at(4), at(8), frame[34 + 13])
}

/// A NAT connection that was opened and then doomed.
fn doomed() -> Network {
    let mut net = network(NAT);
    net.arrive(OUTSIDE, &tcp((client(), vip()), "S", b""));
    net.arrive(INSIDE, &tcp((("10.0.0.13", 8080), client()), "SA", b""));
    net.arrive(OUTSIDE, &tcp((client(), vip()), "A", b""));
    let page = net.director.connections().page(0, 10, net.director.reals(), net.now);
    assert_eq!(page.connections.len(), 1);
    net.director.doom(&page.connections[0].identity(), net.now);
    net
}

#[test]
fn no_packet_of_a_doomed_connection_passes_whatever_state_another_worker_moved_it_to() {
    for (port, packet) in [
        (INSIDE, tcp((("10.0.0.13", 8080), client()), "A", b"more")),
        (OUTSIDE, tcp((client(), vip()), "A", b"more")),
    ] {
        let mut net = doomed();
        let slot = net.director.connections().page(0, 10, net.director.reals(), net.now);
        let entry = net.director.connections().entry(slot.connections[0].slot);
        let state = states::tcp::ESTABLISHED;
        entry.update_meta(|meta| Some(connections::Meta { state, ..meta })).unwrap();
        net.arrive(port, &packet);
        assert_eq!(net.director.connections().len(), 0);
    }
}

#[test]
fn a_connection_that_was_seen_before_is_not_taken_for_the_one_in_its_slot_now() {
    let mut net = network(NAT);
    net.arrive(OUTSIDE, &tcp((client(), vip()), "S", b""));
    let seen = |net: &Network| {
        let page = net.director.connections().page(0, 10, net.director.reals(), net.now);
        page.connections.iter().map(|info| info.identity()).collect::<Vec<_>>()
    };
    let before = seen(&net)[0];
    assert!(net.director.end_meant(&before, net.now));
    net.pass(3);
    // A free slot is used again at once.
    net.arrive(OUTSIDE, &tcp(((CLIENT4, 5555), vip()), "S", b""));
    let now = seen(&net)[0];
    assert_eq!(now.slot, before.slot);
    assert!(!net.director.end_meant(&before, net.now));
    net.director.doom(&before, net.now);
    assert_eq!(seen(&net), [now]);
    let meta = net.director.connections().entry(now.slot).meta();
    assert!(!meta.flags.has(connections::Flags::DOOMED));
    net.director.doom(&now, net.now);
    let meta = net.director.connections().entry(now.slot).meta();
    assert!(meta.flags.has(connections::Flags::DOOMED));
}

#[test]
fn a_packet_of_either_end_of_a_doomed_connection_resets_both() {
    const RST: u8 = 4;
    let from_server = tcp((("10.0.0.13", 8080), client()), "A", b"more of the page");
    let from_client = tcp((client(), vip()), "A", b"more of the question");
    for (port, packet) in [(INSIDE, from_server), (OUTSIDE, from_client)] {
        let mut net = doomed();
        let (sequence, acknowledged, _) = numbers(&packet);
        let (_, left) = net.arrive(port, &packet);
        assert_eq!(left.len(), 2, "one for each end");
        for reset in &left {
            assert_sound(&reset.bytes[14..]);
            let (number, _, flags) = numbers(&reset.bytes);
            assert_eq!(flags & RST, RST);
            // Onward with the packet's own number, back with the one that its sender expects.
            let onward = reset.port != port;
            assert_eq!(number, if onward { sequence } else { acknowledged });
        }
        let mut ends: Vec<String> = left.iter().map(|reset| ends(&reset.bytes)).collect();
        ends.sort();
        let client_s = if port == INSIDE { "10.0.0.13:8080" } else { VIP4 };
        assert!(ends.iter().any(|text| text.contains(client_s)), "{ends:?}");
        assert_eq!(net.director.connections().len(), 0);
    }
}

#[test]
fn a_client_that_begins_anew_on_a_doomed_connection_is_served() {
    let mut net = doomed();
    let (verdict, _) = net.arrive(OUTSIDE, &tcp((client(), vip()), "S", b""));
    assert_eq!(verdict, Verdict::Send(INSIDE));
    assert_eq!(net.director.connections().len(), 1);
}
