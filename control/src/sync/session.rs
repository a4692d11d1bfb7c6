//! One link while it lasts: hello, then both replicas, time and control messages side by side.
//!
//! A task reads and another writes, so neither direction ever waits for the other; this loop only decides.
//! It sends a replication step when the writer has room for it, so a slow link slows the sender down and
//! nothing piles up but what [`super::replica`] bounds.

use super::connection::Change;
use super::identity::Identity;
use super::link::{LinkError, explain_read, read};
use super::message::{
    Bye, Declined, DrainOrder, Heads, Hello, Message, Ping, Pong, Revision, Role, Verdicts, Want,
};
use super::replica::{Receiver as Learner, Sender as Teller, Sink, Source};
use super::status::{Shared, Traffic};
use super::task::{SyncEvent, clock, wall_clock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsStream;

/// Frames on their way to the writer; a step is 16 KiB, so little waits where it cannot be coalesced.
const OUTGOING: usize = 4;
/// Messages read and not yet handled. When it is full the peer is not read, and TCP tells it.
const INCOMING: usize = 64;
/// Control messages that wait for the writer. When as many wait, no more are taken from their queue, and
/// those who fill it are told.
const OUTBOX: usize = 64;
/// How long the hello may take.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

type Stream = TlsStream<TcpStream>;

/// What is said besides connections; the engine's business.
#[derive(Clone, PartialEq, Debug)]
pub enum Control {
    /// What the sender is by VRRP.
    Roles(Vec<Role>),
    /// The last change of the sender's configuration.
    Heads(Heads),
    /// Please send this revision.
    Want(Want),
    /// A revision of the shared configuration.
    Revision(Revision),
    /// A revision is not taken.
    Declined(Declined),
    /// Health of real servers.
    Verdicts(Verdicts),
    /// Drain orders.
    Drains(Vec<DrainOrder>),
}

impl From<Control> for Message {
    fn from(control: Control) -> Self {
        match control {
            Control::Roles(roles) => Self::Roles(roles),
            Control::Heads(heads) => Self::Heads(heads),
            Control::Want(want) => Self::Want(want),
            Control::Revision(revision) => Self::Revision(revision),
            Control::Declined(declined) => Self::Declined(declined),
            Control::Verdicts(verdicts) => Self::Verdicts(verdicts),
            Control::Drains(drains) => Self::Drains(drains),
        }
    }
}

/// What outlives a link.
pub struct Ends<T> {
    /// The connection table.
    pub table: T,
    /// Own changes.
    pub changes: Receiver<Vec<Change>>,
    /// Own control messages.
    pub control: Receiver<Control>,
    /// What the engine is told.
    pub events: Sender<SyncEvent>,
    /// The sending replica.
    pub teller: Teller,
    /// The receiving replica.
    pub learner: Learner,
    /// Status and counters that others may read.
    pub shared: Arc<Shared>,
}

/// How a session behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// The own hello.
    pub hello: Hello,
    /// Between two pings.
    pub ping: Duration,
    /// Silence after which the peer counts as gone.
    pub silence: Duration,
}

/// Exchanges hellos: who the peer is, and which version is spoken.
///
/// # Errors
/// When the peer refuses our key, says nothing, or speaks another version.
pub async fn greet(
    stream: &mut Stream,
    own: &Hello,
    identity: &Identity,
) -> Result<(Hello, u16), LinkError> {
    let exchange = async {
        let hello = Message::Hello(own.clone()).encode();
        send(stream, hello, identity).await?;
        let first = read(stream, identity).await?;
        if let Message::Bye(Bye { reason }) = first {
            return Err(LinkError::Closed(reason));
        }
        let Message::Hello(theirs) = first else {
            return Err(LinkError::Closed("the peer sent no hello".to_owned()));
        };
        Ok(theirs)
    };
    let theirs = timeout(HELLO_PATIENCE, exchange)
        .await
        .map_err(|_| LinkError::Silent(HELLO_PATIENCE))??;
    match theirs.agree() {
        Ok(version) => Ok((theirs, version)),
        Err(reason) => {
            let bye = Message::Bye(Bye { reason: reason.clone() }).encode();
            let _ = timeout(HELLO_PATIENCE, send(stream, bye, identity)).await;
            Err(LinkError::Closed(reason))
        }
    }
}

async fn send(
    stream: &mut Stream,
    frame: Option<Vec<u8>>,
    identity: &Identity,
) -> Result<(), LinkError> {
    let failed = |error| explain_read(error, identity);
    let frame = frame.unwrap_or_default();
    stream.write_all(&frame).await.map_err(failed)?;
    stream.flush().await.map_err(failed)
}

