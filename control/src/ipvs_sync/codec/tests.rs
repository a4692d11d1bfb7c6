use super::*;
use crate::ipvs_sync::packer::Packer;
use proptest::prelude::*;

/// The reference bytes: 10.0.0.5:50000 to 10.1.2.3:443 by 192.168.1.10:443, direct routing, established,
/// 900 s, sync id 1.
const EXAMPLE: &str = "0001002c01010000 0006002400000083 0001c35001bb01bb 0000000000000384 \
                       0a000005 0a010203 c0a8010a";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn example() -> Record {
    Record {
        protocol: 6,
        flags: Flags(3).with(Flags::NO_OUTPUT),
        state: 1,
        client: [10, 0, 0, 5].into(),
        client_port: 50000,
        vip: [10, 1, 2, 3].into(),
        virtual_port: 443,
        real: [192, 168, 1, 10].into(),
        real_port: 443,
        mark: 0,
        timeout: 900,
        shifts: None,
        engine: None,
    }
}

fn pack(version: Version, records: &[Record]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(version, 1, 1472);
    let mut messages: Vec<_> = records.iter().filter_map(|record| packer.push(record)).collect();
    messages.extend(packer.finish());
    messages
}

fn refusal(change: impl FnOnce(&mut Record)) -> Vec<Refused> {
    let mut record = example();
    change(&mut record);
    decode(&pack(Version::V1, &[record])[0], 1).unwrap().refused
}

#[test]
fn the_reference_bytes_are_made_and_read() {
    let image = bytes(EXAMPLE);
    assert_eq!(pack(Version::V1, &[example()])[0], image);
    let message = decode(&image, 1).unwrap();
    let read = Record { flags: example().flags.with(Flags::SYNC), ..example() };
    assert_eq!((message.records, message.broken), (vec![read], None));
    assert_eq!((message.sync_id, message.version), (1, Version::V1));
}

#[test]
fn sync_ids_are_kept_apart_except_by_0() {
    let image = bytes(EXAMPLE);
    assert_eq!(decode(&image, 2), Err(Broken::SyncId));
    assert!(decode(&image, 0).is_ok());
}

#[test]
fn a_message_is_refused_at_every_other_length() {
    let image = bytes(EXAMPLE);
    for len in 0..image.len() {
        let expected = if len < 4 { Broken::Header } else { Broken::Size };
        assert_eq!(decode(&image[..len], 1), Err(expected), "{len} bytes");
    }
    let mut longer = image;
    longer.push(0);
    assert_eq!(decode(&longer, 1), Err(Broken::Size));
}

#[test]
fn a_cut_record_spoils_only_what_follows() {
    let two = pack(Version::V1, &[example(), example()]).remove(0);
    for len in HEADER_V1..two.len() {
        let mut cut = two[..len].to_vec();
        let [high, low] = (len as u16).to_be_bytes();
        cut[2..4].copy_from_slice(&[high, low]);
        let message = decode(&cut, 1).unwrap();
        assert_eq!(message.records.len(), usize::from(len >= 44), "{len} bytes");
        assert_eq!(message.broken, Some(Broken::RecordLength), "{len} bytes");
    }
}

#[test]
fn records_that_the_kernel_refuses_are_refused() {
    assert_eq!(refusal(|r| r.flags = r.flags.with(Flags::ONE_PACKET)), [Refused::OnePacket]);
    let template = Flags::TEMPLATE.with(Flags::NO_CLIENT_PORT);
    assert_eq!(refusal(|r| r.flags = template), [Refused::TemplatePort]);
    assert_eq!(refusal(|r| r.state = 11), [Refused::State]);
    assert_eq!(refusal(|r| r.state = 10), []);
    assert_eq!(refusal(|r| (r.protocol, r.state) = (17, 1)), [Refused::State]);
    assert_eq!(refusal(|r| (r.protocol, r.state) = (132, 14)), [Refused::State]);
    assert_eq!(refusal(|r| r.protocol = 1), [Refused::Protocol]);
    let template = |r: &mut Record| (r.protocol, r.flags) = (0, Flags::TEMPLATE);
    assert_eq!(refusal(template), []);
    assert_eq!(refusal(|r| (r.flags, r.state) = (Flags::TEMPLATE, 2)), [Refused::State]);
}

