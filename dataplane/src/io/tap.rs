//! A link to the host's own stack: a TAP device whose other end is the dataplane. Clients and real
//! servers on the director itself are reached by it.
//!
//! The device has virtio-net headers, so super-frames and partial checksums pass as on an interface,
//! and one queue for each worker. It vanishes with the process.
#![allow(unsafe_code)]

use super::ring::vnet;
use super::{Port, Receive, Sent, Transmit, Unreachable, link, offload};
use crate::frame::{BATCH, Batch, Frame, HEADROOM};
use crate::io::memory::MAX_FRAME;
use crate::table::{Mac, PortId};
use nix::net::if_::if_nametoindex;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// One buffer: headroom, the header that the kernel writes first, and the largest frame.
const BUFFER: usize = HEADROOM + vnet::LENGTH + MAX_FRAME;

/// Where a frame starts in its buffer.
const START: usize = HEADROOM + vnet::LENGTH;

// Offloads that the reader of a TAP device takes, include/uapi/linux/if_tun.h.
const CHECKSUM: libc::c_ulong = 0x01;
const TCP_SEGMENTATION: libc::c_ulong = 0x02 | 0x04 | 0x08;
const UDP_SEGMENTATION: libc::c_ulong = 0x20 | 0x40;

/// A new device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// The kernel's interface index.
    pub index: u32,
    /// The host's Ethernet address on it.
    pub mac: Mac,
}

/// Makes a device and returns it with one port for each worker. It is down and has no address.
///
/// [`Port::host`] refuses everything: what goes to the host here goes out of [`Port::transmit`].
///
/// # Errors
/// Without `CAP_NET_ADMIN`, or when a device of this name exists.
pub fn open(name: &str, id: PortId, workers: usize) -> io::Result<(Tap, Vec<Port>)> {
    let mut ports = Vec::with_capacity(workers);
    for number in 0..workers.max(1) {
        let queue = Arc::new(queue(name, number == 0)?);
        ports.push(Port {
            receive: Box::new(TapReceive {
                queue: Arc::clone(&queue),
                buffers: vec![0; BATCH * BUFFER],
                id,
                missed: 0,
            }),
            transmit: Box::new(TapTransmit { queue }),
            host: Box::new(Unreachable),
            withheld: false,
        });
    }
    let index = if_nametoindex(name)?;
    Ok((Tap { name: name.to_owned(), index, mac: link::mac(name)? }, ports))
}

/// Opens one queue of the device, the first of which makes it: another process's is never joined.
fn queue(name: &str, first: bool) -> io::Result<File> {
    let queue = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut request = link::request(name)?;
    let exclusive = if first { libc::IFF_TUN_EXCL } else { 0 };
    let kind = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let flags = kind | exclusive;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    if unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let set = |offloads: libc::c_ulong| {
        // SAFETY: TUNSETOFFLOAD takes a number, no pointer.
        unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) == 0 }
    };
    // UDP segmentation is known since Linux 6.2.
    let all = CHECKSUM | TCP_SEGMENTATION;
    if !set(all | UDP_SEGMENTATION) && !set(all) {
        return Err(io::Error::last_os_error());
    }
    Ok(queue)
}

struct TapReceive {
    queue: Arc<File>,
    buffers: Vec<u8>,
    id: PortId,
    missed: u64,
}

