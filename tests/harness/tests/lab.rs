//! The lab itself: what it builds carries traffic, and nothing of it stays behind.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::backend::Backend;
use harness::bad_cable::{BadCable, Fates, Flaws};
use harness::capture::Capture;
use harness::craft::{self, RawSender, protocol};
use harness::decapsulator::{Decapsulator, Encapsulation};
use harness::{Host, Lab, http, peers, real_server, wait};

const LIMIT: Duration = Duration::from_secs(10);

/// Two hosts on one wire, with addresses of both families.
fn pair(name: &str) -> Result<(Lab, Host, Host)> {
    let lab = Lab::new(name)?;
    let wire = lab.network("wire")?;
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    client.attach(&wire, &["192.0.2.1/24", "2001:db8::1/64"])?;
    server.attach(&wire, &["192.0.2.2/24", "2001:db8::2/64"])?;
    Ok((lab, client, server))
}

fn namespaces(part: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.contains(part)).collect()
}

#[test]
fn hosts_on_one_wire_reach_each_other_in_both_families() -> Result<()> {
    let (_lab, client, _server) = pair("wire")?;
    client.run_ok(&["ping", "-c1", "-W5", "192.0.2.2"])?;
    client.run_ok(&["ping", "-c1", "-W5", "2001:db8::2"])?;
    Ok(())
}

#[test]
fn a_pulled_cable_carries_nothing_until_it_is_put_back() -> Result<()> {
    let lab = Lab::new("cable")?;
    let wire = lab.network("wire")?;
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    let cable = client.attach(&wire, &["192.0.2.1/24"])?;
    server.attach(&wire, &["192.0.2.2/24"])?;
    client.run_ok(&["ping", "-c1", "-W5", "192.0.2.2"])?;
    client.unplug(&cable)?;
    assert!(client.run_ok(&["ping", "-c1", "-W1", "192.0.2.2"]).is_err());
    client.plug(&cable)?;
    wait::until_ok("the cable to work again", LIMIT, || {
        client.run_ok(&["ping", "-c1", "-W1", "192.0.2.2"])
    })?;
    Ok(())
}

/// Sequence numbers of the answers to 1,000 pings, in the order in which they came.
fn pinged(client: &Host) -> Result<Vec<u32>> {
    let report = client.run(&["ping", "-c1000", "-i0.002", "-W1", "192.0.2.2"])?.stdout;
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
    Ok(report.lines().filter_map(number).collect())
}

