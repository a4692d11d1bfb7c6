//! What a real server needs for direct routing and tunnelling: the VIP, without answering for it.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::host::Host;

/// Gives the host the VIP on loopback and keeps it from answering ARP for it on the wire
/// (`arp_ignore`, `arp_announce`). IPv6 needs no variable: Linux answers neighbour solicitations
/// only for addresses of the interface they come in by.
///
/// # Errors
/// When the address is malformed or there already.
pub fn accept_vip(host: &Host, vip: &str) -> Result<()> {
    let address: IpAddr = vip.parse().with_context(|| format!("VIP {vip:?}"))?;
    if address.is_ipv4() {
        host.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        host.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    }
    host.add_address("lo", vip)
}
