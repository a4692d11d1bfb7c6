//! `viaduct real-server`: one command makes a host a real server for direct routing, undoes it, or
//! says in plain words what is wrong with it.

use crate::prelude::{BINARY, director_on};

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Finished, Host, Site};

const VIP: &str = "192.0.2.10";

const CONFIG: &str = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
method = "dr"
  [[service.real]]
  address = "192.0.2.21:80"
  [[service.real]]
  address = "192.0.2.22:80"
"#;

/// Two hosts on the clients' own network, where a real server that answers ARP does harm.
fn reals(site: &Site) -> Result<Vec<Host>> {
    [21, 22]
        .iter()
        .map(|last| {
            let real = site.lab().host(&format!("real{last}"))?;
            real.attach(site.outside(), &[&format!("192.0.2.{last}/24")])?;
            Ok(real)
        })
        .collect()
}

fn real_server(host: &Host, action: &str, more: &[&str]) -> Result<Finished> {
    let words = [&[BINARY, "real-server", action, "--vip", VIP, "--method", "dr"], more].concat();
    host.run(&words)
}

fn is_ready(host: &Host) -> Result<()> {
    let text = real_server(host, "check", &[])?.ok()?;
    ensure!(text == "this host is ready to be a real server\n", "{text}");
    Ok(())
}

/// What a check finds wrong.
fn found(host: &Host) -> Result<String> {
    let ended = real_server(host, "check", &[])?;
    ensure!(ended.status.code() == Some(1), "{ended}");
    Ok(ended.stderr)
}

/// The Ethernet addresses that answer when the client asks who has the VIP.
fn who_has_the_vip(site: &Site) -> Result<Vec<String>> {
    let _ = site.client.run(&["ip", "neigh", "flush", "dev", "eth0"])?;
    let answers = site.client.run(&["arping", "-c", "2", "-w", "3", "-I", "eth0", VIP])?;
    let mut macs: Vec<String> = answers
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_lowercase()))
        .collect();
    macs.sort();
    macs.dedup();
    Ok(macs)
}

#[test]
fn one_command_makes_a_real_server_for_direct_routing_and_another_undoes_it() -> Result<()> {
    let site = Site::new("rsdr", 0, 0)?;
    let reals = reals(&site)?;
    let mut servers = Vec::new();
    for real in &reals {
        let done = real_server(real, "up", &[])?.ok()?;
        ensure!(done.contains("added 192.0.2.10/32 to lo"), "{done}");
        ensure!(done.contains("set net.ipv4.conf.all.arp_ignore to 1"), "{done}");
        ensure!(real_server(real, "up", &[])?.ok()? == "nothing to do\n");
        is_ready(real)?;
        servers.push(Backend::http(real, "[::]:80")?);
    }
    let _director = director_on(&site.director, CONFIG)?;
    let url = format!("http://{VIP}/");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(site.client.run_ok(&["curl", "-sS", "--max-time", "10", &url])?);
    }
    ensure!(seen[0] != seen[1] && seen[..2] == seen[2..], "{seen:?}");
    let answering = who_has_the_vip(&site)?;
    ensure!(answering.len() == 1, "{answering:?} answer for the VIP");

    ensure!(real_server(&reals[0], "down", &[])?.ok()? == "removed 192.0.2.10 from lo\n");
    ensure!(real_server(&reals[0], "down", &[])?.ok()? == "nothing to do\n");
    let found = found(&reals[0])?;
    ensure!(found.starts_with("192.0.2.10 is not on lo: packets for it are refused\n"), "{found}");
    Ok(())
}

#[test]
fn a_check_says_in_plain_words_what_is_wrong() -> Result<()> {
    let site = Site::new("rscheck", 0, 0)?;
    let real = reals(&site)?.into_iter().next().context("a host")?;
    real_server(&real, "up", &[])?.ok()?;

    real.sysctl("net.ipv4.conf.all.arp_ignore", "0")?;
    let text = found(&real)?;
    ensure!(text.contains("this host answers ARP for the VIP and takes it from the director"));
    ensure!(text.contains("repair: sysctl -w net.ipv4.conf.all.arp_ignore=1"), "{text}");
    real_server(&real, "up", &[])?.ok()?;
    is_ready(&real)?;

    real.add_address("eth0", "192.0.2.10/24")?;
    let text = found(&real)?;
    ensure!(text.contains("192.0.2.10 is on eth0 too"), "{text}");
    real.remove_address("eth0", "192.0.2.10/24")?;

    real.remove_address("lo", "192.0.2.10/32")?;
    real.add_address("lo", "192.0.2.10/24")?;
    let text = found(&real)?;
    ensure!(text.contains("192.0.2.10 is on lo as /24, should be /32"), "{text}");
    real_server(&real, "up", &[])?.ok()?;
    is_ready(&real)
}

#[test]
fn the_printed_script_does_the_same_on_a_host_without_the_program() -> Result<()> {
    let site = Site::new("rsscript", 0, 0)?;
    for (real, form) in reals(&site)?.iter().zip(["shell", "iproute2"]) {
        let script = real_server(real, "up", &["--print", form])?.ok()?;
        ensure!(
            real.run(&["ip", "-br", "addr", "show", "lo"])?.stdout.matches("192.0.2").count() == 0
        );
        let file = real.directory().join("setup.sh");
        std::fs::write(&file, &script)?;
        let file = file.to_string_lossy();
        for _ in 0..2 {
            real.run_ok(&["sh", &file])?;
            is_ready(real)?;
        }
        if form == "shell" {
            real.run_ok(&["sh", &file, "stop"])?;
            ensure!(found(real)?.contains("192.0.2.10 is not on lo"));
        }
    }
    Ok(())
}

#[test]
fn a_host_without_a_tunnel_device_is_named() -> Result<()> {
    let site = Site::new("rstun", 0, 0)?;
    let real = reals(&site)?.into_iter().next().context("a host")?;
    let tun = [BINARY, "real-server", "check", "--vip", VIP, "--method", "tun"];
    let ended = real.run(&tun)?;
    ensure!(ended.status.code() == Some(1), "{ended}");
    // Where the module is loaded, every namespace has the device, switched off.
    let missing = ended.stderr.contains("there is no device tunl0: tunnelled packets are refused");
    let off = ended.stderr.contains("tunl0 is down: tunnelled packets are refused");
    ensure!(missing || off, "{ended}");
    Ok(())
}
