//! Between the engine and VRRP: which instances run follows the running document, what they become
//! are events, and what they track is told to them.

use super::scripts::{self, Verdict};
use crate::compile::{instances, script_thing, service_thing};
use crate::events::Event;
use crate::inbox::Message;
use crate::model::{Document, Tracked};
use crate::record::{Kind, Severity};
use crate::vrrp::foreign::{Finding, ForeignClusters};
use crate::vrrp::instance::Instance;
use crate::vrrp::status::{Change, InstanceStatus};
use crate::vrrp::task::{CommandError, VrrpHandle, spawn};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Changes and verdicts on their way; while it is full VRRP's thread keeps the newest change of each
/// instance, and scripts wait.
const QUEUE: usize = 64;

/// How often the counters are searched for adverts of other clusters.
const LOOK: Duration = Duration::from_secs(1);

/// The way to VRRP's thread, which runs from the first instance on. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Mastership {
    thread: Arc<Mutex<Option<VrrpHandle>>>,
    orders: Arc<Mutex<Orders>>,
}

/// What holds for the thread even before it runs.
#[derive(Debug, Default)]
struct Orders {
    /// Nothing is started any more.
    ended: bool,
    held: bool,
    inhibited: Option<String>,
}

impl Mastership {
    /// All instances as they stand, by name.
    pub fn status(&self) -> Arc<Vec<InstanceStatus>> {
        self.thread().as_ref().map(VrrpHandle::status).unwrap_or_default()
    }

    /// Gives mastership of one instance and its group, or of all, to the other node.
    ///
    /// # Errors
    /// When the thread does not run or takes no commands.
    pub fn resign(&self, instance: Option<String>) -> Result<(), CommandError> {
        self.thread().as_ref().ok_or(CommandError::Gone)?.resign(instance)
    }

    /// Forbids, or allows again, to take mastership from a living master of lower priority.
    pub fn hold(&self, held: bool) {
        self.orders().held = held;
        self.command(|thread| thread.hold(held));
    }

    /// Puts every instance in fault for a reason, or ends that.
    pub fn inhibit(&self, reason: Option<String>) {
        self.orders().inhibited.clone_from(&reason);
        self.command(|thread| thread.inhibit(reason));
    }

    /// Resigns everywhere and ends the thread, for good. Waits for it.
    pub fn stop(&self) {
        self.orders().ended = true;
        let thread = self.thread().take();
        if let Some(Err(error)) = thread.map(VrrpHandle::shutdown) {
            tracing::error!(%error, "VRRP had ended before");
        }
    }

    /// Runs these instances and no others.
    fn configure(&self, wanted: Vec<Instance>, changes: &mpsc::Sender<Change>) -> io::Result<()> {
        let mut thread = self.thread();
        match thread.as_ref() {
            Some(running) => running.configure(wanted).map_err(io::Error::other),
            None if wanted.is_empty() || self.orders().ended => Ok(()),
            None => {
                let started = thread.insert(spawn(wanted, changes.clone())?);
                let orders = self.orders();
                let told = started.hold(orders.held);
                told.and_then(|()| started.inhibit(orders.inhibited.clone()))
                    .map_err(io::Error::other)
            }
        }
    }

    fn track(&self, thing: &str, up: bool) {
        self.command(|thread| thread.track(thing, up));
    }

    fn command(&self, give: impl FnOnce(&VrrpHandle) -> Result<(), CommandError>) {
        if let Some(Err(error)) = self.thread().as_ref().map(give) {
            tracing::error!(%error, "VRRP was not told");
        }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<VrrpHandle>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the document until the engine ends.
pub(crate) async fn run(
    mastership: Mastership,
    mut document: watch::Receiver<Arc<Document>>,
    mut below_quorum: watch::Receiver<BTreeSet<String>>,
    inbox: mpsc::Sender<Message>,
) {
    let (told, mut changes) = mpsc::channel(QUEUE);
    let (judged, mut verdicts) = mpsc::channel(QUEUE);
    let mut current = Arc::clone(&document.borrow_and_update());
    let mut watching = JoinSet::new();
    scripts::watch(&current.track_scripts, &judged, &mut watching);
    let mut events = start(&mastership, &current, &below_quorum, &told);
    let mut foreign = ForeignClusters::default();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for event in events.drain(..) {
            if inbox.send(Message::Event(event)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            Some(change) = changes.recv() => events.push(event(change)),
            changed = document.changed() => {
                if changed.is_err() {
                    return;
                }
                let next = Arc::clone(&document.borrow_and_update());
                if next.track_scripts != current.track_scripts {
                    watching = JoinSet::new();
                    scripts::watch(&next.track_scripts, &judged, &mut watching);
                }
                current = next;
                events = start(&mastership, &current, &below_quorum, &told);
            }
            changed = below_quorum.changed() => {
                if changed.is_err() {
                    return;
                }
                tell_quorums(&mastership, &current, &below_quorum.borrow_and_update());
            }
            Some(Verdict { script, good, why }) = verdicts.recv() => {
                mastership.track(&script_thing(&script), good);
                let severity = if good { Severity::Info } else { Severity::Warning };
                let text = format!("script {script}: {why}");
                events.push(Event::Noticed { kind: Kind::System, severity, text });
            }
            now = looks.tick() => {
                let found = foreign.look(&mastership.status(), now.into_std());
                events.extend(found.into_iter().map(notice));
            }
        }
    }
}

/// Has VRRP run the document's instances. What went wrong is for the record.
fn start(
    mastership: &Mastership,
    document: &Document,
    below_quorum: &watch::Receiver<BTreeSet<String>>,
    changes: &mpsc::Sender<Change>,
) -> Vec<Event> {
    let (wanted, mut problems) = instances(document);
    if let Err(error) = mastership.configure(wanted, changes) {
        problems.push(format!("VRRP does not run: {error}"));
    }
    tell_quorums(mastership, document, &below_quorum.borrow());
    let notice = |text| Event::Noticed { kind: Kind::System, severity: Severity::Error, text };
    problems.into_iter().map(notice).collect()
}

fn tell_quorums(mastership: &Mastership, document: &Document, down: &BTreeSet<String>) {
    let tracks = document.vrrp.iter().flat_map(|instance| &instance.track);
    let services = tracks.filter_map(|track| match &track.what {
        Tracked::Service(name) => Some(name),
        Tracked::Interface(_) | Tracked::Script(_) => None,
    });
    for name in services.collect::<BTreeSet<_>>() {
        mastership.track(&service_thing(name), !down.contains(name));
    }
}

fn notice(finding: Finding) -> Event {
    let (severity, text) = match finding {
        Finding::Heard(text) => (Severity::Warning, text),
        Finding::Gone(text) => (Severity::Info, text),
    };
    Event::Noticed { kind: Kind::System, severity, text }
}

fn event(change: Change) -> Event {
    let Change { instance, to, reason, faults, .. } = change;
    let reason = if faults.is_empty() { reason.to_string() } else { faults.join(", ") };
    Event::RoleChanged { instance, to, reason }
}
