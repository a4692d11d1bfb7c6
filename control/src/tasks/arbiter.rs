//! What arbitration lives by: the own and the peer's roles, the witnesses' answers; and what follows
//! from it: standing down, fencing.

use super::arbitration::{Arbitration, Facts, Own};
use super::fencing::{self, Fencing};
use super::mac_kinds::MacKinds;
use crate::fence;
use crate::health::fsm::Depth;
use crate::health::outcome::Verdict;
use crate::health::probe::{Probe, Target};
use crate::model::{self, Peer, PingProbe};
use crate::record::Severity;
use crate::sync::message::Role;
use crate::tasks::Mastership;
use crate::vrrp::fsm::{Reason, State};
use crate::vrrp::status::InstanceStatus;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Between two questions to a witness, and how long its answer may take.
const ASK: Duration = Duration::from_secs(1);

/// A witness that has not answered for so long counts as silent.
const SILENT: Duration = Duration::from_millis(2500);

/// The other director is not switched off again within this.
const FENCE_PAUSE: Duration = Duration::from_secs(120);

/// What is for the record.
pub(crate) type Word = (Severity, String);

/// Decides whether this node may be master, and sees to it.
pub(crate) struct Arbiter {
    mastership: Mastership,
    judge: Arbitration,
    standing_down: Option<String>,
    peer: Vec<Role>,
    told: Vec<Role>,
    fencing: Fencing,
    kinds: MacKinds,
    witnesses: Vec<IpAddr>,
    /// When a witness answered last, in milliseconds since `started`.
    answered: Arc<AtomicU64>,
    asking: JoinSet<()>,
    started: Instant,
    fenced: Option<Instant>,
    words: (mpsc::Sender<Word>, mpsc::Receiver<Word>),
}

impl Arbiter {
    pub fn new(mastership: Mastership, now: Instant) -> Self {
        Self {
            mastership,
            judge: Arbitration::default(),
            standing_down: None,
            peer: Vec::new(),
            told: Vec::new(),
            fencing: Fencing::default(),
            kinds: MacKinds::default(),
            witnesses: Vec::new(),
            answered: Arc::default(),
            asking: JoinSet::new(),
            started: now,
            fenced: None,
            words: mpsc::channel(4),
        }
    }

    /// The document names this peer now.
    pub fn follow(&mut self, peer: Option<&Peer>, now: Instant) {
        if peer.is_none() {
            self.kinds = MacKinds::default();
        }
        let witnesses = peer.map(|peer| peer.witnesses.clone()).unwrap_or_default();
        if witnesses == self.witnesses {
            return;
        }
        self.asking = JoinSet::new();
        // New witnesses have a moment to answer.
        self.answered = Arc::new(AtomicU64::new(millis(now, self.started)));
        for witness in &witnesses {
            let answered = Arc::clone(&self.answered);
            self.asking.spawn(ask(*witness, answered, self.started));
        }
        self.witnesses = witnesses;
    }

    /// The link is up: the peer knows nothing of this node yet.
    pub fn connected(&mut self) {
        self.told.clear();
        self.peer.clear();
    }

    /// The peer said what it is.
    pub fn heard(&mut self, roles: Vec<Role>) {
        self.peer = roles;
    }

