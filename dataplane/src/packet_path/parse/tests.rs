use super::*;
use proptest::prelude::*;

fn tcp_v4() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 1], [192, 0, 2, 10], 64)
        .tcp(4242, 80, 1000, 512);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"hello").unwrap();
    frame
}

fn udp_v6_tagged() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
        .single_vlan(etherparse::VlanId::try_new(7).unwrap())
        .ipv6([0x20; 16], [0x30; 16], 64)
        .udp(53, 5353);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"hello").unwrap();
    frame
}

fn ip(parsed: Result<Parsed, DropReason>) -> Packet {
    match parsed {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("not an IP packet: {other:?}"),
    }
}

#[test]
fn tcp_over_ipv4_is_read() {
    let packet = ip(frame(&tcp_v4()));
    assert_eq!(packet.source.to_string(), "10.0.0.1");
    assert_eq!(packet.destination.to_string(), "192.0.2.10");
    assert_eq!((packet.source_port, packet.destination_port), (4242, 80));
    assert_eq!((packet.l3, packet.l4, packet.ip_length()), (14, 34, 45));
    assert_eq!(packet.fragment, Fragment::Whole);
}

#[test]
fn udp_over_tagged_ipv6_is_read() {
    let packet = ip(frame(&udp_v6_tagged()));
    assert_eq!(packet.vlan, Some(Vlan(7)));
    assert_eq!((packet.source_port, packet.destination_port), (53, 5353));
    assert_eq!((packet.l3, packet.l4), (18, 58));
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let mut bytes = tcp_v4();
    let end = bytes.len();
    bytes.resize(end + 30, 0xee);
    assert_eq!(ip(frame(&bytes)).end, end);
}

#[test]
fn a_frame_cut_anywhere_is_refused() {
    for whole in [tcp_v4(), udp_v6_tagged()] {
        for length in 0..whole.len() {
            let result = frame(&whole[..length]);
            assert!(result.is_err() || result == Ok(Parsed::Other), "{length}: {result:?}");
        }
    }
}

#[test]
fn an_ipv4_mapped_address_on_the_wire_is_refused() {
    let mut bytes = udp_v6_tagged();
    bytes[18 + 8..18 + 24].copy_from_slice(&Address::v4(1).0.to_be_bytes());
    assert_eq!(frame(&bytes), Err(DropReason::BadIpHeader));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame(&bytes);
        let _ = embedded(&bytes, 3, true);
        let _ = embedded(&bytes, 3, false);
    }

    #[test]
    fn mutated_frames_stay_within_bounds(v6: bool, at in 0usize..80, value: u8, cut in 0usize..80) {
        let mut bytes = if v6 { udp_v6_tagged() } else { tcp_v4() };
        let length = bytes.len();
        bytes[at % length] = value;
        bytes.truncate(length - cut % length);
        if let Ok(Parsed::Ip(packet)) = frame(&bytes) {
            prop_assert!(packet.l3 < packet.l4 && packet.l4 <= packet.end);
            prop_assert!(packet.end <= bytes.len());
        }
    }

    #[test]
    fn agrees_with_an_independent_parser(
        source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload in 0usize..100,
    ) {
        let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(source, destination, 64).udp(ports.0, ports.1);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &vec![0; payload]).unwrap();
        let packet = ip(frame(&bytes));
        prop_assert_eq!((packet.source_port, packet.destination_port), ports);
        prop_assert_eq!(packet.source.low(), u32::from_be_bytes(source));
        prop_assert_eq!(packet.destination.low(), u32::from_be_bytes(destination));
    }
}
