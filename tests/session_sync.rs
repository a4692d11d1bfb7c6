//! The master is killed under load, again and again: every established stream goes on through the
//! other director, under NAT, direct routing and tunnelling, and once more when the old master is
//! back. UDP flows, persistence and FTP sessions survive too.
//!
//! The load is streams that echo lines, which show the gap, and what people do: bulk data, downloads,
//! short requests. `VIADUCT_ROUNDS` says how often; 2 by default.

mod ftp;
pub mod load;
mod programs;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::pair::{VIP, own_macs};
use harness::{Host, wait};
use load::{LIMIT, Load, Scene, all, until};
use programs::{CONCURRENCY, Outcome, Programs, Servers};

/// How long the programs of a round run, in seconds; three times what a round needs on two cores.
const SECONDS: usize = 12;

/// The longest that the VIP may be silent, in milliseconds, with adverts each 100 ms.
const SILENCE: f64 = 500.0;

fn rounds() -> Result<usize> {
    match std::env::var("VIADUCT_ROUNDS") {
        Ok(rounds) => Ok(rounds.parse()?),
        Err(_) => Ok(2),
    }
}

/// What a round showed; times in milliseconds.
#[derive(Debug, Default)]
struct Round {
    opened: usize,
    lost: Vec<String>,
    answered: u64,
    failed: u64,
    /// Between two answers of the VIP to a ping each 10 ms.
    silent: f64,
    /// Of a stream that sends a line each 10 ms, for its echo.
    wait: u64,
    /// The same at the return of the old master.
    back: u64,
}

impl Round {
    /// Kills the master under load, and lets it return. Nothing, when the programs had ended before
    /// that, as they do when the machine is slow: then the round has shown too little.
    fn run(scene: &mut Scene, servers: &Servers, seconds: usize) -> Result<Option<Self>> {
        let load = Load::start(&scene.pair.client)?;
        let mut programs = Programs::start(&scene.pair.client, seconds)?;
        let pings = ["ping", "-D", "-i", "0.01", "-W", "1", VIP];
        let pings = scene.pair.client.spawn(harness::host::command(&pings)?)?;
        wait::pause(Duration::from_secs(1));
        load.gap();
        scene.first.kill();
        until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
        load.all_alive()?;
        let waits = load.gaps();
        let wait = waits.iter().copied().max().unwrap_or(0);
        if wait > 1500 {
            // More than two retransmissions: something else than VRRP took its time.
            println!(
                "waits by NAT, DR, tunnel: {waits:?}\n{}",
                scene.second.viaduct(&["show", "drops"])?
            );
            println!("{}", scene.second.viaduct(&["show", "events"])?);
            for host in [&scene.pair.directors[1], &scene.pair.reals[0], &scene.pair.client] {
                println!("{}: {}", host.name(), host.run_ok(&["ip", "-s", "neigh"])?);
            }
        }
        pings.signal(nix::sys::signal::Signal::SIGINT)?;
        let silent = longest_pause(&pings.finish(LIMIT)?.stdout);
        scene.first.restart()?;
        scene.settled()?;
        load.all_alive()?;
        let back = load.gap();
        let at_work = programs.at_work()?;
        let Outcome { opened, mut lost, answered, failed } = programs.finish(servers)?;
        let (streams, broken) = load.finish();
        if !at_work && lost.is_empty() {
            return Ok(None);
        }
        lost.extend(broken);
        let opened = opened + streams;
        Ok(Some(Self { opened, lost, answered, failed, silent, wait, back }))
    }
}

