//! Direct routing: real servers hold the VIP on loopback and answer clients themselves, so the
//! director sees only half of the traffic, which is what makes it fast.

use crate::prelude::BINARY;
use std::path::Path;

use anyhow::{Context, Result};
use harness::backend::Backend;
use harness::capture::Capture;
use harness::{Director, Site, site};

/// Balances `vip` over two real servers and proves on the wire which way the replies take.
fn replies_bypass_the_director(name: &str, vip: &str, rules: &str) -> Result<()> {
    let site = Site::new(name, 2, 0)?;
    let mut servers = Vec::new();
    for real in &site.reals {
        site.answer_directly(real, vip)?;
        servers.push(Backend::http(real, "[::]:80")?);
    }
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(rules)?;

    let back = format!("src host {vip} and tcp");
    let through = [
        Capture::start(&site.director, "eth0", &back)?,
        Capture::start(&site.director, "eth1", &back)?,
    ];
    let arriving = Capture::start(&site.client, "eth0", &back)?;
    let in_brackets = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
    let url = format!("http://{in_brackets}/bytes/300000");
    for _ in 0..10 {
        let body = site.client.run_ok(&["curl", "-sS", "--max-time", "20", &url])?;
        assert_eq!(body.len(), 300_000);
    }

    assert!(arriving.finish()?.len() >= 50, "the client got its data from the VIP");
    for capture in through {
        assert_eq!(capture.finish()?, [], "a reply passed the director");
    }
    let services = director.statistics()?;
    let service = services.first().context("no service is listed")?;
    let total = service.columns.context("no statistics")?;
    assert_eq!((total.connections, total.out_packets, total.out_bytes), (10, 0, 0));
    assert!(total.in_packets >= 50);
    let shares: Vec<u64> = service.reals.iter().map(|real| real.columns.connections).collect();
    assert_eq!(shares, [5, 5]);
    assert_eq!(servers.iter().map(Backend::served).collect::<Vec<_>>(), [5, 5]);
    Ok(())
}

#[test]
fn replies_bypass_the_director_over_ipv4() -> Result<()> {
    replies_bypass_the_director(
        "drv4",
        site::VIP,
        "-A -t 192.0.2.10:80 -s rr
         -a -t 192.0.2.10:80 -r 10.0.0.11 -g
         -a -t 192.0.2.10:80 -r 10.0.0.12 -g",
    )
}

#[test]
fn replies_bypass_the_director_over_ipv6() -> Result<()> {
    replies_bypass_the_director(
        "drv6",
        site::VIP6,
        "-A -t [2001:db8::10]:80 -s rr
         -a -t [2001:db8::10]:80 -r [2001:db8:a::11]:80 -g
         -a -t [2001:db8::10]:80 -r [2001:db8:a::12]:80 -g",
    )
}

#[test]
fn a_real_server_sees_the_clients_own_address() -> Result<()> {
    let site = Site::new("drclient", 1, 0)?;
    site.answer_directly(&site.reals[0], site::VIP)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -t 192.0.2.10:80 -s rr
         -a -t 192.0.2.10:80 -r 10.0.0.11 -g",
    )?;
    let url = "http://192.0.2.10/client";
    let address = site.client.run_ok(&["curl", "-sS", "--max-time", "10", url])?;
    assert_eq!(address.trim().trim_start_matches("::ffff:"), "192.0.2.100");
    Ok(())
}
