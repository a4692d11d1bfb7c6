//! Which receiver hears what, and when.
//!
//! A happening that a receiver wants opens a digest; whatever else happens within the receiver's
//! digest time goes into the same message. A condition that lasts (a server that is down) is told
//! again after the receiver's repeat time, until the happening that ends it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::model::{Alert, AlertEvent};

#[cfg(test)]
mod tests;

/// Items in one message; what happens beyond that is counted only.
const ITEMS: usize = 200;

/// Conditions that may last at once for one receiver; further ones are told but not repeated.
const CONDITIONS: usize = 10_000;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happening {
    /// What kind of thing.
    pub event: AlertEvent,
    /// Whether it is an end of trouble.
    pub good: bool,
    /// The service that it is about.
    pub service: Option<String>,
    /// The real server that it is about.
    pub real: Option<SocketAddr>,
    /// What happened, in one sentence.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Whether what it is about is in maintenance.
    pub maintenance: bool,
}

/// One line of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Item {
    /// Name of the kind of thing, as in the configuration.
    pub event: &'static str,
    /// Whether it is an end of trouble.
    pub good: bool,
    /// Whether it was told before and still lasts.
    pub repeated: bool,
    /// The service that it is about.
    pub service: Option<String>,
    /// The real server that it is about.
    pub real: Option<SocketAddr>,
    /// What happened, in one sentence.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
}

/// What one receiver is told at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Name of the receiver.
    pub receiver: String,
    /// In the order in which it happened.
    pub items: Vec<Item>,
    /// How much more happened than fits.
    pub omitted: u64,
}

/// A condition is ended by the good happening about the same thing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Subject {
    condition: &'static str,
    service: Option<String>,
    real: Option<SocketAddr>,
}

#[derive(Debug)]
struct Receiver {
    wanted: Alert,
    digest: VecDeque<Item>,
    omitted: u64,
    flush: Option<Instant>,
    lasting: BTreeMap<Subject, (Item, Instant)>,
}

/// Decides which receiver gets which event, and when.
#[derive(Debug, Default)]
pub struct Policy {
    receivers: Vec<Receiver>,
}

impl Policy {
    /// Takes the receivers that the operator wants. One that stays under its name keeps its digest
    /// and its lasting conditions, as far as it still wants them.
    pub fn configure(&mut self, wanted: &[Alert], now: Instant) {
        let mut before = std::mem::take(&mut self.receivers);
        for alert in wanted {
            let known = before.iter().position(|receiver| receiver.wanted.name == alert.name);
            let mut receiver = match known {
                Some(place) => before.swap_remove(place),
                None => Receiver::new(alert.clone()),
            };
            receiver.change(alert.clone(), now);
            self.receivers.push(receiver);
        }
    }

    /// Takes a happening.
    pub fn on_happening(&mut self, happening: &Happening, now: Instant) {
        for receiver in &mut self.receivers {
            receiver.on_happening(happening, now);
        }
    }

    /// When a message is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.receivers.iter().filter_map(Receiver::next_due).min()
    }

    /// The messages that are due.
    pub fn take_due(&mut self, now: Instant) -> Vec<Message> {
        self.receivers.iter_mut().filter_map(|receiver| receiver.take_due(now)).collect()
    }
}

impl Receiver {
    fn new(wanted: Alert) -> Self {
        Self { wanted, digest: VecDeque::new(), omitted: 0, flush: None, lasting: BTreeMap::new() }
    }

    fn change(&mut self, wanted: Alert, now: Instant) {
        let repeat = wanted.repeat;
        if repeat != self.wanted.repeat {
            self.lasting.values_mut().for_each(|(_, due)| *due = now + repeat);
        }
        self.wanted = wanted;
        let wanted = &self.wanted;
        self.lasting.retain(|subject, _| {
            repeat > Duration::ZERO && serves(wanted, subject.service.as_deref())
        });
    }

