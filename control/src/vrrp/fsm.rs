//! One virtual router's state machine: (event, now) to actions and a deadline.
//!
//! ```text
//!                 Startup                  silence, or a lower master where we may preempt
//!   Initialize ------------> Backup ------------------------------------------> Master
//!       ^                      ^  <---------------------------------------------- |
//!       | Shutdown             |        higher priority, or equal and higher address,
//!       | (from anywhere)      |        or operator, or group, or we were stopped
//!       |                      | Recovered
//!       |                    Fault  <---- Fault (from anywhere)
//! ```
//! RFC 9568 section 6.4, with keepalived's additions: preemption delay, an answer to lower masters, and
//! announcements repeated. A master that leaves says so with priority 0, except when another node is
//! already master or its group moves.

use super::{Priority, Version};
use std::time::{Duration, Instant};

mod parameters;
mod reason;
mod story;

pub use parameters::{Announcements, Parameters};
pub use reason::Reason;
pub use story::{Action, Event, Heard, Membership, State};

/// Least time between two bursts of announcements that lower masters can provoke.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// One virtual router on this node.
#[derive(Clone, Debug)]
pub struct Vrrp {
    parameters: Parameters,
    membership: Membership,
    priority: Priority,
    state: State,
    /// Backup: when the master is given up. Master: when the next advert is due.
    timer: Option<Instant>,
    /// The interval that the current master uses.
    master_interval: Duration,
    master: Option<Heard>,
    /// From when on the lower master may be replaced, if that is who is heard.
    preempt_at: Option<Instant>,
    /// The lower master whose adverts are being ignored.
    ignored: Option<Heard>,
    /// Not to preempt: not caught up with the peer yet, say.
    held: bool,
    /// Gave mastership away on request; does not take it back from a living master.
    yielded: bool,
    /// Why the timer expired, while waiting for the group.
    wants: Option<Reason>,
    announce_again: Option<(Instant, u8)>,
    refresh_at: Option<Instant>,
    announced_at: Option<Instant>,
    answered_at: Option<Instant>,
}

impl Vrrp {
    /// An instance in [`State::Initialize`].
    pub const fn new(parameters: Parameters, membership: Membership) -> Self {
        Self {
            priority: parameters.priority,
            master_interval: parameters.interval,
            parameters,
            membership,
            state: State::Initialize,
            timer: None,
            master: None,
            preempt_at: None,
            ignored: None,
            held: false,
            yielded: false,
            wants: None,
            announce_again: None,
            refresh_at: None,
            announced_at: None,
            answered_at: None,
        }
    }

    /// Where the instance stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Effective priority.
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// How the instance behaves.
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The master that a backup last followed.
    pub const fn master(&self) -> Option<&Heard> {
        self.master.as_ref()
    }

    /// Whether a grouped backup's timer has expired.
    pub const fn wants_master(&self) -> bool {
        self.wants.is_some()
    }

    /// When [`Event::Timeout`] is due; `None` when nothing is awaited.
    pub fn deadline(&self) -> Option<Instant> {
        let again = self.announce_again.map(|(at, _)| at);
        [self.timer, again, self.refresh_at].into_iter().flatten().min()
    }

    /// When the next advert is due: the moment that jitter is measured from.
    pub const fn advert_due(&self) -> Option<Instant> {
        match self.state {
            State::Master => self.timer,
            State::Initialize | State::Backup | State::Fault => None,
        }
    }

    /// Time without adverts after which a backup gives the master up.
    pub fn master_down(&self) -> Duration {
        self.master_interval * u32::from(self.parameters.down_adverts.get()) + self.skew()
    }

