//! Persistence templates beside the connections that they control.

use super::fixture::packet::*;
use super::fixture::*;
use crate::packet_path::*;
use crate::table::*;
use crate::tick::Ticks;

fn client(v6: bool) -> &'static str {
    if v6 { CLIENT6 } else { CLIENT4 }
}

fn vip(v6: bool) -> &'static str {
    if v6 { VIP6 } else { VIP4 }
}

/// A client that sends from port 0 must not be taken for its own template, which has no port.
#[test]
fn a_packet_from_port_zero_does_not_belong_to_a_template() {
    for v6 in [false, true] {
        let mut one = service(0, v6, Protocol::Tcp, Method::Nat);
        one.persistence = Some(Persistence { timeout: Ticks::from_secs(300), mask: !0 });
        let mut net = Network::new(vec![one]);
        net.arrive(OUTSIDE, &tcp(((client(v6), 4242), (vip(v6), 80)), "S", b""));
        let load = |net: &Network| net.director.reals().load(RealId(0));
        let (before, state) = (load(&net), net.listing());
        assert_eq!((before.persistent, before.active), (1, 1));
        let (verdict, left) = net.arrive(OUTSIDE, &tcp(((client(v6), 0), (vip(v6), 80)), "S", b""));
        assert_eq!(verdict, Verdict::Send(INSIDE));
        assert_eq!(parsed(&left[0].bytes).source_port, 0);
        assert_eq!(load(&net).active, before.active + 1, "a connection of its own");
        assert_eq!(net.listing().len(), state.len() + 1);
        net.arrive(OUTSIDE, &tcp(((client(v6), 0), (vip(v6), 80)), "R", b""));
        assert_eq!(load(&net).persistent, 1);
    }
}

/// The real server that a new connection of the client from `port` goes to.
fn goes_to(net: &mut Network, port: u16) -> std::net::IpAddr {
    let (_, left) = net.arrive(OUTSIDE, &tcp(((CLIENT4, port), (VIP4, 80)), "S", b""));
    parsed(&left[0].bytes).destination.ip()
}

/// A service with persistence whose server with the address `of` has no weight.
fn without_weight(of: std::net::IpAddr, availability: Availability) -> Service {
    let mut one = service(0, false, Protocol::Tcp, Method::Nat);
    one.persistence = Some(Persistence { timeout: Ticks::from_secs(300), mask: !0 });
    one.reals = one
        .reals
        .iter()
        .map(|real| match real.address == of {
            true => Real { weight: 0, availability, ..real.clone() },
            false => real.clone(),
        })
        .collect();
    one
}

#[test]
fn a_persistent_client_leaves_a_withdrawn_server_and_stays_with_one_of_weight_0() {
    let unweighted = |of| without_weight(of, Availability::Serving);
    for (availability, tunables, moves) in [
        (Availability::Serving, Tunables::default(), false),
        (Availability::Withdrawn, Tunables::default(), true),
        (
            Availability::Serving,
            Tunables { expire_quiescent_template: true, ..Tunables::default() },
            true,
        ),
    ] {
        let mut net = Network::new(vec![unweighted(ip("10.9.9.9"))]);
        let first = goes_to(&mut net, 4001);
        assert_eq!(goes_to(&mut net, 4002), first, "persistence holds");
        net.configure(vec![without_weight(first, availability)], tunables);
        let next = goes_to(&mut net, 4003);
        assert_eq!(next != first, moves, "{availability:?} {tunables:?}");
        assert_eq!(goes_to(&mut net, 4004), next, "the new template holds");
    }
}
