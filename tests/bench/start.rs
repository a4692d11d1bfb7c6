//! Start-up, commits and memory: what an operator waits for and pays.

use crate::report::{Measure, Report};
use crate::{BINARY, Plan};
use anyhow::{Context, Result, anyhow, ensure};
use harness::craft::{self, RawSender};
use harness::host::written_mac;
use harness::{Director, Site, wait};
use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

const WAY: &str = "viaduct";
const SERVICES: usize = 1000;
const REALS: usize = 20;
const CONNECTIONS: u32 = 200_000;

const MEASURES: &[Measure] = &[
    Measure { name: "first packet after the start", unit: "ms" },
    Measure { name: "commit of 1,000 services x 20 servers", unit: "ms" },
    Measure { name: "commit of one changed weight among them", unit: "ms" },
    Measure { name: "memory of a service with 20 servers", unit: "bytes" },
    Measure { name: "memory of a connection", unit: "bytes" },
];

pub fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("Start, commits, memory", MEASURES, WAY);
    let mut note = |index: usize, value: f64| report.add(WAY, MEASURES[index].name, value);
    for _ in 0..plan.rounds {
        let site = Site::new("start", 1, 0)?;
        let echo = site.reals[0].enter(|| UdpSocket::bind("0.0.0.0:7"))??;
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((count, from)) = echo.recv_from(&mut buffer) {
                if buffer[..count] == *b"end" {
                    return;
                }
                let _ = echo.send_to(&buffer[..count], from);
            }
        });
        // The client knows the way, so that its next ARP request is not what is waited for.
        let mac = written_mac(site.director_interfaces[0].mac);
        let way = ["ip", "neigh", "replace", "192.0.2.10", "lladdr", &mac, "dev", "eth0"];
        site.client.run_ok(&[&way[..], &["nud", "permanent"]].concat())?;
        let began = Instant::now();
        let asking = site.client.thread("asking", move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect("192.0.2.10:7")?;
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            while socket.send(b"x").is_err() || socket.recv(&mut [0; 64]).is_err() {
                ensure!(began.elapsed() < Duration::from_secs(60), "no answer");
            }
            Ok(began.elapsed())
        })?;
        let director = Director::start(&site.director, Path::new(BINARY), Some(&config(0, 1)))?;
        let first = asking.join().map_err(|_| anyhow!("panicked"))??;
        note(0, first.as_secs_f64() * 1e3);

        let memory = resident(&director)?;
        note(1, apply(&director, &config(SERVICES, 1))?);
        note(3, (resident(&director)? - memory) / SERVICES as f64);
        note(2, apply(&director, &config(SERVICES, 2))?);

        let (memory, before) = (resident(&director)?, connections(&director)?);
        open_connections(&site)?;
        let opened = wait::until_ok("the connections", Duration::from_secs(20), || {
            let opened = connections(&director)? - before;
            ensure!(opened > f64::from(CONNECTIONS) * 0.5, "{opened}");
            Ok(opened)
        })?;
        note(4, (resident(&director)? - memory) / opened);
        site.client.enter(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"end", "192.0.2.10:7"))??;
        drop(director);
        // Should the last datagram be lost, the socket goes with its host.
        drop(answering);
    }
    Ok(report)
}

fn config(services: usize, weight: u32) -> String {
    let mut text = String::new();
    let mut service = |name: &str, address: &str, protocol: &str| {
        let _ = write!(
            text,
            "[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
             scheduler = \"wrr\"\nmethod = \"nat\"\n"
        );
        for real in 0..if name == "echo" { 1 } else { REALS } {
            let weight = if name == "s7" && real == 3 { weight } else { 1 };
            let (port, last) = if name == "echo" { (7, 11) } else { (80, 11 + real) };
            let _ = write!(
                text,
                "[[service.real]]\naddress = \"10.0.0.{last}:{port}\"\nweight = {weight}\n"
            );
        }
    };
    service("echo", "192.0.2.10:7", "udp");
    for number in 0..services {
        let (name, port) = (format!("s{number}"), 1000 + number);
        service(&name, &format!("192.0.2.10:{port}"), "tcp");
    }
    text
}

/// Milliseconds that `viaduct apply` takes, its own start included.
fn apply(director: &Director, config: &str) -> Result<f64> {
    let file = director.host().directory().join("next.toml");
    fs::write(&file, config)?;
    let started = Instant::now();
    director.viaduct(&["apply", &file.to_string_lossy()])?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// Bytes of memory in use.
fn resident(director: &Director) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", director.daemon().id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?;
    Ok(words.parse::<f64>()? * 1024.0)
}

fn connections(director: &Director) -> Result<f64> {
    let services = director.statistics()?;
    let columns = services.iter().filter_map(|service| service.columns);
    Ok(columns.map(|columns| columns.connections as f64).sum())
}

/// One packet from each of many clients.
fn open_connections(site: &Site) -> Result<()> {
    site.client.enter(|| -> Result<()> {
        let sender = RawSender::ipv4()?;
        for number in 0..CONNECTIONS {
            let [_, a, b, c] = number.to_be_bytes();
            let from = ([198, 18 + a, b, c], 5000);
            sender.send(&craft::udp(from.into(), ([192, 0, 2, 10], 7).into(), b"y")?)?;
        }
        Ok(())
    })?
}
