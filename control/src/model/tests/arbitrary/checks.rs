//! Any check.

use super::*;
use std::path::PathBuf;

fn tls() -> BoxedStrategy<Tls> {
    (option::of(word()), any::<bool>(), option::of(word()), option::of(word()), 0..100_u64)
        .prop_map(|(sni, verify, ca, key, days)| Tls {
            sni,
            verify,
            ca: ca.map(|name| PathBuf::from(format!("/etc/{name}"))),
            certificate: key.as_ref().map(|name| PathBuf::from(format!("/etc/{name}.crt"))),
            key: key.map(|name| PathBuf::from(format!("/etc/{name}"))),
            expiry_warning: Duration::from_secs(days * 86_400),
        })
        .boxed()
}

fn tls_mode() -> BoxedStrategy<TlsMode> {
    prop_oneof![
        Just(TlsMode::Off),
        tls().prop_map(TlsMode::Implicit),
        tls().prop_map(TlsMode::StartTls)
    ]
    .boxed()
}

fn expectation() -> BoxedStrategy<Expectation> {
    (option::of("[a-z.]{1,8}"), option::of(text()), option::of("[0-9a-f]{64}"))
        .prop_map(|(regex, text, digest)| Expectation { regex, text, digest })
        .boxed()
}

fn dialogue() -> BoxedStrategy<DialogueProbe> {
    let step = prop_oneof![
        text().prop_map(DialogueStep::Send),
        "[a-z.]{1,8}".prop_map(DialogueStep::Expect)
    ];
    (option::of(tls()), vec(step, 0..4))
        .prop_map(|(tls, steps)| DialogueProbe { tls, steps })
        .boxed()
}

fn http() -> BoxedStrategy<HttpProbe> {
    let status = select(vec![vec![(200, 399)], vec![(200, 200), (204, 204)], vec![(100, 599)]]);
    let header = ("[A-Z][a-z-]{1,8}", "[ -~]{0,8}");
    let headers = vec(header, 0..3).prop_map(|headers| {
        let mut seen = BTreeSet::new();
        headers.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect::<Vec<_>>()
    });
    (
        option::of(tls()),
        select(vec!["GET", "HEAD", "POST"]),
        option::of(word()),
        "/[a-z?=/]{0,10}",
        headers,
        (option::of(text()), login(), 0..=10_u8, any::<bool>()),
        status,
        expectation(),
    )
        .prop_map(|(tls, method, host, path, headers, rest, status, expect_body)| HttpProbe {
            tls,
            method: method.to_owned(),
            host,
            path,
            headers,
            body: rest.0,
            login: rest.1,
            version: if rest.3 { HttpVersion::Http2 } else { HttpVersion::Http1 },
            redirects: rest.2,
            expect_status: StatusSet(status),
            expect_body,
        })
        .boxed()
}

fn domain() -> BoxedStrategy<String> {
    "[A-Za-z0-9_-]{1,12}(\\.[A-Za-z0-9_-]{1,12}){0,3}\\.?".boxed()
}

fn query() -> BoxedStrategy<QueryProbe> {
    (option::of(tls()), login(), option::of(text()), option::of(text()), expectation())
        .prop_map(|(tls, login, database, query, expect)| QueryProbe {
            tls,
            query: login.as_ref().and(query),
            login,
            database,
            expect,
        })
        .boxed()
}

fn other_probe() -> BoxedStrategy<Probe> {
    prop_oneof![
        (domain(), any::<bool>(), expectation()).prop_map(|(query, tcp, expect)| {
            Probe::Dns(DnsProbe { query, record: DnsRecord::Txt, tcp, expect })
        }),
        (tls_mode(), option::of(text()), login())
            .prop_map(|(tls, helo, login)| Probe::Smtp(SmtpProbe { tls, helo, login })),
        (tls_mode(), login(), option::of(text()), expectation()).prop_map(
            |(tls, login, path, expect)| Probe::Ftp(LoginProbe { tls, login, path, expect })
        ),
        (tls_mode(), login(), option::of(text()), expectation()).prop_map(
            |(tls, login, base, expect)| Probe::Ldap(LdapProbe { tls, login, base, expect })
        ),
        query().prop_map(Probe::Mysql),
        query().prop_map(Probe::Postgresql),
        (option::of(tls()), login(), any::<bool>()).prop_map(|(tls, login, master)| {
            Probe::Redis(RedisProbe { tls, login, role: master.then(|| "master".to_owned()) })
        }),
        (text(), login()).prop_map(|(secret, login)| Probe::Radius(RadiusProbe { secret, login })),
        (1..=15_u8, option::of(duration(1..9999))).prop_map(|(max_stratum, max_offset)| {
            Probe::Ntp(NtpProbe { max_stratum, max_offset })
        }),
        (0..=65_507_u16).prop_map(|size| Probe::Ping(PingProbe { size })),
        (vec(any::<u8>(), 0..6), expectation(), any::<bool>())
            .prop_map(|(payload, expect, reply)| Probe::Udp(UdpProbe { payload, expect, reply })),
        (vec(text(), 0..3), option::of(text())).prop_map(|(mut words, user)| {
            words.retain(|word| !word.contains('\0'));
            words.insert(0, "/bin/check".to_owned());
            Probe::Script(ScriptProbe { command: words, user })
        }),
        option::of(text()).prop_map(|send| Probe::Agent(AgentProbe { send })),
        (1..=100_u8, 1..=1000_u32).prop_map(|(max_failed_percent, min_connections)| {
            Probe::Passive(PassiveProbe { max_failed_percent, min_connections })
        }),
        (any::<bool>(), option::of(tls())).prop_map(|(uri, tls)| {
            Probe::Sip(SipProbe {
                tcp: tls.is_some(),
                tls,
                uri: uri.then(|| "sip:a@b".to_owned()),
                expect_status: StatusSet(vec![(200, 299), (404, 404)]),
            })
        }),
    ]
    .boxed()
}

pub(super) fn check() -> BoxedStrategy<Check> {
    let probe =
        prop_oneof![dialogue().prop_map(Probe::Tcp), http().prop_map(Probe::Http), other_probe()];
    (
        probe,
        duration(10..100_000),
        option::of(duration(10..100_000)),
        duration(1..100_000),
        (1..=1000_u32, 1..=1000_u32, 0..=1000_u32),
        (duration(0..1000), duration(0..1000)),
        (option::of(ip()), option::of(ip()), option::of(1..=65_535_u16), any::<bool>()),
        (any::<bool>(), 0..3_u8, any::<bool>()),
    )
        .prop_map(|(probe, interval, down, timeout, counts, spans, place, policy)| Check {
            probe,
            interval,
            interval_down: down,
            interval_retry: down.map(|down| down / 2 + Duration::from_millis(10)),
            timeout,
            rise: counts.0,
            fall: counts.1,
            start_delay: spans.0,
            source: place.0,
            address: place.1,
            port: place.2,
            through: if place.3 { CheckPath::Vip } else { CheckPath::Direct },
            connects: counts.2,
            on_unsent: if policy.2 { OnUnsent::Keep } else { OnUnsent::Down },
            on_down: if policy.0 { OnDown::Remove } else { OnDown::Quiesce },
            connections: [
                ConnectionsOnDown::Keep,
                ConnectionsOnDown::Reset,
                ConnectionsOnDown::Reschedule,
            ][usize::from(policy.1)],
            slow_start: spans.1,
        })
        .boxed()
}
