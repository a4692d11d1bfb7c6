//! What the demonstration shows: shares and rates as the clients see them, states as the director
//! tells them.

use std::time::Duration;

use harness::listing::{Service, State};

use super::site::{REALS, SERVICES};
use super::story::Story;
use super::traffic::Tally;

/// One service's rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceReport {
    /// Answers in the last interval, per second.
    pub rate: f64,
    /// Requests without an answer since the start.
    pub failed: u64,
    /// One for each real server.
    pub reals: Vec<RealReport>,
}

/// One real server's row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RealReport {
    /// Its name.
    pub name: String,
    /// Its share of the answers in the last interval, 0 to 1.
    pub share: f64,
    /// Answers since the start.
    pub answered: u64,
    /// Its weight by the director's listing; `None` when it is not listed.
    pub weight: Option<u32>,
    /// Connections by the director's listing, active and inactive.
    pub connections: (u64, u64),
}

impl RealReport {
    /// Whether the director gives it new connections.
    pub fn is_up(&self) -> bool {
        self.weight.is_some_and(|weight| weight > 0)
    }
}

/// The whole picture at one moment.
#[derive(Debug, Default)]
pub struct Report {
    /// Time since the demonstration started.
    pub elapsed: Duration,
    /// In the order of [`SERVICES`].
    pub services: Vec<ServiceReport>,
    last: Vec<Tally>,
    down_seen: bool,
}

impl Report {
    /// Takes in what clients and director say now; changes of a server's state become events.
    pub fn update(
        &mut self,
        elapsed: Duration,
        tallies: Vec<Tally>,
        states: &[Service<State>],
        story: &mut Story,
    ) {
        let interval = elapsed.saturating_sub(self.elapsed);
        let mut services = Vec::new();
        for (at, tally) in tallies.iter().enumerate() {
            let before = self.last.get(at).cloned().unwrap_or_default();
            let address = format!("{}:80", SERVICES[at].vip);
            let listed = states.iter().find(|service| service.address == address);
            let known = self.services.get(at);
            let service = service_report(tally, &before, interval, listed);
            for (number, real) in service.reals.iter().enumerate() {
                let was_up = known.and_then(|s| s.reals.get(number)).map(RealReport::is_up);
                if was_up.is_some_and(|was| was != real.is_up()) {
                    let verb = if real.is_up() { "gives connections to" } else { "takes out" };
                    let what = format!("the director {verb} {} ({})", real.name, SERVICES[at].name);
                    story.tell(elapsed, &what);
                }
                self.down_seen |= was_up.is_some() && !real.is_up();
            }
            services.push(service);
        }
        self.services = services;
        self.last = tallies;
        self.elapsed = elapsed;
    }

    /// One line with every service's rate and shares.
    pub fn line(&self) -> String {
        let mut line = format!("{:>5} s ", self.elapsed.as_secs());
        for (service, shown) in SERVICES.iter().zip(&self.services) {
            line.push_str(&format!(" | {} {:.0}/s", service.name, shown.rate));
            for real in &shown.reals {
                let state = if real.is_up() { "" } else { " (down)" };
                line.push_str(&format!(" {} {:.0}%{state}", real.name, real.share * 100.0));
            }
        }
        line
    }

    /// The sums at the end.
    pub fn summary(&self) -> String {
        let mut lines = Vec::new();
        for (service, shown) in SERVICES.iter().zip(&self.services) {
            let reals: Vec<String> =
                shown.reals.iter().map(|real| format!("{} {}", real.name, real.answered)).collect();
            let failed = shown.failed;
            lines.push(format!(
                "{:<7} answered: {}; failed: {failed}",
                service.name,
                reals.join(", ")
            ));
        }
        lines.join("\n")
    }

    /// What a run with a death and a return should have shown and did not.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (service, shown) in SERVICES.iter().zip(&self.services) {
            for real in &shown.reals {
                if real.answered == 0 {
                    complaints.push(format!("{} never answered for {}", real.name, service.name));
                }
                if !real.is_up() {
                    complaints.push(format!("{} is not back in {}", real.name, service.name));
                }
            }
        }
        if !self.down_seen {
            complaints.push("the director never noticed that a real server was dead".to_owned());
        }
        complaints
    }
}

fn service_report(
    tally: &Tally,
    before: &Tally,
    interval: Duration,
    listed: Option<&Service<State>>,
) -> ServiceReport {
    let new = tally.total() - before.total();
    let reals = (1..=REALS)
        .map(|number| {
            let name = format!("real{number}");
            let answered = tally.answered.get(&name).copied().unwrap_or(0);
            let fresh = answered - before.answered.get(&name).copied().unwrap_or(0);
            let address = format!("{}:80", harness::site::real(number));
            let state = listed
                .and_then(|service| service.reals.iter().find(|real| real.address == address))
                .map(|real| &real.columns);
            RealReport {
                name,
                share: if new == 0 { 0.0 } else { fresh as f64 / new as f64 },
                answered,
                weight: state.map(|state| state.weight),
                connections: state.map_or((0, 0), |state| (state.active, state.inactive)),
            }
        })
        .collect();
    let seconds = interval.as_secs_f64();
    let rate = if seconds > 0.0 { new as f64 / seconds } else { 0.0 };
    ServiceReport { rate, failed: tally.failed, reals }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::listing::Real;

    fn listing(weight: u32) -> Vec<Service<State>> {
        SERVICES
            .iter()
            .map(|service| Service {
                protocol: "TCP".to_owned(),
                address: format!("{}:80", service.vip),
                columns: None,
                reals: (1..=REALS)
                    .map(|number| Real {
                        address: format!("{}:80", harness::site::real(number)),
                        columns: State {
                            method: "Masq".to_owned(),
                            weight: if number == 2 { weight } else { 1 },
                            active: 1,
                            inactive: 2,
                        },
                    })
                    .collect(),
            })
            .collect()
    }

    fn tallies(each: u64) -> Vec<Tally> {
        let answered = (1..=REALS).map(|number| (format!("real{number}"), each)).collect();
        vec![Tally { answered, failed: 0 }; SERVICES.len()]
    }

    #[test]
    fn shares_and_rates_are_those_of_the_last_interval() {
        let (mut report, mut story) = (Report::default(), Story::new(None));
        report.update(Duration::from_secs(1), tallies(10), &listing(1), &mut story);
        let mut later = tallies(10);
        later[0].answered.insert("real1".to_owned(), 40);
        report.update(Duration::from_secs(3), later, &listing(1), &mut story);
        let service = &report.services[0];
        assert!((service.rate - 15.0).abs() < 1e-9 && (service.reals[0].share - 1.0).abs() < 1e-9);
        assert_eq!(report.services[1].rate, 0.0);
    }

    #[test]
    fn a_death_and_a_return_are_events_and_satisfy_the_run() {
        let (mut report, mut story) = (Report::default(), Story::new(None));
        report.update(Duration::from_secs(1), tallies(1), &listing(1), &mut story);
        assert_eq!(report.complaints(), ["the director never noticed that a real server was dead"]);
        report.update(Duration::from_secs(2), tallies(2), &listing(0), &mut story);
        assert_eq!(report.complaints().len(), SERVICES.len());
        report.update(Duration::from_secs(3), tallies(3), &listing(1), &mut story);
        assert_eq!(report.complaints(), Vec::<String>::new());
        assert!(story.events()[0].contains("takes out real2"), "{:?}", story.events());
    }
}
