//! What people put behind a director: web and telnet-like services on one VIP, DNS over UDP, FTP in
//! both modes, SCTP, each with a real server program where there is one, over IPv4 and IPv6.

use crate::prelude::BINARY;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::backend::Backend;
use harness::craft::{self, RawReceiver, RawSender, protocol, sctp};
use harness::{Director, Host, Site, peers, site, wait};

const LIMIT: Duration = Duration::from_secs(10);

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// A NAT service on both families' VIPs over all inside real servers, the port kept.
fn balance(director: &Director, site: &Site, letter: char, port: u16) -> Result<()> {
    for (vip, real) in [(site::VIP, site::real as fn(usize) -> String), (site::VIP6, site::real6)] {
        let vip = bracketed(vip);
        director.ipvsadm_script(&format!("-A -{letter} {vip}:{port} -s rr"))?;
        for number in 1..=site.reals.len() {
            let real = bracketed(&real(number));
            director.ipvsadm_script(&format!("-a -{letter} {vip}:{port} -r {real}:{port} -m"))?;
        }
    }
    Ok(())
}

/// One line there and back over a telnet-like connection; gives the greeting.
fn greet_and_echo(client: &Host, server: &str) -> Result<String> {
    let server: SocketAddr = server.parse()?;
    client.enter(|| {
        let stream = TcpStream::connect_timeout(&server, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut greeting, mut echo) = (String::new(), String::new());
        reader.read_line(&mut greeting)?;
        (&stream).write_all(b"is anybody there?\r\n")?;
        reader.read_line(&mut echo)?;
        anyhow::ensure!(echo == "is anybody there?\r\n", "{echo:?} came back");
        Ok(greeting.trim_end().to_owned())
    })?
}

#[test]
fn web_and_telnet_share_a_vip_as_two_services() -> Result<()> {
    let site = Site::new("twoservices", 2, 0)?;
    let mut servers = Vec::new();
    for real in &site.reals {
        servers.push(Backend::http(real, "[::]:80")?);
        servers.push(Backend::lines(real, "[::]:23")?);
    }
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    balance(&director, &site, 't', 80)?;
    balance(&director, &site, 't', 23)?;
    for vip in [site::VIP, site::VIP6].map(bracketed) {
        let (mut pages, mut greetings) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let url = format!("http://{vip}/");
            pages.push(site.client.run_ok(&["curl", "-sS", "--max-time", "10", &url])?);
            greetings.push(greet_and_echo(&site.client, &format!("{vip}:23"))?);
        }
        pages.sort();
        greetings.sort();
        assert_eq!(pages, ["real1\n", "real2\n"]);
        assert_eq!(greetings, ["real1 ready", "real2 ready"]);
    }
    Ok(())
}

#[test]
fn dns_over_udp_is_balanced_question_by_question() -> Result<()> {
    let site = Site::new("dns", 2, 0)?;
    let _servers = [peers::dnsmasq(&site.reals[0])?, peers::dnsmasq(&site.reals[1])?];
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    balance(&director, &site, 'u', 53)?;
    for vip in [site::VIP, site::VIP6] {
        let server = format!("@{vip}");
        let mut names: Vec<String> = (0..4)
            .map(|_| {
                site.client
                    .run_ok(&["dig", "+short", "+time=5", "+tries=1", &server, "who.lab", "TXT"])
            })
            .collect::<Result<_>>()?;
        names.sort();
        assert_eq!(names, ["\"real1\"\n", "\"real1\"\n", "\"real2\"\n", "\"real2\"\n"], "{vip}");
    }
    Ok(())
}

#[test]
fn one_packet_scheduling_balances_questions_from_one_port() -> Result<()> {
    let site = Site::new("ops", 2, 0)?;
    for real in &site.reals {
        site.answer_directly(real, site::VIP)?;
    }
    let _servers = [peers::dnsmasq(&site.reals[0])?, peers::dnsmasq(&site.reals[1])?];
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A -u 192.0.2.10:53 -s rr -o
         -a -u 192.0.2.10:53 -r 10.0.0.11 -g
         -a -u 192.0.2.10:53 -r 10.0.0.12 -g",
    )?;
    let mut names = Vec::new();
    for _ in 0..4 {
        let one_port = ["dig", "-b", "0.0.0.0#5353", "+short", "+time=5", "+tries=1"];
        let question = ["@192.0.2.10", "who.lab", "TXT"];
        names.push(site.client.run_ok(&[&one_port[..], &question].concat())?);
    }
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    assert_eq!(director.states()?[0].reals[0].columns.inactive, 0, "nothing is remembered");
    Ok(())
}

