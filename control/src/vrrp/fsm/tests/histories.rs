//! Any history of events, however late.

use super::*;
use proptest::prelude::*;

fn any_event() -> impl Strategy<Value = Event> {
    let advert = (any::<u8>(), 1u32..5000, prop::sample::select(vec![LOW, OWN, HIGH])).prop_map(
        |(priority, centiseconds, source)| {
            let interval = Duration::from_millis(10) * centiseconds;
            Event::Advert(Heard { priority, interval, source })
        },
    );
    prop_oneof![
        6 => advert,
        6 => Just(Event::Timeout),
        1 => prop::sample::select(vec![
            Event::Startup, Event::Shutdown, Event::Fault, Event::Recovered, Event::Resign,
            Event::Promote, Event::Demote, Event::Announce,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens, and however late the machine is told: what it holds and what it says agree,
    /// and it never sleeps forever while it has a duty.
    #[test]
    fn state_addresses_and_deadline_agree_after_any_history(
        priority in 1u8..,
        version: bool,
        history in prop::collection::vec((any_event(), 0u64..20_000_000, any::<bool>()), 1..60),
    ) {
        let version = if version { Version::V2 } else { Version::V3 };
        let mut vrrp =
            Vrrp::new(Parameters { version, ..parameters(priority) }, Membership::Alone);
        let mut now = epoch();
        let mut holds = false;
        for (event, micros, held) in history {
            now += Duration::from_micros(micros);
            vrrp.hold(held);
            for action in feed(&mut vrrp, event, now) {
                match action {
                    Action::TakeAddresses => { prop_assert!(!holds); holds = true; }
                    Action::ReleaseAddresses => { prop_assert!(holds); holds = false; }
                    Action::Advertise { .. } | Action::Announce { .. } => {}
                    Action::Changed { from, to, .. } => prop_assert_ne!(from, to),
                }
            }
            prop_assert_eq!(holds, vrrp.state() == State::Master);
            let waits = matches!(vrrp.state(), State::Master | State::Backup);
            prop_assert_eq!(vrrp.deadline().is_some(), waits);
        }
    }
}
