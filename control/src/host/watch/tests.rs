//! Against the kernel, in network namespaces of their own. They need root and say so.

use super::*;
use crate::host::{Link, NeighbourState as Known};
use dataplane::table::{Flow, Refusal, RouteHop, Target};
use nix::sched::{CloneFlags, unshare};
use std::process::Command;

fn run(command: &str) {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    let status = Command::new(program).args(words).status().expect("runs");
    assert!(status.success(), "{command}");
}

/// Runs a future in a network namespace of its own: a thread that left the machine's.
fn apart<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::Builder::new().spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root: CAP_SYS_ADMIN to make a namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("made").block_on(work());
    });
    thread.expect("started").join().expect("passes");
}

/// Waits for a picture that `accept` likes; the 60 s refresh cannot help within 10 s.
async fn until(watch: &mut Watch, accept: impl Fn(&HostState) -> bool) -> Arc<HostState> {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let state = watch.state();
            if accept(&state) {
                return state;
            }
            watch.changed().await.expect("the task lives");
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never seen; last: {:#?}", watch.state()))
}

/// Where the main table leads.
fn target(state: &HostState, text: &str) -> Target {
    let address: IpAddr = text.parse().expect("an address");
    state.routing.target(&Flow::from(address)).clone()
}

fn named<'a>(state: &'a HostState, name: &str) -> Option<&'a Link> {
    state.links.get(&state.link_named(name)?)
}

#[test]
fn links_addresses_and_routes_are_followed() {
    apart(|| async {
        run("ip link add va type veth peer name vb");
        run("ip addr add 10.77.0.1/24 dev va");
        let stop = CancellationToken::new();
        let (mut watch, task) = Watch::start(stop.clone()).await.expect("starts");
        let first = watch.state();
        let va = first.link_named("va").expect("in the first picture");
        assert!(named(&first, "lo").is_some_and(|lo| lo.loopback && lo.mac.is_none()));
        assert!(named(&first, "va").is_some_and(|va| va.mac.is_some() && !va.up));
        let has = |state: &HostState, text: &str| {
            let ip: IpAddr = text.parse().unwrap();
            state.addresses.iter().any(|a| a.prefix.address == ip && a.link == va)
        };
        assert!(has(&first, "10.77.0.1"));

        run("ip link set va up");
        run("ip link set vb up");
        until(&mut watch, |s| named(s, "va").is_some_and(|va| va.up && va.carrier)).await;
        run("ip addr add 2001:db8:77::1/64 dev va nodad");
        until(&mut watch, |s| has(s, "2001:db8:77::1")).await;
        run("ip route add 198.51.100.0/24 via 10.77.0.254 dev va metric 7 mtu 1400");
        let to = |state: &HostState, text: &str| target(state, text);
        let hop = RouteHop { via: Some("10.77.0.254".parse().unwrap()), link: va, weight: 1 };
        let routed = Target::Hops { hops: [hop].into(), source: None, mtu: 1400 };
        until(&mut watch, |s| to(s, "198.51.100.9") == routed).await;
        run("ip route add unreachable 203.0.113.0/24");
        let refused = Target::Refuse(Refusal::Unreachable);
        until(&mut watch, |s| to(s, "203.0.113.9") == refused).await;
        run("ip link del va");
        until(&mut watch, |s| {
            s.link_named("va").is_none() && to(s, "198.51.100.9") == Target::Nothing
        })
        .await;
        stop.cancel();
        task.await.expect("joins").expect("ends well");
    });
}

#[test]
fn neighbours_are_followed_and_asked_for() {
    apart(|| async {
        run("ip link add va type veth peer name vb");
        run("ip addr add 10.77.0.1/24 dev va");
        run("ip link set va up");
        run("ip link set vb up");
        let stop = CancellationToken::new();
        let (mut watch, _task) = Watch::start(stop.clone()).await.expect("starts");
        let va = watch.state().link_named("va").expect("there");
        run("ip neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev va nud permanent");
        let ip: IpAddr = "10.77.0.9".parse().unwrap();
        let state = until(&mut watch, |s| s.neighbours.contains_key(&(va, ip))).await;
        let neighbour = state.neighbours[&(va, ip)];
        assert_eq!((neighbour.mac, neighbour.state), ([2, 0, 0, 0, 0, 9], Known::Fresh));
        run("ip neigh del 10.77.0.9 dev va");
        until(&mut watch, |s| !s.neighbours.contains_key(&(va, ip))).await;

        // The kernel asks on the wire: the other end of the cable sees the request.
        let mut sniffer = Command::new("tcpdump")
            .args(["-i", "vb", "-n", "-c", "1", "-l", "arp and dst host 10.77.0.33"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("tcpdump is installed");
        let started = sniffer.stderr.take().expect("piped");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(started));
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening")));
        watch.resolve(va, "10.77.0.33".parse().unwrap());
        let seen = tokio::task::spawn_blocking(move || sniffer.wait_with_output());
        let seen = tokio::time::timeout(Duration::from_secs(10), seen);
        let seen = seen.await.expect("in time").expect("joins").expect("ends");
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert!(text.contains("who-has 10.77.0.33"), "{text}");
        stop.cancel();
    });
}

#[test]
fn a_flood_of_changes_ends_in_the_right_picture() {
    apart(|| async {
        run("ip link add va type veth peer name vb");
        run("ip addr add 10.77.0.1/16 dev va");
        run("ip link set va up");
        run("ip link set vb up");
        let stop = CancellationToken::new();
        let (mut watch, _task) = Watch::start(stop.clone()).await.expect("starts");
        // The task cannot read while this thread blocks here, so the socket overflows.
        let batch: String = (0..20_000)
            .map(|n| format!("route replace 198.18.{}.{}/32 dev va\n", n / 256 % 256, n % 256))
            .collect();
        let mut ip = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        std::io::Write::write_all(&mut ip.stdin.take().expect("piped"), batch.as_bytes())
            .expect("written");
        assert!(ip.wait().expect("ends").success());
        // One unlike the route around it tells of each that is missing.
        until(&mut watch, |s| {
            let spread = (0..20_000u32).step_by(97).chain([19_999]);
            let routed = |n| target(s, &format!("198.18.{}.{}", n / 256, n % 256));
            spread.map(routed).all(|to| to.hops().len() == 1)
        })
        .await;
        stop.cancel();
    });
}

#[test]
fn an_interface_made_anew_with_the_same_index_and_name_is_another_one() {
    apart(|| async {
        let make = || run("ip link add va index 77 type veth peer name vb index 78");
        make();
        let stop = CancellationToken::new();
        let (mut watch, task) = Watch::start(stop.clone()).await.expect("starts");
        let generation = |state: &HostState| state.links.get(&77).map(|link| link.generation);
        let mut before = generation(&watch.state()).expect("in the first picture");
        for _ in 0..3 {
            run("ip link del va");
            make();
            let after = until(&mut watch, |state| {
                generation(state).is_some_and(|generation| generation > before)
            });
            before = generation(&*after.await).expect("there");
        }
        // Neither another name nor a bridge that it joins and leaves makes it another one.
        run("ip link set va name vc");
        run("ip link add name br0 type bridge");
        run("ip link set vc master br0");
        run("ip link set vc nomaster");
        run("ip link set vc mtu 1400");
        let last = until(&mut watch, |state| named(state, "vc").is_some_and(|vc| vc.mtu == 1400));
        assert_eq!(generation(&*last.await), Some(before));
        stop.cancel();
        task.await.expect("joined").expect("in order");
    });
}
