//! `[service.check]`: what each kind of check has of its own.

use super::node::login;
use super::{DAY, command};
use crate::model::section::Section;
use crate::model::{
    AgentProbe, DialogueProbe, DialogueStep, DnsProbe, DnsRecord, Expectation, HttpProbe,
    HttpVersion, LdapProbe, LoginProbe, NtpProbe, PassiveProbe, PingProbe, Probe, QueryProbe,
    RadiusProbe, RedisProbe, ScriptProbe, SipProbe, SmtpProbe, StatusSet, Tls, TlsMode, UdpProbe,
};
use std::path::PathBuf;
use std::time::Duration;

type Read = fn(&Section<'_, '_>) -> Option<Probe>;

/// Every kind of check with its reader.
const KINDS: &[(&str, Read)] = &[
    ("tcp", tcp),
    ("http", http),
    ("https", https),
    ("dns", dns),
    ("smtp", smtp),
    ("imap", |s| Some(Probe::Imap(with_login(s)))),
    ("pop", |s| Some(Probe::Pop(with_login(s)))),
    ("ftp", ftp),
    ("ldap", ldap),
    ("mysql", |s| Some(Probe::Mysql(query(s)))),
    ("postgresql", |s| Some(Probe::Postgresql(query(s)))),
    ("redis", redis),
    ("radius", radius),
    ("sip", sip),
    ("ntp", ntp),
    ("ping", |s| Some(Probe::Ping(PingProbe { size: s.number("size", 0..=65_507).unwrap_or(56) }))),
    ("udp", udp),
    ("script", script),
    ("agent", |s| Some(Probe::Agent(AgentProbe { send: s.text("send") }))),
    ("passive", passive),
];

pub(in crate::model) const RECORDS: &[(&str, DnsRecord)] = &[
    ("A", DnsRecord::A),
    ("AAAA", DnsRecord::Aaaa),
    ("CNAME", DnsRecord::Cname),
    ("MX", DnsRecord::Mx),
    ("NS", DnsRecord::Ns),
    ("PTR", DnsRecord::Ptr),
    ("SOA", DnsRecord::Soa),
    ("SRV", DnsRecord::Srv),
    ("TXT", DnsRecord::Txt),
];

pub(in crate::model) const HTTP_VERSIONS: &[(&str, HttpVersion)] =
    &[("1.1", HttpVersion::Http1), ("2", HttpVersion::Http2)];

pub(super) fn kind_is_known(section: &Section<'_, '_>) -> bool {
    let kind = section.value("type").and_then(|value| value.get_ref().as_str());
    KINDS.iter().any(|(name, _)| Some(*name) == kind)
}

pub(super) fn probe(section: &Section<'_, '_>) -> Option<Probe> {
    let read = section.word("type", KINDS);
    let read = section.required("type", read, "type = \"tcp\"")?;
    read(section)
}

fn tls(section: &Section<'_, '_>) -> Tls {
    Tls {
        sni: section.text("sni"),
        verify: section.switch("verify").unwrap_or_default(),
        ca: path(section, "ca"),
        certificate: path(section, "certificate"),
        key: path(section, "key"),
        expiry_warning: section
            .duration("expiry_warning", Duration::ZERO..=3650 * DAY)
            .unwrap_or_default(),
    }
}

fn path(section: &Section<'_, '_>, key: &'static str) -> Option<PathBuf> {
    section.read(key, "the full path of a PEM file", |value| {
        let path = value.as_str()?;
        (path.starts_with('/') && !path.contains('\0')).then(|| PathBuf::from(path))
    })
}

#[derive(Clone, Copy)]
enum Mode {
    Off,
    Implicit,
    StartTls,
}

/// `tls = "off" | "implicit" | "starttls"` and what goes with it.
fn tls_mode(section: &Section<'_, '_>) -> TlsMode {
    let modes = [("off", Mode::Off), ("implicit", Mode::Implicit), ("starttls", Mode::StartTls)];
    match section.word("tls", &modes) {
        None | Some(Mode::Off) => TlsMode::Off,
        Some(Mode::Implicit) => TlsMode::Implicit(tls(section)),
        Some(Mode::StartTls) => TlsMode::StartTls(tls(section)),
    }
}

/// `tls = true` and what goes with it.
fn tls_switch(section: &Section<'_, '_>) -> Option<Tls> {
    section.switch("tls").unwrap_or_default().then(|| tls(section))
}

fn regex(section: &Section<'_, '_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    match regex::bytes::Regex::new(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("{key} should be a regular expression: {reason}");
            section.problem_at(key, message);
            None
        }
    }
}

