#![allow(clippy::disallowed_methods)] // an arbitrary base moment; nothing waits for it

use super::*;
use crate::model::{Protocol, VirtualAddress};
use crate::time::sntp::{Leap, ReferenceId};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn supervision(servers: &[&str]) -> (Supervision, Instant) {
    let now = Instant::now();
    let mut supervision = Supervision::new();
    supervision.configure(&wanted(servers), now);
    (supervision, now)
}

fn wanted(servers: &[&str]) -> TimeKeeping {
    let servers = servers.iter().map(|name| (*name).to_owned()).collect();
    TimeKeeping { servers, ..TimeKeeping::default() }
}

fn says(offset: f64) -> Result<Sample, Trouble> {
    Ok(Sample {
        offset,
        delay: 0.002,
        error: 0.005,
        stratum: 2,
        reference_id: ReferenceId(*b"GPS\0"),
        leap: Leap::None,
    })
}

fn kiss(kiss: Kiss) -> Result<Sample, Trouble> {
    Err(Trouble::Refused(Refused::Kiss(kiss)))
}

/// Asks whatever is due and gives each server its answer; what was said.
fn turn(
    supervision: &mut Supervision,
    now: Instant,
    answer: impl Fn(&str) -> Result<Sample, Trouble>,
) -> Vec<String> {
    let mut out = Vec::new();
    for name in supervision.take_due(now) {
        supervision.on_answer(&name, answer(&name), now, &mut out);
    }
    out.into_iter().map(|notice| notice.text).collect()
}

/// The same until `until`, at whatever moments something is due.
fn turns(
    supervision: &mut Supervision,
    until: Instant,
    answer: impl Fn(&str) -> Result<Sample, Trouble>,
) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(due) = supervision.next_due().filter(|due| *due <= until) {
        said.extend(turn(supervision, due, &answer));
    }
    said
}

#[test]
fn a_server_is_got_to_know_in_a_burst_and_then_asked_at_its_interval() {
    let (mut supervision, start) = supervision(&["a"]);
    let mut asked = Vec::new();
    while asked.len() < 7 {
        let due = supervision.next_due().unwrap();
        asked.push(due.duration_since(start).as_secs());
        turn(&mut supervision, due, |_| says(0.0));
    }
    assert_eq!(asked, [0, 2, 4, 6, 70, 134, 198]);
}

