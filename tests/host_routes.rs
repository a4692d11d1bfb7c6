//! The director sends packets where the host's own routing would: by rules, tables and live next
//! hops, and through the host where an interface is not attached.

use crate::prelude::director_on;

use anyhow::{Result, ensure};
use harness::backend::Backend;
use harness::{Director, Host, Site, wait};
use std::time::Duration;

fn service(vip: &str, real: &str, more: &str) -> String {
    let bracketed = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let (vip, real) = (bracketed(vip), bracketed(real));
    format!(
        "[[service]]\nname = \"{vip}\"\naddress = \"{vip}:80\"\nscheduler = \"rr\"\n{more}
  [[service.real]]\n  address = \"{real}:80\"\n"
    )
}

const NAT: &str = "method = \"nat\"";

fn words(host: &Host, line: &str) -> Result<String> {
    host.run_ok(&line.split_whitespace().collect::<Vec<_>>())
}

/// Asks until it works; what the host's routing changes takes a moment to arrive.
fn answers(client: &Host, vip: &str) -> Result<String> {
    let bracketed = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
    let url = format!("http://{bracketed}/client");
    wait::until_ok(&format!("{vip} to answer"), Duration::from_secs(20), || {
        client.run_ok(&["curl", "-sS", "--max-time", "2", &url])
    })
}

fn drops(director: &Director) -> Result<String> {
    director.viaduct(&["show", "drops"])
}

#[test]
fn a_route_with_several_next_hops_is_served_by_one_that_is_alive() -> Result<()> {
    let site = Site::new("ecmp", 1, 0)?;
    let second = site.lab().network("second")?;
    site.director.attach(&second, &["10.3.0.254/24", "2001:db8:3::254/64"])?;
    let real = &site.reals[0];
    real.attach(&second, &["10.3.0.11/24", "2001:db8:3::11/64"])?;
    for address in ["10.99.0.11/32", "2001:db8:99::11/128"] {
        words(real, &format!("ip addr add {address} dev lo"))?;
    }
    real.sysctl("net.ipv4.conf.all.rp_filter", "0")?;
    words(real, "ip route replace default via 10.3.0.254")?;
    words(real, "ip -6 route replace default via 2001:db8:3::254")?;
    let _server = Backend::http(real, "[::]:80")?;
    for (block, first, other) in [
        ("10.99.0.0/24", "10.0.0.11", "10.3.0.11"),
        ("2001:db8:99::/64", "2001:db8:a::11", "2001:db8:3::11"),
    ] {
        words(
            &site.director,
            &format!(
                "ip route add {block} nexthop via {first} dev eth1 nexthop via {other} dev eth2"
            ),
        )?;
    }
    site.director.sysctl("net.ipv4.conf.eth1.ignore_routes_with_linkdown", "1")?;
    site.director.sysctl("net.ipv6.conf.eth1.ignore_routes_with_linkdown", "1")?;
    let config =
        service("192.0.2.10", "10.99.0.11", NAT) + &service("2001:db8::10", "2001:db8:99::11", NAT);
    let _director = director_on(&site.director, &config)?;
    let both = || -> Result<()> {
        answers(&site.client, "192.0.2.10")?;
        answers(&site.client, "2001:db8::10").map(drop)
    };
    both()?;
    site.director.unplug(&site.director_interfaces[1])?;
    both()?;
    site.director.plug(&site.director_interfaces[1])?;
    words(&site.director, "ip link set eth1 down")?;
    answers(&site.client, "192.0.2.10").map(drop)
}

#[test]
fn a_reply_leaves_by_the_table_that_a_rule_selects_for_its_vip() -> Result<()> {
    let site = Site::new("policyroute", 1, 0)?;
    let provider = site.lab().network("provider")?;
    site.director.attach(&provider, &["10.4.0.1/24", "2001:db8:4::1/64"])?;
    let gateway = site.lab().host("gateway")?;
    gateway.forward()?;
    gateway.attach(&provider, &["10.4.0.254/24", "2001:db8:4::fe/64"])?;
    let far = site.lab().network("far")?;
    gateway.attach(&far, &["203.0.113.1/24", "2001:db8:cb::1/64"])?;
    let visitor = site.lab().host("visitor")?;
    visitor.attach(&far, &["203.0.113.9/24", "2001:db8:cb::9/64"])?;
    visitor.route("default", "203.0.113.1")?;
    visitor.route("default", "2001:db8:cb::1")?;
    let director = &site.director;
    // The first provider is a host that forwards nothing.
    for line in [
        "ip route add default via 192.0.2.100",
        "ip -6 route add default via 2001:db8::100",
        "ip route add default via 10.4.0.254 table 200",
        "ip -6 route add default via 2001:db8:4::fe table 200",
        "ip rule add from 10.4.0.0/24 lookup 200",
        "ip -6 rule add from 2001:db8:4::/64 lookup 200",
    ] {
        words(director, line)?;
    }
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let config =
        service("10.4.0.50", "10.0.0.11", NAT) + &service("2001:db8:4::50", "2001:db8:a::11", NAT);
    let _running = director_on(director, &config)?;
    answers(&visitor, "10.4.0.50")?;
    answers(&visitor, "2001:db8:4::50")?;
    // A rule that goes and comes is followed.
    words(director, "ip rule del from 10.4.0.0/24 lookup 200")?;
    wait::until_ok("the reply to be lost", Duration::from_secs(10), || {
        let asked = visitor.run(&["curl", "-sS", "--max-time", "1", "http://10.4.0.50/"])?;
        ensure!(!asked.status.success(), "still answered");
        Ok(())
    })?;
    words(director, "ip rule add from 10.4.0.0/24 lookup 200")?;
    answers(&visitor, "10.4.0.50").map(drop)
}

