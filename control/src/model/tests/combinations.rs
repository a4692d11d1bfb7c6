//! Keys that exclude each other: every pair, with the line and column where it is refused or doubted, beside
//! its neighbours that are right.

use crate::model::Document;

/// What is said of a document: `refused LINE:COLUMN: text` or `doubted LINE:COLUMN: text`.
fn said(text: &str) -> Vec<String> {
    let (verb, problems) = match Document::review(text, "") {
        Ok((_, doubts)) => ("doubted", doubts),
        Err(problems) => ("refused", problems),
    };
    let place = |problem: &crate::model::Problem| {
        format!("{verb} {}:{}: {}", problem.line, problem.column, problem.message)
    };
    problems.iter().map(place).collect()
}

/// Checks that each document has exactly the one remark that begins so, or none.
fn check(head: &str, table: &[(&str, &str)]) {
    for (lines, expected) in table {
        let text = format!("{head}{}", lines.replace("; ", "\n"));
        let said = said(&text);
        match (said.as_slice(), *expected) {
            ([], "") => {}
            ([one], expected) if !expected.is_empty() && one.starts_with(expected) => {}
            _ => panic!("{said:#?}\nwanted {expected:?} for\n{text}"),
        }
    }
}

/// Three lines; those of a table begin with the fourth.
const TCP: &str = "[[service]]\naddress = \"192.0.2.10:80\"\nprotocol = \"tcp\"\n";
const UDP: &str = "[[service]]\naddress = \"192.0.2.10:80\"\nprotocol = \"udp\"\n";
const V6: &str = "[[service]]\naddress = \"[2001:db8::10]:80\"\nprotocol = \"tcp\"\n";
const MARK: &str = "[[service]]\nmark = 7\nmatch = [{ destination = \"192.0.2.10\" }]\n";
const EVERY: &str =
    "[[service]]\naddress = \"192.0.2.10:0\"\npersistence = { timeout = \"60s\" }\n";

#[test]
fn a_method_that_leaves_packets_as_they_are_keeps_the_port() {
    let refused = "refused 6:11: port 8080 should be 80, the service's own: method \"dr\"";
    let table = [
        ("method = \"dr\"; [[service.real]]; address = \"10.0.0.1:8080\"", refused),
        (
            "method = \"tun\"; [[service.real]]; address = \"10.0.0.1:8080\"",
            "refused 6:11: port 8080 should be 80, the service's own: method \"tun\"",
        ),
        (
            "method = \"nat\"; [[service.real]]; address = \"10.0.0.1:8080\"; method = \"dr\"",
            refused,
        ),
        ("method = \"dr\"; [[service.real]]; address = \"10.0.0.1:8080\"; method = \"nat\"", ""),
        ("method = \"dr\"; [[service.real]]; address = \"10.0.0.1:80\"", ""),
        ("method = \"dr\"; [[service.real]]; address = \"10.0.0.1\"", ""),
        ("method = \"nat\"; [[service.real]]; address = \"10.0.0.1:8080\"", ""),
        ("method = \"fullnat\"; [[service.real]]; address = \"10.0.0.1:8080\"", ""),
        ("method = \"local\"; [[service.real]]; address = \"10.0.0.1:8080\"", ""),
    ];
    check(TCP, &table);
    check(UDP, &table);
    let any_port = [("method = \"dr\"; [[service.real]]; address = \"10.0.0.1:8080\"", "")];
    check(EVERY, &any_port);
    check(MARK, &any_port);
}

#[test]
fn only_a_tunnel_leads_to_another_family() {
    let v6 = "refused 6:11: 2001:db8::1 is of another family than the service";
    for method in ["nat", "dr", "fullnat", "local"] {
        let real = "[[service.real]]; address = \"[2001:db8::1]:80\"";
        check(TCP, &[(&format!("method = \"{method}\"; {real}"), v6)]);
        let own = format!("method = \"tun\"; {real}; method = \"{method}\"");
        check(TCP, &[(&own, v6)]);
    }
    check(
        V6,
        &[
            (
                "method = \"nat\"; [[service.real]]; address = \"10.0.0.1:80\"",
                "refused 6:11: 10.0.0.1 is of another family than the service",
            ),
            ("method = \"tun\"; [[service.real]]; address = \"10.0.0.1:80\"", ""),
        ],
    );
    check(
        TCP,
        &[
            ("method = \"tun\"; [[service.real]]; address = \"[2001:db8::1]:80\"", ""),
            (
                "method = \"nat\"; sorry = \"[2001:db8::1]:80\"",
                "doubted 5:9: 2001:db8::1 is of another family than the service",
            ),
            ("method = \"dr\"; sorry = \"10.0.0.9:8080\"", "doubted 5:9: port 8080 should be 80"),
            ("method = \"dr\"; sorry = \"127.0.0.1:8080\"", ""),
            ("method = \"nat\"; sorry = \"10.0.0.9:8080\"", ""),
        ],
    );
}

