//! Whatever requests do, the document stays one that can be written and read back, and requests
//! survive the journey over the socket.

use super::*;
use crate::model::GueChecksum;
use proptest::prelude::*;

fn any_key() -> impl Strategy<Value = VirtualAddress> {
    use crate::model::Protocol::{Sctp, Tcp, Udp};
    let address = prop::sample::select(vec!["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let socket = (prop::sample::select(vec![Tcp, Udp, Sctp]), address, 0u16..3).prop_map(
        |(protocol, ip, port)| {
            let address = SocketAddr::new(ip.parse().unwrap(), port);
            VirtualAddress::Socket { protocol, address }
        },
    );
    let mark = (prop::sample::select(vec![Family::V4, Family::V6]), 1u32..4)
        .prop_map(|(family, mark)| VirtualAddress::Mark { family, mark });
    prop_oneof![3 => socket, 1 => mark]
}

fn any_server() -> impl Strategy<Value = SocketAddr> {
    let address = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::9"]);
    (address, 0u16..3).prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
}

fn any_flags() -> impl Strategy<Value = SchedulerFlags> {
    any::<[bool; 3]>().prop_map(|[flag_1, flag_2, flag_3]| SchedulerFlags {
        flag_1,
        flag_2,
        flag_3,
    })
}

fn any_service_spec() -> impl Strategy<Value = ServiceSpec> {
    let scheduler = prop::sample::select(vec!["rr", "wlc", "sh", "mh", "none", "twos", "nosuch"]);
    let netmask = prop_oneof![
        any::<u32>().prop_map(|mask| Netmask::V4(mask.into())),
        (0u8..=129).prop_map(Netmask::V6),
    ];
    let persistence = (0u32..2_678_402, netmask)
        .prop_map(|(seconds, netmask)| PersistenceSpec { seconds, netmask });
    let engine = prop::sample::select(vec!["sip", "sip", "nosuch"]);
    (
        scheduler,
        any_flags(),
        prop::option::of(persistence),
        prop::option::weighted(0.2, engine),
        any::<bool>(),
    )
        .prop_map(|(scheduler, flags, persistence, engine, one_packet)| ServiceSpec {
            scheduler: scheduler.into(),
            flags,
            persistence,
            engine: engine.map(Into::into),
            one_packet,
        })
}

fn any_method() -> impl Strategy<Value = Method> {
    let checksum =
        prop::sample::select(vec![GueChecksum::None, GueChecksum::Full, GueChecksum::Remote]);
    prop_oneof![
        Just(Method::Nat),
        Just(Method::DirectRouting),
        Just(Method::FullNat),
        Just(Method::Local),
        Just(Method::Tunnel(Tunnel::Ipip)),
        any::<bool>().prop_map(|checksum| Method::Tunnel(Tunnel::Gre { checksum })),
        (0u16..3, checksum)
            .prop_map(|(port, checksum)| Method::Tunnel(Tunnel::Gue { port, checksum })),
    ]
}

fn any_server_spec() -> impl Strategy<Value = ServerSpec> {
    let number = prop_oneof![0u32..4, Just(i32::MAX as u32), any::<u32>()];
    (any_method(), number.clone(), number.clone(), number)
        .prop_map(|(method, weight, upper, lower)| ServerSpec { method, weight, upper, lower })
}

fn any_daemon() -> impl Strategy<Value = DaemonSpec> {
    let role = prop::sample::select(vec![DaemonRole::Master, DaemonRole::Backup]);
    let interface = prop::sample::select(vec!["eth0", "lo", "eth7"]);
    let group = prop::sample::select(vec!["224.0.0.5", "ff02::1", "10.0.0.1"]);
    (role, interface, any::<u8>(), any::<u16>(), prop::option::of(group)).prop_map(
        |(role, interface, sync_id, max_length, group)| DaemonSpec {
            role,
            interface: interface.into(),
            sync_id,
            max_length,
            group: group.map(|group| group.parse().unwrap()),
            port: 0,
            ttl: 0,
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let key = any_key;
    prop_oneof![
        4 => (key(), any_service_spec())
            .prop_map(|(service, spec)| Request::AddService { service, spec }),
        2 => (key(), any_service_spec())
            .prop_map(|(service, spec)| Request::EditService { service, spec }),
        1 => key().prop_map(|service| Request::DeleteService { service }),
        6 => (key(), any_server(), any_server_spec())
            .prop_map(|(service, server, spec)| Request::AddServer { service, server, spec }),
        3 => (key(), any_server(), any_server_spec())
            .prop_map(|(service, server, spec)| Request::EditServer { service, server, spec }),
        2 => (key(), any_server())
            .prop_map(|(service, server)| Request::DeleteServer { service, server }),
        1 => key().prop_map(|service| Request::ZeroService { service }),
        1 => Just(Request::ZeroAll),
        1 => prop::sample::select(vec![0, 1, 5, 2_678_400, 2_678_401])
            .prop_map(|n| Request::SetTimeouts(TimeoutSpec { tcp: n, tcp_fin: n, udp: n })),
        1 => any_daemon().prop_map(Request::StartDaemon),
        1 => Just(Request::Services),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_document_can_always_be_written_and_read_back(
        requests in prop::collection::vec(any_request(), 1..40),
    ) {
        let mut director = Director::default();
        for request in &requests {
            let before = director.document.clone();
            let executed = director.run(request);
            prop_assert_eq!(executed.changed, before != director.document, "{:?}", request);
        }
        let text = director.document.to_toml();
        let read = Document::parse(&text, "export");
        prop_assert_eq!(read.as_ref(), Ok(&director.document), "{}", text);
    }

    #[test]
    fn requests_and_replies_survive_the_socket(
        requests in prop::collection::vec(any_request(), 1..20),
    ) {
        let request = Request::Batch(requests);
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Request>(&text).unwrap(), &request);
        let reply = Director::default().ask(&request);
        let text = serde_json::to_string(&reply).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Reply>(&text).unwrap(), &reply);
    }
}
