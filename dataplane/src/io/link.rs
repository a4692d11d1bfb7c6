//! What the kernel knows about an interface, asked by name in the current network namespace.
#![allow(unsafe_code)]

use crate::table::Mac;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// include/uapi/linux/sockios.h and ethtool.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Largest IP packet, in bytes.
///
/// # Errors
/// When there is no such interface.
pub fn mtu(interface: &str) -> io::Result<usize> {
    let answer = ask(interface, libc::SIOCGIFMTU)?;
    // SAFETY: SIOCGIFMTU fills in this field.
    let mtu = unsafe { answer.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether an interface is switched on.
///
/// # Errors
/// When there is no such interface.
pub fn is_up(interface: &str) -> io::Result<bool> {
    let answer = ask(interface, libc::SIOCGIFFLAGS)?;
    // SAFETY: SIOCGIFFLAGS fills in this field.
    let flags = unsafe { answer.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
}

/// Ethernet address.
///
/// # Errors
/// When there is no such interface, or it is not Ethernet.
pub fn mac(interface: &str) -> io::Result<Mac> {
    let answer = ask(interface, libc::SIOCGIFHWADDR)?;
    // SAFETY: SIOCGIFHWADDR fills in this field.
    let address = unsafe { answer.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not an Ethernet interface"));
    }
    let mut mac = [0; 6];
    for (byte, from) in mac.iter_mut().zip(address.sa_data) {
        *byte = from.cast_unsigned();
    }
    Ok(mac)
}

/// How many receive queues an interface has; 1 when its driver does not say.
pub fn receive_queues(interface: &str) -> u32 {
    // struct ethtool_channels: command, four maxima, then receive, transmit, other, combined.
    let mut channels = [0u32; 9];
    channels[0] = ETHTOOL_GCHANNELS;
    if ask_driver(interface, &mut channels).is_err() {
        return 1;
    }
    channels[5].saturating_add(channels[8]).clamp(1, 4096)
}

/// Whether an interface is made of software, or of a hypervisor that hands over frames as guests
/// leave them: checksums may be unfinished then. When in doubt, yes.
pub fn is_virtual(interface: &str) -> bool {
    let Some(Driver { name, bus }) = driver(interface) else { return true };
    let hypervisor = ["virtio_net", "vif", "vmxnet3", "hv_netvsc"];
    bus.is_empty() || bus == "N/A" || bus == "tap" || hypervisor.contains(&name.as_str())
}

/// Whether an interface is several others, whose frames keep the names of those.
pub fn is_aggregate(interface: &str) -> bool {
    driver(interface).is_some_and(|driver| ["bonding", "team"].contains(&driver.name.as_str()))
}

/// The interfaces that VLAN interfaces stand on, in the calling thread's network namespace.
pub fn vlan_carriers() -> BTreeSet<String> {
    // There is no such file where there is no VLAN.
    carriers_in(&std::fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default())
}

/// Lines of the kernel's list say `name | number | carrier`, after two lines of headings.
fn carriers_in(list: &str) -> BTreeSet<String> {
    let carrier = |line: &str| line.split('|').nth(2).map(|name| name.trim().to_owned());
    list.lines().filter_map(carrier).collect()
}

/// What the driver says about itself.
struct Driver {
    name: String,
    bus: String,
}

fn driver(interface: &str) -> Option<Driver> {
    // struct ethtool_drvinfo: command, five names of 32 bytes (driver, version, firmware, bus,
    // expansion ROM), 12 reserved bytes, five counts.
    let mut info = [0u32; 49];
    info[0] = ETHTOOL_GDRVINFO;
    ask_driver(interface, &mut info).ok()?;
    let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = |at: usize| {
        let name = bytes[at..at + 32].split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    };
    Some(Driver { name: text(4), bus: text(100) })
}

fn ask_driver(interface: &str, question: &mut [u32]) -> io::Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_data = question.as_mut_ptr().cast();
    let socket = socket()?;
    // SAFETY: the ioctl reads the request and fills in the structure that it points to, whose size
    // follows from its command; both outlive the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A request about an interface, to be filled in.
///
/// # Errors
/// When no interface can have this name.
pub fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an ifreq of zeros is valid; its name stays terminated, as the last byte is not written.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn ask(interface: &str, what: libc::Ioctl) -> io::Result<libc::ifreq> {
    let mut question = request(interface)?;
    let socket = socket()?;
    // SAFETY: the ioctl reads and writes one ifreq, which outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut question) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(question)
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket() takes no pointers; the descriptor is new and owned by nobody else.
    unsafe {
        let socket = libc::socket(libc::AF_INET, kind, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netns::Host;

    #[test]
    fn carriers_of_vlans_are_read_from_the_kernels_list() {
        let list = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    v7             | 7  | eth0\neth1.9         | 9  | eth1\nv8             | 8  | eth0\n";
        assert_eq!(carriers_in(list), ["eth0", "eth1"].map(String::from).into());
        assert_eq!(carriers_in(""), BTreeSet::new());
    }

    #[test]
    fn mtu_and_mac_are_those_that_were_set() {
        let host = Host::new();
        host.join("one", &host, "two");
        host.ip("link set dev one mtu 1400 address 02:00:00:00:00:51");
        host.run(|| {
            assert_eq!(mtu("one").unwrap(), 1400);
            assert_eq!(mac("one").unwrap(), [2, 0, 0, 0, 0, 0x51]);
            assert_eq!(receive_queues("one"), 1);
            assert!(is_virtual("one"));
            assert!(is_up("one").unwrap());
            assert!(mtu("none").is_err());
            assert!(mac("a name that is much too long").is_err());
            assert!(mac("lo").is_err());
        });
        host.ip("link set dev one down");
        host.run(|| assert!(!is_up("one").unwrap()));
    }
}