#[test]
fn clients_behind_an_interface_that_is_not_attached_are_answered_through_the_host() -> Result<()> {
    let site = Site::new("nothere", 1, 0)?;
    let beside = site.lab().network("beside")?;
    site.director.forward()?;
    site.director.attach(&beside, &["10.66.0.1/24", "2001:db8:66::1/64"])?;
    let visitor = site.lab().host("visitor")?;
    visitor.attach(&beside, &["10.66.0.2/24", "2001:db8:66::2/64"])?;
    visitor.route("default", "10.66.0.1")?;
    visitor.route("default", "2001:db8:66::1")?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let attached = "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n".to_owned();
    let config = attached
        + &service("10.99.0.60", "10.0.0.11", NAT)
        + &service("2001:db8:99::60", "2001:db8:a::11", NAT);
    let director = director_on(&site.director, &config)?;
    for vip in ["10.99.0.60", "2001:db8:99::60"] {
        let seen = answers(&visitor, vip)?;
        ensure!(seen.contains("66"), "the client's own address: {seen}");
    }
    let body =
        visitor.run_ok(&["curl", "-sS", "--max-time", "20", "http://10.99.0.60/bytes/1000000"])?;
    ensure!(body.len() == 1_000_000);
    ensure!(!drops(&director)?.contains("port_not_attached"));
    Ok(())
}

#[test]
fn a_route_that_refuses_is_the_reason_of_the_drop() -> Result<()> {
    let site = Site::new("refusing", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let config = service("192.0.2.10", "10.0.0.11", NAT);
    let director = director_on(&site.director, &config)?;
    answers(&site.client, "192.0.2.10")?;
    for (kind, reason) in [
        ("blackhole", "route_blackhole"),
        ("unreachable", "route_unreachable"),
        ("prohibit", "route_prohibits"),
    ] {
        words(&site.director, &format!("ip route add {kind} 192.0.2.100/32"))?;
        wait::until_ok(reason, Duration::from_secs(20), || {
            site.client.run(&["curl", "-sS", "--max-time", "1", "http://192.0.2.10/"])?;
            let said = drops(&director)?;
            ensure!(said.contains(reason), "{said}");
            Ok(())
        })?;
        words(&site.director, &format!("ip route del {kind} 192.0.2.100/32"))?;
        answers(&site.client, "192.0.2.10")?;
    }
    Ok(())
}

#[test]
fn routes_to_vips_that_somebody_removes_are_put_back_and_it_is_said() -> Result<()> {
    let site = Site::new("flushed", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let config =
        service("192.0.2.10", "10.0.0.11", NAT) + &service("2001:db8::10", "2001:db8:a::11", NAT);
    let director = director_on(&site.director, &config)?;
    for vip in ["192.0.2.10", "2001:db8::10"] {
        answers(&site.director, vip)?;
    }
    words(&site.director, "ip route flush table main dev viaduct0")?;
    words(&site.director, "ip -6 route flush table main dev viaduct0")?;
    for vip in ["192.0.2.10", "2001:db8::10"] {
        answers(&site.director, vip)?;
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.contains(&format!("removed the host's route to {vip}")), "{events}");
    }
    Ok(())
}

#[test]
fn an_address_of_a_source_pool_is_answered_for() -> Result<()> {
    let site = Site::new("poolowned", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let pool = |address: &str| format!("method = \"fullnat\"\nsource_pool = [\"{address}\"]");
    let config = service("192.0.2.10", "10.0.0.11", &pool("10.0.0.200"))
        + &service("2001:db8::10", "2001:db8:a::11", &pool("2001:db8:a::200"));
    let _director = director_on(&site.director, &config)?;
    ensure!(answers(&site.client, "192.0.2.10")?.contains("10.0.0.200"));
    ensure!(answers(&site.client, "2001:db8::10")?.contains("2001:db8:a::200"));
    Ok(())
}
