//! `[service.check]`.

use super::node::login;
use super::word;
use super::writer::{Writer, entry, inline, quoted};
use crate::model::decode::{CONNECTIONS, HTTP_VERSIONS, ON_DOWN, ON_UNSENT, RECORDS, THROUGH};
use crate::model::{
    Check, DialogueProbe, DialogueStep, DnsRecord, Expectation, HttpProbe, HttpVersion, LoginProbe,
    Probe, QueryProbe, StatusSet, Tls, TlsMode, UdpProbe,
};
use std::time::Duration;

pub(super) fn check(writer: &mut Writer, check: &Check) {
    let default = Check::new(Probe::Tcp(DialogueProbe::default()));
    writer.text("type", check.probe.kind());
    probe(writer, &check.probe);
    writer.duration_unless("interval", check.interval, default.interval);
    if let Some(interval) = check.interval_down {
        writer.text("interval_down", crate::model::format_duration(interval));
    }
    if let Some(interval) = check.interval_retry {
        writer.text("interval_retry", crate::model::format_duration(interval));
    }
    writer.duration_unless("timeout", check.timeout, default.timeout);
    writer.unless("rise", check.rise, default.rise);
    writer.unless("fall", check.fall, default.fall);
    writer.duration_unless("start_delay", check.start_delay, Duration::ZERO);
    writer.some_text("source", check.source);
    writer.some_text("address", check.address);
    if let Some(port) = check.port {
        writer.raw("port", port);
    }
    writer.word_unless("through", word(THROUGH, &check.through), "real");
    writer.unless("connects", check.connects, 0);
    writer.word_unless("on_unsent", word(ON_UNSENT, &check.on_unsent), "down");
    writer.word_unless("on_down", word(ON_DOWN, &check.on_down), "quiesce");
    writer.word_unless("connections", word(CONNECTIONS, &check.connections), "keep");
    writer.duration_unless("slow_start", check.slow_start, Duration::ZERO);
}

fn probe(writer: &mut Writer, probe: &Probe) {
    match probe {
        Probe::Tcp(tcp) => dialogue(writer, tcp),
        Probe::Http(http) => self::http(writer, http),
        Probe::Dns(dns) => {
            writer.text("query", &dns.query);
            if dns.record != DnsRecord::default() {
                writer.text("record", word(RECORDS, &dns.record));
            }
            writer.unless("tcp", dns.tcp, false);
            expectation(writer, "expect", &dns.expect);
        }
        Probe::Smtp(smtp) => {
            tls_mode(writer, &smtp.tls);
            writer.some_text("helo", smtp.helo.as_ref());
            login(writer, smtp.login.as_ref());
        }
        Probe::Imap(probe) | Probe::Pop(probe) | Probe::Ftp(probe) => with_login(writer, probe),
        Probe::Ldap(ldap) => {
            tls_mode(writer, &ldap.tls);
            login(writer, ldap.login.as_ref());
            writer.some_text("base", ldap.base.as_ref());
            expectation(writer, "expect", &ldap.expect);
        }
        Probe::Mysql(probe) | Probe::Postgresql(probe) => query(writer, probe),
        Probe::Redis(redis) => {
            tls_switch(writer, redis.tls.as_ref());
            login(writer, redis.login.as_ref());
            writer.some_text("role", redis.role.as_ref());
        }
        Probe::Radius(radius) => {
            writer.text("secret", &radius.secret);
            login(writer, radius.login.as_ref());
        }
        Probe::Sip(sip) => {
            writer.unless("tcp", sip.tcp, false);
            tls_switch(writer, sip.tls.as_ref());
            writer.some_text("uri", sip.uri.as_ref());
            status_set(writer, &sip.expect_status, &StatusSet(vec![(200, 200)]));
        }
        Probe::Ntp(ntp) => {
            writer.unless("max_stratum", ntp.max_stratum, 15);
            writer.some_text("max_offset", ntp.max_offset.map(crate::model::format_duration));
        }
        Probe::Ping(ping) => writer.unless("size", ping.size, 56),
        Probe::Udp(udp) => self::udp(writer, udp),
        Probe::Script(script) => {
            writer.texts("command", &script.command);
            writer.some_text("user", script.user.as_ref());
        }
        Probe::Agent(agent) => writer.some_text("send", agent.send.as_ref()),
        Probe::Passive(passive) => {
            writer.unless("max_failed_percent", passive.max_failed_percent, 50);
            writer.unless("min_connections", passive.min_connections, 5);
        }
    }
}