#[test]
fn established_streams_survive_the_death_and_the_return_of_the_master() -> Result<()> {
    let _alone = harness::alone()?;
    let mut scene = Scene::with("sessions", |_| programs::SERVICES.to_owned(), |config| config)?;
    let mut seconds = SECONDS;
    let mut servers = Servers::start(&scene.pair, seconds)?;
    let mut done: Vec<Round> = Vec::new();
    while done.len() < rounds()? {
        let Some(round) = Round::run(&mut scene, &servers, seconds)? else {
            seconds *= 2;
            println!("the machine is slow: programs run for {seconds} s from now on");
            drop(servers);
            servers = Servers::start(&scene.pair, seconds)?;
            continue;
        };
        let Round { opened, lost, answered, failed, silent, wait, back } = &round;
        println!(
            "round {}: {opened} streams, {} lost; VIP silent for {silent:.0} ms, longest wait of a \
             stream {wait} ms, at the return {back} ms; of {answered} short requests {failed} failed",
            done.len() + 1,
            lost.len(),
        );
        if !lost.is_empty() {
            for director in [&scene.first, &scene.second] {
                for what in ["events", "sync", "drops"] {
                    println!("{}", director.viaduct(&["show", what])?);
                }
            }
        }
        done.push(round);
    }
    let silent = done.iter().map(|round| round.silent).fold(0.0, f64::max);
    let lost: Vec<&String> = done.iter().flat_map(|round| &round.lost).collect();
    println!(
        "{} rounds: {} streams opened, {} lost; VIP silent for {silent:.0} ms at most, a stream \
         waited {} ms at most; of {} short requests {} failed",
        done.len(),
        done.iter().map(|round| round.opened).sum::<usize>(),
        lost.len(),
        done.iter().map(|round| round.wait).max().unwrap_or(0),
        done.iter().map(|round| round.answered).sum::<u64>(),
        done.iter().map(|round| round.failed).sum::<u64>(),
    );
    ensure!(lost.is_empty(), "{lost:#?}");
    ensure!(silent < SILENCE, "the VIP was silent for {silent:.0} ms");
    // Only a request whose connection is a few milliseconds old, and so was not told to the peer yet,
    // may fail: as many as are under way at a time, at each of the two moves.
    for round in &done {
        ensure!(round.failed <= 2 * u64::from(CONCURRENCY), "{} requests failed", round.failed);
    }
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
    let mut scene = Scene::with("sticky", |_| String::new(), |config| config)?;
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

#[test]
fn streams_go_on_when_the_directors_answer_with_their_own_macs() -> Result<()> {
    let mut scene = Scene::with("ownmacs", |_| String::new(), own_macs)?;
    let load = Load::start(&scene.pair.client)?;
    wait::pause(Duration::from_secs(1));
    scene.first.kill();
    until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
    load.all_alive()?;
    scene.first.restart()?;
    scene.settled()?;
    load.all_alive()?;
    let (streams, lost) = load.finish();
    println!("{streams} streams moved there and back between two own MACs, {} lost", lost.len());
    ensure!(lost.is_empty(), "{lost:#?}");

    // With the other kind on one of them both directors say so.
    let file = scene.pair.directors[1].directory().join("virtual.toml");
    std::fs::write(&file, scene.second.viaduct(&["export"])?.replace("virtual_mac = false\n", ""))?;
    scene.second.viaduct(&["apply", &file.to_string_lossy()])?;
    for director in [&scene.first, &scene.second] {
        until(director, "vrrp", |vrrp| {
            let told = vrrp[0]["differences"].as_array();
            told.is_some_and(|told| told.contains(&"another virtual_mac setting".into()))
        })?;
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.contains("virtual_mac should be the same"), "{events}");
    }
    Ok(())
}

/// The director writes its VIP into the replies of an FTP server, which shifts the sequence numbers of
/// the control connection from then on; the other director has to go on with the same shift.
#[test]
fn an_ftp_session_and_its_transfer_survive_the_death_and_the_return_of_the_master() -> Result<()> {
    let mut scene = Scene::with("ftp", |_| ftp::SERVICE.to_owned(), |config| config)?;
    let _server = harness::peers::vsftpd(&scene.pair.reals[0])?;
    let mut session = ftp::Session::open(&scene.pair.client)?;
    ensure!(session.fetch("who")? == "real1\n");
    let mut upload = session.store("in/upload")?;
    let piece = vec![b'v'; 100_000];
    upload.write_all(&piece)?;
    wait::pause(Duration::from_millis(300));
    scene.first.kill();
    until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
    upload.write_all(&piece)?;
    drop(upload);
    session.expect("226")?;
    let arrived = scene.pair.reals[0].directory().join("ftp/root/in/upload");
    ensure!(std::fs::metadata(arrived)?.len() == 2 * piece.len() as u64);
    ensure!(session.fetch("who")? == "real1\n", "a new transfer at the new master");
    scene.first.restart()?;
    scene.settled()?;
    ensure!(session.fetch("who")? == "real1\n", "after the return of the old one");
    session.say("QUIT")?;
    session.expect("221")
}
