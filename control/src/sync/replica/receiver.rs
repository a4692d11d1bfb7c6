//! The side that learns.

use super::super::connection::Change;
use super::super::message::{Body, Message, Step};
use super::super::records::Reader;

/// Where learnt connections go.
pub trait Sink {
    /// A snapshot begins. What was learnt before and is not told again until [`Sink::end`] no longer
    /// exists at the peer.
    fn begin(&mut self);
    /// Connections changed.
    fn apply(&mut self, changes: Vec<Change>);
    /// The snapshot is complete.
    fn end(&mut self);
}

/// What to send back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Everything up to here is applied.
    Ack {
        /// Number of the snapshot.
        epoch: u32,
        /// The last step applied.
        sequence: u64,
    },
    /// Something is missing.
    Resync {
        /// The snapshot that is broken.
        epoch: u32,
    },
}

impl From<Answer> for Message {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Ack { epoch, sequence } => Self::Ack { epoch, sequence },
            Answer::Resync { epoch } => Self::Resync { epoch },
        }
    }
}

/// What was received so far.
#[derive(Debug, Default)]
pub struct Receiver {
    /// The current snapshot; `None` before the first.
    epoch: Option<u32>,
    /// The step to come.
    next: u64,
    /// A step was missing or malformed: nothing of this epoch can be used any more.
    broken: bool,
    caught_up: bool,
    /// The latest epoch for which a new snapshot was asked, unless its beginning came afterwards.
    asked: Option<u32>,
    reader: Reader,
}

impl Receiver {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything that the peer has was received at least once on this link.
    pub const fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Has the peer tell everything again: this director knows something now that it lacked to take in
    /// what it was told. What is told meanwhile is taken in as well.
    pub fn again(&mut self) -> Option<Answer> {
        self.caught_up = false;
        self.epoch.and_then(|epoch| self.ask(epoch))
    }

    /// The link is gone; what was learnt stays, but a new link starts with a new snapshot.
    pub fn disconnected(&mut self) {
        *self = Self::default();
    }

    /// Takes a step. Steps that come twice, late or of an older snapshot do nothing.
    pub fn on_step(&mut self, step: &Step, sink: &mut impl Sink) -> Option<Answer> {
        let Step { epoch, sequence, body } = step;
        if self.epoch.is_none_or(|current| *epoch > current) {
            if *body != Body::Begin || *sequence != 0 {
                self.caught_up = false;
                return self.ask(*epoch);
            }
            self.epoch = Some(*epoch);
            self.next = 1;
            self.broken = false;
            self.caught_up = false;
            // A request made because the beginning seemed lost is void: it came late, and the request
            // may never arrive.
            self.asked = None;
            self.reader = Reader::default();
            sink.begin();
            return self.ack();
        }
        if self.epoch != Some(*epoch) || self.broken {
            return None;
        }
        if *sequence < self.next {
            return self.ack();
        }
        if *sequence > self.next || !self.apply(body, sink) {
            self.broken = true;
            return self.ask(*epoch);
        }
        self.next += 1;
        self.ack()
    }

    fn apply(&mut self, body: &Body, sink: &mut impl Sink) -> bool {
        match body {
            Body::Begin => false,
            Body::Changes(records) => match self.reader.read(records) {
                Ok(changes) => {
                    sink.apply(changes);
                    true
                }
                Err(_) => false,
            },
            Body::End => {
                // The end of a snapshot that is to be told again is not the end.
                if self.asked != self.epoch {
                    if !self.caught_up {
                        sink.end();
                    }
                    self.caught_up = true;
                }
                true
            }
        }
    }

    fn ack(&self) -> Option<Answer> {
        let sequence = self.next.checked_sub(1)?;
        self.epoch.map(|epoch| Answer::Ack { epoch, sequence })
    }

    /// Asks once for what is missing of an epoch; more would only make the sender start over and over.
    fn ask(&mut self, epoch: u32) -> Option<Answer> {
        if self.asked.is_some_and(|asked| asked >= epoch) {
            return None;
        }
        self.asked = Some(epoch);
        Some(Answer::Resync { epoch })
    }
}