#[test]
fn ftp_works_active_and_passive_both_directions_of_transfer() -> Result<()> {
    let site = Site::new("ftp", 1, 0)?;
    let _server = peers::vsftpd(&site.reals[0])?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    balance(&director, &site, 't', 21)?;
    let upload = site.client.directory().join("upload");
    std::fs::write(&upload, vec![b'v'; 3_000_000])?;
    for vip in [site::VIP, site::VIP6].map(bracketed) {
        for passive in ["yes", "no"] {
            let what = format!("{vip}, passive: {passive}");
            let name = format!("upload-{}-{passive}", vip.len());
            let script = format!(
                "set net:timeout 10; set net:max-retries 1; set ftp:passive-mode {passive}; open {vip}; \
                 cat who; put {} -o in/{name}; bye",
                upload.display()
            );
            let answer = site.client.run_ok(&["lftp", "-c", &script]).context(what.clone())?;
            assert_eq!(answer.lines().next(), Some("real1"), "{what}");
            let arrived = site.reals[0].directory().join("ftp/root/in").join(&name);
            assert_eq!(std::fs::metadata(arrived)?.len(), 3_000_000, "{what}");
        }
    }
    Ok(())
}

/// One SCTP handshake step each way by crafted packets, because this kernel may not speak SCTP.
fn sctp_init_and_answer(site: &Site, vip: IpAddr, rip: IpAddr) -> Result<()> {
    let client: IpAddr =
        if vip.is_ipv4() { "192.0.2.100".parse()? } else { "2001:db8::100".parse()? };
    let domain = if vip.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let sender = || if vip.is_ipv4() { RawSender::ipv4() } else { RawSender::ipv6() };
    let receiver = || RawReceiver::new(domain, protocol::SCTP, LIMIT);
    let (at_real, at_client) = (site.reals[0].enter(receiver)??, site.client.enter(receiver)??);

    // INIT: initiate tag, window, streams, initial TSN (RFC 9260 3.3.2).
    let parameters = [&[0, 0, 0, 77][..], &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9]].concat();
    let init = sctp::Packet { from: 4000, to: 3868, tag: 0, kind: sctp::INIT, value: parameters };
    let packet = craft::ip(client, vip, protocol::SCTP, &init.encode())?;
    site.client.enter(|| sender()?.send(&packet))??;
    let mut buffer = Vec::new();
    anyhow::ensure!(at_real.payload(&mut buffer)?, "no INIT reached the real server");
    let arrived = sctp::Packet::decode(&buffer).context("INIT at the real server")?;
    assert_eq!(arrived, sctp::Packet { to: 38680, ..init.clone() });

    let answer = sctp::Packet { from: 38680, to: 4000, tag: 77, kind: sctp::INIT_ACK, ..arrived };
    let packet = craft::ip(rip, client, protocol::SCTP, &answer.encode())?;
    site.reals[0].enter(|| sender()?.send(&packet))??;
    anyhow::ensure!(at_client.payload(&mut buffer)?, "no INIT ACK reached the client");
    let arrived = sctp::Packet::decode(&buffer).context("INIT ACK at the client")?;
    assert_eq!(arrived, sctp::Packet { from: 3868, ..answer });
    Ok(())
}

#[test]
fn sctp_is_translated_both_ways_with_right_checksums() -> Result<()> {
    let site = Site::new("sctp", 1, 0)?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    director.ipvsadm_script(
        "-A --sctp-service 192.0.2.10:3868 -s rr
         -a --sctp-service 192.0.2.10:3868 -r 10.0.0.11:38680 -m
         -A --sctp-service [2001:db8::10]:3868 -s rr
         -a --sctp-service [2001:db8::10]:3868 -r [2001:db8:a::11]:38680 -m",
    )?;
    for (vip, rip) in [(site::VIP, site::real(1)), (site::VIP6, site::real6(1))] {
        sctp_init_and_answer(&site, vip.parse()?, rip.parse()?).with_context(|| vip.to_owned())?;
    }
    let listed = director.ipvsadm(&["-L", "-n", "-c"])?;
    assert_eq!(listed.lines().filter(|line| line.starts_with("SCTP")).count(), 2, "{listed}");
    Ok(())
}

#[test]
fn virtual_addresses_answer_ping_while_they_balance() -> Result<()> {
    let site = Site::new("ping", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    balance(&director, &site, 't', 80)?;
    for vip in [site::VIP, site::VIP6] {
        site.client.run_ok(&["ping", "-c2", "-i0.2", "-W5", vip])?;
    }
    wait::until_ok("the page", LIMIT, || {
        site.client.run_ok(&["curl", "-sS", "--max-time", "5", "http://192.0.2.10/"])
    })?;
    Ok(())
}
