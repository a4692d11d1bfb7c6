//! pnet's datalink channel: the portable last resort.
//!
//! It is weaker than the other backends, by what the channel is:
//!
//! - Each frame costs at least one system call and one copy.
//! - One worker receives, because the channel cannot share the flows of an interface (no fanout). The
//!   other workers only send.
//! - It carries nothing but the frame's bytes. What the sender left to a network card, checksums and
//!   segments, has to be guessed on the way in and done in software on the way out. TCP works with
//!   default offloads all the same; UDP super-frames are lost.
//! - VLAN tags that the kernel took out of frames are lost.
//! - An empty socket, an interface that is down and one that is gone are the same error to it, so the
//!   socket is asked for the reason now and then.

use super::memory::MAX_FRAME;
use super::offload::{Workshop, recognise};
use super::ring::{HostTransmit, LinkState, PacketSocket};
use super::steer::Steering;
use super::{Port, Receive, Sent, Transmit, Unreachable};
use crate::frame::{BATCH, Batch, Frame, HEADROOM};
use crate::table::PortId;
use pnet::datalink::{self, Channel, ChannelType, Config, DataLinkReceiver, DataLinkSender};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

/// Every how many empty turns the socket is asked for errors.
const CHECK_EVERY: u32 = 16;

/// Opens one interface for `workers` workers. Only the first one receives, as pnet's channel has no way
/// to share the flows of an interface; all of them send. `mtu` is that of the interface, in bytes.
///
/// # Errors
/// Without `CAP_NET_RAW`, or when the interface is gone.
pub fn open(
    interface: &str,
    index: u32,
    port: PortId,
    mtu: usize,
    workers: usize,
    steering: Option<&Steering>,
) -> io::Result<Vec<Port>> {
    let host = || -> io::Result<Box<dyn Transmit>> {
        Ok(match steering {
            Some(_) => Box::new(HostTransmit::open(index)?),
            None => Box::new(Unreachable),
        })
    };
    let mut ports = Vec::with_capacity(workers);
    for worker in 0..workers {
        let socket = PacketSocket::plain(index)?;
        let receives = worker == 0;
        if receives {
            socket.enlarge_receive_memory()?;
            socket.set(libc::PACKET_IGNORE_OUTGOING, &1)?;
        }
        match steering {
            _ if !receives => socket.hold(true)?,
            Some(steering) => steering.filter(socket.as_fd()).map_err(io::Error::other)?,
            None => {}
        }
        let (sender, receiver) = channel(interface, &socket)?;
        let transmit = Box::new(ChannelTransmit { sender, workshop: Workshop::default() });
        let receive: Box<dyn Receive> = if receives {
            Box::new(ChannelReceive {
                socket,
                receiver,
                buffers: vec![0; BATCH * (HEADROOM + MAX_FRAME)],
                port,
                mtu,
                missed: 0,
                empty_turns: 0,
            })
        } else {
            Box::new(Deaf)
        };
        ports.push(Port { receive, transmit, host: host()?, withheld: false });
    }
    Ok(ports)
}

/// A channel on this socket.
fn channel(
    interface: &str,
    socket: &PacketSocket,
) -> io::Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let found = datalink::interfaces().into_iter().find(|known| known.name == interface);
    let found = found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    // pnet closes the descriptor that it is given; ours is for waiting and asking.
    let theirs = socket.as_fd().try_clone_to_owned()?;
    let config = Config {
        write_buffer_size: MAX_FRAME,
        read_buffer_size: MAX_FRAME + 1,
        read_timeout: Some(Duration::ZERO),
        write_timeout: Some(Duration::ZERO),
        channel_type: ChannelType::Layer2,
        promiscuous: false,
        socket_fd: Some(theirs.into_raw_fd()),
        ..Config::default()
    };
    let Channel::Ethernet(sender, receiver) = datalink::channel(&found, config)? else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    Ok((sender, receiver))
}

/// The receiving half of a worker that only sends.
struct Deaf;

