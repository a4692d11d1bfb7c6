//! How views become states: a shape and a word, worst first. Pure.

use super::words::Lang;
use control::view::{RealState, RealView, ServiceView};

/// How bad something is, the worst first. Each has a shape and a colour of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tone {
    /// Clients are hit, or will be by the next single fault.
    Bad,
    /// Degraded or set up wrongly.
    Warn,
    /// Under way.
    Drain,
    /// To know.
    Info,
    /// Taken out.
    Off,
    /// As it should be.
    Good,
}

impl Tone {
    /// Its class in the style sheet.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Drain => "drain",
            Self::Info => "info",
            Self::Off => "off",
            Self::Good => "good",
        }
    }
}

/// A state to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// How bad it is.
    pub tone: Tone,
    /// Id of its words.
    pub id: &'static str,
    /// The number in its words.
    pub count: usize,
}

impl State {
    const fn new(tone: Tone, id: &'static str, count: usize) -> Self {
        Self { tone, id, count }
    }

    /// Its words.
    pub fn words(&self, lang: Lang) -> String {
        lang.count(self.id, self.count)
    }
}

/// What a real server is doing.
pub fn of_real(real: &RealView) -> State {
    let open = real.active + real.inactive;
    match real.state {
        RealState::Down => State::new(Tone::Bad, "state-down", 0),
        RealState::Drained if open > 0 => State::new(Tone::Drain, "state-draining", 0),
        RealState::Drained => State::new(Tone::Off, "state-drained", 0),
        RealState::Sorry => State::new(Tone::Warn, "state-sorry", 0),
        RealState::Untested => State::new(Tone::Info, "state-untested", 0),
        RealState::Up | RealState::Unchecked if real.weight == 0 => {
            State::new(Tone::Off, "state-weight-0", 0)
        }
        RealState::Up | RealState::Unchecked if real.overloaded => {
            State::new(Tone::Warn, "state-overloaded", 0)
        }
        RealState::Up => State::new(Tone::Good, "state-healthy", 0),
        RealState::Unchecked => State::new(Tone::Good, "state-unchecked", 0),
    }
}

/// Whether clients can be led to it.
pub fn serves(real: &RealView) -> bool {
    let works = matches!(real.state, RealState::Up | RealState::Unchecked | RealState::Untested);
    works && real.weight > 0
}

/// How a service stands: the worst that is true of it.
pub fn of_service(service: &ServiceView) -> State {
    let own = || service.reals.iter().filter(|real| real.state != RealState::Sorry);
    let (all, serving) = (own().count(), own().filter(|real| serves(real)).count());
    let in_state = |state| own().filter(|real| real.state == state).count();
    let (down, drained) = (in_state(RealState::Down), in_state(RealState::Drained));
    let suspected = own().filter(|real| !real.suspicions.is_empty()).count();
    match () {
        () if all == 0 => State::new(Tone::Off, "service-empty", 0),
        () if service.sorry => State::new(Tone::Bad, "service-sorry", 0),
        () if !service.up || serving == 0 => State::new(Tone::Bad, "service-down", 0),
        () if serving == 1 && all > 1 => State::new(Tone::Bad, "service-one-left", 0),
        () if down > 0 => State::new(Tone::Warn, "service-some-down", down),
        () if suspected > 0 => State::new(Tone::Warn, "service-suspected", suspected),
        () if drained > 0 => State::new(Tone::Drain, "service-some-drained", drained),
        () if in_state(RealState::Untested) > 0 => State::new(Tone::Info, "service-untested", 0),
        () => State::new(Tone::Good, "service-healthy", 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::view::TrafficView;

    fn real(state: RealState) -> RealView {
        RealView {
            address: "10.0.0.11:80".parse().expect("good"),
            method: "nat".into(),
            state,
            weight: 1,
            effective_weight: 1,
            active: 0,
            inactive: 0,
            persistent: 0,
            overloaded: false,
            reason: None,
            since: None,
            peer: None,
            suspicions: Vec::new(),
            drain: None,
            traffic: TrafficView::default(),
        }
    }

    fn service(states: &[RealState]) -> ServiceView {
        ServiceView {
            name: "web".into(),
            address: None,
            protocol: None,
            mark: None,
            scheduler: "wlc".into(),
            method: "nat".into(),
            persistence: None,
            up: true,
            sorry: false,
            traffic: TrafficView::default(),
            reals: states.iter().copied().map(real).collect(),
        }
    }

    #[test]
    fn a_service_is_as_bad_as_the_worst_that_is_true_of_it() {
        use RealState::{Down, Drained, Sorry, Untested, Up};
        let cases: &[(&[RealState], Tone, &str)] = &[
            (&[], Tone::Off, "service-empty"),
            (&[Up], Tone::Good, "service-healthy"),
            (&[Up, Up], Tone::Good, "service-healthy"),
            (&[Up, Up, Untested], Tone::Info, "service-untested"),
            (&[Up, Up, Drained], Tone::Drain, "service-some-drained"),
            (&[Up, Up, Down, Drained], Tone::Warn, "service-some-down"),
            (&[Up, Down], Tone::Bad, "service-one-left"),
            (&[Up, Drained], Tone::Bad, "service-one-left"),
            (&[Down, Down], Tone::Bad, "service-down"),
            (&[Drained], Tone::Bad, "service-down"),
        ];
        for (states, tone, id) in cases {
            let state = of_service(&service(states));
            assert_eq!((state.tone, state.id), (*tone, *id), "{states:?}");
        }
        let sorry = ServiceView { sorry: true, ..service(&[Down, Sorry]) };
        assert_eq!(of_service(&sorry).id, "service-sorry");
        let below_quorum = ServiceView { up: false, ..service(&[Up, Up, Down]) };
        assert_eq!(of_service(&below_quorum).id, "service-down");
        let mut suspected = service(&[Up, Up]);
        suspected.reals[0].suspicions.push("answers ARP".into());
        assert_eq!(of_service(&suspected).id, "service-suspected");
    }

    #[test]
    fn a_drained_server_is_draining_while_connections_remain() {
        let mut drained = real(RealState::Drained);
        assert_eq!(of_real(&drained).id, "state-drained");
        drained.inactive = 1;
        assert_eq!(of_real(&drained).id, "state-draining");
        assert!(!serves(&drained));
    }

    #[test]
    fn weight_0_is_taken_out_and_no_fault() {
        let mut off = real(RealState::Up);
        off.weight = 0;
        assert_eq!(of_real(&off).tone, Tone::Off);
        assert!(!serves(&off));
    }
}
