//! Documents of every shape that validates.

mod checks;

use crate::model::*;
use checks::check;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

fn duration(range: std::ops::Range<u64>) -> BoxedStrategy<Duration> {
    range.prop_map(Duration::from_millis).boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z]{1,8}", "[ -~]{1,12}", "\\PC{1,6}", "[\\x00-\\x7f\u{80}-\u{a0}]{1,8}"].boxed()
}

fn word() -> BoxedStrategy<String> {
    "[a-zA-Z][a-zA-Z0-9_.:-]{0,12}".boxed()
}

fn login() -> BoxedStrategy<Option<Login>> {
    option::of((prop_oneof![Just(String::new()), text()], text()))
        .prop_map(|login| login.map(|(user, password)| Login { user, password }))
        .boxed()
}

fn v4() -> BoxedStrategy<IpAddr> {
    (1..=223_u8, any::<[u8; 3]>())
        .prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d).into())
        .boxed()
}

fn v6() -> BoxedStrategy<IpAddr> {
    any::<[u16; 7]>()
        .prop_map(|[a, b, c, d, e, f, g]| Ipv6Addr::new(0x2001, a, b, c, d, e, f, g).into())
        .boxed()
}

fn ip() -> BoxedStrategy<IpAddr> {
    prop_oneof![v4(), v6()].boxed()
}

fn tunnel() -> BoxedStrategy<Tunnel> {
    let sums = select(vec![GueChecksum::None, GueChecksum::Full, GueChecksum::Remote]);
    prop_oneof![
        Just(Tunnel::Ipip),
        any::<bool>().prop_map(|checksum| Tunnel::Gre { checksum }),
        (1..=65_535_u16, sums).prop_map(|(port, checksum)| Tunnel::Gue { port, checksum }),
    ]
    .boxed()
}

fn method() -> BoxedStrategy<Method> {
    prop_oneof![
        Just(Method::Nat),
        Just(Method::DirectRouting),
        Just(Method::FullNat),
        Just(Method::Local),
        tunnel().prop_map(Method::Tunnel),
    ]
    .boxed()
}

fn real(family: Family) -> BoxedStrategy<Real> {
    let address = match family {
        Family::V4 => v4().boxed(),
        Family::V6 => v6().boxed(),
    };
    let limit = 0..=i32::MAX as u32;
    (
        address,
        any::<u16>(),
        limit.clone(),
        limit.clone(),
        limit,
        option::of(method()),
        option::weighted(0.1, check()),
    )
        .prop_map(|(ip, port, weight, a, b, method, check)| Real {
            address: SocketAddr::new(ip, port),
            weight,
            upper: a.max(b),
            lower: a.min(b),
            method,
            check,
        })
        .boxed()
}

fn sorry() -> BoxedStrategy<Sorry> {
    prop_oneof![
        (option::of(text()), 0..1000_u64).prop_map(|(body, seconds)| Sorry::Page {
            body,
            retry_after: Duration::from_secs(seconds)
        }),
        (ip(), any::<u16>(), option::of(method())).prop_map(|(ip, port, method)| Sorry::Server {
            address: SocketAddr::new(ip, port),
            method
        }),
    ]
    .boxed()
}

fn quorum() -> BoxedStrategy<Quorum> {
    (1..=50_u32, 0..=50_u32, any::<bool>(), any::<bool>())
        .prop_map(|(minimum, more, weight, withdraw)| Quorum {
            minimum,
            recover: minimum + more,
            unit: if weight { QuorumUnit::Weight } else { QuorumUnit::Servers },
            withdraw,
        })
        .boxed()
}

fn persistence(family: Family) -> BoxedStrategy<Persistence> {
    let netmask = match family {
        Family::V4 => any::<[u8; 4]>().prop_map(|mask| Netmask::V4(mask.into())).boxed(),
        Family::V6 => (1..=128_u8).prop_map(Netmask::V6).boxed(),
    };
    (1..=2_678_400_u64, netmask)
        .prop_map(|(seconds, netmask)| Persistence {
            timeout: Duration::from_secs(seconds),
            netmask,
        })
        .boxed()
}

fn virtual_address() -> BoxedStrategy<VirtualAddress> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    prop_oneof![
        (protocol, ip(), any::<u16>()).prop_map(|(protocol, ip, port)| VirtualAddress::Socket {
            protocol,
            address: SocketAddr::new(ip, port)
        }),
        (any::<bool>(), 1..=u32::MAX).prop_map(|(v6, mark)| VirtualAddress::Mark {
            family: if v6 { Family::V6 } else { Family::V4 },
            mark
        }),
    ]
    .boxed()
}

