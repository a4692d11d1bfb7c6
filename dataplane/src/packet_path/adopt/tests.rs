//! What one director has, another takes in, and goes on with.

use super::super::tests::fixture::packet::*;
use super::super::tests::fixture::*;
use super::*;
use crate::packet_path::connections::Seen;
use crate::packet_path::{DropReason, Verdict};
use crate::table::*;
use crate::wire::{be32, put32, transport::tcp as header};

/// Publishes a persistent TCP service and a UDP one, awake or asleep.
fn publish(net: &Network, method: Method, master: bool) {
    let mut web = service(0, false, Protocol::Tcp, method);
    web.persistence = Some(Persistence { timeout: Ticks::from_secs(60), mask: 0xffff_ff00 });
    let dns = service(1, false, Protocol::Udp, method);
    let mut ftp = at_port(2, 21, Method::Nat);
    ftp.reals = [Real { port: 21, ..real(20, false, 11, Method::Nat) }].into();
    let mut announced = at_port(3, 83, Method::FullNat);
    announced.client_address = ClientAddress::ProxyProtocol;
    let vip = ip(VIP4);
    let owned = OwnedAddress { address: vip, mac: None, answers_ping: true };
    let table = ServiceTable::new(
        [web, dns, ftp, announced].map(Arc::new),
        Some(owned).filter(|_| master),
        Arc::from([]),
        Timeouts::default(),
        Tunables::default(),
    );
    net.director.publish(table.with_silent(Some(vip).filter(|_| !master)), net.now);
}

fn at_port(id: u32, port: u16, method: Method) -> Service {
    let key = ServiceKey::Address { protocol: Protocol::Tcp, address: ip(VIP4), port };
    Service { key, ..service(id, false, Protocol::Tcp, method) }
}

struct Two {
    master: Network,
    backup: Network,
    adopter: Adopter,
}

impl Two {
    fn new(method: Method) -> Self {
        let (master, backup) = (Network::new(vec![]), Network::new(vec![]));
        publish(&master, method, true);
        publish(&backup, method, false);
        master.director.connections().note_changes(true);
        let adopter = Adopter::new(Arc::clone(&backup.director), 1);
        Self { master, backup, adopter }
    }

    /// Tells the backup what changed. How many were told, and what was not taken.
    fn tell(&mut self) -> (usize, Vec<NotAdopted>) {
        let (mut told, mut refused) = (0, Vec::new());
        let (director, now) = (Arc::clone(&self.master.director), self.master.now);
        self.adopter.begin();
        director.connections().take_changed(|slot| {
            told += 1;
            match director.connections().look_at_changed(slot, director.reals(), now) {
                Some(Seen::Live(info)) => {
                    let told = Told::of(&director, &info);
                    let taken = self.adopter.adopt(&told, self.backup.now);
                    refused.extend(taken.err());
                }
                Some(Seen::Ended(tuple, template)) => {
                    self.adopter.close(&tuple, template, self.backup.now);
                }
                None => {}
            }
        });
        self.adopter.rest();
        (told, refused)
    }
}

const ENDS: Ends<'_> = ((CLIENT4, 4242), (VIP4, 80));

#[test]
fn a_connection_and_its_template_go_on_at_the_other_director() {
    for method in [Method::Nat, Method::DirectRouting, Method::Tunnel(Tunnel::Ipip)] {
        let mut two = Two::new(method);
        let (_, left) = two.master.arrive(OUTSIDE, &tcp(ENDS, "S", b""));
        let real = macs(&left[0].bytes).1;
        if method == Method::Nat {
            two.master.arrive(INSIDE, &tcp((("10.0.0.13", 8080), ENDS.0), "SA", b""));
        }
        two.master.arrive(OUTSIDE, &tcp(ENDS, "A", b"GET"));
        assert_eq!(two.tell(), (2, vec![]), "template and connection");
        assert_eq!(two.tell(), (0, vec![]), "nothing new");
        assert_eq!(two.master.listing(), two.backup.listing());
        let load = |net: &Network| {
            let id = RealId(0);
            net.director.reals().load(id)
        };
        assert_eq!(load(&two.master), load(&two.backup));
        publish(&two.backup, method, true);
        let (verdict, left) = two.backup.arrive(OUTSIDE, &tcp(ENDS, "A", b"more"));
        assert!(matches!(verdict, Verdict::Send(INSIDE)), "{method:?}: {verdict:?}");
        assert_eq!(macs(&left[0].bytes).1, real);
        // Another connection of the same client goes to the same server, by the template.
        let other = ((CLIENT4, 4243), (VIP4, 80));
        let (verdict, left) = two.backup.arrive(OUTSIDE, &tcp(other, "S", b""));
        assert_eq!(verdict, Verdict::Send(INSIDE), "{method:?}");
        assert_eq!(macs(&left[0].bytes).1, real);
    }
}

