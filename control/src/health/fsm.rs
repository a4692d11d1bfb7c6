//! When to probe a real server and what to make of the answers.
//!
//! ```text
//!                first result passes            first result fails
//!        Up  <----------------------- Untested -----------------------> Down
//!         |                                                              ^|
//!         |            `fall` failures in a row                          ||
//!         +--------------------------------------------------------------+|
//!         ^             `rise` passes in a row                            |
//!         +---------------------------------------------------------------+
//! ```
//! Only results in a row count: one contrary result among good ones changes nothing. The first
//! result decides alone, since there is nothing yet to protect from flapping. A probe that could not
//! be made because of this director leaves everything as it is. One that could not be sent, because
//! this director has no way to the server, leaves it unknown: only `fall` of them in a row, from any
//! state, count as down, unless the operator says otherwise.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::health::outcome::{Outcome, Verdict};
use crate::model::{self, OnUnsent};

#[cfg(test)]
mod tests;

/// No check runs more often than this, whatever the configuration says.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// No wait is longer than this, so that moments can always be added up.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 86_400);

/// Distance between the first probes of two checks that start together, so that thousands of
/// checks starting at once do not all fire in the same instant, then or later.
const STAGGER: Duration = Duration::from_millis(1);

/// How often a check runs and how many results in a row it takes to believe them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cadence {
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// The same while the server is down; `None` means `interval`.
    pub interval_down: Option<Duration>,
    /// The same after a failure that has not yet taken the server down; `None` means `interval`.
    pub interval_retry: Option<Duration>,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Passes in a row that bring a server up.
    pub rise: NonZeroU32,
    /// Failures in a row that bring it down.
    pub fall: NonZeroU32,
    /// Wait before the first probe.
    pub start_delay: Duration,
    /// Cheap connects between two full probes (ldirectord's `checktype = N`); 0 for none.
    pub connects: u32,
    /// Whether probes that could not be sent count as failures.
    pub unsent_fails: bool,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            interval_down: None,
            interval_retry: None,
            timeout: Duration::from_secs(5),
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::MIN,
            start_delay: Duration::ZERO,
            connects: 0,
            unsent_fails: true,
        }
    }
}

impl From<&model::Check> for Cadence {
    fn from(check: &model::Check) -> Self {
        Self {
            interval: check.interval,
            interval_down: check.interval_down,
            interval_retry: check.interval_retry,
            timeout: check.timeout,
            rise: NonZeroU32::new(check.rise).unwrap_or(NonZeroU32::MIN),
            fall: NonZeroU32::new(check.fall).unwrap_or(NonZeroU32::MIN),
            start_delay: check.start_delay,
            connects: check.connects,
            unsent_fails: check.on_unsent == OnUnsent::Down,
        }
    }
}

/// What is believed about a real server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No probe has finished yet.
    Untested,
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// How thorough one probe is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Only a TCP connect.
    Connect,
    /// The whole exchange.
    Full,
}

/// A change of verdict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transition {
    /// What was believed.
    pub from: Health,
    /// What is believed now.
    pub to: Health,
    /// The last result, in an operator's words.
    pub reason: String,
    /// How long the old verdict stood.
    pub lasted: Duration,
    /// Results in a row that led to it.
    pub results: u32,
}

/// One check of one real server: its schedule and its verdict.
#[derive(Clone, Debug)]
pub struct Fsm {
    cadence: Cadence,
    health: Health,
    since: Instant,
    /// Results in a row that disagree with `health`.
    contrary: u32,
    /// Passed connects since the last passed full probe.
    connected: u32,
    schedule: Schedule,
}

#[derive(Clone, Copy, Debug)]
enum Schedule {
    /// The next turn, and the one before it.
    Waiting { due: Instant, last: Option<Instant> },
    /// A probe of this turn is under way.
    Running { turn: Instant, depth: Depth },
}

impl Fsm {
    /// A check that begins `now`, the `position`th of those that begin together. `known` is what
    /// an earlier run believed ([`Health::Untested`] for nothing).
    pub fn new(cadence: Cadence, known: Health, position: u32, now: Instant) -> Self {
        let wait = cadence.start_delay.min(LONGEST_INTERVAL) + stagger(position, cadence.interval);
        Self {
            cadence,
            health: known,
            since: now,
            contrary: 0,
            connected: 0,
            schedule: Schedule::Waiting { due: now + wait, last: None },
        }
    }

    /// What is believed.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Results in a row that disagree with [`Fsm::health`].
    pub fn contrary(&self) -> u32 {
        self.contrary
    }

    /// The check's timing.
    pub fn cadence(&self) -> &Cadence {
        &self.cadence
    }

    /// When to begin the next probe; `None` while one runs.
    pub fn due(&self) -> Option<Instant> {
        match self.schedule {
            Schedule::Waiting { due, .. } => Some(due),
            Schedule::Running { .. } => None,
        }
    }

