use super::*;
use proptest::prelude::*;

fn connection(client: &str, vip: &str, real: &str) -> Connection {
    Connection {
        key: Key {
            protocol: 6,
            template: false,
            client: client.parse().unwrap(),
            vip: vip.parse().unwrap(),
        },
        real: real.parse().unwrap(),
        via: Via::Nat,
        state: 1,
        traits: Traits::default(),
        timeout: Ticks::from_secs(900),
        remaining: Ticks::from_secs(899),
        mark: 0,
        local: None,
        shifts: None,
    }
}

fn write(writer: &mut Writer, changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        assert!(writer.write(change, &mut out));
    }
    out
}

#[test]
fn a_new_connection_costs_far_less_than_64_bytes() {
    for (vip, real, client, most) in [
        ("192.0.2.10:80", "10.0.0.11:8080", "203.0.113.5", 21),
        ("[2001:db8::10]:80", "[2001:db8:a::11]:8080", "[2001:db8:c::5]", 33),
    ] {
        let mut writer = Writer::default();
        let all: Vec<Change> = (1..=1000)
            .map(|port| Change::Update(connection(&format!("{client}:{port}"), vip, real)))
            .collect();
        let bytes = write(&mut writer, &all).len();
        // The two addresses are written out once.
        assert!(bytes <= most * 1000 + 40, "{} bytes each", bytes as f64 / 1000.0);
        let full_nat = Connection {
            via: Via::FullNat,
            local: Some(real.parse().unwrap()),
            ..connection(&format!("{client}:9"), vip, real)
        };
        assert!(write(&mut writer, &[Change::Update(full_nat)]).len() < 40);
        let close = Change::Close(full_nat.key);
        assert!(write(&mut writer, &[close]).len() <= most - 10);
    }
}

#[test]
fn what_cannot_be_expressed_is_left_out() {
    let mut out = Vec::new();
    let mut key = connection("192.0.2.1:1", "192.0.2.10:80", "10.0.0.11:80").key;
    key.protocol = 47;
    assert!(!Writer::default().write(&Change::Close(key), &mut out));
    let mut key = connection("[::1]:1", "[::2]:80", "10.0.0.11:80").key;
    key.client = "192.0.2.1:1".parse().unwrap();
    assert!(!Writer::default().write(&Change::Close(key), &mut out));
    assert!(out.is_empty());
}

#[test]
fn the_dictionary_is_bounded_on_both_sides() {
    let mut writer = Writer::default();
    let mut reader = Reader::default();
    for number in 0..2 * MOST_NUMBERED as u32 {
        let real = SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + number).into(), 80);
        let plain = connection("192.0.2.1:1", "192.0.2.10:80", "10.0.0.11:80");
        let change = Change::Update(Connection { real, ..plain });
        let bytes = write(&mut writer, &[change]);
        assert_eq!(reader.read(&bytes), Ok(vec![change]));
    }
    assert_eq!(writer.numbers.len(), MOST_NUMBERED);
    assert_eq!(reader.addresses.len(), MOST_NUMBERED);
}

/// Any change that can be expressed, over a small space of addresses.
pub fn any_change() -> impl Strategy<Value = Change> {
    let address = |v6: bool, last: u8| -> IpAddr {
        if v6 {
            Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(last)).into()
        } else {
            [192, 0, 2, last].into()
        }
    };
    let via = prop::sample::select(vec![
        Via::Nat,
        Via::Local,
        Via::Tunnel,
        Via::DirectRouting,
        Via::FullNat,
    ]);
    let key = (prop::sample::select(PROTOCOLS.to_vec()), any::<(bool, bool)>(), any::<[u8; 4]>());
    let numbers =
        (0u32..=i32::MAX as u32, 0u32..=i32::MAX as u32, prop_oneof![Just(0), any::<u32>()]);
    let traits = any::<[bool; 5]>().prop_map(|[a, b, c, d, e]| Traits {
        no_output: a,
        inactive: b,
        no_client_port: c,
        assured: d,
        controlled: e,
    });
    let shift =
        || any::<[u32; 3]>().prop_map(|[start, delta, previous]| Shift { start, delta, previous });
    let shifts = prop::option::of((shift(), shift()))
        .prop_map(|both| both.map(|(inbound, outbound)| Shifts { inbound, outbound }));
    let local = prop::option::of((any::<bool>(), any::<(u8, u16)>()));
    (key, any::<[u16; 3]>(), (via, 0u8..16, traits), numbers, (local, shifts), any::<bool>())
        .prop_map(
            move |(
                (protocol, (v6, template), last),
                ports,
                (via, state, traits),
                numbers,
                more,
                close,
            )| {
                let key = Key {
                    protocol,
                    template,
                    client: SocketAddr::new(address(v6, last[0]), ports[0]),
                    vip: SocketAddr::new(address(v6, last[1]), ports[1]),
                };
                if close {
                    return Change::Close(key);
                }
                Change::Update(Connection {
                    key,
                    real: SocketAddr::new(address(last[3] & 1 == 0, last[2]), ports[2]),
                    via,
                    state,
                    traits,
                    timeout: Ticks(numbers.0),
                    remaining: Ticks(numbers.1),
                    mark: numbers.2,
                    local: more
                        .0
                        .map(|(v6, (last, port))| SocketAddr::new(address(v6, last), port)),
                    shifts: more.1,
                })
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read_back(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 0..40), 1..5),
    ) {
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        for changes in batches {
            let bytes = write(&mut writer, &changes);
            prop_assert_eq!(reader.read(&bytes), Ok(changes));
        }
    }

    #[test]
    fn a_cut_batch_is_never_read_as_another(changes in prop::collection::vec(any_change(), 1..5)) {
        let mut writer = Writer::default();
        let mut ends = vec![0];
        let mut bytes = Vec::new();
        for change in &changes {
            bytes.extend(write(&mut writer, std::slice::from_ref(change)));
            ends.push(bytes.len());
        }
        for len in 0..=bytes.len() {
            let read = Reader::default().read(&bytes[..len]);
            match ends.iter().position(|end| *end == len) {
                Some(count) => prop_assert_eq!(read, Ok(changes[..count].to_vec())),
                None => prop_assert_eq!(read, Err(Malformed)),
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Reader::default().read(&bytes);
    }
}