#[test]
fn one_packet_scheduling_needs_datagrams_and_no_source_address_of_the_director() {
    let refused = "refused 4:10: method is \"fullnat\", should be another one with one_packet";
    let own = "refused 7:10: method is \"fullnat\", should be another one with one_packet";
    let real = "[[service.real]]; address = \"10.0.0.1:80\"";
    check(
        UDP,
        &[
            ("method = \"fullnat\"; one_packet = true", refused),
            (&format!("method = \"fullnat\"; one_packet = true; {real}"), refused),
            (&format!("one_packet = true; {real}; method = \"fullnat\""), own),
            (&format!("method = \"nat\"; one_packet = true; {real}"), ""),
            (&format!("method = \"dr\"; one_packet = true; {real}"), ""),
            (&format!("method = \"tun\"; one_packet = true; {real}"), ""),
        ],
    );
    check(TCP, &[("one_packet = true", "refused 4:14: one_packet is on")]);
}

#[test]
fn only_full_nat_over_tcp_announces_clients_and_only_full_nat_has_a_pool() {
    let none = "doubted 4:18: client_address has no effect without method = \"fullnat\"";
    for method in ["nat", "dr", "tun", "local"] {
        for kind in ["\"proxy-protocol\"", "{ tcp_option = 253 }"] {
            check(TCP, &[(&format!("client_address = {kind}; method = \"{method}\""), none)]);
        }
        let pool = format!("source_pool = [\"10.0.0.9\"]; method = \"{method}\"");
        check(TCP, &[(&pool, "doubted 4:15: source_pool has no effect")]);
    }
    let full = "client_address = \"proxy-protocol\"; method = \"fullnat\"";
    let two = "[[service.real]]; address = \"10.0.0.1:80\"; [[service.real]]; \
               address = \"10.0.0.2:80\"; method = \"nat\"";
    check(
        TCP,
        &[
            (full, ""),
            (
                &format!("{full}; {two}"),
                "doubted 10:10: this real server does not learn the client's address",
            ),
            ("source_pool = [\"10.0.0.9\"]; method = \"fullnat\"", ""),
            (
                "source_pool = [\"2001:db8::9\"]; method = \"fullnat\"",
                "doubted 4:15: source_pool has addresses of another family",
            ),
        ],
    );
    check(UDP, &[(full, "refused 4:18: client_address should be only with protocol \"tcp\"")]);
}

#[test]
fn a_quorum_can_be_reached() {
    let two = "[[service.real]]; address = \"10.0.0.1:80\"; weight = 5; [[service.real]]; \
               address = \"10.0.0.2:80\"; weight = 5";
    let with = |quorum: &str| format!("quorum = {{ {quorum} }}; {two}");
    check(
        TCP,
        &[
            (&with("minimum = 3"), "doubted 4:10: the quorum of 3 is never reached: there are 2"),
            (&with("minimum = 1, recover = 3"), "doubted 4:10: the quorum of 3 is never reached"),
            (&with("minimum = 2"), ""),
            (&with("minimum = 10, unit = \"weight\""), ""),
            (&with("minimum = 11, unit = \"weight\""), "doubted 4:10: the quorum of 11"),
            ("quorum = { minimum = 3 }", ""),
            ("quorum = { minimum = 3, recover = 2 }", "refused 4:35: recover is 2"),
        ],
    );
}

