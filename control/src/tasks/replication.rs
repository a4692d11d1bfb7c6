//! Between the engine and the peer link: the link follows the running document, what changes in the
//! packet path goes out by it, and a director that has just started waits until it has caught up.

use super::arbiter::Arbiter;
use crate::events::{Event, PeerEvent};
use crate::health::outcome::ClockReading;
use crate::inbox::Message;
use crate::model::{Document, Peer};
use crate::record::{Kind, Severity};
use crate::state::Refusal;
use crate::sync::identity::Fingerprint;
use crate::sync::message::{Hello, SHARING};
use crate::sync::session::Control;
use crate::sync::status::{LinkState, PeerClock, SyncStatus, Traffic};
use crate::sync::table::{Harvest, Table, Taken};
use crate::sync::task::{Settings, SyncEvent, SyncHandle, clock, spawn};
use crate::tasks::Mastership;
use dataplane::worker::Dataplane;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Between two looks at what changed. What was opened in the last moment before a crash is lost, and
/// this is most of that moment.
const HARVEST: Duration = Duration::from_millis(5);

/// Between two looks while there is no link: what was taken in has to expire all the same.
const IDLE: Duration = Duration::from_millis(100);

/// Looks for a link that is about to begin, `IDLE` apart.
const BEGINNING: usize = 50;

/// How long after a change of the document connections may still come that were told to the one before.
const WATCH: Duration = Duration::from_secs(1);

/// Until the link is tried again when it cannot even begin.
const RETRY: Duration = Duration::from_secs(2);

/// Words of the link on their way. While it is full the link waits.
const EVENTS: usize = 64;

/// The way to the peer link. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Replication(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    peer: Option<Peer>,
    link: Option<Arc<SyncHandle>>,
    /// Why there is no link, when it cannot even begin.
    trouble: Option<String>,
    /// Whether this node does not preempt because it has not caught up.
    waiting: bool,
    /// Whether nothing of the peer's configuration is under way to this node.
    settled: bool,
    /// VRRP instances for which the peer uses the other kind of MAC.
    other_macs: BTreeSet<String>,
    taken: Arc<Taken>,
}

/// How the link to the other director stands, in its own words.
#[derive(Debug)]
pub struct LinkReport {
    /// The configured peer.
    pub peer: Option<Peer>,
    /// Why the link cannot even begin.
    pub trouble: Option<String>,
    /// The link's status, its traffic and this node's key, when there is a link.
    pub link: Option<(SyncStatus, Arc<Traffic>, Fingerprint)>,
    /// What was taken in from the peer.
    pub taken: Arc<Taken>,
    /// Whether this node does not preempt because it has not caught up.
    pub waiting: bool,
    /// When the report was made.
    pub now: Instant,
}

impl Replication {
    /// How the link stands.
    pub fn report(&self) -> LinkReport {
        let inner = self.inner();
        let link =
            inner.link.as_ref().map(|link| (link.status(), link.traffic(), link.fingerprint()));
        LinkReport {
            peer: inner.peer.clone(),
            trouble: inner.trouble.clone(),
            link,
            taken: Arc::clone(&inner.taken),
            waiting: inner.waiting,
            now: clock(),
        }
    }

    /// VRRP instances for which the peer uses the other kind of MAC, as it told last.
    pub fn other_macs(&self) -> BTreeSet<String> {
        self.inner().other_macs.clone()
    }

    /// The peer's clock against this node's; `None` without a link.
    pub fn peer_clock(&self) -> Option<ClockReading> {
        let status = self.inner().link.as_ref()?.status();
        let up = matches!(status.state, LinkState::Up { .. });
        status.clock.filter(|_| up).map(PeerClock::reading)
    }

    /// Waits for the other node to be paired, by the code that this returns, for ten minutes.
    ///
    /// # Errors
    /// When there is no link to pair over.
    pub async fn pair(&self) -> Result<String, Refusal> {
        let code = self.link().await?.pair();
        code.map(|code| code.to_string()).map_err(|error| Refusal::Peer(error.to_string()))
    }