    /// Looks at everything. What the peer is to be told, and what is for the record.
    pub fn turn(
        &mut self,
        peer: Option<&Peer>,
        (link, fresh): (bool, bool),
        heard: Option<Instant>,
        wins_ties: bool,
        now: Instant,
    ) -> (Option<Vec<Role>>, Vec<Word>) {
        let statuses = self.mastership.status();
        let own: Vec<Own> = statuses.iter().map(own).collect();
        let roles: Vec<Role> = own.iter().map(|own| own.role.clone()).collect();
        let facts = Facts {
            link,
            fresh,
            own: &own,
            peer: &self.peer,
            wins_ties,
            now: now.saturating_duration_since(self.started),
            witnessed: (!self.witnesses.is_empty()).then(|| self.is_witnessed(now)),
        };
        let mut words = Vec::new();
        let verdict = self.judge.judge(&facts);
        if verdict != self.standing_down {
            words.push(match &verdict {
                Some(why) => (Severity::Error, format!("stands down: {why}")),
                None => (Severity::Info, "may be master again".to_owned()),
            });
            self.standing_down.clone_from(&verdict);
            self.mastership.inhibit(verdict);
        }
        words.extend(self.kinds.compare(&own, &self.peer));
        words.extend(self.fence_if_due(peer, (link, heard), &statuses, now));
        while let Ok(word) = self.words.1.try_recv() {
            words.push(word);
        }
        let news = (link && roles != self.told).then(|| roles.clone());
        if link {
            self.told = roles;
        }
        (news, words)
    }

    /// A node that became master because the other one is silent on both paths.
    fn fence_if_due(
        &mut self,
        peer: Option<&Peer>,
        (link, heard): (bool, Option<Instant>),
        statuses: &[InstanceStatus],
        now: Instant,
    ) -> Option<Word> {
        let master = |status: &&InstanceStatus| status.state == State::Master;
        let mut masters = statuses.iter().filter(master);
        let facts = fencing::Facts {
            master: statuses.iter().any(|status| master(&status)),
            by_silence: masters.any(|status| status.reason == Some(Reason::MasterSilent)),
            link,
            heard,
            witnessed: (!self.witnesses.is_empty()).then(|| self.last_answer()),
            now,
        };
        let due = self.fencing.is_due(&facts);
        let fence = peer?.fence.clone().filter(|_| due)?;
        // A node that has never seen its peer may not shoot at it: it may be the one that is cut off.
        if self.peer.is_empty() || self.fenced.is_some_and(|at| now < at + FENCE_PAUSE) {
            return None;
        }
        self.fenced = Some(now);
        let words = self.words.0.clone();
        let text = format!("the peer is silent on both paths: {} {}", fence.agent, fence.action);
        tokio::spawn(async move {
            let word = match fence::run(&fence).await {
                Ok(()) => (Severity::Warning, "the peer was switched off".to_owned()),
                Err(error) => (Severity::Error, format!("the peer was not switched off: {error}")),
            };
            // Whoever reads this is gone only when the engine is.
            let _ = words.send(word).await;
        });
        Some((Severity::Warning, text))
    }

    /// The instances for which the peer uses the other kind of MAC.
    pub const fn other_macs(&self) -> &BTreeSet<String> {
        self.kinds.different()
    }

    fn is_witnessed(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_answer()) < SILENT
    }

    /// When a witness answered last.
    fn last_answer(&self) -> Instant {
        self.started + Duration::from_millis(self.answered.load(Ordering::Relaxed))
    }
}

fn own(status: &InstanceStatus) -> Own {
    Own {
        role: Role {
            instance: status.name.clone(),
            master: status.state == State::Master,
            priority: status.priority.get(),
            virtual_mac: Some(status.virtual_mac),
        },
        heard: status.counters.adverts_received.load(Ordering::Relaxed),
    }
}

/// Asks a witness again and again.
async fn ask(witness: IpAddr, answered: Arc<AtomicU64>, started: Instant) {
    let wanted = model::Probe::Ping(PingProbe { size: 56 });
    let Ok(probe) = Probe::prepare(&wanted, "") else { return };
    let target = Target::new(SocketAddr::new(witness, 0));
    loop {
        let asked = crate::sync::task::clock();
        if let Verdict::Passed(_) = probe.run(&target, Depth::Full, ASK).await.verdict {
            let now = crate::sync::task::clock();
            answered.fetch_max(millis(now, started), Ordering::Relaxed);
        }
        tokio::time::sleep_until((asked + ASK).into()).await;
    }
}

fn millis(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}