#[test]
fn a_drift_of_three_seconds_is_said_and_its_end_too() {
    let (mut supervision, start) = supervision(&["a", "b"]);
    assert!(turns(&mut supervision, start + secs(300), |_| says(0.001)).is_empty());
    let said = turns(&mut supervision, start + secs(400), |_| says(3.0));
    assert_eq!(said, ["this node's clock is 3.000 s behind +/- 5.0 ms"]);
    assert_eq!(supervision.view(start + secs(400), |_| String::new()).drift, Drift::Warn);
    let said = turns(&mut supervision, start + secs(500), |_| says(-0.02));
    assert_eq!(said, ["this node's clock is within limits again: 20.0 ms ahead +/- 5.0 ms"]);
    let said = turns(&mut supervision, start + secs(700), |_| says(-30.0));
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_clock_that_is_set_makes_nobody_a_liar() {
    let (mut supervision, start) = supervision(&["a", "b", "c"]);
    turns(&mut supervision, start + secs(10), |_| says(0.0));
    // Each server is asked at a moment of its own.
    for (place, server) in supervision.servers.iter_mut().enumerate() {
        server.due = Some(start + secs(20 + 20 * place as u64));
    }
    let said = turns(&mut supervision, start + secs(60), |_| says(3.0));
    assert_eq!(said, ["this node's clock is 3.000 s behind +/- 5.0 ms"]);
}

#[test]
fn a_drift_is_confirmed_within_seconds() {
    let (mut supervision, start) = supervision(&["a"]);
    turns(&mut supervision, start + secs(6), |_| says(0.0));
    let seen = supervision.next_due().unwrap();
    turn(&mut supervision, seen, |_| says(3.0));
    assert_eq!(supervision.next_due(), Some(seen + QUICK));
}

#[test]
fn a_liar_is_named_and_does_not_make_this_node_drift() {
    let (mut supervision, start) = supervision(&["a", "b", "c"]);
    let lie = |name: &str| says(if name == "c" { 60.0 } else { 0.0 });
    let said = turns(&mut supervision, start + secs(100), lie);
    assert_eq!(said, ["time server c contradicts the others by +60.000 s"]);
    let view = supervision.view(start + secs(100), |_| String::new());
    assert_eq!((view.drift, view.opinion.as_str()), (Drift::Fine, "known"));
    assert_eq!(view.servers[2].state, "lying");
    let said = turns(&mut supervision, start + secs(300), |_| says(0.0));
    assert_eq!(said, ["time server c agrees with the others again"]);
}

#[test]
fn two_servers_that_contradict_each_other_are_no_opinion() {
    let (mut supervision, start) = supervision(&["a", "b"]);
    let split = |name: &str| says(if name == "a" { 60.0 } else { 0.0 });
    let said = turns(&mut supervision, start + secs(100), split);
    assert_eq!(said, ["the time servers disagree without a majority; none is trusted"]);
    let said = turns(&mut supervision, start + secs(200), |_| says(0.0));
    assert_eq!(said, ["time servers agree on the time again"]);
}

#[test]
fn a_silent_server_is_said_to_be_and_its_memory_not_trusted() {
    let (mut supervision, start) = supervision(&["a"]);
    turns(&mut supervision, start + secs(6), |_| says(0.0));
    let said = turns(&mut supervision, start + secs(400), |_| Err(Trouble::Silent));
    assert_eq!(said, ["time server a gives no usable time: no answer", "no time server answers"]);
    let view = supervision.view(start + secs(400), |_| String::new());
    assert_eq!((view.servers[0].state.as_str(), view.ahead), ("silent", None));
    let said = turns(&mut supervision, start + secs(500), |_| says(0.0));
    assert_eq!(
        said,
        ["time server a gives usable time again", "time servers agree on the time again"]
    );
}

#[test]
fn kisses_are_honoured() {
    let (mut supervision, start) = supervision(&["rate", "deny"]);
    let said = turn(&mut supervision, start, |name| {
        kiss(if name == "rate" { Kiss::Rate } else { Kiss::Deny })
    });
    assert_eq!(
        said,
        ["time server deny refuses requests and is no longer asked", "no time server answers"]
    );
    assert_eq!(supervision.next_due(), Some(start + secs(128)), "the interval doubles at once");
    turn(&mut supervision, start + secs(128), |_| kiss(Kiss::Rate));
    assert_eq!(supervision.next_due(), Some(start + secs(128 + 256)));
    for _ in 0..20 {
        let due = supervision.next_due().unwrap();
        assert_eq!(supervision.take_due(due), ["rate"]);
        supervision.on_answer("rate", kiss(Kiss::Rate), due, &mut Vec::new());
        assert!(supervision.next_due().unwrap() <= due + LONGEST);
    }
}

#[test]
fn a_changed_list_keeps_what_stays() {
    let (mut supervision, start) = supervision(&["a", "b"]);
    turns(&mut supervision, start + secs(10), |_| says(0.0));
    supervision.configure(&wanted(&["c", "b"]), start + secs(10));
    let view = supervision.view(start + secs(10), |_| String::new());
    let states: Vec<_> = view.servers.iter().map(|s| (s.name.as_str(), s.state.as_str())).collect();
    assert_eq!(states, [("c", "waiting"), ("b", "believed")]);
    let mut out = Vec::new();
    supervision.on_answer("a", says(99.0), start + secs(11), &mut out);
    assert!(out.is_empty(), "a late answer of a server that is gone");
}

#[test]
fn real_servers_are_watched_one_by_one() {
    let (mut supervision, start) = supervision(&[]);
    let vip = "192.0.2.10:80".parse().unwrap();
    let service = VirtualAddress::Socket { protocol: Protocol::Tcp, address: vip };
    let real = |n: u8| (service, std::net::SocketAddr::from(([10, 0, 0, n], 80)));
    let mut out = Vec::new();
    for _ in 0..3 {
        supervision.on_real(real(1), ClockReading { ahead: 0.2, error: 0.5 }, &mut out);
        supervision.on_real(real(2), ClockReading { ahead: -3.1, error: 0.5 }, &mut out);
    }
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].clock, Clock::Real(real(2)));
    assert_eq!(out[0].severity, Severity::Warning);
    assert_eq!(out[0].text, "the clock of 10.0.0.2:80 is 3.100 s behind +/- 500.0 ms");
    supervision.keep_reals(|key| *key == real(1));
    assert_eq!(supervision.view(start, |_| "web".into()).reals.len(), 1);
}

#[test]
fn the_kernel_is_heard_when_it_changes_its_mind() {
    let (mut supervision, _) = supervision(&[]);
    let clock = |synchronised| {
        Some(KernelClock {
            synchronised,
            max_error_us: 0,
            estimated_error_us: 0,
            leap: 0,
            tai_offset: 0,
        })
    };
    let mut out = Vec::new();
    for state in [clock(true), clock(true), clock(false), clock(false), None, clock(true)] {
        supervision.on_kernel(state, &mut out);
    }
    let said: Vec<_> = out.iter().map(|notice| notice.text.as_str()).collect();
    assert_eq!(said, ["the kernel's clock is no longer synchronised"]);
}

#[test]
fn the_peer_s_clock_is_warned_about_and_forgotten_with_the_link() {
    let (mut supervision, now) = supervision(&[]);
    let mut out = Vec::new();
    let far = ClockReading { ahead: -3.0, error: 0.001 };
    let view = |supervision: &Supervision| supervision.view(now, |_| String::new()).peer;
    assert!(view(&supervision).is_none());
    supervision.on_peer(Some(far), &mut out);
    assert!(out.is_empty(), "one reading is not enough: {out:?}");
    supervision.on_peer(Some(far), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].clock.clone(), out[0].severity), (Clock::Peer, Severity::Warning));
    assert!(out[0].text.contains("behind"), "{}", out[0].text);
    assert_eq!(view(&supervision).map(|peer| (peer.drift, peer.ahead)), Some((Drift::Warn, -3.0)));
    supervision.on_peer(None, &mut out);
    assert!(view(&supervision).is_none());
    let right = ClockReading { ahead: 0.0, error: 0.001 };
    supervision.on_peer(Some(right), &mut out);
    supervision.on_peer(Some(right), &mut out);
    assert_eq!(out.len(), 1, "what was believed before was of another link: {out:?}");
}
