use super::*;
use proptest::prelude::*;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const GROUP: Path = Path { source: SOURCE, destination: IpAddr::V4(GROUP_V4) };

fn v4(addresses: &[[u8; 4]]) -> Vec<IpAddr> {
    addresses.iter().map(|a| IpAddr::from(*a)).collect()
}

fn format(version: Version, checksum: Checksum, authentication: Authentication) -> Format {
    Format::new(
        version,
        Vrid::new(50).unwrap(),
        Duration::from_secs(1),
        v4(&[[192, 168, 1, 1], [192, 168, 1, 2]]),
        checksum,
        authentication,
    )
    .unwrap()
}

fn v6_format() -> Format {
    Format::new(
        Version::V3,
        Vrid::new(7).unwrap(),
        Duration::from_millis(10),
        vec!["fe80::100".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        Checksum::default(),
        Authentication::None,
    )
    .unwrap()
}

fn v6_path() -> Path {
    Path { source: "fe80::1".parse().unwrap(), destination: GROUP_V6.into() }
}

fn sealed(format: &Format, priority: u8, path: &Path) -> Vec<u8> {
    let mut message = format.message(priority);
    format.seal(&mut message, path);
    message
}

fn judge(format: &Format, path: Path, bytes: &[u8]) -> Result<(Advert, Differences), Rejected> {
    let datagram = Datagram { path, ttl: TTL, bytes };
    parse(&datagram, format, &Reach::Multicast).map(|parsed| (parsed.advert, parsed.differences))
}

/// A message with one byte changed and the checksum made right again.
fn altered(format: &Format, at: usize, to: u8) -> Vec<u8> {
    let mut message = sealed(format, 100, &GROUP);
    message[at] = to;
    message[6..8].fill(0);
    format.seal(&mut message, &GROUP);
    message
}

#[test]
fn version_2_vector() {
    let format = format(Version::V2, Checksum::default(), Authentication::password("1111"));
    let bytes = sealed(&format, 100, &GROUP);
    assert_eq!(
        bytes,
        [
            0x21, 50, 100, 2, 1, 1, 0x94, 0x13, 192, 168, 1, 1, 192, 168, 1, 2, 0x31, 0x31, 0x31,
            0x31, 0, 0, 0, 0
        ]
    );
}

#[test]
fn version_3_vectors_in_both_dialects() {
    let one = |checksum| {
        Format::new(
            Version::V3,
            Vrid::new(51).unwrap(),
            Duration::from_secs(1),
            v4(&[[192, 0, 2, 100]]),
            checksum,
            Authentication::None,
        )
        .unwrap()
    };
    let path = Path { source: [198, 51, 100, 10].into(), destination: GROUP_V4.into() };
    // The message-only image is the one in the appendix of the auth_hmac draft.
    let plain = [0x31, 0x33, 0xc8, 0x01, 0x00, 0x64, 0x44, 0x02, 0xc0, 0x00, 0x02, 0x64];
    assert_eq!(sealed(&one(Checksum::MessageOnly), 200, &path), plain);
    let mut pseudo = plain;
    // 0x4402 less c633 + 640a + e000 + 0012 + 0070 + 000c, in one's complement.
    pseudo[6..8].copy_from_slice(&0x3935u16.to_be_bytes());
    assert_eq!(sealed(&one(Checksum::PseudoHeader), 200, &path), pseudo);
}

#[test]
fn every_format_survives_the_round_trip() {
    let password = Authentication::password("longer than eight");
    for (format, path) in [
        (format(Version::V2, Checksum::default(), Authentication::None), GROUP),
        (format(Version::V2, Checksum::default(), password), GROUP),
        (format(Version::V3, Checksum::PseudoHeader, Authentication::None), GROUP),
        (format(Version::V3, Checksum::MessageOnly, Authentication::None), GROUP),
        (v6_format(), v6_path()),
    ] {
        let advert = Advert { priority: 254, interval: format.interval(), source: path.source };
        let bytes = sealed(&format, 254, &path);
        assert_eq!(bytes.len(), format.len());
        assert_eq!(judge(&format, path, &bytes), Ok((advert, Differences::default())));
    }
}

#[test]
fn version_2_over_ipv6_has_no_password_field() {
    let format = Format::new(
        Version::V2,
        Vrid::new(7).unwrap(),
        Duration::from_secs(1),
        vec!["fe80::100".parse().unwrap()],
        Checksum::default(),
        Authentication::None,
    )
    .unwrap();
    let bytes = sealed(&format, 1, &v6_path());
    assert_eq!(bytes.len(), 24);
    assert!(judge(&format, v6_path(), &bytes).is_ok());
}

#[test]
fn a_message_is_refused_at_every_other_length() {
    for (format, path) in [
        (format(Version::V2, Checksum::default(), Authentication::None), GROUP),
        (format(Version::V3, Checksum::default(), Authentication::None), GROUP),
        (v6_format(), v6_path()),
    ] {
        let whole = sealed(&format, 100, &path);
        for len in 0..whole.len() {
            assert_eq!(judge(&format, path, &whole[..len]), Err(Rejected::Length), "{len} bytes");
        }
        let mut longer = whole;
        for extra in 1..60 {
            longer.push(0);
            let verdict = judge(&format, path, &longer);
            assert!(verdict.is_err() || extra == TRAILER, "{extra} bytes more: {verdict:?}");
        }
    }
}

#[test]
fn each_rule_has_its_reason() {
    let v2 = format(Version::V2, Checksum::default(), Authentication::password("secret"));
    let v3 = format(Version::V3, Checksum::default(), Authentication::None);
    let good = sealed(&v3, 100, &GROUP);
    assert_eq!(judge(&v2, GROUP, &good), Err(Rejected::Version));
    assert_eq!(judge(&v3, GROUP, &altered(&v3, 0, 0x32)), Err(Rejected::Type));
    assert_eq!(judge(&v3, GROUP, &altered(&v3, 1, 51)), Err(Rejected::Vrid));
    assert_eq!(judge(&v3, GROUP, &altered(&v3, 3, 3)), Err(Rejected::Length));
    assert_eq!(judge(&v2, GROUP, &altered(&v2, 4, 0)), Err(Rejected::AuthenticationType));
    assert_eq!(judge(&v2, GROUP, &altered(&v2, 16, b'S')), Err(Rejected::Password));
    assert_eq!(judge(&v2, GROUP, &altered(&v2, 5, 2)), Err(Rejected::Interval));
    assert_eq!(judge(&v3, GROUP, &altered(&v3, 5, 0)), Err(Rejected::IntervalZero));
    let mut wrong = good.clone();
    wrong[6] ^= 1;
    assert_eq!(judge(&v3, GROUP, &wrong), Err(Rejected::Checksum));
    assert_eq!(judge(&v3, v6_path(), &good), Err(Rejected::Family));
    let near = Datagram { path: GROUP, ttl: 254, bytes: &good };
    assert_eq!(parse(&near, &v3, &Reach::Multicast), Err(Rejected::Ttl));
    let empty = [0x31, 50, 100, 0, 0, 100, 0, 0];
    assert_eq!(judge(&v3, GROUP, &empty), Err(Rejected::NoAddresses));
}

#[test]
fn reasons_have_distinct_counters() {
    for (at, reason) in Rejected::ALL.iter().enumerate() {
        assert_eq!(reason.index(), at);
    }
}

#[test]
fn multicast_and_unicast_do_not_mix() {
    let format = format(Version::V3, Checksum::default(), Authentication::None);
    let peer = IpAddr::from([192, 0, 2, 2]);
    let unicast = Path { source: SOURCE, destination: peer };
    let bytes = sealed(&format, 1, &unicast);
    assert_eq!(judge(&format, unicast, &bytes), Err(Rejected::Reach));
    let reach = |peers, check_source| Reach::Unicast { peers, check_source, min_ttl: 0 };
    let datagram = Datagram { path: unicast, ttl: 3, bytes: &bytes };
    assert!(parse(&datagram, &format, &reach(vec![SOURCE], true)).is_ok());
    assert!(parse(&datagram, &format, &reach(vec![peer], false)).is_ok());
    assert_eq!(parse(&datagram, &format, &reach(vec![peer], true)), Err(Rejected::Peer));
    let bytes = sealed(&format, 1, &GROUP);
    let datagram = Datagram { path: GROUP, ttl: TTL, bytes: &bytes };
    assert_eq!(parse(&datagram, &format, &reach(vec![SOURCE], true)), Err(Rejected::Reach));
}

#[test]
fn a_unicast_peer_may_be_required_near() {
    let format = format(Version::V3, Checksum::default(), Authentication::None);
    let path = Path { source: SOURCE, destination: [192, 0, 2, 2].into() };
    let bytes = sealed(&format, 1, &path);
    let reach = Reach::Unicast { peers: vec![SOURCE], check_source: true, min_ttl: 255 };
    let datagram = |ttl| Datagram { path, ttl, bytes: &bytes };
    assert!(parse(&datagram(255), &format, &reach).is_ok());
    assert_eq!(parse(&datagram(254), &format, &reach), Err(Rejected::Ttl));
}

#[test]
fn old_unicast_checksums_are_understood() {
    let format = format(Version::V3, Checksum::PseudoHeader, Authentication::None);
    let path = Path { source: SOURCE, destination: [192, 0, 2, 2].into() };
    let bytes = sealed(&format, 1, &GROUP);
    let reach = Reach::Unicast { peers: vec![SOURCE], check_source: true, min_ttl: 0 };
    let datagram = Datagram { path, ttl: TTL, bytes: &bytes };
    let parsed = parse(&datagram, &format, &reach).unwrap();
    assert!(!parsed.differences.checksum);
}

#[test]
fn the_other_dialect_is_reported_and_not_refused() {
    let ours = format(Version::V3, Checksum::PseudoHeader, Authentication::None);
    let theirs = format(Version::V3, Checksum::MessageOnly, Authentication::None);
    for (sender, receiver) in [(&ours, &theirs), (&theirs, &ours)] {
        let (_, differences) = judge(receiver, GROUP, &sealed(sender, 9, &GROUP)).unwrap();
        assert_eq!(differences, Differences { checksum: true, ..Differences::default() });
    }
}

#[test]
fn one_message_is_sealed_right_for_every_destination_in_turn() {
    let v4_peers = [[192, 0, 2, 2], [192, 0, 2, 3], [198, 51, 100, 4]].map(IpAddr::from);
    let v6_peers = ["fe80::2", "fe80::3", "2001:db8::4"].map(|peer| peer.parse().unwrap());
    for (format, source, peers) in [
        (format(Version::V2, Checksum::default(), Authentication::None), SOURCE, v4_peers),
        (format(Version::V3, Checksum::PseudoHeader, Authentication::None), SOURCE, v4_peers),
        (format(Version::V3, Checksum::MessageOnly, Authentication::None), SOURCE, v4_peers),
        (v6_format(), v6_path().source, v6_peers),
    ] {
        let mut message = format.message(100);
        for destination in peers {
            let path = Path { source, destination };
            format.seal(&mut message, &path);
            assert_eq!(message, sealed(&format, 100, &path), "{format:?} to {destination}");
        }
    }
}

#[test]
fn an_advert_without_a_common_address_is_another_cluster_s() {
    let ours = format(Version::V3, Checksum::default(), Authentication::None);
    let mut theirs = ours.clone();
    theirs.addresses = v4(&[[192, 168, 1, 3]]);
    let is_foreign = |theirs: &Format| {
        let bytes = sealed(theirs, 9, &GROUP);
        let datagram = Datagram { path: GROUP, ttl: TTL, bytes: &bytes };
        parse(&datagram, &ours, &Reach::Multicast).unwrap().is_foreign
    };
    assert!(is_foreign(&theirs));
    theirs.addresses = v4(&[[192, 168, 1, 3], [192, 168, 1, 2]]);
    assert!(!is_foreign(&theirs), "one common address is enough");
    assert!(!is_foreign(&ours));
}

#[test]
fn another_address_list_or_interval_is_reported_and_not_refused() {
    let ours = format(Version::V3, Checksum::default(), Authentication::None);
    let mut theirs = ours.clone();
    theirs.addresses = v4(&[[192, 168, 1, 2], [192, 168, 1, 1]]);
    let same = judge(&ours, GROUP, &sealed(&theirs, 9, &GROUP)).unwrap().1;
    assert_eq!(same, Differences::default(), "order does not matter");
    theirs.addresses = v4(&[[192, 168, 1, 2], [192, 168, 1, 3]]);
    theirs.interval = Duration::from_millis(250);
    let (advert, differences) = judge(&ours, GROUP, &sealed(&theirs, 9, &GROUP)).unwrap();
    assert_eq!(advert.interval, Duration::from_millis(250));
    assert_eq!(differences, Differences { addresses: true, interval: true, checksum: false });
    theirs.addresses = v4(&[[192, 168, 1, 1], [192, 168, 1, 1]]);
    assert!(judge(&ours, GROUP, &sealed(&theirs, 9, &GROUP)).unwrap().1.addresses);
}

#[test]
fn formats_that_the_wire_cannot_express_are_refused() {
    let vrid = Vrid::new(1).unwrap();
    let one = || v4(&[[192, 0, 2, 1]]);
    let build = |version, interval: u64, addresses, authentication| {
        let interval = Duration::from_millis(interval);
        Format::new(version, vrid, interval, addresses, Checksum::default(), authentication)
            .map(|_| ())
    };
    let none = Authentication::None;
    for (interval, verdict) in
        [(1000, true), (255_000, true), (0, false), (1500, false), (256_000, false)]
    {
        assert_eq!(build(Version::V2, interval, one(), none).is_ok(), verdict, "v2 {interval} ms");
    }
    for (interval, verdict) in
        [(10, true), (40_950, true), (0, false), (15, false), (40_960, false)]
    {
        assert_eq!(build(Version::V3, interval, one(), none).is_ok(), verdict, "v3 {interval} ms");
    }
    assert_eq!(build(Version::V3, 1000, vec![], none), Err(FormatError::NoAddresses));
    let many = vec![IpAddr::from([10, 0, 0, 1]); 256];
    assert_eq!(build(Version::V3, 1000, many, none), Err(FormatError::TooManyAddresses));
    let many = vec![IpAddr::V6(Ipv6Addr::LOCALHOST); 89];
    assert_eq!(build(Version::V3, 1000, many, none), Err(FormatError::TooManyAddresses));
    let mixed = vec![SOURCE, IpAddr::V6(Ipv6Addr::LOCALHOST)];
    assert_eq!(build(Version::V3, 1000, mixed, none), Err(FormatError::MixedFamilies));
    let password = Authentication::password("x");
    assert_eq!(build(Version::V3, 1000, one(), password), Err(FormatError::Password));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_configuration_survives_the_round_trip(
        vrid in 1u8..,
        priority: u8,
        centiseconds in 1u32..=4095,
        addresses in prop::collection::vec(any::<[u8; 4]>(), 1..=255),
        dialect: bool,
        source: [u8; 4],
    ) {
        let checksum = if dialect { Checksum::PseudoHeader } else { Checksum::MessageOnly };
        let format = Format::new(
            Version::V3,
            Vrid::new(vrid).unwrap(),
            CENTISECOND * centiseconds,
            v4(&addresses),
            checksum,
            Authentication::None,
        )
        .unwrap();
        let path = Path { source: source.into(), destination: GROUP_V4.into() };
        let bytes = sealed(&format, priority, &path);
        let (advert, differences) = judge(&format, path, &bytes).unwrap();
        prop_assert_eq!(advert.priority, priority);
        prop_assert_eq!(advert.interval, CENTISECOND * centiseconds);
        prop_assert!(!differences.addresses && !differences.interval);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        version: bool,
        ttl: u8,
    ) {
        let version = if version { Version::V2 } else { Version::V3 };
        let format = format(version, Checksum::default(), Authentication::None);
        let datagram = Datagram { path: GROUP, ttl, bytes: &bytes };
        let _ = parse(&datagram, &format, &Reach::Multicast);
        let _ = parse(&Datagram { path: v6_path(), ..datagram }, &v6_format(), &Reach::Multicast);
        if let Ok(inner) = Datagram::from_ipv4(&bytes) {
            prop_assert!(inner.bytes.len() <= bytes.len());
        }
    }

    #[test]
    fn one_flipped_bit_is_always_noticed(bit in 0usize..16 * 8) {
        let format = format(Version::V3, Checksum::default(), Authentication::None);
        let mut bytes = sealed(&format, 100, &GROUP);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(judge(&format, GROUP, &bytes).is_err());
    }
}
