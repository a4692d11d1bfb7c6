#![allow(clippy::disallowed_methods)] // Waits for threads.

use super::*;
use crate::frame::Batch;
use crate::io::{Receive, Sent, Transmit, Unreachable, memory};
use crate::packet_path::DropReason;
use crate::packet_path::tests::fixture::{self, INSIDE, OUTSIDE, packet};
use crate::table::{Method, Protocol, Timeouts, Tunables};
use std::os::fd::BorrowedFd;
use std::time::Instant;

fn start() -> (Dataplane, Receiver<Notice>) {
    let capacity = Capacity { connections: 1000, services: 32, reals: 64, workers: 1 };
    let (dataplane, notices) = Dataplane::start(capacity).unwrap();
    dataplane.publish_hops(fixture::hops());
    let services = vec![fixture::service(0, false, Protocol::Udp, Method::Nat)];
    dataplane.publish(fixture::table(services, Timeouts::default(), Tunables::default()).into());
    (dataplane, notices)
}

/// Waits until so many packets have died of a reason.
fn died(dataplane: &Dataplane, reason: DropReason, wanted: u64) {
    let started = Instant::now();
    while dataplane.director().drops(reason) != wanted {
        let drops = dataplane.director().drops(reason);
        assert!(started.elapsed() < Duration::from_secs(20), "{drops} died of {}", reason.label());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A receiver that does nothing but what its function does.
struct Strange<F>(F);

impl<F: FnMut() -> u64 + Send> Receive for Strange<F> {
    fn receive<'r>(&'r mut self, _batch: &mut Batch<'r>) -> io::Result<()> {
        Ok(())
    }

    fn release(&mut self, _kept: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn missed(&mut self) -> u64 {
        (self.0)()
    }
}

struct Gone;

impl Transmit for Gone {
    fn send(&mut self, _frames: &mut [crate::frame::Frame<'_>], _: u64) -> io::Result<Sent> {
        Err(io::Error::from_raw_os_error(libc::ENXIO))
    }
}

fn port(receive: impl Receive + 'static, transmit: impl Transmit + 'static) -> Port {
    Port {
        receive: Box::new(receive),
        transmit: Box::new(transmit),
        host: Box::new(Unreachable),
        withheld: true,
    }
}

#[test]
fn frames_that_the_kernel_lost_are_counted_though_none_arrive() {
    let (dataplane, _notices) = start();
    let mut lost = Some(7);
    let receive = Strange(move || lost.take().unwrap_or(0));
    dataplane.attach(OUTSIDE, vec![port(receive, memory::Sink::default())]);
    died(&dataplane, DropReason::ReceiveQueueFull, 7);
}

#[test]
fn frames_for_an_interface_that_has_gone_are_counted() {
    let (dataplane, _notices) = start();
    let (outside, cable) = memory::port(OUTSIDE, 64).unwrap();
    dataplane.attach(OUTSIDE, vec![outside]);
    dataplane.attach(INSIDE, vec![port(Strange(|| 0), Gone)]);
    for source in 0..5 {
        let datagram =
            packet::udp(((fixture::CLIENT4, 5000 + source), (fixture::VIP4, 80)), b"question");
        cable.inject(memory::Stored::plain(datagram)).unwrap();
    }
    died(&dataplane, DropReason::TransmitError, 5);
}

#[test]
fn a_worker_that_fails_is_reported() {
    let (dataplane, notices) = start();
    dataplane.attach(OUTSIDE, vec![port(Strange(|| panic!("as the test wants it")), Gone)]);
    let notice = notices.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(notice, Notice::WorkerFailed { number: 0 }), "{notice:?}");
}
