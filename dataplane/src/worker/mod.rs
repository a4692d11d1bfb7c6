//! The crank: receive, judge, send, expire. One plain thread per worker, each with its own queue of
//! every attached interface; they share the [`Director`] and nothing else.

mod clock;
mod mailbox;
mod rank;
mod turn;
mod waiting;

#[cfg(test)]
mod tests;

pub use clock::now;
pub use turn::MOST_PORTS;

use crate::io::xdp::{Buffers, Shares};
use crate::io::{Port, keep_to_a_processor};
use crate::packet_path::connections::{HashKeys, Identity, Page};
use crate::packet_path::{Adopter, Capacity, Director, Notice, PacketPath};
use crate::table::{Hops, PortId, ServiceTable};
use crate::tick::Tick;
use mailbox::{Command, Mailbox};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use turn::Worker;

/// Notices that control has not read yet at most; further ones are dropped and sent again when the
/// next packet needs them.
const NOTICES: usize = 1024;

/// How long a worker may take to close a queue.
const DETACH_PATIENCE: Duration = Duration::from_millis(500);

/// The running packet workers, as control holds them.
#[derive(Debug)]
pub struct Dataplane {
    director: Arc<Director>,
    workers: Vec<Running>,
    adopter: Mutex<Adopter>,
    attached: Mutex<BTreeMap<PortId, Attached>>,
    /// Attachments so far.
    editions: AtomicU64,
}

/// A port that the workers serve.
#[derive(Debug)]
struct Attached {
    edition: u64,
    /// Its packet memory, where there is such a thing.
    shares: Option<Shares>,
}

#[derive(Debug)]
struct Running {
    mailbox: Arc<Mailbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// One that has ended, in whatever way, has no queues.
    fn is_at_work(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Dataplane {
    /// Allocates the tables and starts the workers, which have nothing to do until ports are
    /// attached. The receiver yields what the packet path wants of control.
    ///
    /// # Errors
    /// When the kernel refuses random numbers, a thread or a descriptor.
    pub fn start(capacity: Capacity) -> io::Result<(Self, Receiver<Notice>)> {
        let (notices, wants) = sync_channel(NOTICES);
        let [seed, keys @ ..] = clock::random()?;
        let director = Arc::new(Director::new(capacity, HashKeys(keys), notices));
        let mut workers = Vec::new();
        for number in 0..capacity.workers.max(1) {
            let mailbox = Arc::new(Mailbox::new()?);
            let path = PacketPath::new(Arc::clone(&director), number, seed ^ number as u64);
            let worker = Worker::new(path, Arc::clone(&mailbox))?;
            let witness = Witness { director: Arc::clone(&director), number };
            let thread =
                std::thread::Builder::new().name(format!("packets-{number}")).spawn(move || {
                    let _witness = witness;
                    keep_to_a_processor(number);
                    worker.run();
                })?;
            workers.push(Running { mailbox, thread: Mutex::new(Some(thread)) });
        }
        let (attached, editions) = (Mutex::default(), AtomicU64::default());
        let adopter = Mutex::new(Adopter::new(Arc::clone(&director), workers.len()));
        Ok((Self { director, workers, adopter, attached, editions }, wants))
    }

    /// The state that all workers share.
    pub fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Hands the queues of an interface to the workers, the first to the first.
    pub fn attach(&self, id: PortId, ports: Vec<Port>) {
        let shares = ports.iter().filter_map(|port| port.receive.shares());
        let shares = shares.reduce(|mut all, more| {
            all.extend(more);
            all
        });
        let edition = self.editions.fetch_add(1, Ordering::Relaxed);
        self.attached().insert(id, Attached { edition, shares });
        for (worker, port) in self.workers.iter().zip(ports) {
            worker.mailbox.send(Command::Attach(id, edition, Box::new(port)));
        }
    }

    /// Takes an interface's queues back and closes them. When it returns, they can be opened again.
    pub fn detach(&self, id: PortId) {
        let (done, closed) = sync_channel(self.workers.len());
        let at_work = || self.workers.iter().filter(|worker| worker.is_at_work());
        at_work().for_each(|worker| worker.mailbox.send(Command::Detach(id, done.clone())));
        for _ in at_work() {
            // A worker takes commands after every batch.
            let _ = closed.recv_timeout(DETACH_PATIENCE);
        }
        self.attached().remove(&id);
    }

    /// Whether this attachment of a port is the one in use: what is said about an older one is no
    /// news.
    pub fn is_current(&self, id: PortId, edition: u64) -> bool {
        self.attached().get(&id).is_some_and(|attached| attached.edition == edition)
    }

    /// The packet memory of a port, where there is such a thing.
    pub fn buffers(&self, id: PortId) -> Option<Buffers> {
        let shares = self.attached().get(&id)?.shares.clone();
        shares.map(|shares| shares.count())
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<PortId, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes services; see [`Director::publish`].
    pub fn publish(&self, table: Arc<ServiceTable>) {
        self.director.publish(table, now());
    }

    /// Publishes next hops; see [`Director::publish_hops`]. What waited for one is taken up at once.
    pub fn publish_hops(&self, hops: Hops) {
        self.director.publish_hops(hops);
        for worker in &self.workers {
            worker.mailbox.wake();
        }
    }

    /// A page of connections; see
    /// [`Connections::page`](crate::packet_path::connections::Connections::page).
    pub fn connections(&self, from: u32, limit: usize) -> Page {
        self.director.connections().page(from, limit, self.director.reals(), now())
    }

    /// Takes in connections that a peer tells of.
    pub fn adopt<T>(&self, take: impl FnOnce(&mut Adopter, Tick) -> T) -> T {
        let mut adopter = self.adopter.lock().unwrap_or_else(PoisonError::into_inner);
        adopter.begin();
        let taken = take(&mut adopter, now());
        adopter.rest();
        taken
    }

    /// Has both ends of connections reset, with the next packet of either.
    pub fn reset(&self, meant: Vec<Identity>) {
        if let Some(worker) = self.workers.first() {
            worker.mailbox.send(Command::Doom(meant));
        }
    }

    /// Ends connections, without telling their ends.
    pub fn end(&self, meant: Vec<Identity>) {
        if let Some(worker) = self.workers.first() {
            worker.mailbox.send(Command::End(meant));
        }
    }

    /// Stops the workers and waits for them.
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.mailbox.send(Command::Stop);
        }
        for worker in &self.workers {
            let thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

/// Reports a worker's panic.
struct Witness {
    director: Arc<Director>,
    number: usize,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.director.report(Notice::WorkerFailed { number: self.number });
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop();
    }
}