impl Receive for Deaf {
    fn receive<'r>(&'r mut self, _batch: &mut Batch<'r>) -> io::Result<()> {
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct ChannelReceive {
    socket: PacketSocket,
    receiver: Box<dyn DataLinkReceiver>,
    buffers: Vec<u8>,
    port: PortId,
    mtu: usize,
    missed: u64,
    empty_turns: u32,
}

impl Receive for ChannelReceive {
    fn receive<'r>(&'r mut self, batch: &mut Batch<'r>) -> io::Result<()> {
        for buffer in self.buffers.chunks_exact_mut(HEADROOM + MAX_FRAME) {
            // Nothing waiting is an error to pnet, and so is an interface that is down.
            let Ok(bytes) = self.receiver.next() else { break };
            if bytes.len() > MAX_FRAME {
                self.missed += 1;
                continue;
            }
            let end = HEADROOM + bytes.len();
            buffer[HEADROOM..end].copy_from_slice(bytes);
            let mut frame = Frame::new(buffer, HEADROOM, end, self.port);
            recognise(&mut frame, self.mtu);
            batch.push(frame);
        }
        if !batch.is_empty() {
            return Ok(());
        }
        self.empty_turns = self.empty_turns.wrapping_add(1);
        if self.empty_turns % CHECK_EVERY == 1 && self.socket.link_state() == LinkState::Gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn asks_kernel(&self) -> bool {
        true
    }

    fn missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed) + self.socket.dropped().unwrap_or(0)
    }
}

struct ChannelTransmit {
    sender: Box<dyn DataLinkSender>,
    workshop: Workshop,
}

impl Transmit for ChannelTransmit {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        let mut sent = Sent::default();
        let mut gone = None;
        for (index, frame) in frames.iter_mut().enumerate().take(BATCH) {
            let bit = 1u64 << index;
            if selected & bit == 0 {
                continue;
            }
            let sender = &mut self.sender;
            let understood = self.workshop.finished(frame, |bytes| {
                let Some(Err(error)) = sender.send_to(bytes, None) else { return };
                match (error.kind(), error.raw_os_error()) {
                    (io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock, _)
                    | (_, Some(libc::ENOBUFS)) => sent.full |= bit,
                    (_, Some(libc::ENXIO | libc::ENODEV)) => gone = Some(error),
                    _ => sent.refused |= bit,
                }
            });
            if !understood {
                sent.refused |= bit;
            }
        }
        match gone {
            Some(error) => Err(error),
            None => Ok(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netns::Host;
    use crate::io::ring::RingTransmit;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn frame_of(length: usize) -> Vec<u8> {
        let mut bytes = vec![length as u8; length];
        bytes[..6].fill(0xff);
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        bytes
    }

    fn send(transmit: &mut dyn Transmit, bytes: &[u8]) -> Sent {
        let mut buffer = [&[0; HEADROOM], bytes].concat();
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, HEADROOM, end, PortId(0))];
        transmit.send(&mut frames, 1).unwrap()
    }

    fn received(port: &mut Port) -> Vec<Vec<u8>> {
        let descriptor = port.receive.descriptor().unwrap();
        let timeout = PollTimeout::from(1000u16);
        poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout).unwrap();
        let mut batch = Batch::new();
        port.receive.receive(&mut batch).unwrap();
        batch.iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    #[test]
    fn every_worker_sends_and_the_first_one_receives() {
        let host = Host::new();
        host.join("one", &host, "two");
        let (one, two) = (host.index("one"), host.index("two"));
        let (mut senders, mut others) = host.run(move || {
            let open = |name, index| open(name, index, PortId(1), 1500, 3, None).unwrap();
            (open("one", one), open("two", two))
        });
        for sender in &mut senders {
            assert_eq!(send(sender.transmit.as_mut(), &frame_of(100)), Sent::default());
            assert_eq!(received(&mut others[0]), [frame_of(100)]);
        }
        for deaf in &mut others[1..] {
            let mut batch = Batch::new();
            deaf.receive.receive(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
    }

    #[test]
    fn frames_come_and_go() {
        let host = Host::new();
        host.join("one", &host, "two");
        let (one, two) = (host.index("one"), host.index("two"));
        let (mut a, mut b, mut raw) = host.run(move || {
            let open = |name, index| {
                let ports = open(name, index, PortId(1), 1500, 1, None);
                ports.unwrap().remove(0)
            };
            (open("one", one), open("two", two), RingTransmit::open(one).unwrap())
        });
        for length in [60, 61, 1000, 1514] {
            assert_eq!(send(a.transmit.as_mut(), &frame_of(length)), Sent::default());
            assert_eq!(received(&mut b), [frame_of(length)]);
        }
        let sent = send(a.transmit.as_mut(), &frame_of(1600));
        assert_eq!(sent, Sent { refused: 1, ..Sent::default() });
        assert_eq!(received(&mut a), [[0u8; 0]; 0], "what was sent is not received again");
        host.ip("link del dev one");
        assert!((0..40).any(|_| a.receive.receive(&mut Batch::new()).is_err()));
        assert!(raw.send(&mut [Frame::new(&mut [0; 200], 100, 160, PortId(0))], 1).is_err());
    }
}