/// `expect`, `expect_text` and `expect_digest`, or the same with `_body`.
fn expectation(section: &Section<'_, '_>, regex_key: &'static str) -> Expectation {
    let wanted = "a SHA-256 in 64 hexadecimal digits";
    Expectation {
        regex: regex(section, regex_key),
        text: section.text("expect_text"),
        digest: section.read("expect_digest", wanted, |value| {
            let text = value.as_str()?;
            let fits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            fits.then(|| text.to_ascii_lowercase())
        }),
    }
}

fn status_set(section: &Section<'_, '_>, key: &'static str, most: u16) -> Option<StatusSet> {
    let wanted = format!("statuses from 100 to {most}, such as \"200-399\" or \"200,204,301\"");
    section.read(key, &wanted, |value| {
        let number = crate::model::section::integer(value).map(|status| status.to_string());
        let text = match &number {
            Some(text) => text,
            None => value.as_str()?,
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            if first < 100 || last > most || first > last {
                return None;
            }
            ranges.push((first, last));
        }
        Some(StatusSet(merged(ranges)))
    })
}

/// Ranges in ascending order, with those that touch made one.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged
}

fn tcp(section: &Section<'_, '_>) -> Option<Probe> {
    let tls = tls_switch(section);
    let mut steps = Vec::new();
    if let Some(text) = section.text("send") {
        steps.push(DialogueStep::Send(text));
    }
    if let Some(pattern) = regex(section, "expect") {
        steps.push(DialogueStep::Expect(pattern));
    }
    let given = section.tables("steps", "steps");
    if !given.is_empty() && !steps.is_empty() {
        section.problem_at("steps", "steps is given beside send or expect, should be one of them");
    }
    for step in given {
        match (step.text("send"), regex(&step, "expect")) {
            (Some(text), None) => steps.push(DialogueStep::Send(text)),
            (None, Some(pattern)) => steps.push(DialogueStep::Expect(pattern)),
            (None, None) if step.has("send") || step.has("expect") => {}
            (None, None) | (Some(_), Some(_)) => {
                step.problem("a step should have either send or expect");
            }
        }
        step.finish();
    }
    Some(Probe::Tcp(DialogueProbe { tls, steps }))
}

fn http(section: &Section<'_, '_>) -> Option<Probe> {
    Some(Probe::Http(web(section, None)))
}

fn https(section: &Section<'_, '_>) -> Option<Probe> {
    let tls = tls(section);
    Some(Probe::Http(web(section, Some(tls))))
}

fn web(section: &Section<'_, '_>, tls: Option<Tls>) -> HttpProbe {
    let default = HttpProbe::default();
    let token = |text: &str| {
        let clean = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        clean.then(|| text.to_owned())
    };
    HttpProbe {
        tls,
        method: section
            .read("method", "a request method, such as \"GET\" or \"HEAD\"", |value| {
                let text = value.as_str()?;
                let upper = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase());
                upper.then(|| text.to_owned())
            })
            .unwrap_or(default.method),
        host: section.read("host", "a host name, such as \"www.example.org\"", |value| {
            token(value.as_str()?)
        }),
        path: section
            .read("path", "a path that begins with /, such as \"/health\"", |value| {
                token(value.as_str()?).filter(|path| path.starts_with('/'))
            })
            .unwrap_or(default.path),
        headers: headers(section),
        body: section.text("body"),
        login: login(section),
        version: section.word("version", HTTP_VERSIONS).unwrap_or_default(),
        redirects: section.number("redirects", 0..=10).unwrap_or_default(),
        expect_status: status_set(section, "expect_status", 599).unwrap_or_default(),
        expect_body: expectation(section, "expect_body"),
    }
}

fn headers(section: &Section<'_, '_>) -> Vec<(String, String)> {
    let Some(table) = section.table("headers", "headers") else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, value) in table.entries() {
        let named = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let text = value.get_ref().as_str().filter(|text| !text.contains(char::is_control));
        match text {
            Some(text) if named => headers.push((name.to_owned(), text.to_owned())),
            Some(_) | None => {
                let message = format!("header {name} should be a name and a text on one line");
                table.problem_in(&value.span(), message);
            }
        }
    }
    headers
}

fn dns(section: &Section<'_, '_>) -> Option<Probe> {
    let wanted = "a domain name of at most 253 characters, such as \"example.org\"";
    let query = section.read("query", wanted, |value| {
        let name = value.as_str()?;
        let labels = name.strip_suffix('.').unwrap_or(name).split('.');
        let fits = name == "."
            || (name.len() <= 253
                && labels.into_iter().all(|label| (1..=63).contains(&label.len()))
                && name.bytes().all(|b| b.is_ascii_graphic()));
        fits.then(|| name.to_owned())
    });
    let query = section.required("query", query, "query = \"example.org\"");
    let record = section.word("record", RECORDS).unwrap_or_default();
    let tcp = section.switch("tcp").unwrap_or_default();
    let expect = expectation(section, "expect");
    Some(Probe::Dns(DnsProbe { query: query?, record, tcp, expect }))
}

