//! What `-S` writes, `-R` understands: the director is the same afterwards.

use super::*;
use control::ipvs::{ConnectionPage, Counters, Host, KernelState, Running, RunningReal, execute};
use control::model::{Document, Service, VirtualAddress};
use proptest::prelude::*;
use std::net::SocketAddr;

/// A director without packets, as its document says.
#[derive(Default)]
struct Paper {
    document: Document,
    state: KernelState,
}

struct Still;

impl Running for Still {
    fn service(&self, _: &VirtualAddress) -> Counters {
        Counters::default()
    }

    fn reals(&self, service: &Service) -> Vec<RunningReal> {
        let running = |real: &control::model::Real| RunningReal {
            address: real.address,
            method: service.method_of(real),
            weight: real.weight,
            upper: real.upper,
            lower: real.lower,
            active: 0,
            inactive: 0,
            persistent: 0,
            counters: Counters::default(),
        };
        service.reals.iter().rev().map(running).collect()
    }

    fn removed(&self, _: &VirtualAddress, _: &SocketAddr) -> Option<Counters> {
        None
    }

    fn connections(&self, _: u64, _: u32) -> ConnectionPage {
        ConnectionPage::default()
    }

    fn table_size(&self) -> u32 {
        4096
    }
}

impl Director for Paper {
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable> {
        let host = Host::default();
        Ok(execute(request, &mut self.document, &mut self.state, &Still, &host).reply)
    }
}

/// A service with real servers as command lines that are accepted.
fn any_rules() -> impl Strategy<Value = String> {
    let service = prop_oneof![
        ("-[tu]", 1u8..5, 1u16..4)
            .prop_map(|(option, host, port)| format!("{option} 192.0.2.{host}:{port}")),
        (1u8..5, 1u16..4).prop_map(|(host, port)| format!("-t [2001:db8::{host}]:{port}")),
        (1u8..5, 1u16..4)
            .prop_map(|(host, port)| format!("--sctp-service 198.51.100.{host}:{port}")),
        (1u32..4).prop_map(|mark| format!("-f {mark}")),
        Just("-f 4294967295 -6".to_owned()),
        Just("-t 203.0.113.1:0 -p".to_owned()),
    ];
    let scheduler = prop::sample::select(vec![
        "",
        " -s rr",
        " -s sh",
        " -s sh -b sh-port",
        " -s mh -b mh-fallback,mh-port",
        " -b flag-1,flag-3",
    ]);
    let server = prop_oneof![
        (1u8..9, 1u16..9, 0u32..99)
            .prop_map(|(host, port, weight)| format!("10.0.0.{host}:{port} -m -w {weight}")),
        (1u8..9, 0u32..99).prop_map(|(host, weight)| format!("10.0.0.{host} -g -w {weight}")),
        (1u8..9).prop_map(|host| format!("[2001:db8:1::{host}]:80 -i")),
        (1u8..9).prop_map(|host| format!("10.0.1.{host} -i --tun-type gre --tun-csum")),
        (1u8..9, 1u16..9).prop_map(|(host, port)| format!(
            "10.0.1.{host} -i --tun-type gue --tun-port {port} --tun-remcsum"
        )),
    ];
    (service, scheduler, prop::collection::vec(server, 0..5)).prop_map(
        |(service, scheduler, servers)| {
            let key = service.trim_end_matches(" -p");
            let servers = servers.iter().map(|server| format!("-a {key} -r {server}\n"));
            format!("-A {service}{scheduler}\n{}", servers.collect::<String>())
        },
    )
}

fn restored(rules: &str) -> Paper {
    let mut director = Paper::default();
    let names = MapNames::default();
    with_session("ipvsadm", &mut director, &names, rules, |session| session.ipvsadm(&words("-R")));
    director
}

/// Services as the list shows them; their order and that of their servers does not matter.
fn listed(director: &mut Paper) -> String {
    ipvsadm(director, "-Ln --tun-info").output
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn restoring_what_was_saved_gives_the_same_services(
        rules in prop::collection::vec(any_rules(), 0..6),
    ) {
        // The high mark is saved as a negative number, as the real program does; no program can
        // restore that.
        let rules: String = rules.concat();
        let mut first = restored(&rules);
        let saved = ipvsadm(&mut first, "-Sn");
        prop_assert_eq!(&saved.errors, "");
        let negative = saved.output.contains("-f -1");
        let mut second = restored(&saved.output);
        if !negative {
            prop_assert_eq!(listed(&mut first), listed(&mut second), "{}", saved.output);
            prop_assert_eq!(saved, ipvsadm(&mut second, "-Sn"));
        }
    }
}
