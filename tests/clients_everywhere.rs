//! Clients and real servers in odd places: on the director itself, and on a real server that asks
//! the VIP which it serves.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Host, Site, site, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");

/// Two embedded real servers and NAT services on both families' VIPs.
fn start(name: &str) -> Result<(Site, [Backend; 2], Director)> {
    let site = Site::new(name, 2, 0)?;
    let servers =
        [Backend::http(&site.reals[0], "[::]:80")?, Backend::http(&site.reals[1], "[::]:80")?];
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -t 192.0.2.10:80 -s rr
         -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m
         -a -t 192.0.2.10:80 -r 10.0.0.12:80 -m
         -A -t [2001:db8::10]:80 -s rr
         -a -t [2001:db8::10]:80 -r [2001:db8:a::11]:80 -m
         -a -t [2001:db8::10]:80 -r [2001:db8:a::12]:80 -m",
    )?;
    Ok((site, servers, director))
}

/// Asks both VIPs four times each and expects both servers to have answered twice, also at length.
fn asks_in_vain_never(client: &Host) -> Result<()> {
    for vip in ["192.0.2.10", "[2001:db8::10]"] {
        let context = || format!("{} asks {vip}", client.name());
        let mut names = Vec::new();
        for _ in 0..4 {
            let url = format!("http://{vip}/");
            names.push(
                client.run_ok(&["curl", "-sS", "--max-time", "10", &url]).with_context(context)?,
            );
        }
        names.sort();
        assert_eq!(names, ["real1\n", "real1\n", "real2\n", "real2\n"], "{}", context());
        for _ in 0..2 {
            let url = format!("http://{vip}/bytes/1000000");
            let body =
                client.run_ok(&["curl", "-sS", "--max-time", "20", &url]).with_context(context)?;
            assert_eq!(body.len(), 1_000_000);
        }
    }
    Ok(())
}

#[test]
fn a_client_on_the_director_itself_is_balanced() -> Result<()> {
    let (site, _servers, _director) = start("onthedirector")?;
    asks_in_vain_never(&site.director)?;
    // Host and dataplane do not get into each other's way.
    asks_in_vain_never(&site.client)
}

#[test]
fn a_client_on_the_director_itself_is_answered_directly_by_real_servers() -> Result<()> {
    let site = Site::new("drfromdirector", 2, 0)?;
    let mut servers = Vec::new();
    for real in &site.reals {
        site.answer_directly(real, site::VIP)?;
        servers.push(Backend::http(real, "[::]:80")?);
    }
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -t 192.0.2.10:80 -s rr
         -a -t 192.0.2.10:80 -r 10.0.0.11 -g
         -a -t 192.0.2.10:80 -r 10.0.0.12 -g",
    )?;
    let ask = |path: &str| {
        let url = format!("http://192.0.2.10{path}");
        site.director.run_ok(&["curl", "-sS", "--max-time", "10", &url])
    };
    let mut names = (0..4).map(|_| ask("/")).collect::<Result<Vec<_>>>()?;
    names.sort();
    assert_eq!(names, ["real1\n", "real1\n", "real2\n", "real2\n"]);
    // The address that real servers can answer to without another router: the inside one.
    assert_eq!(ask("/client")?.trim(), "::ffff:10.0.0.254");
    assert_eq!(ask("/bytes/1000000")?.len(), 1_000_000);
    Ok(())
}

#[test]
fn a_process_on_the_director_is_a_real_server() -> Result<()> {
    let site = Site::new("realondirector", 1, 0)?;
    let _here = Backend::http(&site.director, "127.0.0.1:8080")?;
    let _also_here = Backend::http(&site.director, "[2001:db8:a::254]:8080")?;
    let _there = Backend::http(&site.reals[0], "[::]:8080")?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -t 192.0.2.10:80 -s rr
         -a -t 192.0.2.10:80 -r 127.0.0.1:8080 -m
         -a -t 192.0.2.10:80 -r 10.0.0.11:8080 -m
         -A -t [2001:db8::10]:80 -s rr
         -a -t [2001:db8::10]:80 -r [2001:db8:a::254]:8080 -m
         -a -t [2001:db8::10]:80 -r [2001:db8:a::11]:8080 -m",
    )?;
    for client in [&site.client, &site.director] {
        for vip in ["192.0.2.10", "[2001:db8::10]"] {
            let ask = |path: &str| {
                let url = format!("http://{vip}{path}");
                let context = || format!("{} asks {url}", client.name());
                client.run_ok(&["curl", "-sS", "--max-time", "10", &url]).with_context(context)
            };
            let mut names = (0..4).map(|_| ask("/")).collect::<Result<Vec<_>>>()?;
            names.sort();
            assert_eq!(names, ["director\n", "director\n", "real1\n", "real1\n"], "{vip}");
            for _ in 0..2 {
                assert_eq!(ask("/bytes/1000000")?.len(), 1_000_000, "{vip}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_real_server_is_a_client_of_its_own_vip() -> Result<()> {
    let (site, _servers, _director) = start("realasclient")?;
    // Its own gateway is the director, so the VIP is reached like any address outside.
    asks_in_vain_never(&site.reals[0])?;
    asks_in_vain_never(&site.client)
}

#[test]
fn a_removed_link_to_the_host_is_said_and_others_are_served() -> Result<()> {
    let (site, _servers, director) = start("unlinked")?;
    asks_in_vain_never(&site.director)?;
    site.director.run_ok(&["ip", "link", "del", "dev", "viaduct0"])?;
    wait::until_ok("the loss to be said", Duration::from_secs(10), || {
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.contains("viaduct0") && events.contains("was removed"), "{events}");
        let interfaces = director.viaduct(&["show", "interfaces"])?;
        ensure!(!interfaces.contains("viaduct0"), "{interfaces}");
        Ok(())
    })?;
    asks_in_vain_never(&site.client)
}
