//! A SYN flood from a million sources does not reach those who are connected already, and leaves
//! nothing behind in the connection table.

use crate::prelude::BINARY;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::craft::{RawSender, tcp_syn};
use harness::{Director, Site, peers, wait};

const SOURCES: u32 = 1_000_000;
const FLOOD: Duration = Duration::from_secs(10);
/// Sent in one go, so that the flood is spread over its whole time.
const BURST: u32 = 500;
/// 60 s for half-open connections, 120 s for those that closed in order, and the sweep.
const DRAIN: Duration = Duration::from_secs(240);

/// Sends one SYN from every source over [`FLOOD`], or as long as it takes; gives how many were sent.
fn flood(to: SocketAddr) -> Result<u32> {
    let sender = RawSender::ipv4()?;
    let begin = wait::clock();
    let mut sent = 0;
    for number in 0..SOURCES {
        // A multiplier without common factors visits every source once.
        let host = (u64::from(number) * 7919 % u64::from(SOURCES)) as u32;
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 0)) + host);
        let packet = tcp_syn(SocketAddr::from((source, 1024)), to, number)?;
        // A full queue on the way is what a flood meets; the next SYN follows anyway.
        sent += u32::from(sender.send(&packet).is_ok());
        if number % BURST == 0 {
            wait::pause((FLOOD * number / SOURCES).saturating_sub(begin.elapsed()));
        }
        ensure!(begin.elapsed() < DRAIN, "{sent} SYNs in {DRAIN:?}");
    }
    Ok(sent)
}

/// Connections that the director counts, active and inactive, over all services.
fn counted(director: &Director) -> Result<u64> {
    let services = director.states()?;
    let reals = services.iter().flat_map(|service| &service.reals);
    Ok(reals.map(|real| real.columns.active + real.columns.inactive).sum())
}

#[test]
fn established_transfers_go_on_and_the_table_drains_to_zero() -> Result<()> {
    let flooded = harness::alone()?;
    let site = Site::new("synflood", 1, 0)?;
    // Answers to the sources that do not exist go where such answers go: to the outside.
    site.director.route("11.0.0.0/8", "192.0.2.100")?;
    let _servers = (
        peers::iperf3_server(&site.reals[0], 5201)?,
        Backend::lines(&site.reals[0], "[::]:23")?,
        Backend::http(&site.reals[0], "[::]:80")?,
    );
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    for port in [80, 23, 5201] {
        director.ipvsadm_script(&format!(
            "-A -t 192.0.2.10:{port} -s rr
             -a -t 192.0.2.10:{port} -r 10.0.0.11:{port} -m"
        ))?;
    }
    let stream = site.client.enter(|| TcpStream::connect("192.0.2.10:23"))??;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;

    let arguments = ["iperf3", "-c", "192.0.2.10", "-b", "20M", "-t", "14", "--json"];
    let transfer = site.client.spawn(harness::host::command(&arguments)?)?;
    wait::until_ok("the transfer to be connected", Duration::from_secs(10), || {
        let connections = director.statistics()?.last().and_then(|s| s.columns).unwrap_or_default();
        ensure!(connections.in_bytes > 100_000, "{connections:?}");
        Ok(())
    })?;
    let flooder = site.client.thread("flood", || flood("192.0.2.10:80".parse()?))?;
    let sent = flooder.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
    println!("{sent} SYNs sent, {} connections counted right after", counted(&director)?);

    let ended = transfer.finish(Duration::from_secs(120))?;
    let report = peers::iperf3_report(&ended)?;
    ensure!(
        // iperf3 counts blocks of 128 KiB, so a slow second may show none.
        report.each_second.windows(3).all(|seconds| seconds.iter().any(|bytes| *bytes > 0.0)),
        "stalled: {:?}",
        report.each_second
    );
    (&stream).write_all(b"still connected\n")?;
    line.clear();
    reader.read_line(&mut line).context("the connection from before the flood")?;
    assert_eq!(line, "still connected\n");
    let page = ["curl", "-sS", "--max-time", "20", "--retry", "3", "http://192.0.2.10/"];
    assert_eq!(site.client.run_ok(&page)?, "real1\n", "a new client after the flood");

    // Until the half-open connections time out, others may work.
    drop((stream, reader, flooded));
    wait::until_ok("the connection table to drain", DRAIN, || {
        let left = counted(&director)?;
        ensure!(left == 0, "{left} connections are left");
        Ok(())
    })?;
    assert_eq!(
        director.ipvsadm(&["-L", "-n", "-c"])?.lines().filter(|l| l.starts_with("TCP")).count(),
        0
    );
    Ok(())
}
