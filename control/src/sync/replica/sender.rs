//! The side that tells.

use super::super::connection::{Change, Connection, Key};
use super::super::message::{Body, Step};
use super::super::records::Writer;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Where a snapshot comes from.
pub trait Source {
    /// Own connections from `cursor` on, about `limit` of them. 0 is the beginning. A connection that
    /// exists from the first page to the last must be on one of them, whatever comes and goes meanwhile.
    fn page(&mut self, cursor: u64, limit: usize) -> Page;
}

/// A part of the table.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Page {
    /// Some connections; may be none though more follow.
    pub connections: Vec<Connection>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
}

/// Bounds on memory and patience.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Changed connections that may wait. When more change, all are forgotten and a new snapshot is due:
    /// "resync needed" instead of memory or lost packets.
    pub backlog: usize,
    /// Bytes sent and not yet acknowledged. When reached, nothing more is sent until the peer answers.
    pub window: usize,
    /// Bytes of one step, about.
    pub batch: usize,
    /// Connections of one page.
    pub page: usize,
    /// How long a change waits for company.
    pub delay: Duration,
    /// How long an answer may take before a new snapshot is due.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backlog: 200_000,
            window: 4 << 20,
            batch: 16 << 10,
            page: 512,
            delay: Duration::from_millis(2),
            patience: Duration::from_secs(10),
        }
    }
}

/// How far the peer is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Changed connections that the peer has not confirmed, as far as they are counted: a snapshot under
    /// way is not.
    pub connections: usize,
    /// Age of the oldest of them.
    pub age: Duration,
    /// Whether a snapshot is due, under way or not yet confirmed to its end.
    pub snapshot: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No link. Changes are not kept: a link begins with a snapshot.
    Disconnected,
    /// A snapshot is due.
    Due,
    /// Telling the table, from this cursor on.
    Snapshot(u64),
    /// The table is told but for the end mark.
    Ending,
    /// Telling changes.
    Live,
}

#[derive(Clone, Copy, Debug)]
struct Unconfirmed {
    sequence: u64,
    bytes: usize,
    changes: usize,
    sent: Instant,
}

/// Changes on their way to the peer.
#[derive(Debug)]
pub struct Sender {
    limits: Limits,
    phase: Phase,
    epoch: u32,
    next: u64,
    writer: Writer,
    /// The newest change of each waiting connection, and the order in which they began to wait. Iterated
    /// only through the queue, so the map's order never shows.
    waiting: HashMap<Key, Change>,
    queue: VecDeque<Key>,
    oldest: Option<Instant>,
    unconfirmed: VecDeque<Unconfirmed>,
    window_used: usize,
    /// In a snapshot: whether the next step is a page, so pages and changes take turns.
    page_next: bool,
    /// The last step of the snapshot, once it was sent.
    end: u64,
    resyncs: u64,
}

