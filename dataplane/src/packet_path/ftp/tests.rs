use super::*;
use crate::packet_path::tests::fixture::packet::{assert_sound, parsed, tcp};
use crate::packet_path::tests::fixture::*;
use crate::packet_path::{DropReason, Verdict};
use crate::table::*;
use proptest::prelude::*;

fn network(v6: bool) -> Network {
    let mut one = service(0, v6, Protocol::Tcp, Method::Nat);
    let address = ip(if v6 { VIP6 } else { VIP4 });
    one.key = ServiceKey::Address { protocol: Protocol::Tcp, address, port: 21 };
    let mut server = real(0, v6, 11, Method::Nat);
    server.port = 21;
    one.reals = [server].into();
    let mut net = Network::new(vec![one]);
    let (client, vip) = ends(v6);
    net.arrive(OUTSIDE, &tcp(((client, 4000), (vip, 21)), "S", b""));
    net.arrive(INSIDE, &tcp(((real_text(v6), 21), (client, 4000)), "SA", b""));
    net.arrive(OUTSIDE, &tcp(((client, 4000), (vip, 21)), "A", b""));
    net
}

fn ends(v6: bool) -> (&'static str, &'static str) {
    if v6 { (CLIENT6, VIP6) } else { (CLIENT4, VIP4) }
}

fn real_text(v6: bool) -> &'static str {
    if v6 { "2001:db8:2::11" } else { "10.0.0.11" }
}

fn say(net: &mut Network, v6: bool, line: &str) -> Vec<u8> {
    let (client, vip) = ends(v6);
    net.arrive(OUTSIDE, &tcp(((client, 4000), (vip, 21)), "A", line.as_bytes())).1[0].bytes.clone()
}

fn answer(net: &mut Network, v6: bool, line: &str) -> Vec<u8> {
    let (client, _) = ends(v6);
    let frame = tcp(((real_text(v6), 21), (client, 4000)), "A", line.as_bytes());
    net.arrive(INSIDE, &frame).1[0].bytes.clone()
}

fn line(frame: &[u8]) -> String {
    let packet = parsed(frame);
    let start = packet.l4 + usize::from(frame[packet.l4 + 12] >> 4) * 4;
    String::from_utf8(frame[start..packet.end].to_vec()).unwrap()
}

#[test]
fn a_passive_reply_names_the_vip_and_the_data_connection_is_expected() {
    let mut net = network(false);
    say(&mut net, false, "PASV\r\n");
    let reply = answer(&mut net, false, "227 Entering Passive Mode (10,0,0,11,4,1).\r\n");
    assert_eq!(line(&reply), "227 Entering Passive Mode (192,0,2,10,4,1).\r\n");
    assert_sound(&reply[14..]);
    let data = tcp(((CLIENT4, 5555), (VIP4, 1025)), "S", b"");
    let (verdict, left) = net.arrive(OUTSIDE, &data);
    assert_eq!(verdict, Verdict::Send(INSIDE));
    let sent = parsed(&left[0].bytes);
    assert_eq!((sent.destination.ip(), sent.destination_port), (ip("10.0.0.11"), 1025));
    let back = tcp((("10.0.0.11", 1025), (CLIENT4, 5555)), "SA", b"");
    let (_, left) = net.arrive(INSIDE, &back);
    let seen = parsed(&left[0].bytes);
    assert_eq!((seen.source.ip(), seen.source_port), (ip(VIP4), 1025));
    assert_eq!(net.listing().len(), 2);
}

#[test]
fn what_follows_a_longer_reply_is_shifted_and_acknowledgements_shifted_back() {
    let mut net = network(false);
    say(&mut net, false, "PASV\r\n");
    let text = "227 Entering Passive Mode (10,0,0,11,4,1).\r\n";
    let grown = i32::try_from(line(&answer(&mut net, false, text)).len() - text.len()).unwrap();
    assert_eq!(grown, 1);
    let mut next = tcp((("10.0.0.11", 21), (CLIENT4, 4000)), "A", b"150 ok\r\n");
    let sequence = 100 + text.len() as u32;
    next[14 + 20 + 4..14 + 20 + 8].copy_from_slice(&sequence.to_be_bytes());
    let (_, left) = net.arrive(INSIDE, &next);
    assert_eq!(be32(&left[0].bytes, 34 + tcp::SEQUENCE), sequence + 1);
    let mut ack = tcp(((CLIENT4, 4000), (VIP4, 21)), "A", b"");
    ack[14 + 20 + 8..14 + 20 + 12].copy_from_slice(&(sequence + 1 + 8).to_be_bytes());
    let (_, left) = net.arrive(OUTSIDE, &ack);
    assert_eq!(be32(&left[0].bytes, 34 + tcp::ACKNOWLEDGEMENT), sequence + 8);
    let again = answer(&mut net, false, text);
    assert_eq!(be32(&again, 34 + tcp::SEQUENCE), 100, "a retransmission keeps its place");
}

