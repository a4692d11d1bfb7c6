//! Configurations that change, or do not, while a service carries traffic: nothing of it is lost to
//! the host.

use super::*;
use harness::capture::Capture;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// Services made and removed while another one works.
const SERVICES: usize = 1000;
/// How often.
const ROUNDS: usize = 3;

/// Requests over new connections until told to stop: how many were answered.
fn requests_until(client: &Host, stop: &AtomicBool) -> Result<u64> {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let result = peers::ab(client, "http://192.0.2.10/", 200, 5, Duration::from_secs(30))?;
        ensure!((result.complete, result.failed) == (200, 0), "{result:?}");
        answered += result.complete;
    }
    Ok(answered)
}

/// Commands that make a service and remove it again, many times: at other ports of the same VIP, at
/// every port of it, at another VIP, and with the working service's own real server.
fn changes() -> String {
    let mut text = String::new();
    for number in 0..SERVICES {
        let (address, persistent) = match number % 3 {
            0 => (format!("192.0.2.10:{}", 10_000 + number), ""),
            1 => ("192.0.2.10:0".to_owned(), " -p 10"),
            _ => (format!("192.0.2.11:{}", 10_000 + number), ""),
        };
        let real = if number % 3 == 1 { "10.0.0.11:0" } else { "10.0.0.11:8080" };
        let _ = write!(
            text,
            "-A -t {address} -s rr{persistent}\n-a -t {address} -r {real} -m\n-D -t {address}\n"
        );
    }
    text
}

#[test]
fn a_thousand_services_come_and_go_and_no_packet_of_another_one_meets_the_host() -> Result<()> {
    let site = Site::new("xdpchurn", 1, 0)?;
    let _server = peers::nginx(&site.reals[0], "80")?;
    echo_server(&site.reals[0], 7)?;
    // The host would answer for the VIP with a reset or an error, and count what it sees of it.
    site.director.add_address("eth0", site::VIP)?;
    let one = service("web", "192.0.2.10:80", "tcp", "nat", &["10.0.0.11:80"]);
    let udp = service("echo", "192.0.2.10:7", "udp", "nat", &["10.0.0.11:7"]);
    let director = start(&site, &["eth0", "eth1"], &(one + &udp))?;
    let count = "table ip seen { chain pre { type filter hook prerouting priority -300; \
                 ip daddr 192.0.2.10 tcp dport 80 counter; \
                 ip saddr 10.0.0.11 tcp sport 80 counter; \
                 ip daddr 192.0.2.10 udp dport 7 counter; }; }";
    site.director.run_ok(&["nft", count])?;
    let refusals = "src 192.0.2.10 and (tcp[tcpflags] & tcp-rst != 0 or icmp)";
    let refusals = Capture::start(&site.client, "eth0", refusals)?;
    let stop = AtomicBool::new(false);
    let (answered, asked) = std::thread::scope(|scope| {
        let load = scope.spawn(|| requests_until(&site.client, &stop));
        let questions = scope.spawn(|| -> Result<u32> {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                echo(&site.client, "192.0.2.10:7", b"still there?")?;
                asked += 1;
            }
            Ok(asked)
        });
        let changed = (0..ROUNDS)
            .try_for_each(|_| director.ipvsadm_with_input(&["-R"], &changes()).map(drop));
        stop.store(true, Ordering::Relaxed);
        changed?;
        let panicked = |_| anyhow::anyhow!("a client panicked");
        let answered = load.join().map_err(panicked)??;
        anyhow::Ok((answered, questions.join().map_err(panicked)??))
    })?;
    println!("{answered} requests and {asked} questions during {} changes", ROUNDS * SERVICES * 3);
    ensure!(answered >= 200 && asked > 10, "{answered} requests, {asked} questions");
    assert_eq!(refusals.finish()?, []);
    let seen = site.director.run_ok(&["nft", "list", "table", "ip", "seen"])?;
    assert_eq!(seen.matches("counter packets 0 bytes 0").count(), 3, "{seen}");
    assert_eq!(director.states()?.len(), 2, "all others are gone");
    Ok(())
}

#[test]
fn a_configuration_with_more_rules_than_room_is_refused_and_the_one_before_goes_on() -> Result<()> {
    let site = Site::new("xdpfull", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let web = service("web", "192.0.2.10:80", "tcp", "nat", &["10.0.0.11:80"]);
    let director = start(&site, &["eth0", "eth1"], &web)?;
    let mut config = interfaces(&["eth0", "eth1"]) + &web;
    config += "[[service]]\nname = \"many\"\nmark = 1\nscheduler = \"rr\"\nmethod = \"nat\"\n";
    for number in 0..5000 {
        let (high, low) = (number / 200, number % 200 + 1);
        let _ = write!(config, "[[service.match]]\ndestination = \"198.18.{high}.{low}\"\n");
    }
    config += "[[service.real]]\naddress = \"10.0.0.11\"\n";
    let file = site.director.directory().join("many.toml");
    std::fs::write(&file, &config)?;
    let refused = director.run(&["apply", &file.display().to_string()])?;
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    let words = "there are 5001 networks in mark rules and room for 4096";
    ensure!(refused.stderr.contains(words), "{refused}");
    assert_eq!(director.states()?.len(), 1);
    for _ in 0..4 {
        assert_eq!(fetch(&site.client, "http://192.0.2.10/")?, "real1\n");
    }
    Ok(())
}
