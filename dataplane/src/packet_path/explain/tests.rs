use super::*;
use crate::packet_path::Verdict;
use crate::packet_path::tests::fixture::packet::{parsed, tcp};
use crate::packet_path::tests::fixture::*;
use crate::table::{Persistence, ServiceId, Tunables};
use crate::tick::Ticks;

fn ask(net: &Network, port: u16) -> Explanation {
    let (table, hops) = (net.director.table(), net.director.hops());
    let view = View { director: &net.director, table: &table, hops: &hops, now: net.now };
    let question = Question {
        protocol: Protocol::Tcp,
        from: SocketAddr::new(ip(CLIENT4), port),
        to: SocketAddr::new(ip(VIP4), 80),
    };
    explain(view, &question)
}

#[test]
fn the_explanation_names_the_server_that_then_gets_the_packet() {
    let schedulers = [
        crate::table::Scheduler::Rr,
        crate::table::Scheduler::Wrr,
        crate::table::Scheduler::Wlc,
        crate::table::Scheduler::Sh,
        crate::table::Scheduler::Mh,
    ];
    for scheduler in schedulers {
        let mut one = service(0, false, Protocol::Tcp, Method::Nat);
        one.scheduler = scheduler;
        let mut net = Network::new(vec![one]);
        for port in 100..130 {
            let told = ask(&net, port);
            assert_eq!(told, ask(&net, port), "asking changes nothing");
            let (verdict, left) =
                net.arrive(OUTSIDE, &tcp(((CLIENT4, port), (VIP4, 80)), "S", b""));
            assert_eq!(verdict, Verdict::Send(INSIDE));
            let sent = parsed(&left[0].bytes);
            let went = SocketAddr::new(sent.destination.ip(), sent.destination_port);
            assert_eq!(told.real, Some(went), "{scheduler:?}");
        }
        assert_eq!(ask(&net, 100).steps[1].stage, "connection");
    }
}

#[test]
fn a_template_is_named() {
    let mut one = service(0, false, Protocol::Tcp, Method::Nat);
    let timeout = Ticks::from_secs(300);
    one.persistence = Some(Persistence { timeout, mask: u128::MAX });
    let mut net = Network::new(vec![one]);
    net.arrive(OUTSIDE, &tcp(((CLIENT4, 1), (VIP4, 80)), "S", b""));
    let told = ask(&net, 2);
    assert!(told.steps.iter().any(|s| s.stage == "persistence" && s.says.contains("10.0.0.13")));
}

#[test]
fn what_is_not_ours_is_said_to_be_the_hosts() {
    let net = Network::new(vec![]);
    let told = ask(&net, 1);
    assert_eq!(told.steps.last().unwrap().says, "left to the host's own stack");
    assert_eq!(told.real, None);
}

#[test]
fn drained_servers_are_said_to_be_drained() {
    let mut one = service(0, false, Protocol::Tcp, Method::Nat);
    one.id = ServiceId(0);
    one.reals = one
        .reals
        .iter()
        .cloned()
        .map(|mut r| {
            r.weight = 0;
            r
        })
        .collect();
    let mut net = Network::new(vec![]);
    net.configure(vec![one], Tunables::default());
    let told = ask(&net, 1);
    let drained = told.steps.iter().filter(|s| s.says.contains("drained")).count();
    assert_eq!((drained, told.real), (3, None));
}
