use super::*;
use crate::vrrp::packet::{self, Authentication, Checksum, Datagram, Reach};
use proptest::prelude::*;

const DAY: Duration = Duration::from_secs(0x6800_0000);
/// Message and trailer from the appendix of the auth_hmac draft: key 00..1f, VRID 51, priority 200.
const V4: &str =
    "3133c80100644402c0000264 010100006800000080000000 1b84bc4e8e43892dc6d98448f8ee2265";
const V6: &str = "3133c8010064a2e9fe800000000000000000000000000100 010100006800000080000000 \
                  c8c56146ebfd66ee10ec4d8186461b78";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn keys(mode: Mode, freshness: Freshness) -> Keys {
    Keys::new(BTreeMap::from([(1, (0..32).collect())]), 1, mode, freshness).unwrap()
}

fn window() -> Authenticator {
    Authenticator::new(keys(Mode::Enforce, Freshness::Window(Duration::from_secs(5))))
}

fn growing() -> Authenticator {
    Authenticator::new(keys(Mode::Enforce, Freshness::Growing))
}

fn format(address: &str, checksum: Checksum) -> Format {
    Format::new(
        Version::V3,
        Vrid::new(51).unwrap(),
        Duration::from_secs(1),
        vec![address.parse().unwrap()],
        checksum,
        Authentication::None,
    )
    .unwrap()
}

fn v4() -> (Format, Path) {
    let path = Path { source: [198, 51, 100, 10].into(), destination: packet::GROUP_V4.into() };
    (format("192.0.2.100", Checksum::MessageOnly), path)
}

fn v6() -> (Format, Path) {
    let path =
        Path { source: "fe80::10".parse().unwrap(), destination: "fe80::20".parse().unwrap() };
    (format("fe80::100", Checksum::default()), path)
}

fn check(
    receiver: &mut Authenticator,
    (format, path): &(Format, Path),
    bytes: &[u8],
    wall: Duration,
) -> Result<(), Rejected> {
    let reach = if path.destination.is_multicast() {
        Reach::Multicast
    } else {
        Reach::Unicast { peers: vec![path.source], check_source: true, min_ttl: 255 }
    };
    let parsed = packet::parse(&Datagram { path: *path, ttl: 255, bytes }, format, &reach)?;
    receiver.verify(format, path, parsed.message, parsed.trailer, wall)
}

fn signed(sender: &mut Authenticator, (format, path): &(Format, Path), wall: Duration) -> Vec<u8> {
    let mut message = format.message(200);
    sender.sign(format, path.source, &mut message, wall);
    format.seal(&mut message, path);
    message
}

#[test]
fn the_drafts_images_are_made_and_accepted_bit_by_bit() {
    let wall = DAY + Duration::from_millis(500);
    for (image, case) in [(V4, v4()), (V6, v6())] {
        assert_eq!(signed(&mut growing(), &case, wall), bytes(image));
        assert_eq!(check(&mut growing(), &case, &bytes(image), wall), Ok(()));
    }
}

#[test]
fn any_changed_byte_is_refused() {
    let case = v4();
    let whole = bytes(V4);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(check(&mut growing(), &case, &changed, DAY).is_err(), "byte {at}");
        // With the checksum made right again only the HMAC can tell.
        if (2..12).contains(&at) && !(6..8).contains(&at) {
            changed[6..8].fill(0);
            case.0.seal(&mut changed, &case.1);
            let expected = if at == 3 { Rejected::Length } else { Rejected::Hmac };
            assert_eq!(check(&mut growing(), &case, &changed, DAY), Err(expected), "byte {at}");
        }
    }
}

#[test]
fn trailer_faults_have_their_reasons() {
    let case = v4();
    for (at, reason) in [
        (12, Rejected::HmacMalformed),
        (13, Rejected::HmacKey),
        (14, Rejected::HmacMalformed),
        (16, Rejected::Hmac),
        (23, Rejected::Hmac),
        (39, Rejected::Hmac),
    ] {
        let mut changed = bytes(V4);
        changed[at] ^= 1;
        assert_eq!(check(&mut growing(), &case, &changed, DAY), Err(reason), "byte {at}");
    }
}

#[test]
fn source_and_instance_are_bound() {
    let (format, path) = v6();
    let elsewhere = Path { source: "fe80::11".parse().unwrap(), ..path };
    let mut image = bytes(V6);
    image[6..8].fill(0);
    format.seal(&mut image, &elsewhere);
    assert_eq!(check(&mut growing(), &(format, elsewhere), &image, DAY), Err(Rejected::Hmac));
}

