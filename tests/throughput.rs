//! Bulk data and many connections through NAT, beside the kernel's own nftables DNAT in the same
//! lab. Prints both; fails on a stall or an error, never on speed.

use crate::prelude::BINARY;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::peers::{Iperf3, Wrk, iperf3, wrk};
use harness::{Director, Process, Site, peers, site};

const SECONDS: u32 = 10;
const STREAMS: u32 = 8;
const CONNECTIONS: u32 = 1000;
/// Payload of a full segment, in bytes; what iperf3 counts as one retransmit.
const SEGMENT: f64 = 1448.0;
/// A share of segments sent again that no healthy path shows.
const STORM: f64 = 0.05;

struct Measured {
    bulk: Iperf3,
    web: Wrk,
}

fn measure(site: &Site) -> Result<Measured> {
    let bulk = iperf3(&site.client, site::VIP, 5201, STREAMS, SECONDS)?;
    let web = wrk(&site.client, "http://192.0.2.10/", CONNECTIONS, SECONDS)?;
    Ok(Measured { bulk, web })
}

/// The kernel as director: DNAT for the same two services, round robin for the web.
fn kernel_dnat(site: &Site) -> Result<()> {
    site.director.forward()?;
    site.director.add_address("eth0", site::VIP)?;
    let web = "tcp dport 80 dnat to numgen inc mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }";
    let bulk = "tcp dport 5201 dnat to 10.0.0.11";
    let table = format!(
        "table ip lab {{ chain pre {{ type nat hook prerouting priority -100; \
         ip daddr 192.0.2.10 {web}; ip daddr 192.0.2.10 {bulk}; }}; }}"
    );
    site.director.run_ok(&["nft", &table])?;
    Ok(())
}

fn servers(site: &Site) -> Result<Vec<Process>> {
    let mut servers = vec![peers::iperf3_server(&site.reals[0], 5201)?];
    for real in &site.reals {
        servers.push(peers::nginx(real, "80")?);
    }
    Ok(servers)
}

fn print(who: &str, measured: &Measured) {
    println!(
        "{who:<20} iperf3 {STREAMS} streams: {:>6.2} Gb/s, {:>6} segments sent again | \
         wrk {CONNECTIONS} connections: {:>8.0} requests/s",
        measured.bulk.bits_per_second / 1e9,
        measured.bulk.retransmits,
        measured.web.rate,
    );
}

#[test]
fn bulk_transfer_and_a_thousand_connections_neither_stall_nor_fail() -> Result<()> {
    let _alone = harness::alone()?;
    let site = Site::new("throughput", 2, 0)?;
    let _servers = servers(&site)?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -t 192.0.2.10:5201 -s rr
         -a -t 192.0.2.10:5201 -r 10.0.0.11:5201 -m
         -A -t 192.0.2.10:80 -s rr
         -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m
         -a -t 192.0.2.10:80 -r 10.0.0.12:80 -m",
    )?;
    let ours = measure(&site).context("through viaduct")?;
    drop(director);
    kernel_dnat(&site)?;
    let kernels = measure(&site).context("through the kernel's DNAT")?;
    print("viaduct", &ours);
    print("kernel nftables DNAT", &kernels);

    let bulk = &ours.bulk;
    ensure!(bulk.each_second.len() >= SECONDS as usize, "only {} seconds", bulk.each_second.len());
    ensure!(bulk.each_second.iter().all(|bytes| *bytes > 0.0), "stalled: {:?}", bulk.each_second);
    let again = bulk.retransmits as f64 * SEGMENT / bulk.bytes;
    ensure!(again < STORM, "{:.1} % of all segments were sent again", again * 100.0);
    ensure!(ours.web.errors == 0 && ours.web.rate > 0.0, "{:?}", ours.web);
    Ok(())
}
