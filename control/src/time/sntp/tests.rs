use proptest::prelude::*;

use super::*;

const NONCE: u64 = 0x1234_5678_9abc_def0;

/// The moment `seconds` after an arbitrary beginning.
fn at(seconds: f64) -> Timestamp {
    Timestamp((3_900_000_000u64 << 32).wrapping_add((seconds * 4_294_967_296.0) as i64 as u64))
}

/// The answer of a server that received at `t2` and sent at `t3`.
fn answer(t2: f64, t3: f64) -> Packet {
    Packet {
        leap: Leap::None,
        version: 4,
        mode: 4,
        stratum: 2,
        poll: 6,
        precision: -20,
        root_delay: 65_536 / 100,
        root_dispersion: 65_536 / 200,
        reference_id: ReferenceId([10, 0, 0, 1]),
        reference: at(-10.0),
        originate: Timestamp(NONCE),
        receive: at(t2),
        transmit: at(t3),
    }
}

fn judged(packet: Packet) -> Result<Sample, Refused> {
    judge(&packet.to_bytes(), NONCE, at(0.0), Duration::from_millis(100))
}

#[test]
fn offset_and_delay_follow_the_standard() {
    // The server is 3 s ahead; 40 ms there, 10 ms inside, 50 ms back.
    let sample = judged(answer(3.040, 3.050)).unwrap();
    assert!((sample.offset - 2.995).abs() < 1e-6, "half the asymmetry: {}", sample.offset);
    assert!((sample.delay - 0.090).abs() < 1e-6);
    assert!((sample.error - (0.045 + 0.005 + 0.005)).abs() < 1e-3);
    let behind = judged(answer(-3.0, -2.9)).unwrap();
    assert!((behind.offset + 3.0).abs() < 1e-6);
}

#[test]
fn an_answer_must_return_our_nonce() {
    for change in [
        |p: &mut Packet| p.originate = Timestamp(NONCE ^ 1),
        |p: &mut Packet| p.mode = 3,
        |p: &mut Packet| p.version = 0,
    ] {
        let mut packet = answer(0.0, 0.0);
        change(&mut packet);
        assert_eq!(judged(packet), Err(Refused::NotOurs));
        packet.stratum = 0;
        assert_eq!(judged(packet), Err(Refused::NotOurs), "nor does a forged kiss count");
    }
    assert_eq!(
        judge(&answer(0.0, 0.0).to_bytes()[..47], NONCE, at(0.0), Duration::ZERO),
        Err(Refused::NotOurs)
    );
}

#[test]
fn kisses_are_understood() {
    let kiss = |code: &[u8; 4]| {
        let reference_id = ReferenceId(*code);
        judged(Packet { stratum: 0, leap: Leap::Unsynchronised, reference_id, ..answer(0.0, 0.0) })
    };
    assert_eq!(kiss(b"RATE"), Err(Refused::Kiss(Kiss::Rate)));
    assert_eq!(kiss(b"DENY"), Err(Refused::Kiss(Kiss::Deny)));
    assert_eq!(kiss(b"RSTR"), Err(Refused::Kiss(Kiss::Deny)));
    let init = kiss(b"INIT").unwrap_err();
    assert_eq!(init.to_string(), "no time to give (INIT)");
}

#[test]
fn servers_without_time_are_refused() {
    let refused = |change: fn(&mut Packet)| {
        let mut packet = answer(0.0, 0.0);
        change(&mut packet);
        judged(packet).unwrap_err()
    };
    assert_eq!(refused(|p| p.leap = Leap::Unsynchronised), Refused::Unsynchronised);
    assert_eq!(refused(|p| p.stratum = 16), Refused::Unsynchronised);
    for change in [
        (|p| p.transmit = Timestamp(0)) as fn(&mut Packet),
        |p| p.receive = Timestamp(0),
        |p| p.root_dispersion = 16 * 65_536,
        |p| p.root_delay = u32::MAX,
        |p| p.transmit = at(-0.1),
        |p| p.transmit = at(5.0),
        |p| p.transmit = at(0.2),
    ] {
        assert!(matches!(refused(change), Refused::Nonsense(_)));
    }
}

#[test]
fn references_are_names_or_addresses() {
    assert_eq!(ReferenceId(*b"GPS\0").to_string(), "GPS");
    assert_eq!(ReferenceId([127, 127, 1, 1]).to_string(), "127.127.1.1");
    assert_eq!(ReferenceId([0; 4]).to_string(), "0.0.0.0");
}

#[test]
fn moments_convert_and_survive_the_wrap_of_2036() {
    let epoch = Timestamp::from(SystemTime::UNIX_EPOCH);
    assert_eq!(epoch.0 >> 32, UNIX_EPOCH);
    let half = Duration::from_millis(1_500);
    assert!((Timestamp::from(SystemTime::UNIX_EPOCH + half).since(epoch) - 1.5).abs() < 1e-9);
    assert!((Timestamp::from(SystemTime::UNIX_EPOCH - half).since(epoch) + 1.5).abs() < 1e-9);
    let wrap = Duration::from_secs((1 << 32) - UNIX_EPOCH);
    let after = Timestamp::from(SystemTime::UNIX_EPOCH + wrap + half);
    let before = Timestamp::from(SystemTime::UNIX_EPOCH + wrap - half);
    assert_eq!(after.0 >> 32, 1);
    assert!((after.since(before) - 3.0).abs() < 1e-9);
}

#[test]
fn a_request_shows_nothing_but_the_nonce() {
    let request = Packet::request(NONCE);
    let parsed = Packet::parse(&request).unwrap();
    assert_eq!((parsed.version, parsed.mode, parsed.transmit), (4, 3, Timestamp(NONCE)));
    assert!(request[1..40].iter().all(|byte| *byte == 0));
}

proptest! {
    #[test]
    fn packets_survive_the_round_trip(bytes in proptest::collection::vec(any::<u8>(), 48..80)) {
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(&packet.to_bytes()[..], &bytes[..48]);
    }

    #[test]
    fn arbitrary_answers_give_finite_samples(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..60), elapsed in 0u64..10_000,
    ) {
        if bytes.len() >= 48 {
            bytes[0] = 0x24;
            bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
        }
        let elapsed = Duration::from_millis(elapsed);
        if let Ok(sample) = judge(&bytes, NONCE, at(0.0), elapsed) {
            prop_assert!(sample.offset.is_finite() && sample.delay > 0.0);
            prop_assert!(sample.error.is_finite() && sample.error > 0.0);
        }
    }

    #[test]
    fn the_true_offset_lies_within_the_error(
        offset in -1e6f64..1e6, there in 0.0f64..1.0, inside in 0.0f64..0.5, back in 0.0f64..1.0,
    ) {
        let packet = answer(offset + there, offset + there + inside);
        let elapsed = Duration::from_secs_f64(there + inside + back);
        let sample = judge(&packet.to_bytes(), NONCE, at(0.0), elapsed).unwrap();
        prop_assert!((sample.offset - offset).abs() <= sample.error + 1e-6);
    }
}
