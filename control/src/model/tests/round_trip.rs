use super::arbitrary::document;
use crate::model::*;
use proptest::prelude::*;
use std::time::Duration;

fn parse(text: &str) -> Document {
    match Document::parse(text, "t.toml") {
        Ok(document) => document,
        Err(problems) => {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            panic!("{}\n---\n{text}", lines.join("\n"))
        }
    }
}

const FULLER: &str = r#"
[node]
name = "lb1"

[[interface]]
name = "eth0"
[[interface]]
name = "eth1"
backend = "ring"

[[service]]
name      = "shop"
address   = "192.168.1.1:80"
protocol  = "tcp"
scheduler = "rr"
method    = "nat"
persistence = { timeout = "300s", netmask = "255.255.255.0" }
sorry     = "builtin"
  [service.check]
  type = "http"
  path = "/meip25/jsp.txt"
  expect_status = "200-399"
  expect_body = "good"
  interval = "2s"
  timeout = "10s"
  rise = 1
  fall = 1
  on_down = "quiesce"
  [[service.real]]
  address = "192.168.0.135:80"
  weight = 1

[[vrrp]]
name      = "outside"
interface = "eth0"
id        = 50
version   = 3
priority  = 100
advert_interval = "1s"
preempt   = true
unicast_peers = []
addresses = ["192.168.1.1"]
group     = "lb"

[peer]
address = "10.9.0.2:9850"
listen  = "10.9.0.1:9850"

[time]
servers = ["192.0.2.123"]
warn    = "1s"
"#;

#[test]
fn the_contract_s_fuller_example_reads() {
    let document = parse(FULLER);
    let shop = document.service("shop").expect("named");
    assert_eq!(shop.scheduler, Scheduler::Rr);
    assert_eq!(shop.reals[0].address, "192.168.0.135:80".parse().unwrap());
    let persistence = shop.persistence.expect("given");
    assert_eq!(persistence.timeout, Duration::from_secs(300));
    assert_eq!(persistence.netmask, Netmask::V4([255, 255, 255, 0].into()));
    assert_eq!(shop.check.as_ref().expect("given").timeout, Duration::from_secs(10));
    assert_eq!(document.vrrp[0].group.as_deref(), Some("lb"));
    insta::assert_snapshot!(document.to_toml());
}

#[test]
fn a_real_server_without_port_has_the_service_s() {
    let text = "[[service]]\naddress = \"10.0.0.1:8080\"\nreal = [{ address = \"10.1.0.1\" }]";
    assert_eq!(parse(text).services[0].reals[0].address, "10.1.0.1:8080".parse().unwrap());
}

#[test]
fn an_empty_text_is_an_empty_document() {
    assert_eq!(parse(""), Document::default());
    assert_eq!(Document::default().to_toml(), "");
}

#[test]
fn services_without_a_name_are_named_after_their_address() {
    let text = "[[service]]\naddress = \"[2001:db8::1]:53\"\nprotocol = \"udp\"\n\
                [[service]]\nmark = 7\nfamily = \"ipv6\"";
    let names: Vec<_> =
        parse(text).services.into_iter().map(|service| service.name.clone()).collect();
    assert_eq!(names, ["udp-[2001:db8::1]:53", "mark-7-ipv6"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Export, then apply, changes nothing; and export again gives the same text.
    #[test]
    fn an_exported_document_reads_back_equal(document in document()) {
        let text = document.to_toml();
        let back = parse(&text);
        prop_assert_eq!(&back, &document, "{}", text);
        prop_assert_eq!(back.to_toml(), text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = Document::parse(&text, "t.toml");
    }

    /// A document cut or bent at any place is refused or read, never a panic.
    #[test]
    fn no_damage_makes_it_panic(at in 0..FULLER.len(), with in any::<char>()) {
        let mut text = FULLER.to_owned();
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, &with.to_string());
            let _ = Document::parse(&text, "t.toml");
            let _ = Document::parse(&text[..at], "t.toml");
        }
    }
}
