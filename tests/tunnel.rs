//! Tunnelling: real servers on another subnet, behind a router, take the packets out of IPIP, GRE or
//! GUE and answer clients themselves. Full-sized segments do not fit into a tunnel, so bulk data
//! shows that path-MTU handling works.

use crate::prelude::BINARY;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::backend::Backend;
use harness::capture::Capture;
use harness::decapsulator::{Decapsulator, Encapsulation};
use harness::{Director, Host, Site, peers, real_server, site};

/// How one kind of tunnel is asked for, and how it looks on the wire.
struct Tunnel {
    encapsulation: Encapsulation,
    options: &'static str,
    /// tcpdump's name for the outer packet over IPv4 and over IPv6.
    filter: [&'static str; 2],
}

const TUNNELS: [Tunnel; 3] = [
    Tunnel {
        encapsulation: Encapsulation::Ipip,
        options: "-i",
        filter: ["ip proto 4", "ip6 proto 41"],
    },
    Tunnel {
        encapsulation: Encapsulation::Gre,
        options: "-i --tun-type gre",
        filter: ["ip proto 47", "ip6 proto 47"],
    },
    Tunnel {
        encapsulation: Encapsulation::Gue(6080),
        options: "-i --tun-type gue --tun-port 6080",
        filter: ["ip and udp port 6080", "ip6 and udp port 6080"],
    },
];

/// A remote real server that decapsulates, with HTTP and iperf3 on every address.
fn prepare(real: &Host, tunnel: &Tunnel, vip: &str) -> Result<(Decapsulator, Backend)> {
    real_server::accept_vip(real, vip)?;
    let decapsulator = Decapsulator::start(real, tunnel.encapsulation, &[vip])?;
    Ok((decapsulator, Backend::http(real, "[::]:80")?))
}

fn through_every_tunnel(name: &str, vip: &str, reals: [String; 2], family: usize) -> Result<()> {
    let bracketed = |address: &str| {
        if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
    };
    for (number, tunnel) in TUNNELS.iter().enumerate() {
        let what = tunnel.options;
        let site = Site::new(&format!("{name}{number}"), 0, 2)?;
        let ready: Vec<_> =
            site.remotes.iter().map(|real| prepare(real, tunnel, vip)).collect::<Result<_>>()?;
        let _bulk: Vec<_> = site
            .remotes
            .iter()
            .map(|real| peers::iperf3_server(real, 5201))
            .collect::<Result<_>>()?;
        let director = Director::start(&site.director, Path::new(BINARY), None)?;
        let service = bracketed(vip);
        for port in [80, 5201] {
            director.ipvsadm_script(&format!("-A -t {service}:{port} -s rr"))?;
        }
        for real in &reals {
            let real = bracketed(real);
            director.ipvsadm_script(&format!("-a -t {service}:80 -r {real}:80 {what}"))?;
        }
        let first = bracketed(&reals[0]);
        director.ipvsadm_script(&format!("-a -t {service}:5201 -r {first}:5201 {what}"))?;

        let outer = Capture::start(&site.remotes[0], "eth0", tunnel.filter[family])?;
        let mut names: Vec<String> = (0..4)
            .map(|_| {
                site.client.run_ok(&[
                    "curl",
                    "-sS",
                    "--max-time",
                    "10",
                    &format!("http://{service}/"),
                ])
            })
            .collect::<Result<_>>()
            .with_context(|| what.to_owned())?;
        names.sort();
        assert_eq!(names, ["remote1\n", "remote1\n", "remote2\n", "remote2\n"], "{what}");
        assert!(!outer.finish()?.is_empty(), "{what}: nothing wrapped was seen");

        // Uploads are what passes the director; each full segment is too long once wrapped.
        let bulk = peers::iperf3(&site.client, vip, 5201, 2, 3).with_context(|| what.to_owned())?;
        println!("{name} {what}: {:.0} Mb/s up", bulk.bits_per_second / 1e6);
        assert!(
            bulk.bytes > 1e6 && bulk.each_second.iter().all(|bytes| *bytes > 0.0),
            "{what}: {bulk:?}"
        );
        for (decapsulator, _) in &ready {
            assert!(decapsulator.delivered() > 0, "{what}");
            assert_eq!(decapsulator.refused(), 0, "{what}");
        }
        let statistics = director.statistics()?;
        assert!(
            statistics.iter().all(|service| service.columns.is_some_and(|c| c.out_packets == 0)),
            "{what}: replies passed the director"
        );
    }
    Ok(())
}

#[test]
fn ipip_gre_and_gue_reach_real_servers_behind_a_router_over_ipv4() -> Result<()> {
    through_every_tunnel("tunvfour", site::VIP, [site::remote(1), site::remote(2)], 0)
}

#[test]
fn ipip_gre_and_gue_reach_real_servers_behind_a_router_over_ipv6() -> Result<()> {
    through_every_tunnel("tunvsix", site::VIP6, [site::remote6(1), site::remote6(2)], 1)
}

#[test]
fn an_ipv6_service_reaches_an_ipv4_real_server_through_a_tunnel() -> Result<()> {
    let site = Site::new("tunmixed", 0, 1)?;
    let _real = prepare(&site.remotes[0], &TUNNELS[0], site::VIP6)?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -t [2001:db8::10]:80 -s rr
         -a -t [2001:db8::10]:80 -r 10.9.0.11:80 -i",
    )?;
    let outer = Capture::start(&site.remotes[0], "eth0", "ip proto 41")?;
    let url = "http://[2001:db8::10]/";
    assert_eq!(site.client.run_ok(&["curl", "-sS", "--max-time", "10", url])?, "remote1\n");
    assert!(!outer.finish()?.is_empty());
    Ok(())
}

#[test]
fn a_datagram_too_long_for_the_tunnel_is_answered_with_the_tunnels_mtu() -> Result<()> {
    let site = Site::new("tunpmtu", 0, 1)?;
    let _real = prepare(&site.remotes[0], &TUNNELS[0], site::VIP)?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -u 192.0.2.10:7000 -s rr
         -a -u 192.0.2.10:7000 -r 10.9.0.11:7000 -i",
    )?;
    let told = Capture::start(&site.client, "eth0", "icmp[0] == 3 and icmp[1] == 4")?;
    site.client.enter(|| -> Result<()> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        // Linux sends UDP with DF by default (ip_no_pmtu_disc), 1472 + 28 is a full frame.
        socket.send_to(&[0; 1472], "192.0.2.10:7000")?;
        harness::wait::pause(Duration::from_millis(500));
        Ok(())
    })??;
    let packets = told.finish()?;
    let mtus: Vec<u16> = packets
        .iter()
        .filter_map(|packet| {
            Some(u16::from_be_bytes([*packet.data.get(26)?, *packet.data.get(27)?]))
        })
        .collect();
    assert_eq!(mtus, [1480], "1500 less the outer IPv4 header");
    Ok(())
}
