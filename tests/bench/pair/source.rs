//! A paced source of TCP connections that consist of the client's packets alone: with direct routing
//! that is all the director sees.

use anyhow::{Result, anyhow};
use harness::craft;
use harness::{Host, wait};
use nix::sys::socket::{LinkAddr, MsgFlags, bind, send};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The master's MAC outside (RFC 9568 section 7.3; the pair's virtual router is 51).
const MASTER: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
/// Client addresses, from 198.18.0.0 on (RFC 2544).
const CLIENTS: u32 = 100_000;
/// Between two portions.
const TICK: Duration = Duration::from_millis(2);
/// Flags of a TCP header.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

/// A running source.
pub struct Source {
    stop: Arc<AtomicBool>,
    /// Connections opened, or packets sent for known ones.
    done: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Source {
    /// Opens `rate` connections a second, from number `first` on. With `closing` each ends a second
    /// later.
    pub fn connections(host: &Host, first: u32, rate: u32, closing: bool) -> Result<Self> {
        Self::start(host, rate, move |socket, number| {
            let number = first + number;
            packet(socket, number, SYN, 9000)?;
            packet(socket, number, ACK, 9000)?;
            match number.checked_sub(first + rate) {
                Some(old) if closing => packet(socket, old, ACK | FIN, 9000),
                Some(_) | None => Ok(()),
            }
        })
    }

    /// Sends `rate` packets a second of connections that were opened before.
    pub fn known(host: &Host, rate: u32) -> Result<Self> {
        Self::start(host, rate, |socket, number| packet(socket, number, ACK, 9000))
    }

    /// Datagrams of 256 flows, as fast as they go.
    pub fn flood(host: &Host) -> Result<Self> {
        let frames: Vec<Vec<u8>> = (0..256).map(datagram).collect::<Result<_>>()?;
        Self::start(host, u32::MAX, move |socket, number| {
            // A full queue is what a flood meets.
            let _ = send(socket.as_raw_fd(), &frames[number as usize % 256], MsgFlags::empty());
            Ok(())
        })
    }

    fn start(
        host: &Host,
        rate: u32,
        each: impl Fn(&Socket, u32) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = host.thread("source", move || {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            bind(socket.as_raw_fd(), &outside()?)?;
            let portion = if rate == u32::MAX { 1000 } else { rate / 500 };
            let (mut number, mut due) = (0, wait::clock());
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..portion {
                    each(&socket, number)?;
                    number = number.wrapping_add(1);
                }
                counted.store(number.into(), Ordering::Relaxed);
                if rate != u32::MAX {
                    due += TICK;
                    wait::pause(due.saturating_duration_since(wait::clock()));
                }
            }
            Ok(())
        })?;
        Ok(Self { stop, done, thread })
    }

    /// Stops it once so many are done.
    pub fn finish_after(self, count: u64) -> Result<()> {
        while self.done() < count && !self.thread.is_finished() {
            wait::pause(TICK);
        }
        self.stop().map(drop)
    }

    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops it; how many are done.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the source panicked"))??;
        Ok(self.done.load(Ordering::Relaxed))
    }
}

fn outside() -> Result<LinkAddr> {
    let mut all = nix::ifaddrs::getifaddrs()?.filter(|entry| entry.interface_name == "eth0");
    let link = all.find_map(|entry| entry.address?.as_link_addr().copied());
    link.ok_or_else(|| anyhow!("no eth0"))
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&MASTER[..], &[2, 0, 0, 0, 0, 1], &[8, 0], packet].concat()
}

fn datagram(number: u16) -> Result<Vec<u8>> {
    let from = SocketAddr::from(([192, 0, 2, 100], 10_000 + number));
    Ok(framed(&craft::udp(from, SocketAddr::from(([192, 0, 2, 10], 9001)), &[0; 18])?))
}

/// One segment of connection `number`. The link and the director have their queues; what they have no
/// room for is lost, and shows in what arrives.
fn packet(socket: &Socket, number: u32, flags: u8, port: u16) -> Result<()> {
    let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number % CLIENTS);
    let from = SocketAddr::from((client, 1024 + (number / CLIENTS) as u16));
    let mut segment = craft::tcp_syn(from, SocketAddr::from(([192, 0, 2, 10], port)), 1)?;
    // The checksum follows from that of the SYN (RFC 1624).
    let sum = u16::from_be_bytes([segment[36], segment[37]]);
    let total = u32::from(!sum) + u32::from(!u16::from(SYN)) + u32::from(flags);
    let folded = (total & 0xffff) + (total >> 16);
    let sum = !((folded & 0xffff) + (folded >> 16)) as u16;
    segment[33] = flags;
    segment[36..38].copy_from_slice(&sum.to_be_bytes());
    let _ = send(socket.as_raw_fd(), &framed(&segment), MsgFlags::empty());
    Ok(())
}