#[test]
fn a_bad_cable_loses_repeats_and_mixes_as_many_frames_as_it_is_told() -> Result<()> {
    let lab = Lab::new("badcable")?;
    let (left, right) = (lab.network("left")?, lab.network("right")?);
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    for (host, network, address) in
        [(&client, &left, "192.0.2.1/24"), (&server, &right, "192.0.2.2/24")]
    {
        let interface = host.attach(network, &[address])?;
        host.send_plain_frames(&interface.name)?;
    }
    let cable = BadCable::between(&lab, "cable", [&left, &right], 7)?;
    assert_eq!(pinged(&client)?, (1..=1000).collect::<Vec<_>>(), "a good cable");
    let good = cable.fates();
    assert_eq!(good, Fates { frames: good.frames, ..Fates::default() });

    // Of a question and its answer: 81 % pass both ways, and 10 % more arrive each way.
    cable.set(Flaws { lost: 100, ..Flaws::default() });
    let lossy = pinged(&client)?;
    assert!((740..880).contains(&lossy.len()), "{} answers", lossy.len());
    assert!(lossy.is_sorted(), "lost frames change no order");
    cable.set(Flaws { doubled: 100, ..Flaws::default() });
    let doubled = pinged(&client)?;
    let twice = doubled.windows(2).filter(|two| two[0] == two[1]).count();
    assert!((1140..1280).contains(&doubled.len()) && twice > 100, "{} answers", doubled.len());
    let delay = Duration::from_millis(20);
    cable.set(Flaws { overtaken: 100, delay, ..Flaws::default() });
    let mixed = pinged(&client)?;
    let overtaken = mixed.windows(2).filter(|two| two[0] > two[1]).count();
    let mut sorted = mixed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=1000).collect::<Vec<_>>(), "late is not lost");
    assert!((80..250).contains(&overtaken), "{overtaken} overtaken");

    // What bulk data asks of it: whole frames of one size, and every byte in the end.
    cable.set(Flaws { lost: 10, doubled: 10, overtaken: 50, delay });
    let _server = peers::iperf3_server(&server, 5201)?;
    let bulk = peers::iperf3(&client, "192.0.2.2", 5201, 1, 1)?;
    assert!(bulk.bytes > 100_000.0 && bulk.retransmits > 0, "{bulk:?}");
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_no_name_no_process_and_no_file() -> Result<()> {
    let (lab, client, _server) = pair("tidy")?;
    let sleeper = client.spawn(harness::host::command(&["sleep", "600"])?)?;
    let pid = sleeper.id();
    let scratch = lab.scratch().to_owned();
    let own = format!("{}-tidy-", std::process::id());
    assert_eq!(namespaces(&own).len(), 3);
    // Neither the program nor the host is dropped: the lab alone must see to it.
    std::mem::forget(sleeper);
    std::mem::forget(client);
    drop(lab);
    assert_eq!(namespaces(&own), Vec::<String>::new());
    assert!(!scratch.exists());
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    wait::until("the program to be dead", LIMIT, || {
        (state().is_empty() || state().contains(") Z ")).then_some(())
    })?;
    Ok(())
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next_lab() -> Result<()> {
    let mut short = Command::new("true").spawn()?;
    let dead = short.id();
    short.wait()?;
    let left = format!("vdlab-{dead}-gone-client");
    let scratch = std::env::temp_dir().join(format!("vdlab-{dead}-gone"));
    std::fs::create_dir_all(&scratch)?;
    assert!(Command::new("ip").args(["netns", "add", &left]).status()?.success());
    let mut inside = Command::new("ip").args(["netns", "exec", &left, "sleep", "600"]).spawn()?;
    wait::until("the program to be inside", LIMIT, || {
        let link = |of: String| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
        (link(inside.id().to_string()) != link("self".to_owned())).then_some(())
    })?;
    let _lab = Lab::new("next")?;
    assert!(!Path::new("/run/netns").join(&left).exists());
    assert!(!scratch.exists());
    assert!(!inside.wait()?.success());
    Ok(())
}

#[test]
fn a_captured_exchange_counts_as_many_bytes_as_ip_says() -> Result<()> {
    let (_lab, client, server) = pair("capture")?;
    let capture = Capture::start(&client, "eth0", "icmp and dst 192.0.2.2")?;
    client.run_ok(&["ping", "-c5", "-i0.05", "-W5", "-s", "100", "192.0.2.2"])?;
    let packets = capture.finish()?;
    assert_eq!(packets.len(), 5);
    assert!(packets.iter().all(|packet| packet.bytes == 20 + 8 + 100), "{packets:?}");
    drop(server);
    Ok(())
}

#[test]
fn embedded_servers_say_who_they_are_die_and_come_back() -> Result<()> {
    let (_lab, client, server) = pair("backend")?;
    let mut backend = Backend::http(&server, "[::]:80")?;
    let ask = |address: &str, path: &str| -> Result<http::Response> {
        let address: SocketAddr = address.parse()?;
        client.enter(|| http::get(address, path, LIMIT))?
    };
    assert_eq!(ask("192.0.2.2:80", "/")?.body, "server\n");
    assert_eq!(ask("[2001:db8::2]:80", "/client")?.body, "2001:db8::1\n");
    assert_eq!(ask("192.0.2.2:80", "/bytes/1000000")?.body.len(), 1_000_000);
    assert_eq!(ask("192.0.2.2:80", "/none")?.status, 404);
    backend.stop();
    wait::until("the server to be dead", LIMIT, || {
        ask("192.0.2.2:80", "/").is_err().then_some(())
    })?;
    backend.start()?;
    assert_eq!(ask("192.0.2.2:80", "/")?.status, 200);
    Ok(())
}

#[test]
fn the_kernels_own_nat_balances_in_the_lab() -> Result<()> {
    let lab = Lab::new("kernelnat")?;
    let (outside, inside) = (lab.network("outside")?, lab.network("inside")?);
    let (client, router) = (lab.host("client")?, lab.host("router")?);
    client.attach(&outside, &["192.0.2.1/24"])?;
    router.attach(&outside, &["192.0.2.254/24"])?;
    router.attach(&inside, &["10.0.0.254/24"])?;
    router.forward()?;
    let mut servers = Vec::new();
    for number in [1, 2] {
        let real = lab.host(&format!("real{number}"))?;
        real.attach(&inside, &[&format!("10.0.0.{number}/24")])?;
        real.route("default", "10.0.0.254")?;
        servers.push(peers::nginx(&real, "80")?);
    }
    router.run_ok(&[
        "nft",
        "table ip lab { chain pre { type nat hook prerouting priority -100; \
         ip daddr 192.0.2.254 tcp dport 80 dnat to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }; }; }",
    ])?;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.run_ok(&["curl", "-sS", "--max-time", "5", "http://192.0.2.254/"])?);
    }
    assert_eq!(seen.iter().filter(|name| *name == "real1\n").count(), 2, "{seen:?}");
    let result = peers::ab(&client, "http://192.0.2.254/", 1000, 20, Duration::from_secs(60))?;
    assert_eq!((result.complete, result.failed), (1000, 0));
    Ok(())
}