impl Sender {
    /// A sender without a link.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Disconnected,
            epoch: 0,
            next: 0,
            writer: Writer::default(),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            oldest: None,
            unconfirmed: VecDeque::new(),
            window_used: 0,
            page_next: true,
            end: 0,
            resyncs: 0,
        }
    }

    /// A link is up: everything must be told.
    pub fn connected(&mut self) {
        self.restart();
    }

    /// The link is gone; changes are not kept any more.
    pub fn disconnected(&mut self) {
        self.restart();
        self.phase = Phase::Disconnected;
    }

    /// Snapshots that were due because something was missing or too much had changed.
    pub const fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// Notes a change. Never waits: beyond the backlog a new snapshot makes up for what is forgotten.
    pub fn record(&mut self, change: Change, now: Instant) {
        if matches!(self.phase, Phase::Disconnected | Phase::Due) {
            return;
        }
        let key = *change.key();
        if self.waiting.insert(key, change).is_some() {
            return;
        }
        if self.waiting.len() > self.limits.backlog {
            return self.resync();
        }
        self.queue.push_back(key);
        self.oldest.get_or_insert(now);
    }

    /// Changes were lost on the way to [`Sender::record`]: everything must be told again.
    pub fn resync(&mut self) {
        if self.phase != Phase::Disconnected {
            self.resyncs += 1;
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.phase = Phase::Due;
        self.waiting = HashMap::new();
        self.queue = VecDeque::new();
        self.oldest = None;
        self.unconfirmed = VecDeque::new();
        self.window_used = 0;
    }

    /// The peer has applied everything up to here.
    pub fn on_ack(&mut self, epoch: u32, sequence: u64) {
        if epoch != self.epoch {
            return;
        }
        while let Some(first) = self.unconfirmed.front().filter(|u| u.sequence <= sequence) {
            self.window_used = self.window_used.saturating_sub(first.bytes);
            self.unconfirmed.pop_front();
        }
    }

    /// The peer misses something of this epoch.
    pub fn on_resync(&mut self, epoch: u32) {
        if epoch == self.epoch && self.phase != Phase::Due {
            self.resync();
        }
    }

    /// The next step to send, if one is due and the window has room.
    pub fn poll(&mut self, source: &mut impl Source, now: Instant) -> Option<Step> {
        let late = |u: &Unconfirmed| now.saturating_duration_since(u.sent) > self.limits.patience;
        if self.unconfirmed.front().is_some_and(late) {
            self.resync();
        }
        if self.window_used >= self.limits.window {
            return None;
        }
        match self.phase {
            Phase::Disconnected => None,
            Phase::Due => Some(self.begin(now)),
            Phase::Snapshot(cursor) => {
                self.page_next = !self.page_next;
                if self.page_next && !self.queue.is_empty() {
                    return Some(self.changes(now));
                }
                Some(self.page(cursor, source, now))
            }
            Phase::Ending => {
                self.phase = Phase::Live;
                self.end = self.next;
                Some(self.step(Body::End, 0, now))
            }
            Phase::Live => {
                let due = self.oldest.is_some_and(|oldest| oldest + self.limits.delay <= now);
                // Some twenty bytes each: enough for a whole batch.
                let full = self.queue.len() * 20 >= self.limits.batch;
                (due || full).then(|| self.changes(now))
            }
        }
    }

    fn begin(&mut self, now: Instant) -> Step {
        self.phase = Phase::Snapshot(0);
        self.epoch = self.epoch.wrapping_add(1);
        self.next = 0;
        self.writer = Writer::default();
        self.page_next = true;
        self.step(Body::Begin, 0, now)
    }

    fn page(&mut self, cursor: u64, source: &mut impl Source, now: Instant) -> Step {
        let Page { connections, next } = source.page(cursor, self.limits.page);
        self.phase = next.map_or(Phase::Ending, Phase::Snapshot);
        let mut records = Vec::new();
        for connection in connections {
            self.writer.write(&Change::Update(connection), &mut records);
        }
        self.step(Body::Changes(records), 0, now)
    }

    fn changes(&mut self, now: Instant) -> Step {
        let mut records = Vec::with_capacity(self.limits.batch + 128);
        let mut count = 0;
        while records.len() < self.limits.batch {
            let Some(key) = self.queue.pop_front() else { break };
            if let Some(change) = self.waiting.remove(&key) {
                self.writer.write(&change, &mut records);
                count += 1;
            }
        }
        if self.queue.is_empty() {
            self.oldest = None;
        }
        self.step(Body::Changes(records), count, now)
    }

    fn step(&mut self, body: Body, changes: usize, now: Instant) -> Step {
        let sequence = self.next;
        self.next += 1;
        // Even an empty step takes room, so that the window bounds their number too.
        let bytes = 64 + if let Body::Changes(records) = &body { records.len() } else { 0 };
        self.window_used += bytes;
        self.unconfirmed.push_back(Unconfirmed { sequence, bytes, changes, sent: now });
        Step { epoch: self.epoch, sequence, body }
    }

    /// When [`Sender::poll`] will have something that it does not have now, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let patience = self.unconfirmed.front().map(|first| first.sent + self.limits.patience);
        let open = self.window_used < self.limits.window;
        let changes = self.oldest.filter(|_| open).map(|oldest| oldest + self.limits.delay);
        patience.into_iter().chain(changes).min()
    }

    /// Whether [`Sender::poll`] has something to send at once.
    pub fn is_eager(&self) -> bool {
        let busy = matches!(self.phase, Phase::Due | Phase::Snapshot(_) | Phase::Ending);
        busy && self.window_used < self.limits.window
    }

    /// How far the peer is behind.
    pub fn lag(&self, now: Instant) -> Lag {
        let sent = self.unconfirmed.iter().find(|u| u.changes > 0).map(|u| u.sent);
        let oldest = sent.into_iter().chain(self.oldest).min();
        let told = match self.phase {
            Phase::Disconnected => true,
            Phase::Due | Phase::Snapshot(_) | Phase::Ending => false,
            Phase::Live => self.unconfirmed.front().is_none_or(|first| first.sequence > self.end),
        };
        Lag {
            connections: self.queue.len()
                + self.unconfirmed.iter().map(|u| u.changes).sum::<usize>(),
            age: oldest.map(|at| now.saturating_duration_since(at)).unwrap_or_default(),
            snapshot: !told,
        }
    }

    /// What is held in memory: waiting changes and unconfirmed bytes.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        assert_eq!(self.waiting.len(), self.queue.len());
        (self.waiting.len(), self.window_used)
    }
}