impl Receive for TapReceive {
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        for buffer in self.buffers.chunks_exact_mut(BUFFER) {
            let count = match self.queue.as_ref().read(&mut buffer[HEADROOM..]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let header = buffer[HEADROOM..START].first_chunk().and_then(vnet::decode);
            let Some(offload) = header.filter(|_| count > vnet::LENGTH) else {
                self.missed += 1;
                continue;
            };
            let mut frame = Frame::new(buffer, START, HEADROOM + count, self.id);
            frame.offload = offload;
            batch.push(frame);
        }
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    fn asks_kernel(&self) -> bool {
        true
    }

    fn missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

struct TapTransmit {
    queue: Arc<File>,
}

impl Transmit for TapTransmit {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        let mut sent = Sent::default();
        for (index, frame) in frames.iter_mut().enumerate().take(BATCH) {
            let bit = 1u64 << index;
            if selected & bit == 0 {
                continue;
            }
            offload::finish_sctp(frame);
            let header = vnet::encode(&frame.offload);
            if frame.push_front(header.len()).is_none() {
                sent.refused |= bit;
                continue;
            }
            let bytes = frame.bytes_mut();
            bytes[..header.len()].copy_from_slice(&header);
            match self.queue.as_ref().write(bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sent.full |= bit,
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return Err(error),
                // Down, or a frame that makes no sense to the kernel.
                Err(_) => sent.refused |= bit,
            }
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netns::Host;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// Answers every ARP request: whatever the host looks for on the device is at this MAC.
    fn proxy_arp(frame: &mut Frame<'_>) -> bool {
        let bytes = frame.bytes_mut();
        if bytes[12..14] != [8, 6] || bytes[21] != 1 {
            return false;
        }
        let (asker, asked): ([u8; 10], [u8; 4]) =
            (bytes[22..32].try_into().unwrap(), bytes[38..42].try_into().unwrap());
        bytes[..6].copy_from_slice(&asker[..6]);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        bytes[21] = 2;
        bytes[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        bytes[28..32].copy_from_slice(&asked);
        bytes[32..42].copy_from_slice(&asker);
        true
    }

    /// A wire between two devices: each frame of one comes out of the other.
    fn cross(from: &mut Port, to: &mut dyn Transmit) -> usize {
        let mut batch = Batch::new();
        from.receive.receive(&mut batch).unwrap();
        let mut answers = 0u64;
        for (index, frame) in batch.iter_mut().enumerate() {
            if proxy_arp(frame) {
                answers |= 1 << index;
            } else {
                // The far host must take it as its own.
                frame.bytes_mut()[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
            }
        }
        let all = if batch.is_empty() { 0 } else { u64::MAX >> (64 - batch.len()) };
        assert_eq!(from.transmit.send(&mut batch, answers).unwrap(), Sent::default());
        assert_eq!(to.send(&mut batch, all & !answers).unwrap(), Sent::default());
        batch.len()
    }

    #[test]
    fn two_hosts_talk_tcp_through_their_devices() {
        let (left, right) = (Host::new(), Host::new());
        let make = |host: &Host, address: &str| {
            let (tap, mut ports) = host.run(|| open("viaduct0", PortId(1), 1).unwrap());
            assert_eq!(tap.index, host.index("viaduct0"));
            host.ip("link set dev viaduct0 address 02:00:00:00:00:77 up");
            host.ip(&format!("addr add {address}/24 dev viaduct0"));
            ports.remove(0)
        };
        let (mut a, mut b) = (make(&left, "10.8.0.1"), make(&right, "10.8.0.2"));
        let listener = right.run(|| TcpListener::bind("10.8.0.2:80").unwrap());
        #[allow(clippy::disallowed_methods)]
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got
        });
        #[allow(clippy::disallowed_methods)]
        let client = std::thread::spawn(move || {
            left.run(|| {
                let to = "10.8.0.2:80".parse().unwrap();
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
                stream.write_all(&vec![42; 5_000_000]).unwrap();
            });
            left
        });
        let mut frames = 0;
        while !server.is_finished() {
            let mut polled = [&a, &b]
                .map(|port| PollFd::new(port.receive.descriptor().unwrap(), PollFlags::POLLIN));
            poll(&mut polled, PollTimeout::from(10u16)).unwrap();
            frames += cross(&mut a, b.transmit.as_mut());
            frames += cross(&mut b, a.transmit.as_mut());
        }
        assert_eq!(server.join().unwrap().len(), 5_000_000);
        assert!(frames < 3000, "{frames} frames: segmentation is offloaded");
        drop(client.join().unwrap());
    }

    #[test]
    fn a_device_that_somebody_has_is_not_joined() {
        let host = Host::new();
        host.run(|| {
            let (_tap, _ports) = open("tap0", PortId(0), 2).unwrap();
            let error = open("tap0", PortId(0), 2).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        });
    }

    #[test]
    fn the_device_vanishes_with_its_ports() {
        let host = Host::new();
        let opened = host.run(|| open("viaduct0", PortId(1), 2).unwrap());
        host.sh("test -e /proc/self/net/dev && grep -q viaduct0 /proc/self/net/dev");
        drop(opened);
        // A child that another test is starting may hold the device until it has begun.
        host.sh("for look in $(seq 500); do grep -q viaduct0 /proc/self/net/dev || exit 0; sleep 0.02; done; exit 1");
    }
}
