//! Files that are refused, each kind of mistake with its exact position and words.

use crate::model::Document;
use std::fmt::Write;

/// A mistake on the line marked so, inside an otherwise good file.
fn refused(name: &str, text: &str) -> String {
    let mut report = format!("== {name}\n");
    match Document::parse(text, "lb.toml") {
        Ok(_) => report.push_str("ACCEPTED\n"),
        Err(problems) => {
            for problem in problems {
                let _ = writeln!(report, "{problem}");
            }
        }
    }
    report
}

/// A service with one more line in it.
fn service(line: &str) -> String {
    format!("[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n{line}\n")
}

fn real(line: &str) -> String {
    service(&format!("  [[service.real]]\n  address = \"10.0.0.1:80\"\n  {line}"))
}

fn check(lines: &str) -> String {
    service(&format!("  [service.check]\n  {lines}"))
}

fn vrrp(lines: &str) -> String {
    format!(
        "[[vrrp]]\nname = \"v\"\ninterface = \"eth0\"\nid = 5\naddresses = [\"192.0.2.1\"]\n{lines}"
    )
}

#[test]
fn services_that_are_refused() {
    let files = [
        ("unknown key", service("shceduler = \"rr\"")),
        ("unknown key that nothing resembles", service("quux = 1")),
        ("unknown table", "[[servicce]]\naddress = \"1.2.3.4:80\"\n".into()),
        ("no address", "[[service]]\nname = \"web\"\n".into()),
        ("address without port", "[[service]]\naddress = \"192.0.2.10\"\n".into()),
        ("address out of range", "[[service]]\naddress = \"192.0.2.300:80\"\n".into()),
        ("port out of range", "[[service]]\naddress = \"192.0.2.10:80000\"\n".into()),
        ("multicast address", "[[service]]\naddress = \"224.0.0.1:80\"\n".into()),
        ("address of another type", "[[service]]\naddress = 80\n".into()),
        ("every port without persistence", "[[service]]\naddress = \"192.0.2.10:0\"\n".into()),
        ("unknown scheduler", service("scheduler = \"wlcc\"")),
        ("unknown protocol", service("protocol = \"icmp\"")),
        ("flag of another scheduler", service("scheduler = \"sh\"\nflags = [\"mh-port\"]")),
        ("unknown method", service("method = \"masq\"")),
        ("tunnel without tun", service("method = \"dr\"\ntunnel = { type = \"gre\" }")),
        ("gue without port", service("method = \"tun\"\ntunnel = { type = \"gue\" }")),
        ("duration without unit", service("persistence = { timeout = 300 }")),
        ("duration with another unit", service("persistence = { timeout = \"5min\" }")),
        ("duration too long", service("persistence = { timeout = \"40d\" }")),
        ("duration of part of a second", service("persistence = { timeout = \"1500ms\" }")),
        ("mask of the other family", service("persistence = { netmask = 24 }")),
        ("datagrams over tcp", service("one_packet = true")),
        ("switch in quotes", service("return_by_mac = \"yes\"")),
        ("quorum that cannot recover", service("quorum = { minimum = 3, recover = 2 }")),
        ("sorry neither word nor server", service("sorry = \"page\"")),
        ("match without mark", service("match = [{ destination = \"1.2.3.4\" }]")),
        ("mark and address", service("mark = 7")),
        ("same name twice", format!("{}{}", service(""), service("").replace(".10:80", ".11:80"))),
        ("same address twice", format!("{}{}", service(""), service("").replace("web", "shop"))),
    ];
    let report: String = files.iter().map(|(name, text)| refused(name, text)).collect();
    insta::assert_snapshot!(report);
}

#[test]
fn real_servers_and_checks_that_are_refused() {
    let files = [
        ("negative weight", real("weight = -1")),
        ("weight in quotes", real("weight = \"3\"")),
        ("lower above upper", real("upper = 10\n  lower = 20")),
        ("same real server twice", real("[[service.real]]\n  address = \"10.0.0.1:80\"")),
        ("real server of the other family", real("").replace("10.0.0.1:80", "[2001:db8::1]:80")),
        ("no address", service("  [[service.real]]\n  weight = 1")),
        ("no type", check("path = \"/\"")),
        ("unknown type", check("type = \"htp\"")),
        ("key of another type", check("type = \"tcp\"\n  path = \"/\"")),
        ("path without slash", check("type = \"http\"\n  path = \"health\"")),
        ("bad expression", check("type = \"http\"\n  expect_body = \"(good\"")),
        ("bad status", check("type = \"http\"\n  expect_status = \"200-99\"")),
        ("no query", check("type = \"dns\"")),
        ("no secret", check("type = \"radius\"")),
        ("program without its path", check("type = \"script\"\n  command = \"check.sh\"")),
        ("interval of zero", check("type = \"tcp\"\n  interval = \"0s\"")),
        ("rise of zero", check("type = \"tcp\"\n  rise = 0")),
        ("user without password", check("type = \"ftp\"\n  user = \"x\"")),
    ];
    let report: String = files.iter().map(|(name, text)| refused(name, text)).collect();
    insta::assert_snapshot!(report);
}

#[test]
fn everything_else_that_is_refused() {
    let files = [
        ("not TOML", "[[service]\naddress = \"1.2.3.4:80\"\n".into()),
        ("text without end", "[[service]]\nname = \"web\naddress = \"1.2.3.4:80\"\n".into()),
        ("same key twice", "[node]\nname = \"a\"\nname = \"b\"\n".into()),
        ("table that should be a list", "[service]\naddress = \"1.2.3.4:80\"\n".into()),
        ("interface without name", "[[interface]]\nbackend = \"ring\"\n".into()),
        ("unknown backend", "[[interface]]\nname = \"eth0\"\nbackend = \"dpdk\"\n".into()),
        ("long interface name", "[[interface]]\nname = \"averylonginterface\"\n".into()),
        ("vrrp id out of range", vrrp("").replace("id = 5", "id = 0")),
        ("vrrp version", vrrp("version = 4")),
        ("version 2 in parts of a second", vrrp("version = 2\nadvert_interval = \"100ms\"")),
        ("interval between steps", vrrp("advert_interval = \"15ms\"")),
        ("password in version 3", vrrp("password = \"secret\"")),
        ("both families", vrrp("").replace("\"192.0.2.1\"", "\"192.0.2.1\", \"2001:db8::1\"")),
        ("virtual MAC that is no switch", vrrp("virtual_mac = \"own\"")),
        ("unknown track", vrrp("track = [{ service = \"web\" }]")),
        ("critical below warn", "[time]\nwarn = \"20s\"\ncritical = \"10s\"\n".into()),
        ("peer without listen", "[peer]\naddress = \"10.9.0.2:9850\"\n".into()),
        (
            "alert to nobody",
            "[[alert]]\nname = \"a\"\ntype = \"mail\"\nfrom = \"a@b\"\nserver = \"m\"\n".into(),
        ),
        (
            "alert about an unknown service",
            "[[alert]]\nname = \"a\"\ntype = \"syslog\"\nservices = [\"web\"]\n".into(),
        ),
        (
            "all at once",
            format!(
                "{}{}[time]\nwarn = 1\n",
                service("scheduler = \"x\"\nmethod = \"y\""),
                vrrp("priority = 300\n")
            ),
        ),
    ];
    let report: String =
        files.iter().map(|(name, text): &(&str, String)| refused(name, text)).collect();
    insta::assert_snapshot!(report);
}
