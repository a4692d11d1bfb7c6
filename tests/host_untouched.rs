//! What is not for a virtual service stays the host's: logins, probes of real servers, routing.

use crate::prelude::BINARY;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::backend::Backend;
use harness::capture::Capture;
use harness::host::command;
use harness::{Director, Host, Process, Site, peers, site};

const LIMIT: Duration = Duration::from_secs(10);

const RULES: &str = "
    -A -t 192.0.2.10:80 -s rr
    -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m";

/// A site whose only real server is balanced by `RULES`.
fn start(name: &str) -> Result<(Site, Process, Director)> {
    let site = Site::new(name, 1, 0)?;
    let server = peers::nginx(&site.reals[0], "80")?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(RULES)?;
    Ok((site, server, director))
}

/// Load on the VIP for as long as the returned program runs, about five seconds.
fn load(site: &Site) -> Result<Process> {
    site.client.spawn(command(&["wrk", "-t1", "-c20", "-d5s", "http://192.0.2.10/"])?)
}

/// A kept connection to a telnet-like service.
struct Login {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Login {
    fn open(client: &Host, server: &str) -> Result<Self> {
        let server: SocketAddr = server.parse()?;
        let stream = client.enter(|| TcpStream::connect_timeout(&server, LIMIT))??;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut greeting = String::new();
        reader.read_line(&mut greeting)?;
        ensure!(greeting == "director ready\r\n", "{greeting:?}");
        Ok(Self { stream, reader })
    }

    fn echo(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(line.as_bytes())?;
        let mut back = String::new();
        self.reader.read_line(&mut back)?;
        ensure!(back == line, "{line:?} came back as {back:?}");
        Ok(())
    }
}

#[test]
fn a_login_to_the_director_goes_on_while_it_balances() -> Result<()> {
    let (site, _server, director) = start("login")?;
    let _shell = Backend::lines(&site.director, "[::]:22")?;
    let mut logins = [
        Login::open(&site.client, "192.0.2.254:22")?,
        Login::open(&site.client, "[2001:db8::254]:22")?,
    ];
    let load = load(&site)?;
    for round in 0..50 {
        for login in &mut logins {
            login.echo(&format!("line {round}\n"))?;
        }
        Login::open(&site.client, "192.0.2.254:22")?;
    }
    let ended = load.finish(Duration::from_secs(30))?.ok()?;
    ensure!(!ended.contains("Socket errors"), "{ended}");
    site.client.run_ok(&["ping", "-c2", "-i0.2", "-W5", site::DIRECTOR])?;
    drop(director);
    logins[0].echo("and after the director has gone\n")
}

#[test]
fn probes_from_the_director_reach_real_servers_on_the_balanced_port() -> Result<()> {
    let (site, _server, _director) = start("probes")?;
    let load = load(&site)?;
    for _ in 0..20 {
        for real in ["10.0.0.11", "[2001:db8:a::11]"] {
            let url = format!("http://{real}:80/");
            let probe = site.director.run(&["curl", "-sS", "--max-time", "5", &url])?;
            // nginx listens on IPv4 only: over IPv6 the refusal has to arrive at once as well.
            match real.starts_with('[') {
                true => assert_eq!(probe.status.code(), Some(7), "{probe}"),
                false => assert_eq!(probe.ok()?, "real1\n"),
            }
        }
    }
    load.finish(Duration::from_secs(30))?.ok()?;
    Ok(())
}

#[test]
fn a_vip_that_the_host_holds_too_is_balanced_without_a_stray_reset() -> Result<()> {
    let (site, _server, director) = start("heldvip")?;
    site.director.add_address("eth0", site::VIP)?;
    let _shell = Backend::lines(&site.director, "192.0.2.10:22")?;
    let resets =
        Capture::start(&site.client, "eth0", "tcp[tcpflags] & tcp-rst != 0 and src 192.0.2.10")?;
    let result = peers::ab(&site.client, "http://192.0.2.10/", 500, 10, Duration::from_secs(60))?;
    assert_eq!((result.complete, result.failed), (500, 0));
    assert_eq!(resets.finish()?, []);
    let total = director.statistics()?[0].columns.unwrap_or_default();
    assert!(total.connections >= 500, "{total:?}");
    // A port of the VIP that is no service is the host's.
    Login::open(&site.client, "192.0.2.10:22")?.echo("still here\n")
}

#[test]
fn routed_traffic_that_is_not_balanced_passes_as_before() -> Result<()> {
    let (site, _server, director) = start("routed")?;
    site.director.forward()?;
    site.client.route("10.0.0.0/24", site::DIRECTOR)?;
    for _ in 0..5 {
        let page = site.client.run_ok(&["curl", "-sS", "--max-time", "5", "http://10.0.0.11/"])?;
        assert_eq!(page, "real1\n");
        let page = site.client.run_ok(&["curl", "-sS", "--max-time", "5", "http://192.0.2.10/"])?;
        assert_eq!(page, "real1\n");
    }
    let total = director.statistics()?[0].columns.unwrap_or_default();
    assert_eq!(total.connections, 5, "only what went to the VIP was balanced");
    Ok(())
}

#[test]
fn a_second_director_in_the_same_namespace_is_refused_and_the_first_goes_on() -> Result<()> {
    let (site, _server, _director) = start("second")?;
    let state = tempfile::tempdir()?;
    let path = |name: &str| state.path().join(name).display().to_string();
    let (state, socket) = (path("state"), path("socket"));
    let run = [BINARY, "run", "--console", "off", "--state", &state, "--socket", &socket];
    let second = site.director.run(&run)?;
    assert_eq!(second.status.code(), Some(1), "{second}");
    ensure!(second.stderr.contains("another director runs on this host"), "{second}");
    for url in ["http://192.0.2.10/", "http://192.0.2.10/"] {
        assert_eq!(site.client.run_ok(&["curl", "-sS", "--max-time", "5", url])?, "real1\n");
        // By the first one's link to the host, which the second one must not have joined.
        assert_eq!(site.director.run_ok(&["curl", "-sS", "--max-time", "5", url])?, "real1\n");
    }
    Ok(())
}
