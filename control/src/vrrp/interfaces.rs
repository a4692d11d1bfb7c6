//! The machine's interfaces as VRRP needs them, and word of their changes.

use dataplane::table::{Family, Mac};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
    socket,
};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Groups of rtnetlink(7): links, IPv4 addresses, IPv6 addresses.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Number in this network namespace.
    pub index: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Where frames are sent to; carries the index and the MAC.
    pub link: LinkAddr,
    /// IPv4 and IPv6 addresses in the kernel's order: the primary one first.
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// Its own MAC.
    pub fn mac(&self) -> Mac {
        self.link.addr().unwrap_or_default()
    }

    /// Where adverts come from by default: the first IPv4 or the link-local IPv6 address that is not one
    /// of the virtual ones.
    pub fn source(&self, family: Family, virtual_addresses: &[IpAddr]) -> Option<IpAddr> {
        let fits = |address: &&IpAddr| match (address, family) {
            (IpAddr::V4(_), Family::V4) => true,
            (IpAddr::V6(address), Family::V6) => address.is_unicast_link_local(),
            (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => false,
        };
        let mut own = self.addresses.iter().filter(fits);
        own.find(|address| !virtual_addresses.contains(address)).copied()
    }
}

/// All Ethernet-like interfaces of this network namespace by name.
///
/// # Errors
/// When the kernel does not answer.
pub fn all() -> io::Result<BTreeMap<String, Interface>> {
    let entries: Vec<InterfaceAddress> = getifaddrs()?.collect();
    let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let mut interfaces = BTreeMap::new();
    for entry in &entries {
        let Some(link) = entry.address.as_ref().and_then(|address| address.as_link_addr()) else {
            continue;
        };
        let interface = Interface {
            index: u32::try_from(link.ifindex()).unwrap_or_default(),
            up: entry.flags.contains(running),
            link: *link,
            addresses: Vec::new(),
        };
        interfaces.insert(entry.interface_name.clone(), interface);
    }
    for entry in &entries {
        let Some(address) = &entry.address else { continue };
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (None, Some(v6)) => IpAddr::V6(v6.ip()),
            (None, None) => continue,
        };
        if let Some(interface) = interfaces.get_mut(&entry.interface_name) {
            interface.addresses.push(address);
        }
    }
    Ok(interfaces)
}

/// Tells that some link or address changed; what, the caller reads anew.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the kernel refuses the netlink socket.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self(netlink))
    }

    /// Empties the queue; whether anything was in it. An overflow counts as a change.
    pub fn drain(&self) -> bool {
        let mut buffer = [0; 8192];
        let mut changed = false;
        // A bound, so that a storm of changes cannot keep the thread here.
        for _ in 0..256 {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(_) | Err(nix::errno::Errno::ENOBUFS) => changed = true,
                Err(_) => break,
            }
        }
        changed
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_address() {
        let interfaces = all().unwrap();
        let loopback = &interfaces["lo"];
        assert!(loopback.index > 0);
        assert_eq!(loopback.mac(), [0; 6]);
    }

    #[test]
    fn the_source_is_not_a_virtual_address() {
        let addresses: Vec<IpAddr> =
            ["192.0.2.10", "192.0.2.1", "2001:db8::1", "fe80::1", "fe80::2"]
                .iter()
                .map(|address| address.parse().unwrap())
                .collect();
        let link = all().unwrap()["lo"].link;
        let interface = Interface { index: 1, up: true, link, addresses: addresses.clone() };
        assert_eq!(interface.source(Family::V4, &[]), Some(addresses[0]));
        assert_eq!(interface.source(Family::V4, &addresses[..1]), Some(addresses[1]));
        assert_eq!(interface.source(Family::V4, &addresses[..2]), None);
        assert_eq!(interface.source(Family::V6, &[]), Some(addresses[3]));
        assert_eq!(interface.source(Family::V6, &addresses[3..4]), Some(addresses[4]));
    }
}
