//! The whole engine, in a network namespace of its own. Needs root and says so.
#![allow(clippy::disallowed_methods)] // a thread that leaves the machine's namespace

use super::*;
use dataplane::frame::Batch;
use dataplane::io::{Port, Receive, Unreachable};
use dataplane::table::PortId;
use nix::sched::{CloneFlags, unshare};
use std::os::fd::BorrowedFd;

/// Runs a future in a network namespace of its own.
fn apart<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::Builder::new().spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root: CAP_SYS_ADMIN to make a namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("made").block_on(work());
    });
    thread.expect("started").join().expect("passes");
}

/// A driver with a bug.
struct Broken;

impl Receive for Broken {
    fn receive<'r>(&'r mut self, _: &mut Batch<'r>) -> std::io::Result<()> {
        panic!("as the test wants it")
    }

    fn release(&mut self, _: u64) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[test]
fn a_packet_worker_that_panics_ends_the_daemon_in_order_and_it_is_said_which() {
    apart(|| async {
        let directory = tempfile::tempdir().expect("made");
        let capacity = Capacity { connections: 1024, services: 8, reals: 16, workers: 2 };
        let (state, host) = (directory.path().to_owned(), "lb1".to_owned());
        let settings = Settings { state, host, capacity, file: None };
        let mut running = start(settings).await.expect("starts");
        let unharmed = tokio::time::timeout(Duration::from_millis(100), running.failed()).await;
        assert!(unharmed.is_err(), "nothing has failed: {unharmed:?}");
        let port = || Port {
            receive: Box::new(Broken),
            transmit: Box::new(Unreachable),
            host: Box::new(Unreachable),
            withheld: false,
        };
        // Of the first worker only.
        running.dataplane.attach(PortId(5), vec![port()]);
        let why = tokio::time::timeout(Duration::from_secs(20), running.failed()).await;
        let why = why.expect("a failure that is noticed");
        assert!(why.starts_with("packet worker 0 has panicked"), "{why}");
        // Ports of a worker that is no more are given up at once, not waited for.
        for number in 6..60 {
            running.dataplane.detach(PortId(number));
        }
        assert!(running.stop().await, "everything else ends in order");
    });
}