#[test]
fn what_has_no_effect_is_doubted() {
    check(
        UDP,
        &[
            ("sorry = \"builtin\"", "doubted 4:9: sorry is a page"),
            ("pe = \"sip\"", "doubted 4:6: pe has no effect without persistence"),
            ("pe = \"sip\"; persistence = { timeout = \"60s\" }", ""),
        ],
    );
    check(
        TCP,
        &[
            ("sorry = \"builtin\"", ""),
            (
                "pe = \"sip\"; persistence = { timeout = \"60s\" }",
                "doubted 4:6: pe is \"sip\", which has an effect only with protocol \"udp\"",
            ),
            ("return_by_mac = true; method = \"dr\"", "doubted 4:17: return_by_mac has no effect"),
            ("return_by_mac = true; method = \"tun\"", "doubted 4:17: return_by_mac has no effect"),
            ("return_by_mac = true; method = \"nat\"", ""),
            ("return_by_mac = true; method = \"fullnat\"", ""),
        ],
    );
    check("[[service]]\n", &[("mark = 7", "doubted 2:8: mark is given without match")]);
    check(MARK, &[("", "")]);
}

#[test]
fn checks_fit_what_they_ask() {
    let check_of = |keys: &str| format!("[service.check]; {keys}");
    let udp = |keys: &str| check_of(&format!("type = \"udp\"; {keys}"));
    check(
        UDP,
        &[
            (&udp(""), "doubted 5:8: a server that drops what it gets is up for this check"),
            (&udp("reply = true"), ""),
            (&udp("expect = \"pong\""), ""),
            (&udp("expect_text = \"pong\""), ""),
        ],
    );
    let tcp = |keys: &str| check_of(&format!("type = \"tcp\"; {keys}"));
    let scheduled =
        |scheduler: &str| format!("scheduler = \"{scheduler}\"; {}", tcp("slow_start = \"9s\""));
    check(
        TCP,
        &[
            (&tcp("through = \"vip\""), "doubted 6:11: through has an effect only with method"),
            (&format!("method = \"dr\"; {}", tcp("through = \"vip\"")), ""),
            (&tcp("source = \"2001:db8::1\""), "doubted 6:10: source is of another family"),
            (&tcp("source = \"2001:db8::1\"; address = \"2001:db8::2\""), ""),
            (&tcp("source = \"10.0.0.1\""), ""),
            (&scheduled("rr"), "doubted 7:14: slow_start has no effect"),
            (&scheduled("lc"), "doubted 7:14: slow_start has no effect"),
            (&scheduled("wlc"), ""),
        ],
    );
    let real = "[[service.real]]; address = \"10.0.0.1\"";
    let portless = "doubted 7:11: address has no port and neither has its check";
    check(
        EVERY,
        &[
            (&format!("{}{real}", tcp("")), portless),
            (&format!("{}{real}", tcp("port = 80; ")), ""),
            (&format!("{}{real}", check_of("type = \"ping\"; ")), ""),
            (&format!("{}{real}", check_of("type = \"script\"; command = \"/bin/true\"; ")), ""),
        ],
    );
}

#[test]
fn keys_of_an_instance_fit_together() {
    let head = "[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\nid = 5\n";
    let v4 = "addresses = [\"192.0.2.1\"]";
    let v6 = "addresses = [\"2001:db8::1\"]";
    let with = |addresses: &str, keys: &str| format!("{addresses}; {keys}");
    check(
        head,
        &[
            (&with(v4, "preempt = false; preempt_delay = \"5s\""), "doubted 7:17: preempt_delay"),
            (&with(v4, "preempt_delay = \"5s\""), ""),
            (&with(v4, "preempt = false; priority = 255"), "doubted 7:12: priority is 255"),
            (&with(v4, "priority = 255"), ""),
            (&with(v4, "version = 2; checksum_pseudo_header = false"), "doubted 7:26: checksum"),
            (&with(v6, "checksum_pseudo_header = false"), "doubted 6:26: checksum"),
            (&with(v4, "checksum_pseudo_header = false"), ""),
            (&with(v6, "version = 2"), "refused 6:11: version is 2, should be 3"),
            (&with(v4, "password = \"secret\""), "refused 6:12: password is given"),
            (&with(v4, "version = 2; password = \"secret\""), ""),
            (&with(v4, "unicast_peers = [\"2001:db8::2\"]"), "refused 6:17: unicast_peers"),
            (&with(v4, "source = \"2001:db8::2\""), "refused 6:10: source"),
        ],
    );
}