/// A message of one example record with `options` behind it.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut image = bytes(EXAMPLE);
    image.extend(options);
    let len = image.len() as u16;
    image[2..4].copy_from_slice(&len.to_be_bytes());
    image[10..12].copy_from_slice(&(len - 8).to_be_bytes());
    image
}

#[test]
fn options_are_read_skipped_or_spoil_the_record_or_the_message() {
    let engine = [2, 4, b'c', b'a', b'l', b'l', 3, 3, b's', b'i', b'p'];
    let message = decode(&with_options(&engine), 1).unwrap();
    let expected = Engine { name: b"sip".to_vec(), data: b"call".to_vec() };
    assert_eq!(message.records[0].engine, Some(expected));
    let cases: [(&[u8], Result<usize, Broken>); 8] = [
        (&[0x4a, 2, 9, 9], Ok(1)),
        (&[0x0a, 2, 9, 9], Ok(0)),
        (&[2, 0], Err(Broken::Option)),
        (&[2, 1, 9, 2, 1, 9], Err(Broken::Option)),
        (&[2, 9, 1], Err(Broken::Option)),
        (&[1, 4, 0, 0, 0, 0], Err(Broken::Option)),
        (&[7], Err(Broken::Option)),
        (&[3, 17, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], Err(Broken::Option)),
    ];
    for (options, verdict) in cases {
        let message = decode(&with_options(options), 1).unwrap();
        match verdict {
            Ok(good) => {
                assert_eq!((message.records.len(), message.broken), (good, None), "{options:?}");
                assert_eq!(message.refused.len(), 1 - good);
            }
            Err(broken) => assert_eq!(message.broken, Some(broken), "{options:?}"),
        }
    }
}

#[test]
fn record_kinds_and_versions_of_the_future_are_refused() {
    let mut image = bytes(EXAMPLE);
    image[8] = 2;
    assert_eq!(decode(&image, 1).unwrap().broken, Some(Broken::RecordType));
    let mut image = bytes(EXAMPLE);
    image[10] |= 0x10;
    assert_eq!(decode(&image, 1).unwrap().refused, [Refused::RecordVersion]);
}

#[test]
fn version_0_is_told_by_its_header() {
    let image = pack(Version::V0, &[example(), example()]).remove(0);
    assert_eq!(image.len(), HEADER_V0 + 2 * RECORD_V0);
    assert_eq!(&image[..4], &[2, 1, 0, 52]);
    let message = decode(&image, 1).unwrap();
    assert_eq!((message.version, message.records.len()), (Version::V0, 2));
    let read = Record { timeout: 0, flags: example().flags.with(Flags::SYNC), ..example() };
    assert_eq!(message.records[0], read);
    let v6 = Record { client: "::1".parse().unwrap(), ..example() };
    assert_eq!(pack(Version::V0, &[v6]), Vec::<Vec<u8>>::new());
}

#[test]
fn messages_hold_as_much_as_fits_and_no_more() {
    let records = vec![example(); 200];
    let sizes: Vec<usize> = pack(Version::V1, &records).iter().map(Vec::len).collect();
    assert_eq!(sizes, [1448, 1448, 1448, 1448, 1448]);
    let mut packer = Packer::new(Version::V1, 1, 65_507);
    let mut messages: Vec<_> = (0..300).filter_map(|_| packer.push(&example())).collect();
    messages.extend(packer.finish());
    assert_eq!(messages.iter().map(|m| m[4]).collect::<Vec<_>>(), [255, 45]);
    let mut small = Packer::new(Version::V1, 1, 40);
    assert_eq!((small.push(&example()), small.finish()), (None, None), "fits no message");
}

pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let address = |v6: bool, bits: u128| -> IpAddr {
        if v6 { Ipv6Addr::from(bits).into() } else { Ipv4Addr::from(bits as u32).into() }
    };
    let shift =
        || any::<[u32; 3]>().prop_map(|[start, delta, previous]| Shift { start, delta, previous });
    let shifts = prop::option::of((shift(), shift()))
        .prop_map(|both| both.map(|(inbound, outbound)| Shifts { inbound, outbound }));
    let text = |most| prop::collection::vec(any::<u8>(), 1..=most);
    let engine = prop::option::of((text(16), text(255)))
        .prop_map(|both| both.map(|(name, data)| Engine { name, data }));
    let numbers = (any::<[u16; 3]>(), any::<[u128; 3]>(), any::<[u32; 3]>());
    let kind = prop::sample::select(vec![(6, 11), (17, 1), (132, 14), (0, 2)]);
    (any::<bool>(), kind, any::<u16>(), numbers, shifts, engine).prop_map(
        move |(v6, (protocol, states), state, (ports, addresses, words), shifts, engine)| {
            let flags = Flags(words[0]).only(Flags::TAKEN_OVER).with(Flags::SYNC);
            let flags = flags.without(Flags::SEQUENCES.with(Flags::TEMPLATE));
            let flags = if shifts.is_some() { flags.with(Flags::SEQUENCES) } else { flags };
            let template = Flags::TEMPLATE;
            let flags = match protocol {
                0 => flags.without(Flags::NO_CLIENT_PORT).with(template),
                _ => flags,
            };
            Record {
                protocol,
                flags,
                state: state % states,
                client: address(v6, addresses[0]),
                client_port: ports[0],
                vip: address(v6, addresses[1]),
                virtual_port: ports[1],
                real: address(v6, addresses[2]),
                real_port: ports[2],
                mark: words[1],
                timeout: words[2],
                shifts,
                engine,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_packed_is_read_back(records in prop::collection::vec(any_record(), 0..60)) {
        let mut read = Vec::new();
        for message in pack(Version::V1, &records) {
            prop_assert!(message.len() <= 1472);
            let message = decode(&message, 1).unwrap();
            prop_assert_eq!((message.refused.len(), message.broken), (0, None));
            read.extend(message.records);
        }
        prop_assert_eq!(read, records);
    }

    #[test]
    fn version_0_reads_back_what_it_can_express(records in prop::collection::vec(any_record(), 0..80)) {
        let expected: Vec<Record> = records
            .iter()
            .filter(|record| record.is_ipv4())
            .map(|record| Record { mark: 0, timeout: 0, engine: None, ..record.clone() })
            .collect();
        let messages = pack(Version::V0, &records);
        let read: Vec<Record> =
            messages.iter().flat_map(|message| decode(message, 0).unwrap().records).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), v1: bool) {
        let _ = decode(&bytes, 0);
        if bytes.len() >= HEADER_V1 {
            let [high, low] = (bytes.len() as u16).to_be_bytes();
            bytes[2..4].copy_from_slice(&[high, low]);
            if v1 {
                bytes[0] = 0;
                bytes[5..8].copy_from_slice(&[1, 0, 0]);
            }
            let message = decode(&bytes, 0).unwrap();
            let least = if message.version == Version::V1 { RECORD_V4 } else { RECORD_V0 };
            prop_assert!((message.records.len() + message.refused.len()) * least <= bytes.len() + 3);
        }
    }

    #[test]
    fn mutated_messages_never_panic(
        records in prop::collection::vec(any_record(), 1..10),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut message in pack(Version::V1, &records) {
            for (at, to) in &changes {
                let at = at.index(message.len());
                message[at] = *to;
            }
            let _ = decode(&message, 0);
        }
    }
}
