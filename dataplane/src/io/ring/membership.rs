//! Ethernet addresses that an interface listens to besides its own.

use super::socket::PacketSocket;
use crate::table::Mac;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, UdpSocket};

/// `PACKET_MR_UNICAST` of include/uapi/linux/if_packet.h.
const UNICAST: u16 = 3;

/// Further addresses of one interface, given up when dropped or when the process dies.
#[derive(Debug)]
pub struct Memberships {
    socket: PacketSocket,
    addresses: BTreeSet<Mac>,
    solicited: BTreeSet<Ipv6Addr>,
    /// Joins the groups in the stack as well, so that switches hear of them (MLD). `None` on hosts
    /// without IPv6.
    groups: Option<UdpSocket>,
}

impl Memberships {
    /// None yet.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn open(interface: u32) -> io::Result<Self> {
        Ok(Self {
            socket: PacketSocket::open(interface)?,
            addresses: BTreeSet::new(),
            solicited: BTreeSet::new(),
            groups: UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok(),
        })
    }

    /// Listens to exactly these unicast and group addresses from now on.
    ///
    /// # Errors
    /// When the interface is gone or takes no more addresses; those added until then stay.
    pub fn replace(&mut self, wanted: &BTreeSet<Mac>) -> io::Result<()> {
        for mac in wanted.difference(&self.addresses.clone()) {
            self.change(libc::PACKET_ADD_MEMBERSHIP, *mac)?;
            self.addresses.insert(*mac);
        }
        for mac in self.addresses.clone().difference(wanted) {
            self.change(libc::PACKET_DROP_MEMBERSHIP, *mac)?;
            self.addresses.remove(mac);
        }
        Ok(())
    }

    /// Listens to neighbour solicitations for exactly these addresses from now on.
    ///
    /// # Errors
    /// When the interface is gone or takes no more groups; those added until then stay.
    pub fn replace_solicited(&mut self, owned: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        let wanted: BTreeSet<Ipv6Addr> = owned.iter().map(solicited_node).collect();
        let interface = self.socket.interface();
        for group in wanted.difference(&self.solicited.clone()) {
            self.change(libc::PACKET_ADD_MEMBERSHIP, group_mac(group))?;
            // An interface without IPv6 cannot join, and then nobody snoops on its groups either.
            let _ = self.groups.as_ref().map(|socket| socket.join_multicast_v6(group, interface));
            self.solicited.insert(*group);
        }
        for group in self.solicited.clone().difference(&wanted) {
            self.change(libc::PACKET_DROP_MEMBERSHIP, group_mac(group))?;
            let _ = self.groups.as_ref().map(|socket| socket.leave_multicast_v6(group, interface));
            self.solicited.remove(group);
        }
        Ok(())
    }

    fn change(&self, option: i32, mac: Mac) -> io::Result<()> {
        let kind = if mac[0] & 1 == 1 { libc::PACKET_MR_MULTICAST as u16 } else { UNICAST };
        let mut address = [0; 8];
        address[..6].copy_from_slice(&mac);
        self.socket.set(
            option,
            &libc::packet_mreq {
                mr_ifindex: self.socket.interface().cast_signed(),
                mr_type: kind,
                mr_alen: 6,
                mr_address: address,
            },
        )
    }
}

/// The group that solicitations for an address are sent to (RFC 4291, 2.7.1).
fn solicited_node(address: &Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 group (RFC 2464, section 7).
fn group_mac(group: &Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netns::Host;

    #[test]
    fn the_interface_listens_to_what_was_asked_until_the_end() {
        let host = Host::new();
        host.join("one", &host, "two");
        host.sh("sysctl -qw net.ipv6.conf.one.disable_ipv6=0");
        let index = host.index("one");
        let mac = [0, 0, 0x5e, 0, 1, 7];
        let vip: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        let mut memberships = host.run(move || {
            let mut memberships = Memberships::open(index).unwrap();
            memberships.replace(&[mac, [1, 0, 0x5e, 0, 0, 18]].into()).unwrap();
            memberships.replace_solicited(&[vip].into()).unwrap();
            memberships
        });
        let groups = host.sh("ip maddress show dev one");
        for expected in ["01:00:5e:00:00:12", "33:33:ff:12:34:56", "ff02::1:ff12:3456"] {
            assert!(groups.contains(expected), "{expected} in {groups}");
        }
        // veth cannot filter unicast addresses, so the kernel makes it take everything.
        let promiscuous = || host.sh("ip -d link show dev one").contains("promiscuity 1");
        assert!(promiscuous());
        memberships.replace(&[mac].into()).unwrap();
        memberships.replace_solicited(&BTreeSet::new()).unwrap();
        let groups = host.sh("ip maddress show dev one");
        for gone in ["01:00:5e:00:00:12", "33:33:ff:12:34:56", "ff02::1:ff12:3456"] {
            assert!(!groups.contains(gone), "{gone} in {groups}");
        }
        drop(memberships);
        assert!(!promiscuous());
    }
}