    fn wants(&self, happening: &Happening) -> bool {
        let event = self.wanted.events.is_empty() || self.wanted.events.contains(&happening.event);
        let quiet = happening.maintenance && !self.wanted.during_maintenance;
        event && !quiet && serves(&self.wanted, happening.service.as_deref())
    }

    fn on_happening(&mut self, happening: &Happening, now: Instant) {
        let subject = subject(happening);
        if happening.good || happening.maintenance {
            // Also ends what this receiver may not have been told of: nothing lasts unseen.
            self.lasting.remove(&subject);
        }
        if !self.wants(happening) {
            return;
        }
        let item = item(happening);
        let repeats = self.wanted.repeat > Duration::ZERO && !happening.good;
        if repeats && is_condition(happening.event) && self.lasting.len() < CONDITIONS {
            self.lasting.insert(subject, (item.clone(), now + self.wanted.repeat));
        }
        self.add(item);
        self.flush.get_or_insert(now + self.wanted.digest);
    }

    fn add(&mut self, item: Item) {
        if self.digest.len() < ITEMS {
            self.digest.push_back(item);
        } else {
            self.omitted += 1;
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.lasting.values().map(|(_, due)| *due).chain(self.flush).min()
    }

    fn take_due(&mut self, now: Instant) -> Option<Message> {
        if self.next_due().is_none_or(|due| due > now) {
            return None;
        }
        let mut again = Vec::new();
        for (item, due) in self.lasting.values_mut().filter(|(_, due)| *due <= now) {
            *due = now + self.wanted.repeat;
            again.push(Item { repeated: true, ..item.clone() });
        }
        again.into_iter().for_each(|item| self.add(item));
        self.flush = None;
        Some(Message {
            receiver: self.wanted.name.clone(),
            items: std::mem::take(&mut self.digest).into(),
            omitted: std::mem::take(&mut self.omitted),
        })
    }
}

/// A receiver of some services' alerts still hears what is about no service in particular.
fn serves(wanted: &Alert, service: Option<&str>) -> bool {
    let named = |service: &str| wanted.services.iter().any(|name| name == service);
    wanted.services.is_empty() || service.is_none_or(named)
}

fn item(happening: &Happening) -> Item {
    Item {
        event: event_name(happening.event),
        good: happening.good,
        repeated: false,
        service: happening.service.clone(),
        real: happening.real,
        text: happening.text.clone(),
        time: happening.time,
    }
}

fn subject(happening: &Happening) -> Subject {
    let condition = match happening.event {
        AlertEvent::RealDown | AlertEvent::RealUp => "real",
        AlertEvent::ServiceDown | AlertEvent::ServiceUp => "service",
        AlertEvent::Mastership => "mastership",
        AlertEvent::Peer => "peer",
        AlertEvent::Clock => "clock",
        AlertEvent::Certificate => "certificate",
        AlertEvent::Configuration => "configuration",
        AlertEvent::System => "system",
    };
    Subject { condition, service: happening.service.clone(), real: happening.real }
}

/// Whether there will be a happening that ends it. Others are told once.
const fn is_condition(event: AlertEvent) -> bool {
    match event {
        AlertEvent::RealDown
        | AlertEvent::RealUp
        | AlertEvent::ServiceDown
        | AlertEvent::ServiceUp
        | AlertEvent::Peer
        | AlertEvent::Clock
        | AlertEvent::Certificate => true,
        AlertEvent::Mastership | AlertEvent::Configuration | AlertEvent::System => false,
    }
}

/// The name of a kind of thing in messages.
pub const fn event_name(event: AlertEvent) -> &'static str {
    match event {
        AlertEvent::RealDown => "real_down",
        AlertEvent::RealUp => "real_up",
        AlertEvent::ServiceDown => "service_down",
        AlertEvent::ServiceUp => "service_up",
        AlertEvent::Mastership => "mastership",
        AlertEvent::Peer => "peer",
        AlertEvent::Clock => "clock",
        AlertEvent::Certificate => "certificate",
        AlertEvent::Configuration => "configuration",
        AlertEvent::System => "system",
    }
}
