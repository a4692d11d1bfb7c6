//! A director that is backup for an address says nothing about it, and is ready when it is master.

use super::fixture::packet::*;
use super::fixture::*;
use crate::packet_path::*;
use crate::table::*;

const NAT: Method = Method::Nat;

/// Publishes the same service as master or as backup of both VIPs.
fn publish(net: &Network, master: bool) {
    let services =
        [false, true].map(|v6| std::sync::Arc::new(service(u32::from(v6), v6, Protocol::Tcp, NAT)));
    let mac = [0, 0, 0x5e, 0, 1, 51];
    let vips = [ip(VIP4), ip(VIP6)];
    let own = |address| OwnedAddress { address, mac: Some(mac), answers_ping: true };
    let owned = vips.into_iter().filter(|_| master).map(own);
    let marks = std::sync::Arc::from([]);
    let table = ServiceTable::new(services, owned, marks, Timeouts::default(), Tunables::default());
    let silent = vips.into_iter().filter(|_| !master);
    net.director.publish(table.with_silent(silent), net.now);
}

fn questions() -> Vec<Vec<u8>> {
    let mut outbox = outbox::Outbox::default();
    for (from, vip) in [("192.0.2.254", VIP4), ("2001:db8:1::fe", VIP6)] {
        answer::ask_neighbour(&mut outbox, OUTSIDE, ROUTER_MAC, ip(from), ip(vip));
    }
    let mut asked: Vec<Vec<u8>> =
        outbox.ready().iter_mut().map(|own| own.frame().bytes().to_vec()).collect();
    for (client, vip) in [(CLIENT4, VIP4), (CLIENT6, VIP6)] {
        asked.push(ping(client, vip));
        asked.push(tcp(((client, 4242), (vip, 80)), "S", b""));
        asked.push(tcp(((client, 4242), (vip, 80)), "A", b"late"));
    }
    asked
}

#[test]
fn a_backup_answers_nothing_and_opens_nothing() {
    let mut net = Network::new(vec![]);
    publish(&net, false);
    let questions = questions();
    for question in &questions {
        let (verdict, left) = net.arrive(OUTSIDE, question);
        assert_eq!((verdict, left.len()), (Verdict::Drop(DropReason::NotMaster), 0));
    }
    assert_eq!(net.drops(DropReason::NotMaster), questions.len() as u64);
    assert_eq!(net.director.connections().len(), 0);
}

#[test]
fn connections_sleep_while_the_director_is_backup_and_go_on_when_it_is_master_again() {
    let mut net = Network::new(vec![]);
    publish(&net, true);
    let ends = ((CLIENT4, 4242), (VIP4, 80));
    assert_eq!(net.arrive(OUTSIDE, &tcp(ends, "S", b"")).0, Verdict::Send(INSIDE));
    net.arrive(INSIDE, &tcp((("10.0.0.13", 8080), (CLIENT4, 4242)), "SA", b""));
    assert_eq!(net.arrive(OUTSIDE, &tcp(ends, "A", b"x")).0, Verdict::Send(INSIDE));
    publish(&net, false);
    let (verdict, _) = net.arrive(OUTSIDE, &tcp(ends, "A", b"y"));
    assert_eq!(verdict, Verdict::Drop(DropReason::NotMaster));
    publish(&net, true);
    assert_eq!(net.arrive(OUTSIDE, &tcp(ends, "A", b"y")).0, Verdict::Send(INSIDE));
}