#[test]
fn real_programs_serve_and_measure() -> Result<()> {
    let (_lab, client, server) = pair("peers")?;
    let _servers = [
        peers::nginx(&server, "80")?,
        peers::dnsmasq(&server)?,
        peers::vsftpd(&server)?,
        peers::iperf3_server(&server, 5201)?,
    ];
    let name = client.run_ok(&["dig", "+short", "+time=5", "@192.0.2.2", "who.lab", "TXT"])?;
    assert_eq!(name.trim(), "\"server\"");
    for passive in ["yes", "no"] {
        let script =
            format!("set net:timeout 10; set ftp:passive-mode {passive}; open 192.0.2.2; cat who");
        assert_eq!(client.run_ok(&["lftp", "-c", &script])?.trim(), "server");
    }
    let wrk = peers::wrk(&client, "http://192.0.2.2/", 10, 1)?;
    assert!(wrk.rate > 0.0 && wrk.errors == 0, "{wrk:?}");
    let iperf3 = peers::iperf3(&client, "192.0.2.2", 5201, 2, 1)?;
    assert!(iperf3.bits_per_second > 0.0 && !iperf3.each_second.is_empty(), "{iperf3:?}");
    Ok(())
}

/// Wraps an inner packet by hand, so that the decapsulator is not its own oracle.
fn wrap(encapsulation: Encapsulation, outer: (&str, &str), inner: &[u8]) -> Result<Vec<u8>> {
    let (from, to) = (outer.0.parse()?, outer.1.parse()?);
    let inner_is_ipv4 = inner[0] >> 4 == 4;
    let number = if inner_is_ipv4 { protocol::IPIP } else { protocol::IPV6 };
    match encapsulation {
        Encapsulation::Ipip => craft::ip(from, to, number, inner),
        Encapsulation::Gre => {
            let kind: [u8; 4] = if inner_is_ipv4 { [0, 0, 8, 0] } else { [0, 0, 0x86, 0xdd] };
            craft::ip(from, to, protocol::GRE, &[&kind, inner].concat())
        }
        Encapsulation::Gue(port) => {
            let (from, to) = (SocketAddr::new(from, 40_000), SocketAddr::new(to, port));
            craft::udp(from, to, &[&[0, number, 0, 0], inner].concat())
        }
    }
}

#[test]
fn every_tunnel_over_either_family_reaches_a_service_on_the_vip() -> Result<()> {
    let (_lab, client, server) = pair("decap")?;
    for vip in ["203.0.113.10", "2001:db8:f::10"] {
        real_server::accept_vip(&server, vip)?;
    }
    let families = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];
    let flows = [
        ("198.51.100.7:5000", "203.0.113.10:7000"),
        ("[2001:db8:c::7]:5000", "[2001:db8:f::10]:7000"),
    ];
    for encapsulation in [Encapsulation::Ipip, Encapsulation::Gre, Encapsulation::Gue(6080)] {
        let decapsulator =
            Decapsulator::start(&server, encapsulation, &["203.0.113.10", "2001:db8:f::10"])?;
        for outer in families {
            let sender = client.enter(|| {
                if outer.0.contains(':') { RawSender::ipv6() } else { RawSender::ipv4() }
            })??;
            for (from, to) in flows {
                let to: SocketAddr = to.parse()?;
                let service = server.enter(|| UdpSocket::bind(to))??;
                service.set_read_timeout(Some(LIMIT))?;
                let inner = craft::udp(from.parse()?, to, b"through the tunnel")?;
                sender.send(&wrap(encapsulation, outer, &inner)?)?;
                let mut buffer = [0; 100];
                let (length, peer) = service.recv_from(&mut buffer)?;
                assert_eq!(&buffer[..length], b"through the tunnel");
                assert_eq!(peer, from.parse()?);
            }
        }
        let what = format!("{encapsulation:?} to have counted four packets");
        wait::until(&what, LIMIT, || (decapsulator.delivered() == 4).then_some(()))?;
        assert_eq!(decapsulator.refused(), 0, "{encapsulation:?}");
    }
    Ok(())
}
