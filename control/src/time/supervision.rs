//! All clocks that are compared with this node's: time servers, real servers and the other director.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::KernelClock;
use super::drift::{Drift, Limits, Watch};
use super::filter::{Estimate, Filter};
use super::opinion::{Opinion, opinion, signed, unsigned};
use super::sntp::{Kiss, Refused, Sample};
use crate::compile::RealKey;
use crate::health::outcome::ClockReading;
use crate::model::TimeKeeping;
use crate::record::Severity;

mod view;

pub use view::{PeerView, RealView, ServerView, TimeView};

#[cfg(test)]
mod tests;

/// Requests in quick succession with which a server is got to know.
const BURST: u32 = 4;

/// Between those, and between requests while a drift waits to be confirmed.
const QUICK: Duration = Duration::from_secs(2);

/// A server that asked to be asked less is asked at least this often.
const LONGEST: Duration = Duration::from_secs(4096);

/// Requests in a row without an answer after which a server is said to be silent.
const SILENT_AFTER: u32 = 4;

/// Which clock is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Clock {
    /// This node's.
    Node,
    /// A time server's, by its name in the configuration.
    Server(String),
    /// A real server's.
    Real(RealKey),
    /// The other director's.
    Peer,
}

/// Something about a clock that people should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The clock that the notice is about.
    pub clock: Clock,
    /// How much it matters.
    pub severity: Severity,
    /// What, in one sentence.
    pub text: String,
}

/// Why a request gave no sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// No answer came in time.
    Silent,
    /// The name could not be resolved, or there is no way there.
    Unreachable(String),
    /// The answer gave no time.
    Refused(Refused),
}

/// All clocks, with what is believed of them.
#[derive(Debug)]
pub struct Supervision {
    interval: Duration,
    limits: Limits,
    servers: Vec<Server>,
    node: Watch,
    standing: Standing,
    /// Since when servers contradict each other. When this node's clock is set, the answers from
    /// before contradict those from after until every server has been asked again.
    doubt: Option<Instant>,
    reals: BTreeMap<RealKey, Watch>,
    peer: Watch,
    kernel: Option<KernelClock>,
}

/// What was last said about the servers as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Untold,
    Known,
    Unknown,
    Contradictory,
}

#[derive(Debug)]
struct Server {
    name: String,
    filter: Filter,
    due: Option<Instant>,
    interval: Duration,
    asked: u32,
    /// Requests in a row without a usable answer.
    missed: u32,
    /// The last eight requests, the latest lowest: which were answered.
    reach: u8,
    denied: bool,
    lying: bool,
    trouble: Option<Trouble>,
}

impl Supervision {
    /// Nothing is supervised yet.
    pub fn new() -> Self {
        let default = TimeKeeping::default();
        Self {
            interval: default.interval,
            limits: Limits { warn: default.warn, critical: default.critical },
            servers: Vec::new(),
            node: Watch::default(),
            standing: Standing::Untold,
            doubt: None,
            reals: BTreeMap::new(),
            peer: Watch::default(),
            kernel: None,
        }
    }

    /// Takes what the operator wants. Servers that stay keep what they said.
    pub fn configure(&mut self, wanted: &TimeKeeping, now: Instant) {
        self.limits = Limits { warn: wanted.warn, critical: wanted.critical };
        let slower = wanted.interval != self.interval;
        self.interval = wanted.interval.max(Duration::from_secs(1));
        let mut before = std::mem::take(&mut self.servers);
        for name in &wanted.servers {
            let known = before.iter().position(|server| server.name == *name);
            let mut server = match known {
                Some(place) => before.swap_remove(place),
                None => Server::new(name.clone(), self.interval, now),
            };
            if slower {
                server.interval = self.interval;
                server.due = server.due.map(|due| due.min(now + self.interval));
            }
            self.servers.push(server);
        }
    }

    /// Real servers that are still there; others are forgotten.
    pub fn keep_reals(&mut self, keep: impl Fn(&RealKey) -> bool) {
        self.reals.retain(|real, _| keep(real));
    }

    /// When a server is to be asked next.
    pub fn next_due(&self) -> Option<Instant> {
        self.servers.iter().filter_map(|server| server.due).min()
    }

