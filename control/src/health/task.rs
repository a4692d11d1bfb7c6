//! Runs thousands of checks: one loop keeps their state and their schedule, and each probe that is
//! under way is a short-lived task of its own.
//!
//! What the loop reports is only news: a verdict that changed, another weight, a reading of a clock.
//! The channel for it is bounded. While it is full, unsent news of one kind about one server is
//! replaced by newer, so the engine may miss a blink but never the last word, and probing goes on.

mod board;
mod entry;
mod pace;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use self::board::Board;
pub use self::entry::CheckView;
use super::outcome::{ClockReading, Outcome};
use super::passive::Tally;
use super::weight::AgentWeight;
use super::{CheckSpec, Transition};
use crate::compile::RealKey;

/// Commands that may wait.
const COMMANDS: usize = 64;

/// News that may wait before it is held back.
const NEWS: usize = 1024;

/// Probes under way at once, unless the process may open fewer files. Others wait their turn, in
/// the order in which they were due.
const MOST_AT_ONCE: usize = 4096;

/// One piece of news about one real server.
#[derive(Clone, PartialEq, Debug)]
pub struct News {
    /// Which server of which service.
    pub real: RealKey,
    /// What is new.
    pub report: Report,
}

/// What is new.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// Another verdict.
    Changed(Transition),
    /// Its agent asks for another weight, or no longer for one.
    Weighed(Option<AgentWeight>),
    /// Its clock was read; at most every ten seconds.
    Clock(ClockReading),
    /// Its certificate ends within the time that the check warns of (`soon`), or no longer does.
    /// Seconds since the Unix epoch.
    Certificate {
        /// When it ends.
        ends: i64,
        /// Whether that is soon.
        soon: bool,
    },
    /// Its check cannot be made because of this director, and why; or can again.
    Unable(Option<String>),
}

/// What the loop can be asked.
enum Command {
    Replace(BTreeMap<RealKey, CheckSpec>),
    Tallies(BTreeMap<RealKey, Tally>),
    Hurry(RealKey),
    Reload,
    Look(oneshot::Sender<Vec<CheckView>>),
}

/// The way to the running checks. They end when the last handle is gone.
#[derive(Clone)]
pub struct Checker(mpsc::Sender<Command>);

impl Checker {
    /// Starts the loop on the current Tokio runtime, without checks; `node` is this director's
    /// name. News comes out of the receiver.
    pub fn start(node: String) -> (Self, mpsc::Receiver<News>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (outbox, news) = mpsc::channel(NEWS);
        tokio::spawn(Loop::new(node).run(inbox, outbox));
        (Self(commands), news)
    }

    /// Makes these the checks that run. Those that stay as they are go on undisturbed; a changed one
    /// keeps its verdict; one that is gone says nothing any more.
    pub async fn replace(&self, checks: BTreeMap<RealKey, CheckSpec>) {
        self.tell(Command::Replace(checks)).await;
    }

    /// What the packet path has counted, for passive checks.
    pub async fn tallies(&self, tallies: BTreeMap<RealKey, Tally>) {
        self.tell(Command::Tallies(tallies)).await;
    }

    /// Checks a server now instead of at its next turn.
    pub async fn hurry(&self, real: RealKey) {
        self.tell(Command::Hurry(real)).await;
    }

    /// Reads certificate files anew.
    pub async fn reload(&self) {
        self.tell(Command::Reload).await;
    }

    /// The state of every check.
    pub async fn look(&self) -> Vec<CheckView> {
        let (answer, seen) = oneshot::channel();
        self.tell(Command::Look(answer)).await;
        seen.await.unwrap_or_default()
    }

    /// A loop that has ended takes no commands; then the process is about to end too.
    async fn tell(&self, command: Command) {
        let _ = self.0.send(command).await;
    }
}

struct Loop {
    board: Board,
    running: JoinSet<Outcome>,
    /// Which check a task is of; the number tells it from an earlier check of the same server.
    tasks: HashMap<Id, (RealKey, u64)>,
    unsent: BTreeMap<(RealKey, u8), Report>,
    room: usize,
}

impl Loop {
    fn new(node: String) -> Self {
        Self {
            board: Board::new(node),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            unsent: BTreeMap::new(),
            room: most_at_once(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, outbox: mpsc::Sender<News>) {
        loop {
            self.start_due();
            let due = self.board.next_due().filter(|_| self.tasks.len() < self.room);
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                permit = outbox.reserve(), if !self.unsent.is_empty() => match permit {
                    Ok(permit) => self.send(permit),
                    Err(_) => return,
                },
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                () = sleep_until(due) => {}
            }
            self.drain_ended();
        }
    }

    fn obey(&mut self, command: Command) {
        let now = now();
        match command {
            Command::Replace(checks) => {
                let gone = self.board.replace(checks, now);
                for abort in gone.values().flatten() {
                    abort.abort();
                }
                self.unsent.retain(|(real, _), _| !gone.contains_key(real));
            }
            Command::Tallies(tallies) => self.board.tallies(tallies),
            Command::Hurry(real) => self.board.hurry(&real, now),
            Command::Reload => self.board.reload(),
            // Nobody waits any more when this fails.
            Command::Look(answer) => drop(answer.send(self.board.look(now))),
        }
    }

    /// Begins every probe whose turn has come, as far as there is room.
    fn start_due(&mut self) {
        let now = now();
        while self.tasks.len() < self.room {
            let Some((key, job)) = self.board.begin_due(now) else { return };
            let Some((job, run)) = job else {
                self.note(key);
                continue;
            };
            let abort = self.running.spawn(job.run());
            self.tasks.insert(abort.id(), (key, run));
            self.board.running(&key, abort);
        }
    }

    /// Takes in whatever else has ended meanwhile, without another turn of the loop each.
    fn drain_ended(&mut self) {
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            // An aborted task belongs to a check that is gone; one that broke says nothing about
            // the server.
            Err(error) => (error.id(), Outcome::unable("the check itself broke", Duration::ZERO)),
        };
        if let Some((key, run)) = self.tasks.remove(&id)
            && self.board.finish(&key, run, outcome, now(), unix())
        {
            self.note(key);
        }
    }

    /// Collects a check's news.
    fn note(&mut self, key: RealKey) {
        for report in self.board.take_news(&key) {
            self.unsent.insert((key, report.kind()), report);
        }
    }

    fn send(&mut self, permit: mpsc::Permit<'_, News>) {
        if let Some(((real, _), report)) = self.unsent.pop_first() {
            permit.send(News { real, report });
        }
    }
}

impl Report {
    /// News of the same kind replaces older.
    fn kind(&self) -> u8 {
        match self {
            Self::Changed(_) => 0,
            Self::Weighed(_) => 1,
            Self::Clock(_) => 2,
            Self::Certificate { .. } => 3,
            Self::Unable(_) => 4,
        }
    }
}

/// A quarter of the files that the process may open: some probes need two, and others need some too.
fn most_at_once() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let files = limit.map_or(1024, |(soft, _)| soft) / 4;
    usize::try_from(files).unwrap_or(MOST_AT_ONCE).clamp(16, MOST_AT_ONCE)
}

async fn sleep_until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(Instant::from_std(due)).await,
        None => std::future::pending().await,
    }
}

#[allow(clippy::disallowed_methods)] // the edge where schedules meet the clock
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[allow(clippy::disallowed_methods)] // the edge where certificates meet the time of day
fn unix() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
