//! What the kernel knows about an interface, asked by name in the current network namespace.
#![allow(unsafe_code)]

use crate::table::Mac;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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
    // SAFETY: socket() takes no pointers and returns a new descriptor; the ioctl reads and writes
    // one ifreq, which outlives the call.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::ioctl(socket.as_raw_fd(), what, &raw mut question) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netns::Host;

    #[test]
    fn mtu_and_mac_are_those_that_were_set() {
        let host = Host::new();
        host.join("one", &host, "two");
        host.ip("link set dev one mtu 1400 address 02:00:00:00:00:51");
        host.run(|| {
            assert_eq!(mtu("one").unwrap(), 1400);
            assert_eq!(mac("one").unwrap(), [2, 0, 0, 0, 0, 0x51]);
            assert!(mtu("none").is_err());
            assert!(mac("a name that is much too long").is_err());
            assert!(mac("lo").is_err());
        });
    }
}
