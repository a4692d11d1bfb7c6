//! The link to the host's own stack: the TAP device `viaduct0`. Processes on the director reach VIPs
//! by it, and connections reach processes on the director that are real servers or sorry servers.
//!
//! The device needs neither ARP nor an address: both ends share its Ethernet address, and its routes
//! lead to VIPs and to the two addresses that the dataplane sends from. It goes with the daemon, and
//! its routes with it.

use super::Watch;
use dataplane::io::Port;
use dataplane::io::tap;
use dataplane::table::{HostLink, Mac, PortId};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder, new_connection};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The device's name.
pub const NAME: &str = "viaduct0";

/// What the dataplane sends from towards processes on the director: link-local, and from a unique
/// local prefix (RFC 4193) that nobody else has.
const SOURCES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 86, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd76, 0x6961, 0x6475, 0, 0, 0, 0, 1)),
];

/// Marks the routes as this daemon's, for whoever looks at them (`ip route` shows the number).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(86);

/// Addresses that lead to the dataplane, with the source that the host's processes are to use.
pub type Routes = BTreeMap<IpAddr, Option<IpAddr>>;

/// The link as the rest of control knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Its port.
    pub port: PortId,
    /// The kernel's interface index.
    pub index: u32,
    /// The Ethernet address of both ends.
    pub mac: Mac,
}

impl Stack {
    /// As packets look it up.
    pub fn link(&self) -> HostLink {
        HostLink { port: self.port, host_mac: self.mac, sources: SOURCES.to_vec() }
    }
}

/// Makes the device, with one queue for each worker, and starts the task that keeps its routes as
/// they are wanted until `stop`.
///
/// # Errors
/// Without the TUN driver or the right to use it, or when another daemon has the device.
pub async fn open(
    port: PortId,
    workers: usize,
    host: Watch,
    stop: CancellationToken,
) -> io::Result<(Stack, Vec<Port>, watch::Sender<Routes>)> {
    let (device, ports) = tap::open(NAME, port, workers)?;
    let (connection, handle, _) = new_connection()?;
    tokio::spawn(connection);
    let up = LinkUnspec::new_with_index(device.index).arp(false).up().build();
    handle.link().set(up).execute().await.map_err(io::Error::other)?;
    set_up();
    let (wanted, changes) = watch::channel(Routes::new());
    tokio::spawn(keep((handle, device.index), changes, host, stop));
    Ok((Stack { port, index: device.index, mac: device.mac }, ports, wanted))
}

/// Lets the host take what the dataplane gives it: for its own processes, and to send on by
/// interfaces that are not attached. A VIP that is the host's own as well may be the source.
fn set_up() {
    let settings = [
        ("ipv4", "route_localnet", "1"),
        ("ipv4", "rp_filter", "0"),
        ("ipv4", "forwarding", "1"),
        ("ipv4", "accept_local", "1"),
        ("ipv6", "accept_ra", "0"),
    ];
    for (family, setting, value) in settings {
        let path = format!("/proc/sys/net/{family}/conf/{NAME}/{setting}");
        if let Err(error) = std::fs::write(&path, value) {
            tracing::warn!(%path, %error, "some of what is for the host may be lost");
        }
    }
}

/// Keeps the routes as they are wanted: one that somebody removes is put back. One that the kernel
/// refuses is tried again when others are wanted.
async fn keep(
    (handle, index): (Handle, u32),
    mut changes: watch::Receiver<Routes>,
    mut host: Watch,
    stop: CancellationToken,
) {
    let (mut present, mut refused) = (Routes::new(), BTreeSet::new());
    loop {
        let wanted = with_sources(&changes.borrow_and_update());
        // What the kernel does not have was removed by somebody; adding one twice does no harm.
        let led = host.state().led.clone();
        present.retain(|address, _| led.contains(address));
        for (address, source) in missing(&present, &wanted) {
            if refused.contains(&address) {
                continue;
            }
            match add(&handle, index, address, source).await {
                Ok(()) => {
                    present.insert(address, source);
                }
                Err(error) => {
                    refused.insert(address);
                    tracing::warn!(%address, %error, "no route from the host itself");
                }
            }
        }
        let gone: Vec<IpAddr> =
            present.keys().filter(|address| !wanted.contains_key(*address)).copied().collect();
        for address in gone {
            // One that somebody else removed is gone as well.
            let _ = handle.route().del(route(index, address, None)).execute().await;
            present.remove(&address);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => {
                refused.clear();
                if changed.is_err() {
                    return;
                }
            }
            changed = host.changed() => if changed.is_err() { return },
        }
    }
}

/// The wanted routes with those to the dataplane's own addresses.
fn with_sources(wanted: &Routes) -> Routes {
    let own = SOURCES.iter().map(|address| (*address, None));
    wanted.iter().map(|(address, source)| (*address, *source)).chain(own).collect()
}

/// What is wanted and not there, or there with another source.
fn missing(present: &Routes, wanted: &Routes) -> Vec<(IpAddr, Option<IpAddr>)> {
    let differs =
        |(address, source): &(&IpAddr, &Option<IpAddr>)| present.get(*address) != Some(*source);
    wanted.iter().filter(differs).map(|(address, source)| (*address, *source)).collect()
}

async fn add(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    source: Option<IpAddr>,
) -> Result<(), rtnetlink::Error> {
    let added = handle.route().add(route(index, address, source)).replace().execute().await;
    match (added, source) {
        // The host may have lost that address just now.
        (Err(_), Some(_)) => {
            handle.route().add(route(index, address, None)).replace().execute().await
        }
        (added, _) => added,
    }
}

fn route(index: u32, address: IpAddr, source: Option<IpAddr>) -> RouteMessage {
    match address {
        IpAddr::V4(address) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .output_interface(index)
                .scope(RouteScope::Link)
                .protocol(PROTOCOL);
            match source {
                Some(IpAddr::V4(source)) => route.pref_source(source).build(),
                Some(IpAddr::V6(_)) | None => route.build(),
            }
        }
        IpAddr::V6(address) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .output_interface(index)
                .protocol(PROTOCOL);
            match source {
                Some(IpAddr::V6(source)) => route.pref_source(source).build(),
                Some(IpAddr::V4(_)) | None => route.build(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_routes_that_differ_are_added() {
        let one = (ip("192.0.2.10"), Some(ip("10.0.0.1")));
        let two = (ip("192.0.2.11"), None);
        let wanted: Routes = [one, two].into();
        assert_eq!(missing(&Routes::new(), &wanted), [one, two]);
        assert_eq!(missing(&wanted, &wanted), []);
        let present = [(one.0, None), two].into();
        assert_eq!(missing(&present, &wanted), [one], "another source");
    }

    #[test]
    fn the_dataplane_s_own_addresses_are_always_routed() {
        let all = with_sources(&[(ip("192.0.2.10"), None)].into());
        assert_eq!(all.len(), 3);
        assert!(SOURCES.iter().all(|address| all.contains_key(address)));
    }
}
