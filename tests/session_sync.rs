//! The master is killed under load, again and again: every established stream goes on through the
//! other director, under NAT, direct routing and tunnelling, and once more when the old master is
//! back. UDP flows and persistence survive too.
//!
//! `VIADUCT_ROUNDS` says how often; 3 by default.

#[path = "session_sync/load.rs"]
mod load;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::pair::VIP;
use harness::{Host, wait};
use load::{LIMIT, Load, Scene, all, until};

fn rounds() -> Result<usize> {
    match std::env::var("VIADUCT_ROUNDS") {
        Ok(rounds) => Ok(rounds.parse()?),
        Err(_) => Ok(3),
    }
}

#[test]
fn established_streams_survive_the_death_and_the_return_of_the_master() -> Result<()> {
    let mut scene = Scene::with("sessions", |_| String::new(), "")?;
    let rounds = rounds()?;
    let (mut opened, mut lost, mut gaps, mut pauses) = (0, Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let load = Load::start(&scene.pair.client)?;
        let pings = scene
            .pair
            .client
            .spawn(harness::host::command(&["ping", "-D", "-i", "0.01", "-W", "1", VIP])?)?;
        wait::pause(Duration::from_millis(300));
        load.gap();
        scene.first.kill();
        until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
        load.all_alive()?;
        gaps.push(load.gap());
        pings.signal(nix::sys::signal::Signal::SIGINT)?;
        pauses.push(longest_pause(&pings.finish(LIMIT)?.stdout));
        scene.first.restart()?;
        scene.settled()?;
        load.all_alive()?;
        let back = load.gap();
        let (all, failed) = load.finish();
        println!(
            "round {round}: {all} streams, {} lost; VIP silent for {:.0} ms, longest wait of a \
             stream {} ms, at the return {back} ms",
            failed.len(),
            pauses[pauses.len() - 1],
            gaps[gaps.len() - 1],
        );
        if !failed.is_empty() {
            for director in [&scene.first, &scene.second] {
                for what in ["events", "sync", "drops"] {
                    println!("{}", director.viaduct(&["show", what])?);
                }
            }
        }
        opened += all;
        lost.extend(failed);
    }
    let silent = pauses.iter().copied().fold(0.0, f64::max);
    println!(
        "{rounds} rounds: {opened} streams opened, {} lost; VIP silent for {silent:.0} ms at most, \
         a stream waited {} ms at most",
        lost.len(),
        gaps.iter().max().unwrap_or(&0),
    );
    ensure!(lost.is_empty(), "{lost:#?}");
    Ok(())
}

/// The longest time between two answers, in milliseconds, out of `ping -D`.
fn longest_pause(report: &str) -> f64 {
    let stamp =
        |line: &str| -> Option<f64> { line.strip_prefix('[')?.split(']').next()?.parse().ok() };
    let times: Vec<f64> = report.lines().filter_map(stamp).collect();
    times.windows(2).map(|two| (two[1] - two[0]) * 1000.0).fold(0.0, f64::max)
}

/// Who greets on a new connection to the sticky service.
fn greeter(client: &Host) -> Result<String> {
    client.enter(|| {
        let address: SocketAddr = format!("{VIP}:7004").parse()?;
        let socket = TcpStream::connect_timeout(&address, LIMIT)?;
        socket.set_read_timeout(Some(LIMIT))?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    })?
}

/// Who answers a datagram; asked again until somebody does.
fn answerer(socket: &UdpSocket) -> Result<String> {
    wait::until_ok("an answer to a datagram", LIMIT, || {
        socket.send_to(b"?", format!("{VIP}:7005"))?;
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

#[test]
fn udp_flows_and_persistence_stay_with_their_real_server() -> Result<()> {
    let mut scene = Scene::with("sticky", |_| String::new(), "")?;
    let client = scene.pair.client.clone();
    let sockets: Result<Vec<UdpSocket>> = client.enter(|| {
        let open = |_| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            Ok(socket)
        };
        (0..8).map(open).collect()
    })?;
    let sockets = sockets?;
    let who = || -> Result<Vec<String>> {
        let mut who: Vec<String> = sockets.iter().map(answerer).collect::<Result<_>>()?;
        who.push(greeter(&client)?);
        Ok(who)
    };
    let before = who()?;
    ensure!(before[..8].contains(&"real1".to_owned()), "{before:?}");
    ensure!(before[..8].contains(&"real2".to_owned()), "{before:?}");
    wait::pause(Duration::from_millis(300));
    scene.first.kill();
    until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
    ensure!(who()? == before, "after the death of the master");
    scene.first.restart()?;
    scene.settled()?;
    ensure!(who()? == before, "after its return");
    Ok(())
}