    /// The servers to ask now, by name. Each gets its answer, or the trouble, by
    /// [`Supervision::on_answer`].
    pub fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.servers.iter_mut().filter(|server| server.due.is_some_and(|due| due <= now));
        due.map(|server| server.ask(now)).collect()
    }

    /// Takes what came of a request.
    pub fn on_answer(
        &mut self,
        name: &str,
        answer: Result<Sample, Trouble>,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        let Some(server) = self.servers.iter_mut().find(|server| server.name == name) else {
            return; // no longer wanted
        };
        server.on_answer(answer, now, out);
        self.form_opinion(now, out);
    }

    fn form_opinion(&mut self, now: Instant, out: &mut Vec<Notice>) {
        let estimates: Vec<_> = self.servers.iter().map(|server| server.estimate(now)).collect();
        let opinion = opinion(&estimates);
        let certain = self.is_certain(&opinion, now);
        let settled = certain && self.servers.iter().all(Server::is_known);
        match opinion {
            Opinion::Known { offset, error, lying, .. } => {
                self.say_standing(Standing::Known, out);
                for (place, server) in self.servers.iter_mut().enumerate().filter(|_| certain) {
                    let estimate = estimates.get(place).copied().flatten();
                    server.say_lying(lying.contains(&place), estimate, offset, out);
                }
                self.judge_node(ClockReading { ahead: -offset, error }, now, out);
            }
            Opinion::Unknown if settled => self.say_standing(Standing::Unknown, out),
            Opinion::Contradictory if settled => self.say_standing(Standing::Contradictory, out),
            Opinion::Unknown | Opinion::Contradictory => {}
        }
    }

    /// Whether servers agree, or have contradicted each other long enough for every one to have been
    /// asked again.
    fn is_certain(&mut self, opinion: &Opinion, now: Instant) -> bool {
        let contradiction = match opinion {
            Opinion::Known { lying, .. } => !lying.is_empty(),
            Opinion::Contradictory => true,
            Opinion::Unknown => false,
        };
        if !contradiction {
            self.doubt = None;
            return true;
        }
        let since = *self.doubt.get_or_insert(now);
        let certain = now >= since + 2 * QUICK;
        if !certain {
            self.ask_soon(now);
        }
        certain
    }

    fn ask_soon(&mut self, now: Instant) {
        for due in self.servers.iter_mut().filter_map(|server| server.due.as_mut()) {
            *due = (now + QUICK).min(*due);
        }
    }

    fn judge_node(&mut self, reading: ClockReading, now: Instant, out: &mut Vec<Notice>) {
        let change = self.node.on_reading(reading, self.limits);
        if self.node.is_in_doubt() {
            // A drift should not have to wait for a whole interval to be confirmed.
            self.ask_soon(now);
        }
        if let Some(drift) = change {
            let text = format!("this node's clock is {}", describe(reading, drift));
            out.push(Notice { clock: Clock::Node, severity: severity(drift), text });
        }
    }

    fn say_standing(&mut self, standing: Standing, out: &mut Vec<Notice>) {
        let before = std::mem::replace(&mut self.standing, standing);
        if before == standing || self.servers.is_empty() {
            return;
        }
        let (severity, text) = match standing {
            Standing::Untold => return,
            Standing::Known if before == Standing::Untold => return,
            Standing::Known => (Severity::Info, "time servers agree on the time again"),
            Standing::Unknown => (Severity::Warning, "no time server answers"),
            Standing::Contradictory => {
                (Severity::Warning, "the time servers disagree without a majority; none is trusted")
            }
        };
        out.push(Notice { clock: Clock::Node, severity, text: text.to_owned() });
    }

    /// Takes a reading of a real server's clock.
    pub fn on_real(&mut self, real: RealKey, reading: ClockReading, out: &mut Vec<Notice>) {
        let watch = self.reals.entry(real).or_default();
        if let Some(drift) = watch.on_reading(reading, self.limits) {
            let text = format!("the clock of {} is {}", real.1, describe(reading, drift));
            out.push(Notice { clock: Clock::Real(real), severity: severity(drift), text });
        }
    }

    /// Takes a reading of the other director's clock; `None` when there is no link to it any more,
    /// and what was believed of its clock is forgotten.
    pub fn on_peer(&mut self, reading: Option<ClockReading>, out: &mut Vec<Notice>) {
        let Some(reading) = reading else {
            self.peer = Watch::default();
            return;
        };
        if let Some(drift) = self.peer.on_reading(reading, self.limits) {
            let text = format!("the peer's clock is {}", describe(reading, drift));
            out.push(Notice { clock: Clock::Peer, severity: severity(drift), text });
        }
    }

    /// Takes what the kernel says of its clock; `None` when it does not say.
    pub fn on_kernel(&mut self, kernel: Option<KernelClock>, out: &mut Vec<Notice>) {
        let before = std::mem::replace(&mut self.kernel, kernel);
        let synchronised = |clock: KernelClock| clock.synchronised;
        let (severity, text) = match (before.map(synchronised), kernel.map(synchronised)) {
            (None, Some(false)) => (
                Severity::Info,
                "the kernel's clock is not synchronised: no time daemon disciplines it",
            ),
            (Some(true), Some(false)) => {
                (Severity::Warning, "the kernel's clock is no longer synchronised")
            }
            (Some(false), Some(true)) => (Severity::Info, "the kernel's clock is synchronised"),
            (_, None)
            | (None, Some(true))
            | (Some(true), Some(true))
            | (Some(false), Some(false)) => {
                return;
            }
        };
        out.push(Notice { clock: Clock::Node, severity, text: text.to_owned() });
    }
}