    /// Notes that a probe begins, and says how thorough it must be.
    ///
    /// Everything but a server that is up and has given no reason for doubt gets the full probe.
    pub fn start(&mut self, now: Instant) -> Depth {
        let trusted = self.health == Health::Up && self.contrary == 0;
        let depth = if trusted && self.connected < self.cadence.connects {
            Depth::Connect
        } else {
            Depth::Full
        };
        // Turns count from when this one was due: a late start must not make the next ones late,
        // or checks that were late together would stay together.
        let turn = self.due().map_or(now, |due| due.min(now));
        self.schedule = Schedule::Running { turn, depth };
        depth
    }

    /// Takes the result of the probe that [`Fsm::start`] began and plans the next one. `Some` only
    /// when the verdict changes. A result that nobody waits for is dropped.
    pub fn finish(&mut self, outcome: &Outcome, now: Instant) -> Option<Transition> {
        let Schedule::Running { turn, depth } = self.schedule else { return None };
        let transition = match &outcome.verdict {
            Verdict::Passed(_) => self.count(Health::Up, outcome, now),
            Verdict::Failed(_) => self.count(Health::Down, outcome, now),
            Verdict::Unsent(_) if self.cadence.unsent_fails => {
                self.count(Health::Down, outcome, now)
            }
            Verdict::Unable(_) | Verdict::Unsent(_) => None,
        };
        match (&outcome.verdict, depth) {
            (Verdict::Passed(_), Depth::Connect) => self.connected += 1,
            (Verdict::Passed(_), Depth::Full) => self.connected = 0,
            (Verdict::Failed(_), _) => self.connected = self.cadence.connects,
            (Verdict::Unable(_) | Verdict::Unsent(_), _) => {}
        }
        let due = next_on_grid(turn, self.current_interval(), now);
        self.schedule = Schedule::Waiting { due, last: Some(turn) };
        transition
    }

    /// Ends a turn without a result, for checks that had nothing to judge.
    pub fn skip(&mut self, now: Instant) {
        if let Schedule::Running { turn, .. } = self.schedule {
            let due = next_on_grid(turn, self.current_interval(), now);
            self.schedule = Schedule::Waiting { due, last: Some(turn) };
        }
    }

    /// Takes new timing. The verdict and the results counted so far stay; a running probe goes on.
    pub fn reconfigure(&mut self, cadence: Cadence, now: Instant) {
        self.cadence = cadence;
        if let Schedule::Waiting { due, last: Some(turn) } = self.schedule {
            let due = next_on_grid(turn, self.current_interval(), now).min(due.max(now));
            self.schedule = Schedule::Waiting { due, last: Some(turn) };
        }
    }

    /// Makes the next probe due now, unless one runs.
    pub fn hurry(&mut self, now: Instant) {
        if let Schedule::Waiting { due, .. } = &mut self.schedule {
            *due = now.min(*due);
        }
    }

    /// Moves the next probe to a later moment, unless one runs.
    pub fn postpone(&mut self, until: Instant) {
        if let Schedule::Waiting { due, .. } = &mut self.schedule {
            *due = until.max(*due);
        }
    }

    fn count(&mut self, seen: Health, outcome: &Outcome, now: Instant) -> Option<Transition> {
        if seen == self.health {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let unsent = matches!(outcome.verdict, Verdict::Unsent(_));
        let enough = match (self.health, seen) {
            (Health::Untested, _) if unsent => self.cadence.fall.get(),
            (Health::Untested, _) | (_, Health::Untested) => 1,
            (Health::Up | Health::Down, Health::Up) => self.cadence.rise.get(),
            (Health::Up | Health::Down, Health::Down) => self.cadence.fall.get(),
        };
        if self.contrary < enough {
            return None;
        }
        let transition = Transition {
            from: self.health,
            to: seen,
            reason: outcome.reason(),
            lasted: now.saturating_duration_since(self.since),
            results: self.contrary,
        };
        self.health = seen;
        self.since = now;
        self.contrary = 0;
        Some(transition)
    }

    fn current_interval(&self) -> Duration {
        let usual = match self.health {
            Health::Up | Health::Untested => self.cadence.interval,
            Health::Down => self.cadence.interval_down.unwrap_or(self.cadence.interval),
        };
        let doubted = self.health == Health::Up && self.contrary > 0;
        let retry = self.cadence.interval_retry.filter(|_| doubted);
        retry.unwrap_or(usual).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
    }
}

/// How much later than the first the `position`th check begins: spread over the interval.
fn stagger(position: u32, interval: Duration) -> Duration {
    let slots = (interval.min(LONGEST_INTERVAL).as_millis() / STAGGER.as_millis())
        .clamp(1, u128::from(u32::MAX)) as u32;
    STAGGER * (position % slots)
}

/// The first moment after `now` that is a whole number of intervals after a turn, so that a check
/// keeps its place among the others even when probes take longer than the interval.
fn next_on_grid(turn: Instant, interval: Duration, now: Instant) -> Instant {
    let gone = now.saturating_duration_since(turn).as_nanos();
    let into = gone % interval.as_nanos().max(1);
    let left = interval.as_nanos().saturating_sub(into);
    now.max(turn) + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
}