fn rule(family: Family) -> BoxedStrategy<MatchRule> {
    let block = move || {
        let prefix = match family {
            Family::V4 => (v4().boxed(), (0..=32_u8).boxed()),
            Family::V6 => (v6().boxed(), (0..=128_u8).boxed()),
        };
        prefix.prop_map(|(address, length)| Prefix { address, length })
    };
    let protocol = option::of(select(vec![Protocol::Tcp, Protocol::Udp]));
    let ports = option::of((any::<u16>(), any::<u16>()));
    (option::of(block()), block(), protocol, ports)
        .prop_map(|(source, destination, protocol, ports)| MatchRule {
            source,
            destination,
            protocol,
            ports: ports.map(|(a, b)| a.min(b)..=a.max(b)),
        })
        .boxed()
}

fn service_at(address: VirtualAddress) -> BoxedStrategy<Service> {
    let family = address.family();
    let schedulers: Vec<_> = crate::model::names::SCHEDULERS.iter().map(|(_, s)| *s).collect();
    let udp = matches!(address, VirtualAddress::Socket { protocol: Protocol::Udp, .. });
    let tcp = matches!(address, VirtualAddress::Socket { protocol: Protocol::Tcp, .. });
    let is_mark = matches!(address, VirtualAddress::Mark { .. });
    let must_persist = !is_mark && address.port() == 0;
    let rules = if is_mark { 3 } else { 1 };
    (
        option::of(word()),
        select(schedulers),
        any::<[bool; 3]>(),
        method(),
        (option::of(persistence(family)), persistence(family), any::<bool>()),
        (any::<bool>(), any::<bool>(), option::of(2..=255_u8)),
        (vec(ip(), 0..3), option::of(sorry()), quorum()),
        (option::of(check()), vec(real(family), 0..4), vec(rule(family), 0..rules)),
    )
        .prop_map(move |(name, scheduler, flags, method, persist, switches, more, inside)| {
            let mut service = Service::new(address, method);
            if let Some(name) = name {
                service.name = name;
            }
            service.rules = inside.2;
            service.scheduler = scheduler;
            service.flags = SchedulerFlags { flag_1: flags[0], flag_2: flags[1], flag_3: flags[2] };
            service.persistence = if must_persist { Some(persist.1) } else { persist.0 };
            service.persistence_engine = persist.2.then_some(PersistenceEngine::Sip);
            service.one_packet = switches.0 && (udp || is_mark);
            service.return_by_mac = switches.1;
            if let Some(kind) = switches.2.filter(|_| tcp) {
                service.client_address = ClientAddress::TcpOption(kind);
            }
            (service.source_pool, service.sorry, service.quorum) = more;
            service.check = inside.0;
            let mut seen = BTreeSet::new();
            service.reals = inside.1;
            service.reals.retain(|real| seen.insert(real.address));
            fit(&mut service);
            service
        })
        .boxed()
}

/// Takes out what excludes each other.
fn fit(service: &mut Service) {
    let port = service.address.port();
    let service_method = service.method;
    for real in &mut service.reals {
        let method = real.method.unwrap_or(service_method);
        let keeps = matches!(method, Method::DirectRouting | Method::Tunnel(_));
        if keeps && port != 0 && real.address.port() != 0 {
            real.address.set_port(port);
        }
    }
    let mut seen = BTreeSet::new();
    service.reals.retain(|real| seen.insert(real.address));
    let full_nat = service.reals.iter().any(|real| service.method_of(real) == Method::FullNat);
    service.one_packet &= !full_nat && service.method != Method::FullNat;
}

fn services() -> BoxedStrategy<Vec<Service>> {
    vec(virtual_address().prop_flat_map(service_at), 0..4)
        .prop_map(|mut services| {
            let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
            services.retain(|s| names.insert(s.name.clone()) && addresses.insert(s.address));
            services
        })
        .boxed()
}