fn dialogue(writer: &mut Writer, probe: &DialogueProbe) {
    tls_switch(writer, probe.tls.as_ref());
    match probe.steps.as_slice() {
        [] => {}
        [DialogueStep::Send(text)] => writer.text("send", text),
        [DialogueStep::Expect(regex)] => writer.text("expect", regex),
        [DialogueStep::Send(text), DialogueStep::Expect(regex)] => {
            writer.text("send", text);
            writer.text("expect", regex);
        }
        steps => {
            let steps: Vec<_> = steps
                .iter()
                .map(|step| match step {
                    DialogueStep::Send(text) => inline(&[entry("send", text)]),
                    DialogueStep::Expect(regex) => inline(&[entry("expect", regex)]),
                })
                .collect();
            writer.raw("steps", format!("[{}]", steps.join(", ")));
        }
    }
}

fn http(writer: &mut Writer, http: &HttpProbe) {
    if let Some(tls) = &http.tls {
        self::tls(writer, tls);
    }
    writer.word_unless("method", &http.method, "GET");
    writer.some_text("host", http.host.as_ref());
    writer.word_unless("path", &http.path, "/");
    if !http.headers.is_empty() {
        let headers: Vec<_> =
            http.headers.iter().map(|(name, value)| entry(&quoted(name), value)).collect();
        writer.raw("headers", inline(&headers));
    }
    writer.some_text("body", http.body.as_ref());
    login(writer, http.login.as_ref());
    if http.version != HttpVersion::default() {
        writer.text("version", word(HTTP_VERSIONS, &http.version));
    }
    writer.unless("redirects", http.redirects, 0);
    status_set(writer, &http.expect_status, &StatusSet::default());
    expectation(writer, "expect_body", &http.expect_body);
}

fn with_login(writer: &mut Writer, probe: &LoginProbe) {
    tls_mode(writer, &probe.tls);
    login(writer, probe.login.as_ref());
    writer.some_text("path", probe.path.as_ref());
    expectation(writer, "expect", &probe.expect);
}

fn query(writer: &mut Writer, probe: &QueryProbe) {
    tls_switch(writer, probe.tls.as_ref());
    login(writer, probe.login.as_ref());
    writer.some_text("database", probe.database.as_ref());
    writer.some_text("query", probe.query.as_ref());
    expectation(writer, "expect", &probe.expect);
}

fn udp(writer: &mut Writer, udp: &UdpProbe) {
    match std::str::from_utf8(&udp.payload) {
        Ok("") => {}
        Ok(text) => writer.text("payload", text),
        Err(_) => {
            let hex: String = udp.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            writer.text("payload_hex", hex);
        }
    }
    expectation(writer, "expect", &udp.expect);
    writer.unless("reply", udp.reply, udp.expect != Expectation::default());
}

fn expectation(writer: &mut Writer, regex_key: &str, expectation: &Expectation) {
    writer.some_text(regex_key, expectation.regex.as_ref());
    writer.some_text("expect_text", expectation.text.as_ref());
    writer.some_text("expect_digest", expectation.digest.as_ref());
}

fn status_set(writer: &mut Writer, set: &StatusSet, default: &StatusSet) {
    if set == default {
        return;
    }
    let ranges: Vec<_> = set
        .0
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    writer.text("expect_status", ranges.join(","));
}

fn tls_mode(writer: &mut Writer, mode: &TlsMode) {
    match mode {
        TlsMode::Off => {}
        TlsMode::Implicit(settings) => {
            writer.text("tls", "implicit");
            tls(writer, settings);
        }
        TlsMode::StartTls(settings) => {
            writer.text("tls", "starttls");
            tls(writer, settings);
        }
    }
}

fn tls_switch(writer: &mut Writer, settings: Option<&Tls>) {
    if let Some(settings) = settings {
        writer.raw("tls", true);
        tls(writer, settings);
    }
}

fn tls(writer: &mut Writer, tls: &Tls) {
    writer.some_text("sni", tls.sni.as_ref());
    writer.unless("verify", tls.verify, false);
    writer.some_text("ca", tls.ca.as_ref().map(|path| path.display()));
    writer.some_text("certificate", tls.certificate.as_ref().map(|path| path.display()));
    writer.some_text("key", tls.key.as_ref().map(|path| path.display()));
    writer.duration_unless("expiry_warning", tls.expiry_warning, Duration::ZERO);
}