    /// Pairs with the configured peer by the code that it shows. The peer's key.
    ///
    /// # Errors
    /// When there is no link, the peer cannot be reached, or the code is wrong.
    pub async fn join(&self, code: &str) -> Result<String, Refusal> {
        let link = self.link().await?;
        let code = code.parse().map_err(|_| Refusal::Peer(format!("{code} is no pairing code")))?;
        let joined = link.join(&code).await;
        joined.map(|peer| peer.short()).map_err(|error| Refusal::Peer(error.to_string()))
    }

    /// The link, which a daemon that has just started may not have begun yet.
    async fn link(&self) -> Result<Arc<SyncHandle>, Refusal> {
        for _ in 0..BEGINNING {
            {
                let inner = self.inner();
                match (&inner.link, &inner.trouble, &inner.peer) {
                    (Some(link), _, _) => return Ok(Arc::clone(link)),
                    (None, Some(trouble), _) => return Err(Refusal::Peer(trouble.clone())),
                    (None, None, None) => {
                        let text = "the configuration names no [peer] to pair with";
                        return Err(Refusal::Peer(text.to_owned()));
                    }
                    (None, None, Some(_)) => {}
                }
            }
            tokio::time::sleep(IDLE).await;
        }
        Err(Refusal::Unavailable("still starting".to_owned()))
    }

    /// Tells the peer something, if the link is up. `false` when there was no room for it.
    pub(crate) fn say(&self, control: Control) -> bool {
        let link = self.inner().link.clone();
        // Without a link there is nobody to tell; a new one begins with everything.
        link.filter(|link| link.is_up()).is_none_or(|link| link.say(control))
    }