fn instance(name: String, id: u8) -> BoxedStrategy<VrrpInstance> {
    (
        1..=255_u8,
        1..=4095_u64,
        any::<[bool; 4]>(),
        vec(v6(), 1..3),
        vec(v6(), 0..3),
        option::of(word()),
        option::of("[!-~]{32,40}"),
        option::of((v4(), 0..=32_u8)),
    )
        .prop_map(move |(priority, steps, switches, addresses, peers, group, key, inside)| {
            VrrpInstance {
                name: name.clone(),
                interface: "eth0".into(),
                id,
                version: 3,
                priority,
                advert_interval: Duration::from_millis(steps * 10),
                preempt: switches[0],
                preempt_delay: Duration::from_secs(steps % 60),
                source: peers.first().copied(),
                unicast_peers: peers,
                addresses,
                inside_addresses: inside
                    .map(|(address, length)| InsideAddress {
                        address: Prefix { address, length },
                        interface: "eth1".into(),
                    })
                    .into_iter()
                    .collect(),
                group,
                auth: key.map_or(VrrpAuth::None, VrrpAuth::Hmac),
                checksum_pseudo_header: switches[1],
                track: vec![VrrpTrack { what: Tracked::Interface("eth1".into()), weight: -3 }],
                accept: switches[2],
                virtual_mac: switches[3],
            }
        })
        .boxed()
}

fn alert() -> BoxedStrategy<Alert> {
    let target = prop_oneof![
        (login(), any::<bool>()).prop_map(|(login, tls)| AlertTarget::Mail {
            to: vec!["a@b".into(), "c@d".into()],
            from: "e@f".into(),
            server: "mail:25".into(),
            security: if tls { MailSecurity::Tls } else { MailSecurity::Off },
            login,
        }),
        option::of(text())
            .prop_map(|secret| AlertTarget::Webhook { url: "https://a/b".into(), secret }),
        Just(AlertTarget::Script { command: vec!["/bin/alert".into(), "a b".into()] }),
        Just(AlertTarget::Syslog { facility: "local3".into() }),
    ];
    (target, duration(0..10_000), any::<bool>())
        .prop_map(|(target, repeat, during)| Alert {
            name: "who".into(),
            target,
            events: vec![AlertEvent::RealDown, AlertEvent::Clock],
            services: Vec::new(),
            repeat,
            digest: repeat / 10,
            during_maintenance: during,
        })
        .boxed()
}

/// Any document that validates.
pub(crate) fn document() -> BoxedStrategy<Document> {
    let node = (option::of(word()), any::<bool>(), option::of(1024..9999_u64)).prop_map(
        |(name, autoreload, connections)| Node { name, autoreload, connections, workers: None },
    );
    let timeouts = (1..9999_u64, 1..9999_u64, 1..9999_u64).prop_map(|(a, b, c)| Timeouts {
        tcp: Duration::from_secs(a),
        tcp_fin: Duration::from_secs(b),
        udp: Duration::from_secs(c),
    });
    let tunables =
        (any::<[bool; 3]>(), 0..=3_u8).prop_map(|(switches, conn_reuse_mode)| Tunables {
            expire_nodest_conn: switches[0],
            secure_tcp: switches[1],
            pmtu_disc: switches[2],
            conn_reuse_mode,
            ..Tunables::default()
        });
    (
        node,
        services(),
        option::of(instance("outside".into(), 50)),
        option::of(alert()),
        timeouts,
        tunables,
        any::<bool>(),
    )
        .prop_map(|(node, services, vrrp, alert, timeouts, tunables, more)| Document {
            node,
            interfaces: more
                .then(|| Interface { name: "eth0".into(), backend: AttachedBy::Xdp })
                .into_iter()
                .collect(),
            services: services.into_iter().map(Arc::new).collect(),
            vrrp: vrrp.into_iter().collect(),
            track_scripts: more
                .then(|| TrackScript {
                    name: "script".into(),
                    command: vec!["/bin/true".into()],
                    interval: Duration::from_secs(3),
                    timeout: Duration::from_secs(2),
                    rise: 2,
                    fall: 3,
                })
                .into_iter()
                .collect(),
            peer: more.then(|| Peer {
                address: "10.0.0.1:1".parse().expect("literal"),
                listen: "10.0.0.2:1".parse().expect("literal"),
                preempt_before_sync: true,
                catch_up_limit: Duration::from_secs(77),
                witnesses: vec!["10.0.0.3".parse().expect("literal")],
                fence: Some(Fence {
                    agent: "/usr/sbin/fence_dummy".into(),
                    action: "reboot".into(),
                    options: vec!["plug=two words".into()],
                    timeout: Duration::from_secs(7),
                }),
            }),
            time: TimeKeeping {
                servers: more.then(|| "ntp.example.org".to_owned()).into_iter().collect(),
                ..TimeKeeping::default()
            },
            alerts: alert.into_iter().collect(),
            timeouts,
            tunables,
        })
        .boxed()
}