/// A segment with these sequence numbers: what arrives, and as what it leaves.
fn numbered(
    net: &mut Network,
    port: PortId,
    (sequence, acknowledged): (u32, u32),
    mut frame: Vec<u8>,
) -> (u32, u32) {
    let l4 = parsed(&frame).l4;
    put32(&mut frame, l4 + header::SEQUENCE, sequence);
    put32(&mut frame, l4 + header::ACKNOWLEDGEMENT, acknowledged);
    let (_, left) = net.arrive(port, &frame);
    let sent = &left[0].bytes;
    let at = parsed(sent).l4;
    (be32(sent, at + header::SEQUENCE), be32(sent, at + header::ACKNOWLEDGEMENT))
}

#[test]
fn a_control_connection_whose_replies_grew_goes_on_at_the_other_director() {
    let mut two = Two::new(Method::Nat);
    let (client, real) = ((CLIENT4, 4000), ("10.0.0.11", 21));
    let (up, down) = ((client, (VIP4, 21)), (real, client));
    two.master.arrive(OUTSIDE, &tcp(up, "S", b""));
    two.master.arrive(INSIDE, &tcp(down, "SA", b""));
    two.master.arrive(OUTSIDE, &tcp(up, "A", b"PASV\r\n"));
    assert_eq!(two.tell(), (1, vec![]));
    let text = b"227 Entering Passive Mode (10,0,0,11,4,1).\r\n";
    two.master.arrive(INSIDE, &tcp(down, "A", text));
    // And the data connection that the reply announces.
    let (told, refused) = two.tell();
    assert_eq!((told, refused), (2, vec![]), "the shift is told at once");
    publish(&two.backup, Method::Nat, true);
    let next = 100 + text.len() as u32;
    for net in [&mut two.master, &mut two.backup] {
        // The VIP in the reply is one byte longer than the server's address.
        let sent = numbered(net, INSIDE, (next, 5000), tcp(down, "A", b"150 ok\r\n"));
        assert_eq!(sent, (next + 1, 5000));
        let sent = numbered(net, OUTSIDE, (106, next + 9), tcp(up, "A", b""));
        assert_eq!(sent, (106, next + 8));
    }
    // The new master reads on.
    two.backup.arrive(OUTSIDE, &tcp(up, "A", b"PASV\r\n"));
    let mut frame = tcp(down, "A", text);
    let l4 = parsed(&frame).l4;
    put32(&mut frame, l4 + header::SEQUENCE, next + 8);
    let (_, left) = two.backup.arrive(INSIDE, &frame);
    assert!(left[0].bytes.ends_with(b"(192,0,2,10,4,1).\r\n"), "{:?}", left[0].bytes);
    two.backup.director.end(Slot(only_control(&two.backup)), two.backup.now);
    assert!(two.backup.director.ftp().is_empty(), "forgotten with the connection");
}

fn only_control(net: &Network) -> u32 {
    let page = net.director.connections().page(0, 99, net.director.reals(), net.now);
    page.connections.iter().find(|info| info.virtual_port == 21).unwrap().slot.0
}