    /// The share of a second, or of the interval, that a lower priority waits longer.
    fn skew(&self) -> Duration {
        let unit = match self.parameters.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.master_interval,
        };
        unit * (256 - u32::from(self.priority.get())) / 256
    }

    /// Sets the effective priority, as tracking computed it. A master tells it with its next advert; a
    /// backup's timer moves by the change of skew.
    pub fn set_priority(&mut self, priority: Priority) {
        let before = self.skew();
        self.priority = priority;
        let after = self.skew();
        if self.state == State::Backup {
            self.timer = self.timer.map(|timer| {
                let moved = timer + after;
                moved.checked_sub(before).unwrap_or(moved)
            });
        }
    }

    /// Forbids or allows to replace a living master of lower priority. A silent master is replaced all
    /// the same.
    pub const fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Takes another configuration without leaving the state. A changed interval counts from the next
    /// advert on.
    pub fn reconfigure(&mut self, parameters: Parameters, membership: Membership) {
        if self.state == State::Master || self.master.is_none() {
            self.master_interval = parameters.interval;
        }
        self.parameters = parameters;
        self.membership = membership;
    }

    /// Tells what an event means. Actions are appended to `out`, to be carried out in order. Events that
    /// mean nothing in the current state, late packets among them, do nothing.
    pub fn on(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        self.check_punctual(now, out);
        match (self.state, event) {
            (State::Initialize, Event::Startup) => self.start(Reason::Started, now, out),
            (State::Fault, Event::Recovered) => self.start(Reason::Recovered, now, out),
            (State::Backup, Event::Advert(heard)) => self.backup_hears(heard, now),
            (State::Master, Event::Advert(heard)) => self.master_hears(heard, now, out),
            (State::Backup, Event::Timeout) => self.backup_timeout(now, out),
            (State::Master, Event::Timeout) => self.master_timeout(now, out),
            (State::Backup, Event::Promote) => {
                self.become_master(self.wants.unwrap_or(Reason::Group), now, out);
            }
            (State::Backup, Event::Demote) => self.follow_nobody(now),
            (State::Master, Event::Demote) => self.become_backup(Reason::Group, now, out),
            (State::Master, Event::Announce) => self.announce_for_lower(now, out),
            (State::Master, Event::Resign) => {
                self.yielded = true;
                out.push(Action::Advertise { priority: super::packet::RESIGN });
                self.become_backup(Reason::Operator, now, out);
            }
            (State::Initialize | State::Backup | State::Master, Event::Fault) => {
                self.leave(State::Fault, Reason::Fault, out);
            }
            (State::Backup | State::Master | State::Fault, Event::Shutdown) => {
                self.leave(State::Initialize, Reason::Stopped, out);
            }
            (
                State::Initialize,
                Event::Advert(_)
                | Event::Timeout
                | Event::Shutdown
                | Event::Recovered
                | Event::Resign
                | Event::Promote
                | Event::Demote
                | Event::Announce,
            )
            | (
                State::Backup,
                Event::Startup | Event::Recovered | Event::Resign | Event::Announce,
            )
            | (State::Master, Event::Startup | Event::Recovered | Event::Promote)
            | (
                State::Fault,
                Event::Startup
                | Event::Advert(_)
                | Event::Timeout
                | Event::Fault
                | Event::Resign
                | Event::Promote
                | Event::Demote
                | Event::Announce,
            ) => {}
        }
    }

    fn start(&mut self, reason: Reason, now: Instant, out: &mut Vec<Action>) {
        self.enter(State::Backup, reason, out);
        self.yielded = false;
        self.follow_nobody(now);
        if self.priority == Priority::OWNER && !self.held {
            self.ask(Reason::Owner, now, out);
        } else if self.parameters.eager {
            self.timer = Some(now + self.master_interval + self.skew());
        } else if reason == Reason::Started {
            self.timer = self.timer.map(|timer| timer + self.parameters.startup_delay);
        }
    }

    /// Waits a whole master-down interval for somebody to speak.
    fn follow_nobody(&mut self, now: Instant) {
        self.master = None;
        self.preempt_at = None;
        self.ignored = None;
        self.wants = None;
        self.master_interval = self.parameters.interval;
        self.timer = Some(now + self.master_down());
    }

    fn backup_hears(&mut self, heard: Heard, now: Instant) {
        if heard.priority == super::packet::RESIGN {
            self.master = Some(heard);
            self.ignored = None;
            if self.wants.is_none() {
                self.timer = Some(now + self.skew());
            }
            return;
        }
        if heard.priority >= self.priority.get() {
            self.preempt_at = None;
        } else if self.may_preempt(now) {
            self.ignored = Some(heard);
            return;
        }
        self.ignored = None;
        self.wants = None;
        self.master = Some(heard);
        self.master_interval = match self.parameters.version {
            Version::V2 => self.parameters.interval,
            Version::V3 => heard.interval,
        };
        self.timer = Some(now + self.master_down());
    }

    /// Whether the lower master just heard may be replaced: its adverts are then ignored and the timer
    /// runs out. The delay counts from the first of them.
    fn may_preempt(&mut self, now: Instant) -> bool {
        let from = *self.preempt_at.get_or_insert(now + self.parameters.preempt_delay);
        self.parameters.preempt && !self.held && !self.yielded && from <= now
    }

    fn backup_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.timer.is_some_and(|timer| timer <= now) {
            let reason = match (self.ignored, self.master) {
                (Some(Heard { source: from, priority, .. }), _) => {
                    Reason::Preempted { from, priority }
                }
                (None, Some(Heard { priority: super::packet::RESIGN, .. })) => {
                    Reason::MasterResigned
                }
                (None, Some(_) | None) => Reason::MasterSilent,
            };
            self.ask(reason, now, out);
        }
    }

    fn ask(&mut self, reason: Reason, now: Instant, out: &mut Vec<Action>) {
        match self.membership {
            Membership::Alone => self.become_master(reason, now, out),
            Membership::Grouped => {
                self.wants = Some(reason);
                self.timer = None;
            }
        }
    }

    /// The advert goes first, so the old master leaves before hosts learn the new place.
    fn become_master(&mut self, reason: Reason, now: Instant, out: &mut Vec<Action>) {
        self.enter(State::Master, reason, out);
        self.master = None;
        self.preempt_at = None;
        self.ignored = None;
        self.wants = None;
        self.yielded = false;
        self.master_interval = self.parameters.interval;
        self.timer = Some(now + self.parameters.interval);
        let Announcements { repeat, delay, refresh, .. } = self.parameters.announcements;
        self.announce_again = (!delay.is_zero() && repeat > 0).then(|| (now + delay, repeat));
        self.refresh_at = (!refresh.is_zero()).then(|| now + refresh);
        out.push(Action::Advertise { priority: self.priority.get() });
        out.push(Action::TakeAddresses);
        self.announce(repeat, now, out);
    }

    fn become_backup(&mut self, reason: Reason, now: Instant, out: &mut Vec<Action>) {
        out.push(Action::ReleaseAddresses);
        self.enter(State::Backup, reason, out);
        self.follow_nobody(now);
    }

    fn leave(&mut self, to: State, reason: Reason, out: &mut Vec<Action>) {
        if self.state == State::Master {
            out.push(Action::Advertise { priority: super::packet::RESIGN });
            out.push(Action::ReleaseAddresses);
        }
        self.enter(to, reason, out);
        self.master = None;
        self.preempt_at = None;
        self.ignored = None;
        self.wants = None;
        self.timer = None;
    }

    fn enter(&mut self, to: State, reason: Reason, out: &mut Vec<Action>) {
        out.push(Action::Changed { from: self.state, to, reason });
        self.state = to;
        self.announce_again = None;
        self.refresh_at = None;
        self.announced_at = None;
        self.answered_at = None;
    }

    fn master_hears(&mut self, heard: Heard, now: Instant, out: &mut Vec<Action>) {
        let own = self.priority.get();
        if heard.source == self.parameters.source {
            // Our own packet, sent back by the network.
            return;
        }
        if heard.priority == super::packet::RESIGN {
            self.advertise(now, out);
        } else if heard.priority > own {
            let reason = Reason::HigherPriority { from: heard.source, priority: heard.priority };
            self.give_way(heard, reason, now, out);
        } else if heard.priority == own && heard.source > self.parameters.source {
            self.give_way(heard, Reason::HigherAddress { from: heard.source }, now, out);
        } else {
            self.insist(now, out);
        }
    }

    fn give_way(&mut self, heard: Heard, reason: Reason, now: Instant, out: &mut Vec<Action>) {
        if self.parameters.answer_higher {
            out.push(Action::Advertise { priority: self.priority.get() });
        }
        self.become_backup(reason, now, out);
        self.backup_hears(heard, now);
    }

    /// Answers a lower master at most four times per interval and announces at most once per second: a
    /// flood of adverts must not become a larger flood of ours.
    fn insist(&mut self, now: Instant, out: &mut Vec<Action>) {
        let pause = self.parameters.interval / 4;
        if self.answered_at.is_some_and(|at| now < at + pause) {
            return;
        }
        self.answered_at = Some(now);
        if self.parameters.answer_lower {
            self.advertise(now, out);
        }
        self.announce_for_lower(now, out);
    }

    fn announce_for_lower(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Announcements { lower_repeat: rounds, lower_delay: delay, .. } =
            self.parameters.announcements;
        if rounds == 0 {
            return;
        }
        let soonest = self.announced_at.map_or(now, |at| at + ANNOUNCE_PAUSE);
        if soonest <= now {
            self.announce(rounds, now, out);
            let again = now + delay.max(ANNOUNCE_PAUSE);
            self.announce_again = (!delay.is_zero()).then_some((again, rounds));
        } else {
            let next = self.announce_again.map_or(soonest, |(at, _)| at.min(soonest));
            self.announce_again = Some((next, rounds));
        }
    }

    fn announce(&mut self, rounds: u8, now: Instant, out: &mut Vec<Action>) {
        if rounds > 0 {
            self.announced_at = Some(now);
            out.push(Action::Announce { rounds });
        }
    }

    fn advertise(&mut self, now: Instant, out: &mut Vec<Action>) {
        out.push(Action::Advertise { priority: self.priority.get() });
        self.timer = Some(now + self.parameters.interval);
    }

    fn master_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(due) = self.timer.filter(|due| *due <= now) {
            self.advertise(now, out);
            // The next one counts from when this one was due, so lateness does not add up.
            let next = due + self.parameters.interval;
            if next > now {
                self.timer = Some(next);
            }
        }
        if let Some((_, rounds)) = self.announce_again.filter(|(at, _)| *at <= now) {
            self.announce_again = None;
            self.announce(rounds, now, out);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            let Announcements { refresh, refresh_repeat: rounds, .. } =
                self.parameters.announcements;
            self.refresh_at = (!refresh.is_zero()).then(|| now + refresh);
            self.announce(rounds, now, out);
        }
    }

    /// A master that was stopped, swapped out or starved has been replaced meanwhile. Going back to backup
    /// first avoids two masters, and lets the peer's news arrive before mastership does.
    fn check_punctual(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.state != State::Master || !self.parameters.yield_when_late {
            return;
        }
        let patience = self.parameters.interval * u32::from(self.parameters.down_adverts.get());
        let late = self.timer.map(|due| now.saturating_duration_since(due)).unwrap_or_default();
        if late > patience {
            self.become_backup(Reason::Late { by: late }, now, out);
        }
    }
}