impl Default for Supervision {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    fn new(name: String, interval: Duration, now: Instant) -> Self {
        Self {
            name,
            filter: Filter::default(),
            due: Some(now),
            interval,
            asked: 0,
            missed: 0,
            reach: 0,
            denied: false,
            lying: false,
            trouble: None,
        }
    }

    /// What it says, unless it has fallen silent: a clock that nobody confirms is only a memory.
    fn estimate(&self, now: Instant) -> Option<Estimate> {
        self.filter.best(now).filter(|_| self.missed < SILENT_AFTER && !self.denied)
    }

    /// Whether there was time enough for a first answer.
    fn is_known(&self) -> bool {
        self.asked > 1 || self.reach != 0 || self.missed > 0 || self.denied
    }

    fn ask(&mut self, now: Instant) -> String {
        self.asked = self.asked.saturating_add(1);
        self.reach <<= 1;
        let wait = if self.asked < BURST { QUICK.min(self.interval) } else { self.interval };
        self.due = Some(now + wait);
        self.name.clone()
    }

    fn on_answer(&mut self, answer: Result<Sample, Trouble>, now: Instant, out: &mut Vec<Notice>) {
        let was_silent = self.missed >= SILENT_AFTER;
        match answer {
            Ok(sample) => {
                self.reach |= 1;
                self.missed = 0;
                self.trouble = None;
                self.filter.add(sample, now);
                if was_silent {
                    self.say(Severity::Info, "gives usable time again", out);
                }
                return;
            }
            Err(Trouble::Refused(Refused::Kiss(Kiss::Rate))) => {
                // It answers, so it is not silent; it only wants to be asked less.
                self.interval = (self.interval * 2).min(LONGEST.max(self.interval));
                self.due = Some(now + self.interval);
                self.asked = BURST;
            }
            Err(Trouble::Refused(Refused::Kiss(Kiss::Deny))) => {
                self.denied = true;
                self.due = None;
                self.filter.clear();
                self.say(Severity::Warning, "refuses requests and is no longer asked", out);
            }
            Err(Trouble::Refused(_) | Trouble::Silent | Trouble::Unreachable(_)) => {
                self.missed = self.missed.saturating_add(1);
            }
        }
        self.trouble = answer.err();
        if !was_silent && self.missed >= SILENT_AFTER {
            self.filter.clear();
            let why = self.trouble_text().unwrap_or_default();
            self.say(Severity::Warning, &format!("gives no usable time: {why}"), out);
        }
    }

    fn say_lying(
        &mut self,
        lying: bool,
        estimate: Option<Estimate>,
        truth: f64,
        out: &mut Vec<Notice>,
    ) {
        if lying == self.lying {
            return;
        }
        self.lying = lying;
        match (lying, estimate) {
            (true, Some(estimate)) => {
                let off = signed(estimate.offset - truth);
                self.say(Severity::Warning, &format!("contradicts the others by {off}"), out);
            }
            (false, Some(_)) => self.say(Severity::Info, "agrees with the others again", out),
            (_, None) => {}
        }
    }

    fn say(&self, severity: Severity, text: &str, out: &mut Vec<Notice>) {
        out.push(Notice {
            clock: Clock::Server(self.name.clone()),
            severity,
            text: format!("time server {} {text}", self.name),
        });
    }

    fn trouble_text(&self) -> Option<String> {
        self.trouble.as_ref().map(|trouble| match trouble {
            Trouble::Silent => "no answer".to_owned(),
            Trouble::Unreachable(why) => why.clone(),
            Trouble::Refused(refused) => refused.to_string(),
        })
    }
}

fn severity(drift: Drift) -> Severity {
    match drift {
        Drift::Fine => Severity::Info,
        Drift::Warn => Severity::Warning,
        Drift::Critical => Severity::Error,
    }
}

/// Describes a reading, as in "3.000 s behind +/- 0.5 s".
fn describe(reading: ClockReading, drift: Drift) -> String {
    let direction = if reading.ahead < 0.0 { "behind" } else { "ahead" };
    let off = format!("{} {direction}", unsigned(reading.ahead.abs()));
    let error = unsigned(reading.error);
    match drift {
        Drift::Fine => format!("within limits again: {off} +/- {error}"),
        Drift::Warn | Drift::Critical => format!("{off} +/- {error}"),
    }
}