/// A session under way.
pub struct Session<'a, T> {
    ends: &'a mut Ends<T>,
    manners: &'a Manners,
    outbox: VecDeque<Message>,
    /// The newest answer of the receiving replica: earlier ones are contained in it.
    answer: Option<Message>,
    heard: Instant,
    next_ping: Instant,
    was_caught_up: bool,
}

impl<'a, T: Source + Sink> Session<'a, T> {
    /// A session that starts with snapshots in both directions.
    pub fn new(ends: &'a mut Ends<T>, manners: &'a Manners) -> Self {
        let now = clock();
        ends.teller.connected();
        Self {
            ends,
            manners,
            outbox: VecDeque::new(),
            answer: None,
            heard: now,
            next_ping: now,
            was_caught_up: false,
        }
    }

    /// Runs until the link ends; never returns without a reason.
    pub async fn run(mut self, stream: Stream, identity: Arc<Identity>) -> LinkError {
        let (reader, writer) = tokio::io::split(stream);
        let (arrived, mut incoming) = channel(INCOMING);
        let (outgoing, leaving) = channel(OUTGOING);
        let shared = &self.ends.shared;
        // Ends with this set, so also when another connection replaces this one.
        let mut reading = JoinSet::new();
        reading.spawn(read_all(reader, arrived, identity, shared.traffic()));
        let writing = tokio::spawn(write_all(writer, leaving, shared.traffic()));
        let error = self.decide(&mut incoming, &outgoing).await;
        reading.abort_all();
        if let (LinkError::Closed(reason), Ok(permit)) = (&error, outgoing.try_reserve())
            && let Some(frame) = Message::Bye(Bye { reason: reason.clone() }).encode()
        {
            permit.send(frame);
        }
        drop(outgoing);
        // The writer ends by itself once it has sent what waits; a dead link must not hold us up.
        let writing_end = writing.abort_handle();
        if timeout(Duration::from_millis(200), writing).await.is_err() {
            writing_end.abort();
        }
        self.ends.teller.disconnected();
        self.ends.learner.disconnected();
        error
    }

