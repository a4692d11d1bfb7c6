//! The site carries both kinds of forwarding when the kernel does the director's work, so a scene
//! that fails there with our director fails because of the director.

use anyhow::Result;
use harness::backend::Backend;
use harness::capture::Capture;
use harness::host::written_mac as mac;
use harness::{Site, site};

fn curl(site: &Site, address: &str) -> Result<String> {
    site.client.run_ok(&["curl", "-sS", "--max-time", "5", &format!("http://{address}/")])
}

#[test]
fn with_address_translation_both_ways_pass_the_director() -> Result<()> {
    let site = Site::new("sitenat", 2, 1)?;
    let _servers = [
        Backend::http(&site.reals[0], "[::]:80")?,
        Backend::http(&site.reals[1], "[::]:80")?,
        Backend::http(&site.remotes[0], "[::]:80")?,
    ];
    site.director.forward()?;
    site.director.add_address("eth0", "192.0.2.10/32")?;
    let map = format!("{{ 0 : {}, 1 : {} }}", site::real(1), site::real(2));
    let rule = format!("ip daddr {} tcp dport 80 dnat to numgen inc mod 2 map {map}", site::VIP);
    let table = format!(
        "table ip lab {{ chain pre {{ type nat hook prerouting priority -100; {rule}; }}; }}"
    );
    site.director.run_ok(&["nft", &table])?;
    let seen = [curl(&site, site::VIP)?, curl(&site, site::VIP)?];
    assert!(seen.contains(&"real1\n".to_owned()) && seen.contains(&"real2\n".to_owned()));
    // The way to the real server on another subnet.
    let direct = format!("http://{}/", site::remote(1));
    let asked = site.director.run_ok(&["curl", "-sS", "--max-time", "5", &direct])?;
    assert_eq!(asked, "remote1\n");
    Ok(())
}

#[test]
fn with_direct_routing_replies_bypass_the_director() -> Result<()> {
    let site = Site::new("sitedr", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    site.answer_directly(&site.reals[0], site::VIP)?;
    let link = site.reals[0].run_ok(&["cat", "/sys/class/net/eth0/address"])?;
    let rule = format!("ip daddr {} ether daddr set {} fwd to eth1", site::VIP, link.trim());
    let table = format!(
        "table netdev lab {{ chain in {{ type filter hook ingress device eth0 priority 0; {rule}; }}; }}"
    );
    site.director.run_ok(&["nft", &table])?;
    let director = mac(site.director_interfaces[0].mac);
    site.client.run_ok(&[
        "ip",
        "neigh",
        "replace",
        site::VIP,
        "lladdr",
        &director,
        "dev",
        "eth0",
    ])?;
    let back = format!("src {}", site::VIP);
    let replies = Capture::start(&site.client, "eth0", &back)?;
    let through = [
        Capture::start(&site.director, "eth0", &back)?,
        Capture::start(&site.director, "eth1", &back)?,
    ];
    assert_eq!(curl(&site, site::VIP)?, "real1\n");
    assert!(!replies.finish()?.is_empty());
    for capture in through {
        assert_eq!(capture.finish()?, []);
    }
    Ok(())
}