fn smtp(section: &Section<'_, '_>) -> Option<Probe> {
    Some(Probe::Smtp(SmtpProbe {
        tls: tls_mode(section),
        helo: section.text("helo"),
        login: login(section),
    }))
}

fn with_login(section: &Section<'_, '_>) -> LoginProbe {
    LoginProbe {
        tls: tls_mode(section),
        login: login(section),
        path: None,
        expect: Expectation::default(),
    }
}

fn ftp(section: &Section<'_, '_>) -> Option<Probe> {
    let mut probe = with_login(section);
    probe.path = section.text("path");
    probe.expect = expectation(section, "expect");
    Some(Probe::Ftp(probe))
}

fn ldap(section: &Section<'_, '_>) -> Option<Probe> {
    Some(Probe::Ldap(LdapProbe {
        tls: tls_mode(section),
        login: login(section),
        base: section.any_text("base"),
        expect: expectation(section, "expect"),
    }))
}

fn query(section: &Section<'_, '_>) -> QueryProbe {
    let probe = QueryProbe {
        tls: tls_switch(section),
        login: login(section),
        database: section.text("database"),
        query: section.text("query"),
        expect: expectation(section, "expect"),
    };
    if probe.query.is_some() && !section.has("password") {
        section.problem_at("query", "query is given, should come with user and password");
    }
    probe
}

fn redis(section: &Section<'_, '_>) -> Option<Probe> {
    let roles = [("master", "master"), ("slave", "slave")];
    Some(Probe::Redis(RedisProbe {
        tls: tls_switch(section),
        login: login(section),
        role: section.word("role", &roles).map(str::to_owned),
    }))
}

fn radius(section: &Section<'_, '_>) -> Option<Probe> {
    let secret = section.text("secret");
    let secret = section.required("secret", secret, "secret = \"shared with the server\"");
    let login = login(section);
    Some(Probe::Radius(RadiusProbe { secret: secret?, login }))
}

fn sip(section: &Section<'_, '_>) -> Option<Probe> {
    let tcp = section.switch("tcp").unwrap_or_default();
    let tls = tls_switch(section);
    if tls.is_some() && !tcp {
        section.problem_at("tls", "tls is on, should come with tcp = true");
    }
    let wanted = "a SIP address, such as \"sip:ping@example.org\"";
    let uri = section.read("uri", wanted, |value| {
        let uri = value.as_str()?;
        let clean = uri.bytes().all(|b| b.is_ascii_graphic());
        (clean && (uri.starts_with("sip:") || uri.starts_with("sips:"))).then(|| uri.to_owned())
    });
    let expect_status = status_set(section, "expect_status", 699);
    let expect_status = expect_status.unwrap_or(StatusSet(vec![(200, 200)]));
    Some(Probe::Sip(SipProbe { tcp, tls, uri, expect_status }))
}

fn ntp(section: &Section<'_, '_>) -> Option<Probe> {
    Some(Probe::Ntp(NtpProbe {
        max_stratum: section.number("max_stratum", 1..=15).unwrap_or(15),
        max_offset: section.duration("max_offset", Duration::from_millis(1)..=DAY),
    }))
}

fn udp(section: &Section<'_, '_>) -> Option<Probe> {
    let text = section.any_text("payload");
    let wanted = "pairs of hexadecimal digits, such as \"00ff10\"";
    let hex = section.read("payload_hex", wanted, |value| bytes(value.as_str()?));
    if section.has("payload") && section.has("payload_hex") {
        let message = "payload_hex is given beside payload, should be one of them";
        section.problem_at("payload_hex", message);
    }
    let expect = expectation(section, "expect");
    let reply = section.switch("reply").unwrap_or(expect != Expectation::default());
    let payload = hex.unwrap_or_else(|| text.unwrap_or_default().into_bytes());
    Some(Probe::Udp(UdpProbe { payload, expect, reply }))
}

/// Bytes from hexadecimal digits.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high * 16 + low).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

fn script(section: &Section<'_, '_>) -> Option<Probe> {
    let command = command(section, "command");
    let command = section.required("command", command, "command = \"/usr/local/bin/check\"");
    let user = section.text("user");
    Some(Probe::Script(ScriptProbe { command: command?, user }))
}

fn passive(section: &Section<'_, '_>) -> Option<Probe> {
    Some(Probe::Passive(PassiveProbe {
        max_failed_percent: section.number("max_failed_percent", 1..=100).unwrap_or(50),
        min_connections: section.number("min_connections", 1..=1_000_000).unwrap_or(5),
    }))
}