#[test]
fn a_connection_that_was_announced_to_its_server_goes_on_at_the_other_director() {
    let mut two = Two::new(Method::Nat);
    let up = ((CLIENT4, 4000), (VIP4, 83));
    let mut request = tcp(up, "S", b"");
    let l4 = parsed(&request).l4;
    put32(&mut request, l4 + header::SEQUENCE, 10);
    let (_, left) = two.master.arrive(OUTSIDE, &request);
    let sent = parsed(&left[0].bytes);
    let (real, own) = (sent.destination.to_string(), sent.source.to_string());
    let down = ((real.as_str(), sent.destination_port), (own.as_str(), sent.source_port));
    two.master.arrive(INSIDE, &tcp(down, "SA", b""));
    numbered(&mut two.master, OUTSIDE, (11, 101), tcp(up, "A", b"hello"));
    assert_eq!(two.tell().1, vec![]);
    publish(&two.backup, Method::Nat, true);
    for net in [&mut two.master, &mut two.backup] {
        // The header is 28 bytes long.
        let sent = numbered(net, OUTSIDE, (16, 101), tcp(up, "A", b"more"));
        assert_eq!(sent, (16 + 28, 101));
        let sent = numbered(net, INSIDE, (101, 20 + 28), tcp(down, "A", b""));
        assert_eq!(sent, (101, 20));
    }
}

#[test]
fn ends_are_told_and_a_master_knows_better() {
    let mut two = Two::new(Method::Nat);
    let flow = ((CLIENT4, 999), (VIP4, 80));
    two.master.arrive(OUTSIDE, &udp(flow, b"?"));
    assert_eq!(two.tell(), (1, vec![]));
    assert_eq!(two.backup.director.connections().len(), 1);
    // The backup becomes master while its peer goes on telling.
    publish(&two.backup, Method::Nat, true);
    two.master.director.connections().take_changed(|_| {});
    let now = two.master.now;
    let slot = two.master.director.connections().page(0, 9, two.master.director.reals(), now);
    let slot = slot.connections[0].slot;
    two.master.director.connections().changed(slot);
    assert_eq!(two.tell(), (1, vec![NotAdopted::Master]));
    two.master.director.end(slot, now);
    two.tell();
    assert_eq!(two.backup.director.connections().len(), 1, "its own now");
    publish(&two.backup, Method::Nat, false);
    two.master.director.connections().changed(slot);
    two.tell();
    assert_eq!(two.backup.director.connections().len(), 0);
    assert_eq!(two.backup.director.reals().load(RealId(10)).active, 0);
    assert_eq!(two.backup.drops(DropReason::NotMaster), 0);
}

#[test]
fn what_is_not_known_here_is_refused() {
    let mut two = Two::new(Method::Nat);
    two.master.arrive(OUTSIDE, &udp(((CLIENT4, 999), (VIP4, 80)), b"?"));
    let director = Arc::clone(&two.master.director);
    let page = director.connections().page(0, 9, director.reals(), two.master.now);
    let told = Told::from(&page.connections[0]);
    let mut adopt = |told: Told| two.adopter.adopt(&told, two.backup.now).err();
    let tuple = Tuple { destination_port: 81, ..told.tuple };
    assert_eq!(adopt(Told { tuple, ..told }), Some(NotAdopted::NoService));
    assert_eq!(adopt(Told { real: ip("10.9.9.9"), ..told }), Some(NotAdopted::NoReal));
    let via = Via::FullNat;
    assert_eq!(adopt(Told { via, ..told }), Some(NotAdopted::NotOurSource));
    let local = Some((ip("203.0.113.1"), 7));
    assert_eq!(adopt(Told { via, local, ..told }), Some(NotAdopted::NotOurSource));
    assert_eq!(adopt(told), None);
}

#[test]
fn what_was_taken_in_expires() {
    let mut two = Two::new(Method::Nat);
    two.master.arrive(OUTSIDE, &udp(((CLIENT4, 999), (VIP4, 80)), b"?"));
    two.tell();
    let mut now = two.backup.now;
    for _ in 0..302 {
        now = now.after(Ticks::from_secs(1));
        two.adopter.begin();
        two.adopter.expire(now);
        two.adopter.rest();
    }
    assert_eq!(two.backup.director.connections().len(), 0);
    let load = two.backup.director.reals().load(RealId(10));
    assert_eq!((load.active, load.inactive), (0, 0));
}
