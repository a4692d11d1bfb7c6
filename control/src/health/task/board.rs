//! All checks with their schedule. Knows no clock; the loop turns it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::Report;
use super::entry::{CheckView, Entry, Job, SharedProbe};
use super::pace::Pace;
use crate::compile::RealKey;
use crate::health::CheckSpec;
use crate::health::outcome::Outcome;
use crate::health::passive::Tally;
use crate::model::Check;

/// All checks.
pub(super) struct Board {
    node: Arc<str>,
    entries: BTreeMap<RealKey, Entry>,
    /// When each check that waits is due.
    queue: BTreeSet<(Instant, RealKey)>,
    tallies: BTreeMap<RealKey, Tally>,
    pace: Pace,
    /// Counts new checks, to spread their beginnings.
    position: u32,
    /// Counts runs over all checks, so that no two are ever taken for each other.
    runs: u64,
}

/// Probes by the check that they were made from, so that the servers of a service share one.
type Shared = BTreeMap<*const Check, Arc<SharedProbe>>;

impl Board {
    pub fn new(node: String) -> Self {
        Self {
            node: node.into(),
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            tallies: BTreeMap::new(),
            pace: Pace::default(),
            position: 0,
            runs: 0,
        }
    }

    /// Makes these the checks. Returns those that are gone, with the probe under way if any.
    pub fn replace(
        &mut self,
        checks: BTreeMap<RealKey, CheckSpec>,
        now: Instant,
    ) -> BTreeMap<RealKey, Option<AbortHandle>> {
        self.pace.forget(now);
        let gone: Vec<_> =
            self.entries.keys().filter(|key| !checks.contains_key(*key)).copied().collect();
        let gone = gone.into_iter().map(|key| (key, self.remove(&key))).collect();
        let mut shared = Shared::new();
        for (key, spec) in checks {
            self.put(key, spec, &mut shared, now);
        }
        gone
    }

    fn put(&mut self, key: RealKey, spec: CheckSpec, shared: &mut Shared, now: Instant) {
        if self.entries.get(&key).is_some_and(|entry| entry.spec.same(&spec)) {
            return;
        }
        let node = &self.node;
        let probe = shared.entry(Arc::as_ptr(&spec.check)).or_insert_with(|| {
            Arc::new(SharedProbe::new(Arc::clone(&spec.check), Arc::clone(node)))
        });
        let probe = Arc::clone(probe);
        match self.entries.get_mut(&key) {
            Some(entry) => {
                let before = entry.fsm.due();
                entry.change(spec, probe, now);
                requeue(&mut self.queue, key, before, entry.fsm.due());
            }
            None => {
                let entry = Entry::new(spec, probe, self.position, now);
                self.position = self.position.wrapping_add(1);
                requeue(&mut self.queue, key, None, entry.fsm.due());
                self.entries.insert(key, entry);
            }
        }
    }

    fn remove(&mut self, key: &RealKey) -> Option<AbortHandle> {
        let entry = self.entries.remove(key)?;
        requeue(&mut self.queue, *key, entry.fsm.due(), None);
        entry.abort
    }

    pub fn tallies(&mut self, tallies: BTreeMap<RealKey, Tally>) {
        self.tallies = tallies;
    }

    pub fn hurry(&mut self, key: &RealKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            let before = entry.fsm.due();
            entry.fsm.hurry(now);
            requeue(&mut self.queue, *key, before, entry.fsm.due());
        }
    }

    /// Has every probe made ready anew.
    pub fn reload(&mut self) {
        let mut shared = Shared::new();
        for entry in self.entries.values_mut() {
            let check = &entry.spec.check;
            let probe = shared.entry(Arc::as_ptr(check)).or_insert_with(|| {
                Arc::new(SharedProbe::new(Arc::clone(check), Arc::clone(&self.node)))
            });
            entry.probe = Arc::clone(probe);
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Begins the check that has been due longest. `None` when none is due; no job for a passive
    /// check, which is judged at once.
    pub fn begin_due(&mut self, now: Instant) -> Option<(RealKey, Option<(Job, u64)>)> {
        let (due, key) = self.pop_due(now)?;
        let tally = self.tallies.get(&key).copied().unwrap_or_default();
        let entry = self.entries.get_mut(&key)?;
        let job = entry.begin(tally, due, now);
        if job.is_none() {
            requeue(&mut self.queue, key, None, entry.fsm.due());
        }
        self.runs += 1;
        entry.run = self.runs;
        Some((key, job.map(|job| (job, self.runs))))
    }

    /// Takes the check off the queue that has been due longest. One that has to wait for other probes of
    /// its host goes back until its turn.
    fn pop_due(&mut self, now: Instant) -> Option<(Instant, RealKey)> {
        loop {
            let (due, key) = *self.queue.first().filter(|(due, _)| *due <= now)?;
            self.queue.pop_first();
            let entry = self.entries.get_mut(&key)?;
            if entry.turn.take().is_some() || !entry.listens_to_silence() {
                return Some((due, key));
            }
            let turn = self.pace.reserve(entry.spec.target.address.ip(), now);
            if turn <= now {
                return Some((due, key));
            }
            entry.turn = Some(turn);
            entry.fsm.postpone(turn);
            requeue(&mut self.queue, key, None, entry.fsm.due());
        }
    }

    /// Notes how to end the probe that was begun.
    pub fn running(&mut self, key: &RealKey, abort: AbortHandle) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.abort = Some(abort);
        }
    }

    /// Takes a result; whether there is news by it. One of a check that is gone is dropped.
    pub fn finish(
        &mut self,
        key: &RealKey,
        run: u64,
        outcome: Outcome,
        now: Instant,
        unix: i64,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.run == run) else {
            return false;
        };
        entry.finish(outcome, now, unix);
        requeue(&mut self.queue, *key, None, entry.fsm.due());
        entry.has_news()
    }

    pub fn take_news(&mut self, key: &RealKey) -> Vec<Report> {
        self.entries.get_mut(key).map(Entry::take_news).unwrap_or_default()
    }

    pub fn look(&self, now: Instant) -> Vec<CheckView> {
        self.entries.iter().map(|(key, entry)| entry.view(key.1, now)).collect()
    }
}

fn requeue(
    queue: &mut BTreeSet<(Instant, RealKey)>,
    key: RealKey,
    before: Option<Instant>,
    after: Option<Instant>,
) {
    if let Some(before) = before {
        queue.remove(&(before, key));
    }
    if let Some(after) = after {
        queue.insert((after, key));
    }
}

#[cfg(test)]
mod tests;
