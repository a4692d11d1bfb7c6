//! Time wraps: what a machine meets after 97 and after 194 days up, every test meets here.

use super::fixture::packet::*;
use super::fixture::*;
use super::methods::{NAT, client, network, vip};
use crate::packet_path::*;
use crate::table::*;
use crate::tick::tests::START_VARIABLE;
use crate::tick::{PER_SECOND, Ticks};
use std::process::Command;

/// Eight seconds before zero looks like the future, in the middle of the time in which it does, and
/// eight seconds before the count begins again.
const STARTS: [u32; 3] = [i32::MAX as u32 - 2000, 0xc000_0000, u32::MAX - 2000];

/// Half the count: a moment that old looks like the future.
const HALF: Ticks = Ticks(1 << 31);

/// Runs the tests of the packet path and of the workers in a process of their own, once for each
/// start. Those skipped take long and live through the wrap anyway, by a clock of their own.
#[test]
fn the_packet_path_s_tests_pass_wherever_the_clock_starts() {
    let skipped = ["wherever_the_clock_starts", "locality_cache", "schedule::tests::comparison"];
    for start in STARTS {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["packet_path::", "worker::", "tick::"])
            .args(skipped.iter().flat_map(|name| ["--skip", name]))
            .env(START_VARIABLE, start.to_string())
            .env("VIADUCT_STORIES", "30")
            .env("PROPTEST_CASES", "16")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "from tick {start}:\n{text}");
        assert!(!text.contains("running 0 tests"), "{text}");
    }
}

/// Lets more than half the count pass, in steps as they are between packets of a quiet host.
fn pass_half(net: &mut Network) {
    net.pass(1);
    for _ in 0..17 {
        net.now = net.now.after(Ticks(HALF.0 / 16));
        net.pass(1);
    }
}

fn unanswered(net: &mut Network) -> bool {
    let (verdict, _) = net.arrive(OUTSIDE, &udp((client(false), vip(false)), b"x"));
    verdict != Verdict::Send(OUTSIDE)
}

#[test]
fn the_limit_on_errors_is_one_of_each_second_of_the_clock() {
    let mut service = service(0, false, Protocol::Udp, NAT);
    service.reals = [].into();
    let mut net = Network::new(vec![service]);
    for _ in 0..3 {
        let refused = (0..1100).filter(|_| unanswered(&mut net)).count();
        assert!((1..=100).contains(&refused), "{refused}");
        net.now = net.now.after(Ticks(PER_SECOND));
    }
    pass_half(&mut net);
    assert!(!unanswered(&mut net), "after a long silence");
}

#[test]
fn a_neighbour_is_asked_for_again_after_a_long_silence() {
    let mut net = network(false, Protocol::Udp, NAT);
    let mut service = service(0, false, Protocol::Udp, NAT);
    service.reals = [Real { address: ip("10.0.0.99"), ..real(0, false, 11, NAT) }].into();
    net.configure(vec![service], Tunables::default());
    let question = udp((client(false), vip(false)), b"x");
    let asked = |net: &mut Network| net.arrive(OUTSIDE, &question).1.len();
    assert_eq!((asked(&mut net), asked(&mut net)), (1, 0), "once");
    pass_half(&mut net);
    assert_eq!(asked(&mut net), 1);
}

#[test]
fn a_fragment_does_not_follow_a_first_part_of_long_ago() {
    let mut net = network(false, Protocol::Udp, NAT);
    let whole = udp((client(false), vip(false)), &[9; 60]);
    let mut parts = Vec::new();
    forward::split::fragments(&whole[14..], 60, &mut Vec::new(), |part| {
        parts.push([&whole[..14], part].concat());
    });
    assert_eq!(net.arrive(OUTSIDE, &parts[0]).0, Verdict::Send(INSIDE));
    pass_half(&mut net);
    assert_eq!(net.arrive(OUTSIDE, &parts[1]).0, Verdict::Consumed, "kept for its first part");
}

#[test]
fn a_path_limit_is_not_believed_again_after_a_long_silence() {
    let net = &mut network(false, Protocol::Udp, NAT);
    net.director.reals().limit_path(RealId(0), 1000, net.now);
    let limit = |net: &Network| net.director.reals().path_limit(RealId(0), 1500);
    assert_eq!(limit(net), 1000);
    pass_half(net);
    assert_eq!(limit(net), 1500);
}

#[test]
fn a_connection_is_shown_whatever_the_tick_of_its_end() {
    let mut one = service(0, true, Protocol::Udp, NAT);
    one.persistence = Some(Persistence { timeout: Ticks::from_secs(60), mask: 0 });
    let mut net = Network::new(vec![one]);
    net.now = crate::tick::Tick(0_u32.wrapping_sub(60 * PER_SECOND));
    net.arrive(OUTSIDE, &udp((client(true), vip(true)), b"x"));
    let shown = net.listing();
    assert_eq!(shown.len(), 2, "the template of all clients ends at tick 0: {shown:?}");
}