    async fn decide(
        &mut self,
        incoming: &mut Receiver<Result<Message, LinkError>>,
        outgoing: &Sender<Vec<u8>>,
    ) -> LinkError {
        let shared = Arc::clone(&self.ends.shared);
        loop {
            let now = clock();
            if self.ends.shared.take_overflow() {
                // What still waits is older than the snapshot to come and must not be told after it.
                while self.ends.changes.try_recv().is_ok() {}
                self.ends.teller.resync();
            }
            if self.ends.shared.is_asked_again() {
                if let Some(answer) = self.ends.learner.again() {
                    self.outbox.push_back(answer.into());
                }
                self.was_caught_up = false;
                self.ends.shared.has_asked_again();
            }
            let silence = now.saturating_duration_since(self.heard);
            if silence >= self.manners.silence {
                return LinkError::Silent(silence);
            }
            if now >= self.next_ping {
                self.next_ping = now + self.manners.ping;
                self.outbox.push_back(Message::Ping(Ping { sent: wall_clock() }));
                self.ends.shared.set_lag(self.ends.teller.lag(now), self.ends.teller.resyncs());
            }
            let wants = self.has_something_to_send(now);
            let wake = self.deadline(now);
            tokio::select! {
                biased;
                message = incoming.recv() => match message {
                    Some(Ok(message)) => {
                        self.heard = clock();
                        self.ends.shared.note_heard(self.heard);
                        if let Err(error) = self.hear(message).await {
                            return error;
                        }
                    }
                    Some(Err(error)) => return error,
                    None => return LinkError::Closed("the peer closed the link".to_owned()),
                },
                permit = outgoing.reserve(), if wants => match permit {
                    Ok(permit) => {
                        if let Some(frame) = self.next_frame() {
                            permit.send(frame);
                        }
                    }
                    Err(_) => return LinkError::Closed("cannot write to the link".to_owned()),
                },
                changes = self.ends.changes.recv() => match changes {
                    Some(changes) => self.record(changes),
                    None => return LinkError::Closed("this node is stopping".to_owned()),
                },
                control = self.ends.control.recv(), if self.outbox.len() < OUTBOX => match control {
                    Some(control) => self.outbox.push_back(control.into()),
                    None => return LinkError::Closed("this node is stopping".to_owned()),
                },
                () = shared.asked() => {}
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    fn record(&mut self, changes: Vec<Change>) {
        let now = clock();
        for change in changes {
            self.ends.teller.record(change, now);
        }
    }

    fn has_something_to_send(&self, now: Instant) -> bool {
        self.answer.is_some()
            || !self.outbox.is_empty()
            || self.ends.teller.is_eager()
            || self.ends.teller.deadline().is_some_and(|at| at <= now)
    }

    fn deadline(&self, now: Instant) -> Instant {
        let silent = self.heard + self.manners.silence;
        let mut wake = self.next_ping.min(silent);
        // One that has passed has been offered to the writer, which is busy: its permit wakes us.
        if let Some(at) = self.ends.teller.deadline().filter(|at| *at > now) {
            wake = wake.min(at);
        }
        wake
    }

    /// Answers and control messages first: they are few, and the peer waits for them.
    fn next_frame(&mut self) -> Option<Vec<u8>> {
        let message = self.answer.take().or_else(|| self.outbox.pop_front());
        if let Some(message) = message {
            let frame = message.encode();
            if frame.is_none() {
                tracing::error!(kind = message.name(), "too long for the peer link, not sent");
            }
            return frame;
        }
        let step = self.ends.teller.poll(&mut self.ends.table, clock())?;
        Message::Step(step).encode()
    }

    async fn hear(&mut self, message: Message) -> Result<(), LinkError> {
        let control = match message {
            Message::Step(step) => {
                let answer = self.ends.learner.on_step(&step, &mut self.ends.table);
                if let Some(answer) = answer {
                    self.answer = Some(answer.into());
                }
                return self.look_whether_caught_up().await;
            }
            Message::Ack { epoch, sequence } => {
                self.ends.teller.on_ack(epoch, sequence);
                return Ok(());
            }
            Message::Resync { epoch } => {
                self.ends.teller.on_resync(epoch);
                return Ok(());
            }
            Message::Ping(Ping { sent }) => {
                let received = wall_clock();
                // A peer that pings more than it reads gets no more answers than fit.
                if self.outbox.len() < 2 * OUTBOX {
                    let pong = Pong { sent, received, answered: wall_clock() };
                    self.outbox.push_back(Message::Pong(pong));
                }
                return Ok(());
            }
            Message::Pong(pong) => {
                self.ends.shared.set_clock(&pong, wall_clock());
                return Ok(());
            }
            Message::Bye(Bye { reason }) => return Err(LinkError::Closed(reason)),
            Message::Hello(_) => {
                return Err(LinkError::Closed("the peer said hello twice".to_owned()));
            }
            Message::Roles(roles) => Control::Roles(roles),
            Message::Heads(heads) => Control::Heads(heads),
            Message::Want(want) => Control::Want(want),
            Message::Revision(revision) => Control::Revision(revision),
            Message::Declined(declined) => Control::Declined(declined),
            Message::Verdicts(verdicts) => Control::Verdicts(verdicts),
            Message::Drains(drains) => Control::Drains(drains),
        };
        self.tell(SyncEvent::Heard(control)).await
    }

    async fn look_whether_caught_up(&mut self) -> Result<(), LinkError> {
        let caught_up = self.ends.learner.is_caught_up();
        let changed = std::mem::replace(&mut self.was_caught_up, caught_up) != caught_up;
        if !changed {
            return Ok(());
        }
        self.ends.shared.set_caught_up(caught_up);
        if caught_up { self.tell(SyncEvent::CaughtUp).await } else { Ok(()) }
    }

    async fn tell(&mut self, event: SyncEvent) -> Result<(), LinkError> {
        let told = self.ends.events.send(event).await;
        told.map_err(|_| LinkError::Closed("this node is stopping".to_owned()))
    }
}

async fn read_all(
    mut reader: ReadHalf<Stream>,
    arrived: Sender<Result<Message, LinkError>>,
    identity: Arc<Identity>,
    traffic: Arc<Traffic>,
) {
    loop {
        let message = read(&mut reader, &identity).await;
        if let Ok(Message::Step(step)) = &message {
            traffic.count_step(step);
        }
        let last = message.is_err();
        if arrived.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn write_all(
    mut writer: WriteHalf<Stream>,
    mut leaving: Receiver<Vec<u8>>,
    traffic: Arc<Traffic>,
) {
    while let Some(frame) = leaving.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
        traffic.bytes_sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
        traffic.frames_sent.fetch_add(1, Ordering::Relaxed);
        // More frames that wait already may share a segment; the last one leaves at once.
        if leaving.is_empty() && writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}
