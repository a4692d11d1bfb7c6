//! One check of one server as the loop keeps it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use super::Report;
use crate::health::outcome::{ClockReading, Outcome, Verdict};
use crate::health::passive::{CHANCE_AFTER, Passive, Tally};
use crate::health::probe::{Probe, Target, expiry_warning};
use crate::health::weight::AgentWeight;
use crate::health::{Cadence, CheckSpec, Depth, Fsm, Health};
use crate::model::{self, Check};

/// A reading of a clock changes slowly; more of them would only be noise.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// A probe that is made ready when it is first needed, away from the loop, and shared by the servers
/// of a service.
pub(super) struct SharedProbe {
    check: Arc<Check>,
    node: Arc<str>,
    ready: OnceCell<Probe>,
}

impl SharedProbe {
    pub fn new(check: Arc<Check>, node: Arc<str>) -> Self {
        Self { check, node, ready: OnceCell::new() }
    }

    /// The probe. What went wrong is tried again the next time: a missing file may come.
    async fn get(&self) -> Result<&Probe, String> {
        let prepare = || async {
            let (check, node) = (Arc::clone(&self.check), Arc::clone(&self.node));
            // Reads files.
            let made = tokio::task::spawn_blocking(move || Probe::prepare(&check.probe, &node));
            match made.await {
                Ok(made) => made.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        };
        self.ready.get_or_try_init(prepare).await
    }
}

/// One probe to run.
pub(super) struct Job {
    probe: Arc<SharedProbe>,
    target: Arc<Target>,
    depth: Depth,
    timeout: Duration,
}

impl Job {
    pub async fn run(self) -> Outcome {
        match self.probe.get().await {
            Ok(probe) => probe.run(&self.target, self.depth, self.timeout).await,
            Err(why) => Outcome::unable(why, Duration::ZERO),
        }
    }
}

/// The state of a check, for people.
#[derive(Clone, Debug, Serialize)]
pub struct CheckView {
    /// Name of the service.
    pub service: String,
    /// The real server.
    pub real: SocketAddr,
    /// Kind of check.
    pub kind: &'static str,
    /// Where it asks.
    pub target: SocketAddr,
    /// What is believed.
    pub health: Health,
    /// For how long.
    pub for_seconds: u64,
    /// The last result in words; `None` before the first.
    pub reason: Option<String>,
    /// How long the last probe took, in microseconds.
    pub took_us: u64,
    /// Results in a row that disagree with `health`.
    pub contrary: u32,
    /// Probes so far.
    pub probes: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// Until the next probe; 0 while one runs.
    pub next_ms: u64,
    /// How much later than planned the last probe began, because too many were under way.
    pub late_ms: u64,
    /// What a check script printed last.
    pub output: Option<String>,
    /// Weight that its agent asks for.
    pub agent: Option<AgentWeight>,
    /// Seconds by which its clock is ahead, and the largest error of that.
    pub clock: Option<(f64, f64)>,
    /// When its certificate ends, in seconds since 1970.
    pub certificate_ends: Option<i64>,
}

/// One check of one server.
pub(super) struct Entry {
    pub spec: CheckSpec,
    pub fsm: Fsm,
    pub probe: Arc<SharedProbe>,
    passive: Option<Passive>,
    /// Number of the probe under way, told apart from all others; 0 for none that counts.
    pub run: u64,
    pub abort: Option<AbortHandle>,
    news: Vec<Report>,
    last: Option<Outcome>,
    last_reason: Option<String>,
    clock: Option<(ClockReading, Instant)>,
    agent: Option<AgentWeight>,
    certificate: Option<(i64, bool)>,
    unable: bool,
    /// The turn that this check waits for among those of its host, where they are spread.
    pub turn: Option<Instant>,
    probes: u64,
    failures: u64,
    late: Duration,
}

impl Entry {
    pub fn new(spec: CheckSpec, probe: Arc<SharedProbe>, position: u32, now: Instant) -> Self {
        Self {
            fsm: Fsm::new(cadence(&spec.check), spec.known, position, now),
            passive: passive(&spec.check),
            spec,
            probe,
            run: 0,
            abort: None,
            news: Vec::new(),
            last: None,
            last_reason: None,
            clock: None,
            agent: None,
            certificate: None,
            unable: false,
            turn: None,
            probes: 0,
            failures: 0,
            late: Duration::ZERO,
        }
    }

    /// Takes another specification. The verdict stays; a new question is asked soon.
    pub fn change(&mut self, spec: CheckSpec, probe: Arc<SharedProbe>, now: Instant) {
        let same_question =
            spec.check.probe == self.spec.check.probe && spec.target == self.spec.target;
        self.fsm.reconfigure(cadence(&spec.check), now);
        if !same_question {
            // The answer to the old question is of no use any more.
            if let Some(abort) = self.abort.take() {
                abort.abort();
            }
            self.run = 0;
            self.fsm.skip(now);
            self.fsm.hurry(now);
            self.passive = passive(&spec.check);
            self.clock = None;
        }
        self.spec = spec;
        self.probe = probe;
    }