#[test]
fn a_replay_is_refused_and_a_second_receiver_is_not_confused() {
    let case = v6();
    let image = signed(&mut window(), &case, DAY);
    let mut receiver = window();
    assert_eq!(check(&mut receiver, &case, &image, DAY), Ok(()));
    assert_eq!(check(&mut receiver, &case, &image, DAY), Err(Rejected::HmacReplay));
    assert_eq!(check(&mut window(), &case, &image, DAY), Ok(()));
}

#[test]
fn the_window_refuses_old_and_future_stamps() {
    let case = v4();
    let image = signed(&mut window(), &case, DAY);
    for (seconds, verdict) in [(5, true), (6, false), (100, false)] {
        let distance = Duration::from_secs(seconds);
        for wall in [DAY + distance, DAY - distance] {
            assert_eq!(check(&mut window(), &case, &image, wall).is_ok(), verdict, "{seconds} s");
        }
    }
    assert_eq!(check(&mut growing(), &case, &image, DAY * 2), Ok(()));
}

#[test]
fn numbers_grow_while_the_clock_stands_or_goes_back() {
    for mut sender in [window(), growing()] {
        let mut last = 0;
        for wall in [DAY, DAY, DAY - Duration::from_secs(2), DAY + Duration::from_millis(1)] {
            let next = sender.next_number(wall);
            assert!(next > last, "{wall:?}");
            last = next;
        }
    }
}

#[test]
fn after_a_large_step_back_the_window_follows_the_clock() {
    let ahead = DAY + Duration::from_secs(3600);
    let mut sender = window();
    sender.next_number(ahead);
    assert_eq!(sender.next_number(DAY), number(DAY));
    let mut sender = growing();
    sender.next_number(ahead);
    assert_eq!(sender.next_number(DAY), number(ahead) + 1);

    let case = v4();
    let mut receiver = window();
    let early = signed(&mut window(), &case, ahead);
    assert_eq!(check(&mut receiver, &case, &early, ahead), Ok(()));
    let corrected = signed(&mut window(), &case, DAY);
    assert_eq!(check(&mut receiver, &case, &corrected, DAY), Ok(()), "mark expired");
}

#[test]
fn modes_allow_a_rolling_upgrade() {
    let case = v4();
    let freshness = Freshness::Growing;
    let plain = signed(&mut Authenticator::new(keys(Mode::ReceiveOnly, freshness)), &case, DAY);
    assert_eq!(plain.len(), case.0.len());
    for (mode, verdict) in [
        (Mode::ReceiveOnly, Ok(())),
        (Mode::Permissive, Ok(())),
        (Mode::Enforce, Err(Rejected::HmacMissing)),
    ] {
        let mut receiver = Authenticator::new(keys(mode, freshness));
        assert_eq!(check(&mut receiver, &case, &plain, DAY), verdict);
        let good = signed(&mut Authenticator::new(keys(Mode::Permissive, freshness)), &case, DAY);
        assert_eq!(check(&mut receiver, &case, &good, DAY), Ok(()));
        let mut forged = good;
        forged[30] ^= 1;
        assert_eq!(check(&mut receiver, &case, &forged, DAY), Err(Rejected::Hmac), "{mode:?}");
    }
}

#[test]
fn memory_for_senders_is_bounded() {
    let (format, path) = v4();
    let mut receiver = growing();
    for last in 0..=255 {
        let path = Path { source: [198, 51, 100, last].into(), ..path };
        let image = signed(&mut growing(), &(format.clone(), path), DAY);
        assert_eq!(check(&mut receiver, &(format.clone(), path), &image, DAY), Ok(()));
    }
    assert_eq!(receiver.seen.len(), SENDERS);
}

#[test]
fn bad_key_sets_are_refused() {
    let make = |len: usize, active| {
        let keys = BTreeMap::from([(1, vec![0; len])]);
        Keys::new(keys, active, Mode::Enforce, Freshness::Growing).map(|_| ())
    };
    assert_eq!(make(31, 1), Err(KeysError::Length));
    assert_eq!(make(65, 1), Err(KeysError::Length));
    assert_eq!(make(64, 2), Err(KeysError::Active));
    assert_eq!(make(64, 1), Ok(()));
}

#[test]
fn keys_stay_out_of_debug_output() {
    let shown = format!("{:?}", keys(Mode::Enforce, Freshness::Growing));
    assert!(shown.contains("ids: [1]") && !shown.contains("31"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_arbitrary_trailer_is_never_accepted(trailer: [u8; TRAILER], wall in 0u64..1 << 33) {
        let (format, path) = v4();
        let mut message = format.message(1);
        message.extend(trailer);
        format.seal(&mut message, &path);
        for mut receiver in [window(), growing()] {
            let verdict = check(&mut receiver, &(format.clone(), path), &message, Duration::from_secs(wall));
            prop_assert!(verdict.is_err());
            prop_assert!(receiver.seen.is_empty());
        }
    }
}
