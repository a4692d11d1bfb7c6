use super::*;
use proptest::prelude::*;

const MINUTES: Ticks = Ticks::from_secs(900);

/// The kernel's function, packet by packet, in its own shape: the end of life with the retries in its
/// lowest bits.
struct Kernel {
    old_state: u8,
    end: Option<i64>,
    retries: u8,
}

fn kernel(c: &mut Kernel, policy: &Policy, seen: &Seen, packets: u32, now: i64) -> bool {
    let mut force = false;
    if !seen.template {
        if policy.templates_only && seen.persistent {
            return false;
        }
        if seen.protocol == 6 || seen.protocol == 132 {
            let (states, established): (&[u8], u8) =
                if seen.protocol == 6 { (&[1, 4, 6, 7, 5], 1) } else { (&[8, 9, 10, 11, 13], 8) };
            if !states.contains(&seen.state) {
                return false;
            }
            force = seen.state != c.old_state && seen.state != established;
        }
    }
    let n = now + i64::from(seen.timeout.0);
    let mut retries = 0;
    let refresh = i64::from(policy.refresh_period.0);
    if !force {
        if let (true, Some(end)) = (refresh > 0, c.end) {
            let least = i64::from(seen.timeout.0 / 2).max(10 * 256);
            if (n - end).abs() < refresh.min(least) {
                if c.retries >= policy.retries
                    || now < end - i64::from(seen.timeout.0) + refresh / 8
                {
                    return false;
                }
                retries = c.retries + 1;
            }
        }
        if policy.period > 0 {
            if !seen.template && packets % policy.period != policy.threshold {
                return false;
            }
        } else if refresh == 0 && packets != policy.threshold {
            return false;
        }
    }
    *c = Kernel { old_state: seen.state, end: Some(n), retries };
    true
}

fn tcp(state: u8, packets: u32, fresh: u32) -> Seen {
    Seen {
        protocol: 6,
        state,
        template: false,
        persistent: false,
        packets,
        fresh,
        timeout: MINUTES,
    }
}

#[test]
fn a_connection_is_told_at_its_third_packet_and_every_fifty() {
    let mut memory = Memory::default();
    let policy = Policy::default();
    let told: Vec<u32> = (1..=160)
        .filter(|packet| policy.wants(&tcp(1, *packet, 1), &mut memory, Tick(*packet)))
        .collect();
    assert_eq!(told, [3, 53, 103, 153]);
}

#[test]
fn closing_is_told_at_once_and_once() {
    let mut memory = Memory::default();
    let policy = Policy::default();
    assert!(policy.wants(&tcp(1, 3, 1), &mut memory, Tick(0)));
    assert!(policy.wants(&tcp(4, 4, 1), &mut memory, Tick(1)));
    assert!(!policy.wants(&tcp(4, 5, 1), &mut memory, Tick(2)));
    assert!(policy.wants(&tcp(5, 6, 1), &mut memory, Tick(3)));
    assert!(!policy.wants(&tcp(3, 3, 1), &mut memory, Tick(4)), "half-open never");
}

#[test]
fn looking_seldom_misses_no_turn() {
    let policy = Policy::default();
    let looked = |packets, fresh| {
        let mut memory = Memory { state: 1, ..Memory::default() };
        policy.wants(&tcp(1, packets, fresh), &mut memory, Tick(0))
    };
    assert!(looked(40, 40), "3 is among 1 to 40");
    assert!(!looked(40, 37), "4 to 40");
    assert!(looked(53, 13));
    assert!(looked(1000, 100));
    assert!(!looked(52, 49));
}

#[test]
fn templates_are_told_with_every_packet_of_theirs() {
    let mut memory = Memory::default();
    let template = Seen { template: true, protocol: 0, ..tcp(0, 1, 1) };
    for at in 0..5 {
        assert!(Policy::default().wants(&template, &mut memory, Tick(at)));
    }
    let only = Policy { templates_only: true, ..Policy::default() };
    assert!(!only.wants(&Seen { persistent: true, ..tcp(1, 3, 1) }, &mut memory, Tick(9)));
}

#[test]
fn the_refresh_period_spares_records_that_say_nothing_new() {
    let policy = Policy { refresh_period: Ticks::from_secs(8), period: 0, ..Policy::default() };
    let mut memory = Memory::default();
    let told: Vec<u32> = (0..40)
        .filter(|second| policy.wants(&tcp(1, *second, 1), &mut memory, Tick(*second * 256)))
        .collect();
    assert_eq!(told, [0, 8, 16, 24, 32]);
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (0u32..8, 0u32..8, prop_oneof![Just(0u32), 1u32..6000], 0u8..=3, any::<bool>()).prop_map(
        |(threshold, period, refresh, retries, templates_only)| Policy {
            threshold,
            period,
            refresh_period: Ticks(refresh),
            retries,
            templates_only,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn looking_at_every_packet_is_the_kernels_rule(
        policy in any_policy(),
        protocol in prop::sample::select(vec![6u8, 17, 132]),
        template: bool,
        persistent: bool,
        timeout in prop::sample::select(vec![Ticks::from_secs(10), Ticks::from_secs(60), MINUTES]),
        packets in prop::collection::vec((0u8..15, 0u32..4000), 1..60),
    ) {
        let mut memory = Memory::default();
        let mut model = Kernel { old_state: 0, end: None, retries: 0 };
        let mut now = 0u32;
        for (count, (state, pause)) in packets.into_iter().enumerate() {
            now += pause;
            let packets = count as u32 + 1;
            let seen = Seen { protocol, state, template, persistent, packets, fresh: 1, timeout };
            let expected = kernel(&mut model, &policy, &seen, packets, now.into());
            prop_assert_eq!(policy.wants(&seen, &mut memory, Tick(now)), expected, "{}", packets);
        }
    }

    #[test]
    fn looking_seldom_tells_what_looking_often_would(
        threshold in 0u32..10,
        period in 0u32..10,
        before in 0u32..100,
        fresh in 1u32..40,
    ) {
        let policy = Policy { threshold, period, ..Policy::default() };
        let often = (before + 1..=before + fresh).any(|packet| {
            let mut memory = Memory { state: 1, ..Memory::default() };
            policy.wants(&tcp(1, packet, 1), &mut memory, Tick(0))
        });
        let mut memory = Memory { state: 1, ..Memory::default() };
        let seldom = policy.wants(&tcp(1, before + fresh, fresh), &mut memory, Tick(0));
        prop_assert_eq!(seldom, often);
    }
}