    /// Whether only an ICMP error would tell this check that its server is down.
    pub fn listens_to_silence(&self) -> bool {
        matches!(&self.spec.check.probe, model::Probe::Udp(udp) if udp.listens_to_silence())
    }

    /// Begins the turn that was due. `None` for a passive check, which is judged here and now.
    pub fn begin(&mut self, tally: Tally, due: Instant, now: Instant) -> Option<Job> {
        let depth = self.fsm.start(now);
        if let Some(passive) = &mut self.passive {
            match passive.judge(self.fsm.health(), tally) {
                Some(outcome) => self.finish(outcome, now, 0),
                None => self.fsm.skip(now),
            }
            return None;
        }
        self.late = now.saturating_duration_since(due);
        Some(Job {
            probe: Arc::clone(&self.probe),
            target: Arc::clone(&self.spec.target),
            depth,
            timeout: self.spec.check.timeout,
        })
    }

    /// Takes a result, with the time of day in seconds since the Unix epoch.
    pub fn finish(&mut self, outcome: Outcome, now: Instant, unix: i64) {
        self.abort = None;
        self.probes += 1;
        let unable = match &outcome.verdict {
            Verdict::Unable(why) | Verdict::Unsent(why) => Some(why.clone()),
            Verdict::Failed(_) => {
                self.failures += 1;
                None
            }
            Verdict::Passed(_) => None,
        };
        if unable.is_some() != self.unable {
            self.unable = unable.is_some();
            self.news.push(Report::Unable(unable));
        }
        if let Some(transition) = self.fsm.finish(&outcome, now) {
            self.news.push(Report::Changed(transition));
        }
        self.note_measured(&outcome, now, unix);
        self.last_reason = Some(outcome.reason());
        self.last = Some(outcome);
    }

    fn note_measured(&mut self, outcome: &Outcome, now: Instant, unix: i64) {
        // A failed probe of an agent says nothing about the weight.
        if matches!(outcome.verdict, Verdict::Passed(_)) && outcome.measured.weight != self.agent {
            self.agent = outcome.measured.weight;
            self.news.push(Report::Weighed(self.agent));
        }
        if let Some(reading) = outcome.measured.clock {
            let told = self.clock.map(|(_, at)| at);
            if told.is_none_or(|at| now.saturating_duration_since(at) >= CLOCK_EVERY) {
                self.news.push(Report::Clock(reading));
                self.clock = Some((reading, now));
            }
        }
        if let Some(ends) = outcome.measured.certificate_ends {
            let warning = expiry_warning(&self.spec.check.probe).as_secs();
            let soon = warning > 0 && ends.saturating_sub_unsigned(warning) < unix;
            let before = self.certificate.replace((ends, soon));
            if soon != before.is_some_and(|(_, soon)| soon) {
                self.news.push(Report::Certificate { ends, soon });
            }
        }
    }

    pub fn take_news(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.news)
    }

    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    pub fn view(&self, real: SocketAddr, now: Instant) -> CheckView {
        let due = self.fsm.due();
        let next = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        let took = self.last.as_ref().map_or(Duration::ZERO, |last| last.took);
        CheckView {
            service: self.spec.target.service.clone(),
            real,
            kind: self.spec.check.probe.kind(),
            target: self.spec.target.address,
            health: self.fsm.health(),
            for_seconds: now.saturating_duration_since(self.fsm.since()).as_secs(),
            reason: self.last_reason.clone(),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            contrary: self.fsm.contrary(),
            probes: self.probes,
            failures: self.failures,
            next_ms: u64::try_from(next.as_millis()).unwrap_or(u64::MAX),
            late_ms: u64::try_from(self.late.as_millis()).unwrap_or(u64::MAX),
            output: self.last.as_ref().and_then(|last| last.measured.output.clone()),
            agent: self.agent,
            clock: self.clock.map(|(reading, _)| (reading.ahead, reading.error)),
            certificate_ends: self.certificate.map(|(ends, _)| ends),
        }
    }
}

fn passive(check: &Check) -> Option<Passive> {
    if let model::Probe::Passive(limits) = &check.probe {
        Some(Passive::new(*limits))
    } else {
        None
    }
}

fn cadence(check: &Check) -> Cadence {
    let mut cadence = Cadence::from(check);
    if passive(check).is_some() {
        cadence.interval_down = cadence.interval_down.or(Some(CHANCE_AFTER));
    }
    cadence
}
