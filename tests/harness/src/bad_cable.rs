//! A cable that loses, repeats and delays frames: what netem(8) does where the kernel has it.
//!
//! A host in the middle of two networks copies frames from one to the other. Each frame's fate is
//! drawn from a seeded generator, so two runs with the same frames meet the same faults.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{LinkAddr, MsgFlags, bind, recvfrom, send};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::lab::{Lab, Network};
use crate::wait;

/// Every protocol (`ETH_P_ALL` of packet(7)), in network order.
const EVERYTHING: i32 = 0x0003_u16.to_be() as i32;
/// Frames that this host sent itself (`PACKET_OUTGOING` of packet(7)).
const OUTGOING: u8 = 4;
/// How often a waiting cable looks whether it shall end.
const POLL: Duration = Duration::from_millis(50);

/// What becomes of frames, each in parts of a thousand. The default is a good cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaws {
    /// Never arrive.
    pub lost: u64,
    /// Arrive twice.
    pub doubled: u64,
    /// Are held back, for up to `delay`, while later ones pass.
    pub overtaken: u64,
    /// The longest that a frame is held back.
    pub delay: Duration,
}

/// Frames by their fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fates {
    /// All that came in.
    pub frames: u64,
    /// Of these, never sent on.
    pub lost: u64,
    /// Sent on twice.
    pub doubled: u64,
    /// Held back.
    pub overtaken: u64,
}

/// A running cable; ends on drop, and carries nothing from then on.
#[derive(Debug)]
pub struct BadCable {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    flaws: Mutex<Flaws>,
    frames: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    overtaken: AtomicU64,
}

impl BadCable {
    /// Joins two networks by a cable, good until [`BadCable::set`] says otherwise. Whoever sends over
    /// it needs [`Host::send_plain_frames`].
    ///
    /// # Errors
    /// When the host in the middle, called `name`, cannot be made.
    pub fn between(lab: &Lab, name: &str, ends: [&Network; 2], seed: u64) -> Result<Self> {
        let host = lab.host(name)?;
        let [left, right] = ends;
        let names = [host.attach(left, &[])?.name, host.attach(right, &[])?.name];
        for name in &names {
            // The host in the middle has nothing to say itself.
            host.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), "1")?;
        }
        let sockets =
            host.enter(|| names.iter().map(|name| open(name)).collect::<Result<_>>())??;
        let shared = Arc::new(Shared::default());
        let relay = Relay {
            sockets,
            shared: Arc::clone(&shared),
            random: Random(seed),
            held: BinaryHeap::new(),
            count: 0,
        };
        let thread = host.thread("cable", move || relay.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What becomes of frames from now on.
    pub fn set(&self, flaws: Flaws) {
        *self.shared.flaws.lock().unwrap_or_else(PoisonError::into_inner) = flaws;
    }

    /// What became of frames so far, in both directions.
    pub fn fates(&self) -> Fates {
        let Shared { frames, lost, doubled, overtaken, .. } = &*self.shared;
        let [frames, lost, doubled, overtaken] =
            [frames, lost, doubled, overtaken].map(|counter| counter.load(Ordering::Relaxed));
        Fates { frames, lost, doubled, overtaken }
    }
}

impl Drop for BadCable {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("bad cable: {error:#}");
        }
    }
}

impl Host {
    /// Leaves nothing of a frame to the network card: a frame that a program reads on the way is then
    /// no larger than the MTU, and its checksums are right.
    ///
    /// # Errors
    /// When ethtool is not installed or the kernel refuses.
    pub fn send_plain_frames(&self, interface: &str) -> Result<()> {
        let offloads = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        self.run_ok(&[&["ethtool", "-K", interface], &offloads[..]].concat()).map(drop)
    }
}

/// A socket that sees all frames of an interface.
fn open(interface: &str) -> Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERYTHING)))?;
    socket.set_nonblocking(true)?;
    // Room for a burst; the kernel gives what it allows.
    socket.set_recv_buffer_size(8 << 20)?;
    let mut all = nix::ifaddrs::getifaddrs()?.filter(|entry| entry.interface_name == interface);
    let link = all.find_map(|entry| entry.address?.as_link_addr().copied());
    bind(socket.as_raw_fd(), &link.with_context(|| format!("no interface {interface}"))?)?;
    Ok(socket)
}

/// A frame that waits: when it goes, in which order among equals, where to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

struct Relay {
    sockets: Vec<Socket>,
    shared: Arc<Shared>,
    random: Random,
    held: BinaryHeap<Reverse<Held>>,
    count: u64,
}

impl Relay {
    fn run(mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.wait()?;
            for from in 0..self.sockets.len() {
                while let Some(length) = receive(&self.sockets[from], &mut buffer)? {
                    self.judge(&buffer[..length], 1 - from);
                }
            }
            let now = wait::clock();
            while self.held.peek().is_some_and(|Reverse(first)| first.due <= now) {
                if let Some(Reverse(Held { to, frame, .. })) = self.held.pop() {
                    self.send(&frame, to);
                }
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let due = self.held.peek().map(|Reverse(first)| first.due);
        let until_due = due.map(|due| due.saturating_duration_since(wait::clock()));
        let limit = until_due.unwrap_or(POLL).min(POLL);
        let mut ends: Vec<PollFd<'_>> =
            self.sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
        match ppoll(&mut ends, Some(TimeSpec::from(limit)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn judge(&mut self, frame: &[u8], to: usize) {
        let flaws = *self.shared.flaws.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::clone(&self.shared);
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        count(&shared.frames);
        if self.random.hits(flaws.lost) {
            count(&shared.lost);
            return;
        }
        if self.random.hits(flaws.doubled) {
            count(&shared.doubled);
            self.send(frame, to);
        }
        if self.random.hits(flaws.overtaken) {
            count(&shared.overtaken);
            self.count += 1;
            let most = u64::try_from(flaws.delay.as_micros()).unwrap_or(u64::MAX).max(1);
            let delay = Duration::from_micros(self.random.next() % most);
            let due = wait::clock() + delay;
            let frame = frame.to_vec();
            self.held.push(Reverse(Held { due, number: self.count, to, frame }));
        } else {
            self.send(frame, to);
        }
    }

    /// A frame that the far end has no room for is lost, as on any cable.
    fn send(&self, frame: &[u8], to: usize) {
        if send(self.sockets[to].as_raw_fd(), frame, MsgFlags::empty()).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The next frame that another host sent, if one waits.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<Option<usize>> {
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer) {
            Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
            Ok((length, _)) => return Ok(Some(length)),
            // The kernel says so once when the interface goes down.
            Err(Errno::EAGAIN | Errno::ENETDOWN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// True so many times in a thousand.
    fn hits(&mut self, share: u64) -> bool {
        self.next() % 1000 < share
    }
}
