//! Sending: one `sendmmsg` for all frames of a turn, each behind its virtio-net header.

use super::socket::PacketSocket;
use super::vnet;
use crate::frame::{BATCH, Frame};
use crate::io::steer::{self, REINJECTED};
use crate::io::{Sent, Transmit, offload};
use arrayvec::ArrayVec;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The sending half of an interface.
#[derive(Debug)]
pub struct RingTransmit {
    socket: PacketSocket,
}

impl RingTransmit {
    /// A socket of its own, so that sending does not wait for receiving. Frames pass the interface's
    /// queueing discipline and are seen by captures on this host.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such interface.
    pub fn open(interface: u32) -> io::Result<Self> {
        let socket = PacketSocket::open(interface)?;
        socket.enlarge_send_memory()?;
        Ok(Self { socket })
    }
}

/// The way into the host's stack: sends out of the interface with a mark, at which the steering
/// program turns the frame round, so that it comes in by the interface. Needs a guarded interface;
/// without a guard the frames would really leave.
#[derive(Debug)]
pub struct HostTransmit(RingTransmit);

impl HostTransmit {
    /// Opens it for one interface.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or when there is no such interface.
    pub fn open(interface: u32) -> io::Result<Self> {
        let transmit = RingTransmit::open(interface)?;
        transmit.socket.set_at(libc::SOL_SOCKET, libc::SO_MARK, &REINJECTED)?;
        Ok(Self(transmit))
    }
}

impl Transmit for HostTransmit {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        let mut missing = selected;
        for (index, frame) in frames.iter().enumerate().take(BATCH) {
            if steer::is_copy(frame.bytes()) {
                missing &= !(1 << index);
            }
        }
        self.0.send(frames, missing)
    }
}

/// The frames to send and where they stand in the caller's list.
#[derive(Default)]
struct Messages {
    parts: ArrayVec<libc::iovec, BATCH>,
    bits: ArrayVec<u64, BATCH>,
}

impl Transmit for RingTransmit {
    fn send(&mut self, frames: &mut [Frame<'_>], selected: u64) -> io::Result<Sent> {
        let mut sent = Sent::default();
        let mut messages = Messages::default();
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
            messages
                .parts
                .push(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
            messages.bits.push(bit);
        }
        self.send_all(&mut messages, &mut sent)?;
        Ok(sent)
    }
}

impl RingTransmit {
    /// A frame alone goes by the call that has the least to look at.
    fn send_one(&self, bit: u64, part: &libc::iovec, sent: &mut Sent) -> io::Result<()> {
        loop {
            // SAFETY: the part is a frame of the caller, which outlives the call; it only reads.
            let count = unsafe {
                let socket = self.socket.as_fd().as_raw_fd();
                libc::send(socket, part.iov_base, part.iov_len, libc::MSG_DONTWAIT)
            };
            if count >= 0 || !refuse(bit, sent)? {
                return Ok(());
            }
        }
    }

    /// The kernel stops at the first frame that it does not take; that one is counted and the rest
    /// is tried again.
    fn send_all(&self, messages: &mut Messages, sent: &mut Sent) -> io::Result<()> {
        if let ([bit], [part]) = (&messages.bits[..], &messages.parts[..]) {
            return self.send_one(*bit, part, sent);
        }
        let mut headers: ArrayVec<libc::mmsghdr, BATCH> = messages
            .parts
            .iter_mut()
            .map(|part| libc::mmsghdr { msg_hdr: message(part), msg_len: 0 })
            .collect();
        let mut done = 0;
        while done < headers.len() {
            let rest = &mut headers[done..];
            // SAFETY: `rest` holds valid messages, whose parts point into the caller's frames; all of
            // them outlive the call, which only reads the bytes.
            let count = unsafe {
                libc::sendmmsg(
                    self.socket.as_fd().as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                done += count;
                continue;
            }
            if refuse(messages.bits[done], sent)? {
                continue;
            }
            done += 1;
        }
        Ok(())
    }
}

/// Notes why the kernel did not take a frame, by the error just met. True when it is to be tried again.
fn refuse(bit: u64, sent: &mut Sent) -> io::Result<bool> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR) => return Ok(true),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => sent.full |= bit,
        Some(libc::ENXIO | libc::ENODEV) => return Err(error),
        _ => sent.refused |= bit,
    }
    Ok(false)
}

fn message(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: a msghdr of zeros is valid: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}
