//! Takes happenings, delivers messages.
//!
//! The channel for happenings is bounded and nobody waits for it: what finds no room is counted and
//! reported. Each receiver has one delivery under way at a time, apart from all others, so a mail
//! server that hangs delays no webhook.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::outbox::{Fate, Outbox};
use super::policy::{Happening, Policy};
use super::send::deliver;
use crate::model::{Alert, AlertTarget};

#[cfg(test)]
mod tests;

/// Happenings that may wait.
const WAITING: usize = 1024;

enum Command {
    Configure(String, Vec<Alert>),
    Happened(Happening),
}

/// The way to the receivers. They are served until the last handle is gone.
#[derive(Clone)]
pub struct Alerts {
    commands: mpsc::Sender<Command>,
    lost: Arc<AtomicU64>,
}

impl Alerts {
    /// Starts on the current Tokio runtime, without receivers. What goes wrong with deliveries
    /// comes out of the second value, in sentences; those that find no room there are dropped.
    pub fn start() -> (Self, mpsc::Receiver<String>) {
        let (commands, inbox) = mpsc::channel(WAITING);
        let (complaints, heard) = mpsc::channel(64);
        tokio::spawn(run(inbox, complaints));
        (Self { commands, lost: Arc::default() }, heard)
    }

    /// Takes this director's name and the receivers that the operator wants.
    pub async fn configure(&self, node: String, receivers: Vec<Alert>) {
        // A task that has ended serves nobody; then the process is about to end too.
        let _ = self.commands.send(Command::Configure(node, receivers)).await;
    }

    /// Something happened. Never waits.
    pub fn happened(&self, happening: Happening) {
        if self.commands.try_send(Command::Happened(happening)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Happenings that found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

struct Post {
    node: Arc<str>,
    policy: Policy,
    targets: BTreeMap<String, AlertTarget>,
    outboxes: BTreeMap<String, Outbox>,
    deliveries: JoinSet<(String, Result<(), String>)>,
    complaints: mpsc::Sender<String>,
}

async fn run(mut inbox: mpsc::Receiver<Command>, complaints: mpsc::Sender<String>) {
    let mut post = Post {
        node: Arc::from(""),
        policy: Policy::default(),
        targets: BTreeMap::new(),
        outboxes: BTreeMap::new(),
        deliveries: JoinSet::new(),
        complaints,
    };
    loop {
        post.start_due();
        let due = post.next_due();
        tokio::select! {
            command = inbox.recv() => match command {
                None => return,
                Some(Command::Configure(node, receivers)) => post.configure(node, &receivers),
                Some(Command::Happened(happening)) => post.policy.on_happening(&happening, now()),
            },
            Some(ended) = post.deliveries.join_next() => {
                if let Ok((receiver, result)) = ended {
                    post.ended(&receiver, result);
                }
            }
            () = sleep_until(due) => {}
        }
    }
}

impl Post {
    fn configure(&mut self, node: String, receivers: &[Alert]) {
        self.node = node.into();
        self.policy.configure(receivers, now());
        self.targets =
            receivers.iter().map(|alert| (alert.name.clone(), alert.target.clone())).collect();
        // What waited for a receiver that is gone is of no use any more.
        self.outboxes.retain(|name, _| self.targets.contains_key(name));
    }

    fn next_due(&self) -> Option<std::time::Instant> {
        let now = now();
        let outboxes = self.outboxes.values().filter_map(|outbox| outbox.next_due(now));
        outboxes.chain(self.policy.next_due()).min()
    }

    fn start_due(&mut self) {
        let now = now();
        for message in self.policy.take_due(now) {
            self.outboxes.entry(message.receiver.clone()).or_default().push(message);
        }
        for (receiver, outbox) in &mut self.outboxes {
            let Some(target) = self.targets.get(receiver) else { continue };
            let Some(message) = outbox.begin(now) else { continue };
            let (node, target) = (Arc::clone(&self.node), target.clone());
            self.deliveries.spawn(async move {
                let result = deliver(&node, &target, &message).await;
                (message.receiver, result)
            });
        }
    }

    fn ended(&mut self, receiver: &str, result: Result<(), String>) {
        let Some(outbox) = self.outboxes.get_mut(receiver) else { return };
        let Err(why) = result else {
            outbox.delivered();
            return;
        };
        let first = outbox.failures() == 0;
        let text = match outbox.failed(now()) {
            Fate::Again if !first => return,
            Fate::Again => format!("alert to {receiver} failed, will retry: {why}"),
            Fate::GivenUp => format!("alert to {receiver} abandoned: {why}"),
        };
        let _ = self.complaints.try_send(text);
    }
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
