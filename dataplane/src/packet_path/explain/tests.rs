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
fn why_a_server_takes_nothing_is_said() {
    let cases =
        [(0, Availability::Serving, "weight 0"), (0, Availability::Withdrawn, "down or drained")];
    for (weight, availability, why) in cases {
        let mut one = service(0, false, Protocol::Tcp, Method::Nat);
        one.id = ServiceId(0);
        let out = |real: &Real| Real { weight, availability, ..real.clone() };
        one.reals = one.reals.iter().map(out).collect();
        let mut net = Network::new(vec![]);
        net.configure(vec![one], Tunables::default());
        let told = ask(&net, 1);
        let out = told.steps.iter().filter(|step| step.says.ends_with(why)).count();
        assert_eq!((out, told.real), (3, None), "{told:?}");
    }
}

#[test]
fn the_source_that_is_named_is_the_pools_which_the_packet_then_has() {
    let pool: Vec<IpAddr> = ["10.0.0.101", "10.0.0.102"].map(|a| a.parse().unwrap()).to_vec();
    for pool in [Vec::new(), pool] {
        let mut one = service(0, false, Protocol::Tcp, Method::FullNat);
        one.source_pool = pool.clone().into();
        let mut net = Network::new(vec![one]);
        for port in 100..110 {
            let told = ask(&net, port);
            let says = told.steps.iter().find(|step| step.stage == "method").unwrap().says.clone();
            let (_, left) = net.arrive(OUTSIDE, &tcp(((CLIENT4, port), (VIP4, 80)), "S", b""));
            let source = parsed(&left[0].bytes).source.ip();
            assert!(says.contains(&source.to_string()), "{says}; it left from {source}");
            assert!(pool.is_empty() || pool.contains(&source));
        }
    }
}