    /// Whether nothing of the peer's configuration is under way to this node.
    pub(crate) fn set_settled(&self, settled: bool) {
        self.inner().settled = settled;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the task works with.
pub(crate) struct Parts {
    pub replication: Replication,
    pub mastership: Mastership,
    pub dataplane: Arc<Dataplane>,
    /// Where keys are kept.
    pub directory: PathBuf,
    /// The host's name, for a node that has none of its own.
    pub host: String,
    pub document: watch::Receiver<Arc<Document>>,
    pub inbox: mpsc::Sender<Message>,
}

/// Follows the document until the engine ends.
pub(crate) async fn run(parts: Parts) {
    let (told, mut heard) = mpsc::channel(EVENTS);
    let arbiter = Arbiter::new(parts.mastership.clone(), clock());
    let mut task = Task {
        parts,
        told,
        arbiter,
        harvest: None,
        retry_at: None,
        patience: None,
        watched: None,
        refused: 0,
    };
    task.follow(true);
    if !task.turn().await {
        return;
    }
    loop {
        let pause = if task.harvest.is_some() { HARVEST } else { IDLE };
        tokio::select! {
            biased;
            changed = task.parts.document.changed() => {
                if changed.is_err() {
                    return;
                }
                task.follow(false);
                task.ask_again_if_refused();
                task.watched = Some(clock() + WATCH);
            }
            Some(event) = heard.recv() => {
                if !task.heard(event).await {
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {
                if !task.turn().await {
                    return;
                }
            }
        }
    }
}

struct Task {
    parts: Parts,
    told: mpsc::Sender<SyncEvent>,
    arbiter: Arbiter,
    harvest: Option<Harvest>,
    /// When the link is begun.
    retry_at: Option<Instant>,
    /// When a director that waits to catch up waits no longer.
    patience: Option<Instant>,
    /// When it is looked again whether the peer's connections fit a document that has just changed.
    watched: Option<Instant>,
    /// Connections of the peer that did not fit, at the last look.
    refused: u64,
}

impl Task {
    /// Looks which peer the document names.
    fn follow(&mut self, first: bool) {
        let wanted = self.parts.document.borrow_and_update().peer.clone();
        let mut inner = self.parts.replication.inner();
        if !first && inner.peer == wanted {
            return;
        }
        let same = |a: &Peer, b: &Peer| a.address == b.address && a.listen == b.listen;
        let kept = wanted.as_ref().zip(inner.peer.as_ref()).is_some_and(|(a, b)| same(a, b));
        inner.peer.clone_from(&wanted);
        self.arbiter.follow(wanted.as_ref(), clock());
        if kept {
            return;
        }
        // Dropping the handle says goodbye.
        inner.link = None;
        inner.trouble = None;
        self.harvest = None;
        self.retry_at = None;
        if let Some(peer) = wanted {
            let now = clock();
            self.retry_at = Some(now);
            if first && !peer.preempt_before_sync {
                inner.waiting = true;
                self.patience = Some(now + peer.catch_up_limit);
                self.parts.mastership.hold(true);
            }
        }
    }

    /// Begins the link if it is due, tells what changed, and lets expire what was taken in. Whether the
    /// engine still listens.
    async fn turn(&mut self) -> bool {
        let now = clock();
        if self.patience.is_some() && self.has_everything() {
            self.stop_waiting();
        }
        if self.watched.is_some_and(|until| until <= now) {
            self.watched = None;
            self.ask_again_if_refused();
        }
        if self.patience.is_some_and(|until| until <= now) {
            self.stop_waiting();
            let text =
                "did not catch up with the peer in time, and does not wait for it any longer";
            if !self.tell(Severity::Warning, text.to_owned()).await {
                return false;
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) && !self.begin().await {
            return false;
        }
        if !self.arbitrate(now).await {
            return false;
        }
        self.parts.dataplane.adopt(|adopter, now| adopter.expire(now));
        if let Some(harvest) = &mut self.harvest {
            let changes = harvest.take(dataplane::worker::now());
            let link = self.parts.replication.inner().link.clone();
            if let Some(link) = link.filter(|_| !changes.is_empty()) {
                link.record(changes);
            }
        }
        true
    }

    /// Whether the peer has nothing more to tell that this node has to wait for.
    fn has_everything(&self) -> bool {
        let inner = self.parts.replication.inner();
        let caught_up = inner.link.as_ref().is_some_and(|link| link.is_caught_up());
        // A document that was not looked at yet may be what connections wait for.
        caught_up && inner.settled && !self.parts.document.has_changed().unwrap_or(false)
    }

    /// Connections that did not fit the document before may fit the one that runs now.
    fn ask_again_if_refused(&mut self) {
        let inner = self.parts.replication.inner();
        let refused = inner.taken.refused.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.refused, refused) != refused
            && let Some(link) = &inner.link
        {
            link.ask_again();
        }
    }

    /// Sees to it that only one of the two is master. Whether the engine still listens.
    async fn arbitrate(&mut self, now: Instant) -> bool {
        let (peer, link) = {
            let inner = self.parts.replication.inner();
            (inner.peer.clone(), inner.link.clone())
        };
        let up = link.as_ref().is_some_and(|link| link.is_up());
        let fresh = link.as_ref().is_some_and(|link| link.is_fresh(now));
        let wins_ties = link.as_ref().is_some_and(|link| link.wins_ties());
        let heard = link.as_ref().map(|link| link.heard());
        let (news, words) = self.arbiter.turn(peer.as_ref(), (up, fresh), heard, wins_ties, now);
        {
            let mut inner = self.parts.replication.inner();
            if inner.other_macs != *self.arbiter.other_macs() {
                inner.other_macs.clone_from(self.arbiter.other_macs());
            }
        }
        if let (Some(roles), Some(link)) = (news, link) {
            // A full queue is told again at the next change; the link is in trouble then anyway.
            link.say(Control::Roles(roles));
        }
        for (severity, text) in words {
            if !self.tell(severity, text).await {
                return false;
            }
        }
        true
    }

    async fn begin(&mut self) -> bool {
        let peer = self.parts.replication.inner().peer.clone();
        let Some(peer) = peer else {
            self.retry_at = None;
            return true;
        };
        let node = self.parts.document.borrow().node.name.clone();
        let node = node.unwrap_or_else(|| self.parts.host.clone());
        let directory = self.parts.directory.clone();
        let settings = Settings::new(peer.listen, peer.address, &node, directory);
        let taken = Arc::clone(&self.parts.replication.inner().taken);
        let table = Table::new(Arc::clone(&self.parts.dataplane), taken);
        match spawn(settings, table, self.told.clone()).await {
            Ok(link) => {
                let paired = link.status().state != LinkState::NotPaired;
                self.retry_at = None;
                let dataplane = Arc::clone(&self.parts.dataplane);
                self.harvest = Some(Harvest::new(dataplane, dataplane::worker::now()));
                let mut inner = self.parts.replication.inner();
                inner.trouble = None;
                inner.link = Some(Arc::new(link));
                drop(inner);
                if !paired {
                    // Nobody to catch up with.
                    self.stop_waiting();
                }
                true
            }
            Err(error) => {
                self.retry_at = Some(clock() + RETRY);
                let text = error.to_string();
                let before = self.parts.replication.inner().trouble.replace(text.clone());
                before.as_ref() == Some(&text)
                    || self.tell(Severity::Error, format!("no link to the peer: {text}")).await
            }
        }
    }

    /// What the peer does meanwhile is not known here: a living one is let be until it was heard out.
    fn wait_again(&mut self) {
        let mut inner = self.parts.replication.inner();
        let limit = inner.peer.as_ref().filter(|peer| !peer.preempt_before_sync);
        if let Some(limit) = limit.map(|peer| peer.catch_up_limit) {
            inner.waiting = true;
            self.patience = Some(clock() + limit);
            self.parts.mastership.hold(true);
        }
    }

    fn stop_waiting(&mut self) {
        if self.patience.take().is_some() {
            self.parts.replication.inner().waiting = false;
            self.parts.mastership.hold(false);
        }
    }

    /// Something was said by the link. Whether the engine still listens.
    async fn heard(&mut self, event: SyncEvent) -> bool {
        let (severity, text) = match event {
            SyncEvent::Up { peer, version } => return self.connected(&peer, version).await,
            SyncEvent::Down { reason } => {
                self.parts.replication.set_settled(false);
                self.wait_again();
                if !self.send(Event::Peer(PeerEvent::Disconnected)).await {
                    return false;
                }
                (Severity::Warning, format!("not connected: {reason}"))
            }
            SyncEvent::CaughtUp => {
                (Severity::Info, "all connections of the peer are here".to_owned())
            }
            SyncEvent::Heard(Control::Roles(roles)) => {
                self.arbiter.heard(roles);
                return true;
            }
            SyncEvent::Heard(
                control @ (Control::Heads(_)
                | Control::Want(_)
                | Control::Revision(_)
                | Control::Declined(_)
                | Control::Verdicts(_)
                | Control::Drains(_)),
            ) => return self.send(Event::Peer(PeerEvent::Said(control))).await,
            SyncEvent::Paired { peer } => {
                (Severity::Info, format!("paired with key {}", peer.short()))
            }
            SyncEvent::PairingFailed { from, reason } => {
                (Severity::Warning, format!("{from} tried to pair in vain: {reason}"))
            }
        };
        self.tell(severity, text).await
    }

    async fn connected(&mut self, peer: &Hello, version: u16) -> bool {
        self.arbiter.connected();
        let shares = version >= SHARING;
        self.parts.replication.set_settled(!shares);
        let text = format!("connected to {} ({})", peer.node, peer.program);
        if !self.tell(Severity::Info, text).await {
            return false;
        }
        if shares {
            return self.send(Event::Peer(PeerEvent::Connected { node: peer.node.clone() })).await;
        }
        let text = format!(
            "{} ({}) is too old to share configuration, drains and verdicts: upgrade it",
            peer.node, peer.program
        );
        self.tell(Severity::Warning, text).await
    }

    async fn tell(&self, severity: Severity, text: String) -> bool {
        self.send(Event::Noticed { kind: Kind::Peer, severity, text }).await
    }

    async fn send(&self, event: Event) -> bool {
        self.parts.inbox.send(Message::Event(event)).await.is_ok()
    }
}