#[test]
fn extended_passive_needs_no_rewriting_in_either_family() {
    for v6 in [false, true] {
        let mut net = network(v6);
        say(&mut net, v6, "EPSV\r\n");
        let text = "229 Entering Extended Passive Mode (|||1025|)\r\n";
        assert_eq!(line(&answer(&mut net, v6, text)), text);
        let (client, vip) = ends(v6);
        let (verdict, _) = net.arrive(OUTSIDE, &tcp(((client, 5555), (vip, 1025)), "S", b""));
        assert_eq!(verdict, Verdict::Send(INSIDE));
    }
}

#[test]
fn active_mode_lets_the_server_connect_from_its_data_port() {
    for (v6, command) in [
        (false, "PORT 198,51,100,7,20,1\r\n"),
        (false, "EPRT |1|198.51.100.7|5121|\r\n"),
        (true, "EPRT |2|2001:db8:9::7|5121|\r\n"),
    ] {
        let mut net = network(v6);
        assert_eq!(line(&say(&mut net, v6, command)), command);
        let (client, vip) = ends(v6);
        let (verdict, left) =
            net.arrive(INSIDE, &tcp(((real_text(v6), 20), (client, 5121)), "S", b""));
        assert_eq!(verdict, Verdict::Send(OUTSIDE));
        let seen = parsed(&left[0].bytes);
        assert_eq!((seen.source.ip(), seen.source_port), (ip(vip), 20));
    }
}

#[test]
fn nothing_is_kept_about_a_control_connection_that_ended_while_it_was_read() {
    let mut net = network(false);
    let director = std::sync::Arc::clone(&net.director);
    let page = director.connections().page(0, 10, director.reals(), net.now);
    let slot = page.connections[0].slot;
    // As another worker may, between this one's lookup and its reading the text.
    assert!(director.end(slot, net.now));
    let mut bytes = tcp(((CLIENT4, 4000), (VIP4, 21)), "A", b"PASV\r\n");
    let (packet, length) = (parsed(&bytes), bytes.len());
    let mut frame = Frame::new(&mut bytes, 0, length, OUTSIDE);
    let (table, hops) = (director.table(), director.hops());
    let view = View { director: &director, table: &table, hops: &hops, now: net.now };
    net.path.ftp_from_client(view, &mut frame, &packet, slot);
    assert!(director.ftp().is_empty(), "the next tenant of the slot would be shifted");
}

#[test]
fn the_end_of_data_connections_leaves_the_next_tenant_of_the_control_slot_alone() {
    let mut net = network(false);
    let page = |net: &Network| {
        net.director.connections().page(0, 10, net.director.reals(), net.now).connections
    };
    let control = page(&net)[0].slot;
    say(&mut net, false, "PORT 198,51,100,7,20,1\r\n");
    assert!(net.director.end(control, net.now));
    let mut hidden = service(1, false, Protocol::Tcp, Method::FullNat);
    hidden.source_pool = [ip("10.0.0.1")].into();
    net.configure(vec![hidden], Tunables::default());
    net.pass(3);
    net.arrive(OUTSIDE, &tcp(((CLIENT4, 4242), (VIP4, 80)), "S", b""));
    let tenant = |net: &Network| page(net).into_iter().find(|c| c.slot == control).unwrap();
    let before = tenant(&net).local;
    let data = page(&net).into_iter().find(|c| c.slot != control).unwrap();
    assert!(net.director.end(data.slot, net.now));
    assert_eq!((before.is_some(), tenant(&net).local), (true, before));
}

#[test]
fn a_reply_that_nobody_asked_for_opens_nothing() {
    let mut net = network(false);
    let text = "227 Entering Passive Mode (10,0,0,11,4,1).\r\n";
    assert_eq!(line(&answer(&mut net, false, text)), text);
    assert_eq!(net.listing().len(), 1);
}

#[test]
fn the_control_connection_outlives_its_timeout_while_data_flows() {
    let mut net = network(false);
    say(&mut net, false, "EPSV\r\n");
    answer(&mut net, false, "229 ok (|||1025|)\r\n");
    net.arrive(OUTSIDE, &tcp(((CLIENT4, 5555), (VIP4, 1025)), "S", b""));
    for _ in 0..20 {
        net.pass(50);
        net.arrive(OUTSIDE, &tcp(((CLIENT4, 5555), (VIP4, 1025)), "A", b"x"));
    }
    assert_eq!(net.listing().len(), 2);
    net.pass(1100);
    assert_eq!(net.listing().len(), 0);
    assert_eq!(net.drops(DropReason::TableFull), 0);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for text in [text.as_bytes(), &bytes] {
            let _ = (asks_passive(text), announced_by_client(text), announced_by_server(text));
        }
        for start in ["227 ", "229 (", "PORT ", "EPRT "] {
            let text = [start.as_bytes(), &bytes].concat();
            let _ = (announced_by_client(&text), announced_by_server(&text));
        }
    }
}
