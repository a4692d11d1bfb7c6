//! NAT as in the field's classic walk-through: a director with two interfaces, two HTTP real servers
//! that have it as gateway, driven by nothing but `ipvsadm` commands.

use crate::prelude::BINARY;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::capture::{Capture, Packet};
use harness::process::Process;
use harness::{Director, Site, listing, peers, site};

const URL: &str = "http://192.0.2.10/";

/// Two nginx real servers and a director without any service.
fn start(name: &str) -> Result<(Site, [Process; 2], Director)> {
    let site = Site::new(name, 2, 0)?;
    let servers = [peers::nginx(&site.reals[0], "80")?, peers::nginx(&site.reals[1], "80")?];
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    Ok((site, servers, director))
}

const ROUND_ROBIN: &str = "
    -A -t 192.0.2.10:80 -s rr
    -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m
    -a -t 192.0.2.10:80 -r 10.0.0.12:80 -m";

const THREE_TO_ONE: &str = "
    -E -t 192.0.2.10:80 -s wrr
    -e -t 192.0.2.10:80 -r 10.0.0.11:80 -m -w 3
    -e -t 192.0.2.10:80 -r 10.0.0.12:80 -m -w 1";

fn curl(site: &Site) -> Result<String> {
    Ok(site.client.run_ok(&["curl", "-sS", "--max-time", "10", URL])?.trim().to_owned())
}

#[test]
fn round_robin_alternates() -> Result<()> {
    let (site, _servers, director) = start("natrr")?;
    director.ipvsadm_script(ROUND_ROBIN)?;
    let seen: Vec<String> = (0..8).map(|_| curl(&site)).collect::<Result<_>>()?;
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
    assert!(seen.iter().all(|name| name == "real1" || name == "real2"), "{seen:?}");
    Ok(())
}

/// Packets and bytes, as a row of the statistics counts them.
fn sums<'a>(packets: impl Iterator<Item = &'a Packet>) -> (u64, u64) {
    packets.fold((0, 0), |(count, bytes), packet| (count + 1, bytes + packet.bytes))
}

/// The client's port and first sequence number, if the packet is a SYN without ACK. Ports come
/// round again within ten thousand connections, the two together do not.
fn opening(packet: &Packet) -> Option<([u8; 2], [u8; 4])> {
    let tcp = packet.data.get(20..34)?;
    let is_syn = tcp[13] & 0x12 == 0x02;
    is_syn.then_some(([tcp[0], tcp[1]], [tcp[4], tcp[5], tcp[6], tcp[7]]))
}

#[test]
fn weights_split_ten_thousand_connections_three_to_one_and_counters_agree_with_the_wire()
-> Result<()> {
    let (site, _servers, director) = start("natwrr")?;
    director.ipvsadm_script(ROUND_ROBIN)?;
    director.ipvsadm_script(THREE_TO_ONE)?;
    director.ipvsadm(&["-Z"])?;
    let capture = Capture::start(&site.client, "eth0", "tcp port 80 and host 192.0.2.10")?;

    let load = peers::ab(&site.client, URL, 10_000, 100, Duration::from_secs(120))?;
    assert_eq!((load.complete, load.failed), (10_000, 0));

    let seen = capture.finish()?;
    let services = director.statistics()?;
    let service = services.first().context("no service is listed")?;
    let total = service.columns.context("the service has no statistics")?;
    let vip: std::net::IpAddr = site::VIP.parse()?;
    let to_vip = sums(seen.iter().filter(|packet| packet.to == vip));
    let from_vip = sums(seen.iter().filter(|packet| packet.from == vip));
    assert_eq!((total.in_packets, total.in_bytes), to_vip, "client to VIP");
    assert_eq!((total.out_packets, total.out_bytes), from_vip, "VIP to client");

    let of = |address: &str| {
        service
            .reals
            .iter()
            .find(|real| real.address == address)
            .map(|real| real.columns.connections)
    };
    let (three, one) = (of("10.0.0.11:80").context("real1")?, of("10.0.0.12:80").context("real2")?);
    // ab opens a few connections more than it needs; the wire says how many.
    let opened = seen.iter().filter_map(opening).collect::<BTreeSet<_>>().len() as u64;
    assert!(opened >= 10_000);
    assert_eq!((three + one, total.connections), (opened, opened));
    let wanted = opened * 3 / 4;
    assert!(three.abs_diff(wanted) <= opened / 100, "{three} and {one} are not three to one");
    Ok(())
}

#[test]
fn connections_are_listed_with_states_and_counted_as_inactive_after_closing() -> Result<()> {
    let (site, _servers, director) = start("natstates")?;
    director.ipvsadm_script(ROUND_ROBIN)?;
    for _ in 0..4 {
        curl(&site)?;
    }
    let text = director.ipvsadm(&["-L", "-n", "-c"])?;
    let mut states = BTreeMap::new();
    let lines = text.lines().filter(|line| line.starts_with("TCP"));
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, expire, state, source, vip, real] = words.as_slice() else {
            panic!("not six columns: {line:?}");
        };
        let (minutes, seconds) = expire.split_once(':').context("expire is not MM:SS")?;
        let left = minutes.parse::<u32>()? * 60 + seconds.parse::<u32>()?;
        assert!(left <= 120, "{line:?}");
        assert!(source.starts_with("192.0.2.100:") && *vip == "192.0.2.10:80", "{line:?}");
        assert!(["10.0.0.11:80", "10.0.0.12:80"].contains(real), "{line:?}");
        *states.entry((*state).to_owned()).or_insert(0) += 1;
    }
    assert_eq!(states, BTreeMap::from([("TIME_WAIT".to_owned(), 4)]), "{text}");
    let services = director.states()?;
    let counts: Vec<_> =
        services[0].reals.iter().map(|real| (real.columns.active, real.columns.inactive)).collect();
    assert_eq!(counts, [(0, 2), (0, 2)]);
    Ok(())
}

#[test]
fn saved_rules_restore_to_the_same_text() -> Result<()> {
    let (site, _servers, director) = start("natsave")?;
    director.ipvsadm_script(ROUND_ROBIN)?;
    director.ipvsadm_script(THREE_TO_ONE)?;
    director.ipvsadm_script(
        "-A -u 192.0.2.10:53 -s lc -p 360
         -a -u 192.0.2.10:53 -r 10.0.0.11:53 -m -w 5 -x 100 -y 50",
    )?;
    let saved = director.ipvsadm(&["-S", "-n"])?;
    let listed = director.ipvsadm(&["-L", "-n"])?;
    assert_eq!(saved.lines().count(), 5, "{saved}");
    director.ipvsadm(&["-C"])?;
    assert_eq!(listing::states(&director.ipvsadm(&["-L", "-n"])?)?, []);
    director.ipvsadm_with_input(&["-R"], &saved)?;
    assert_eq!(director.ipvsadm(&["-S", "-n"])?, saved);
    assert_eq!(director.ipvsadm(&["-L", "-n"])?, listed);
    assert!(curl(&site)?.starts_with("real"));
    Ok(())
}
