//! The tables about the director itself.

use super::{DAY, HOUR, SECOND, command, interface_name, ip, name, socket, unique};
use crate::model::section::Section;
use crate::model::service::MAX_TIMEOUT;
use crate::model::{
    Alert, AlertEvent, AlertTarget, AttachedBy, Document, Fence, Interface, Login, MailSecurity,
    Node, Peer, TimeKeeping, Timeouts, Tunables,
};
use std::collections::BTreeSet;
use std::time::Duration;

pub(in crate::model) const BACKENDS: &[(&str, AttachedBy)] = &[
    ("auto", AttachedBy::Auto),
    ("xdp", AttachedBy::Xdp),
    ("xdp-busy-poll", AttachedBy::XdpBusyPoll),
    ("ring", AttachedBy::Ring),
    ("pnet", AttachedBy::Pnet),
];

pub(in crate::model) const MAIL_SECURITY: &[(&str, MailSecurity)] =
    &[("off", MailSecurity::Off), ("starttls", MailSecurity::StartTls), ("tls", MailSecurity::Tls)];

pub(in crate::model) const ALERT_EVENTS: &[(&str, AlertEvent)] = &[
    ("real_down", AlertEvent::RealDown),
    ("real_up", AlertEvent::RealUp),
    ("service_down", AlertEvent::ServiceDown),
    ("service_up", AlertEvent::ServiceUp),
    ("mastership", AlertEvent::Mastership),
    ("peer", AlertEvent::Peer),
    ("clock", AlertEvent::Clock),
    ("certificate", AlertEvent::Certificate),
    ("configuration", AlertEvent::Configuration),
    ("system", AlertEvent::System),
];

const FACILITIES: &[(&str, &str)] = &[
    ("daemon", "daemon"),
    ("user", "user"),
    ("local0", "local0"),
    ("local1", "local1"),
    ("local2", "local2"),
    ("local3", "local3"),
    ("local4", "local4"),
    ("local5", "local5"),
    ("local6", "local6"),
    ("local7", "local7"),
];

pub(super) fn node(root: &Section<'_, '_>) -> Node {
    let Some(section) = root.table("node", "[node]") else { return Node::default() };
    let node = Node {
        name: name(&section, "name"),
        autoreload: section.switch("autoreload").unwrap_or_default(),
        connections: section.number("connections", 1024..=1_000_000_000),
        workers: section.number("workers", 1..=1024),
    };
    section.finish();
    node
}

pub(super) fn interfaces(root: &Section<'_, '_>) -> Vec<Interface> {
    let mut seen = BTreeSet::new();
    let mut interfaces = Vec::new();
    for section in root.tables("interface", "[[interface]]") {
        let name = interface_name(&section, "name");
        if let Some(name) = section.required("name", name, "name = \"eth0\"") {
            unique(&mut seen, name.clone(), &section, "name");
            let backend = section.word("backend", BACKENDS).unwrap_or_default();
            interfaces.push(Interface { name, backend });
        } else {
            section.word("backend", BACKENDS);
        }
        section.finish();
    }
    interfaces
}

pub(super) fn peer(root: &Section<'_, '_>) -> Option<Peer> {
    let section = root.table("peer", "[peer]")?;
    let wanted = "an address and port, such as \"10.9.0.2:9850\"";
    let address = section.read("address", wanted, socket);
    let address = section.required("address", address, "address = \"10.9.0.2:9850\"");
    let listen = section.read("listen", wanted, socket);
    let listen = section.required("listen", listen, "listen = \"10.9.0.1:9850\"");
    let preempt_before_sync = section.switch("preempt_before_sync").unwrap_or_default();
    let limit = section.duration("catch_up_limit", SECOND..=HOUR);
    let witnesses = section.list("witnesses", "an address that answers ping", ip);
    let fence = section.table("fence", "[peer.fence]").and_then(fence);
    section.finish();
    Some(Peer {
        address: address?,
        listen: listen?,
        preempt_before_sync,
        catch_up_limit: limit.unwrap_or(Peer::CATCH_UP_LIMIT),
        witnesses,
        fence,
    })
}

/// What a fence agent may take unless told otherwise.
const FENCE_TIMEOUT: Duration = Duration::from_secs(60);

fn fence(section: Section<'_, '_>) -> Option<Fence> {
    let wanted = "the full path of a fence agent, such as \"/usr/sbin/fence_ipmilan\"";
    let agent = section.read("agent", wanted, |value| {
        value.as_str().filter(|path| path.starts_with('/')).map(str::to_owned)
    });
    let agent = section.required("agent", agent, "agent = \"/usr/sbin/fence_ipmilan\"");
    let action = section.word("action", &[("off", "off"), ("reboot", "reboot")]).unwrap_or("off");
    let options = section.list("options", "an option, such as \"ip=10.9.9.9\"", |value| {
        let text = value.as_str()?;
        let (name, _) = text.split_once('=')?;
        let clean = !name.trim().is_empty() && !text.contains(char::is_control);
        clean.then(|| text.to_owned())
    });
    let timeout = section.duration("timeout", SECOND..=HOUR).unwrap_or(FENCE_TIMEOUT);
    section.finish();
    Some(Fence { agent: agent?, action: action.to_owned(), options, timeout })
}

pub(super) fn time(root: &Section<'_, '_>) -> TimeKeeping {
    let default = TimeKeeping::default();
    let Some(section) = root.table("time", "[time]") else { return default };
    let wanted = "an NTP server's address or name, such as \"192.0.2.123\"";
    let limit = Duration::from_millis(1)..=DAY;
    let time = TimeKeeping {
        servers: section.list("servers", wanted, |value| {
            let text = value.as_str()?;
            let clean = !text.is_empty() && !text.contains(char::is_whitespace);
            clean.then(|| text.to_owned())
        }),
        interval: section.duration("interval", SECOND..=DAY).unwrap_or(default.interval),
        warn: section.duration("warn", limit.clone()).unwrap_or(default.warn),
        critical: section.duration("critical", limit).unwrap_or(default.critical),
    };
    if time.critical < time.warn {
        let key = if section.has("critical") { "critical" } else { "warn" };
        section.problem_at(
            key,
            format!(
                "critical is {} and warn is {}, critical should be at least warn",
                crate::model::format_duration(time.critical),
                crate::model::format_duration(time.warn)
            ),
        );
    }
    section.finish();
    time
}

pub(super) fn timeouts(root: &Section<'_, '_>) -> Timeouts {
    let default = Timeouts::default();
    let Some(section) = root.table("timeouts", "[timeouts]") else { return default };
    let timeouts = Timeouts {
        tcp: section.seconds("tcp", SECOND..=MAX_TIMEOUT).unwrap_or(default.tcp),
        tcp_fin: section.seconds("tcp_fin", SECOND..=MAX_TIMEOUT).unwrap_or(default.tcp_fin),
        udp: section.seconds("udp", SECOND..=MAX_TIMEOUT).unwrap_or(default.udp),
    };
    section.finish();
    timeouts
}

pub(super) fn tunables(root: &Section<'_, '_>) -> Tunables {
    let default = Tunables::default();
    let Some(section) = root.table("tunables", "[tunables]") else { return default };
    let switch = |key, default| section.switch(key).unwrap_or(default);
    let tunables = Tunables {
        expire_nodest_conn: switch("expire_nodest_conn", default.expire_nodest_conn),
        expire_quiescent_template: switch(
            "expire_quiescent_template",
            default.expire_quiescent_template,
        ),
        sloppy_tcp: switch("sloppy_tcp", default.sloppy_tcp),
        sloppy_sctp: switch("sloppy_sctp", default.sloppy_sctp),
        conn_reuse_mode: section
            .number("conn_reuse_mode", 0..=3)
            .unwrap_or(default.conn_reuse_mode),
        schedule_icmp: switch("schedule_icmp", default.schedule_icmp),
        nat_icmp_send: switch("nat_icmp_send", default.nat_icmp_send),
        pmtu_disc: switch("pmtu_disc", default.pmtu_disc),
        secure_tcp: switch("secure_tcp", default.secure_tcp),
    };
    section.finish();
    tunables
}

pub(super) fn alerts(root: &Section<'_, '_>) -> Vec<Alert> {
    let mut seen = BTreeSet::new();
    let mut alerts = Vec::new();
    for section in root.tables("alert", "[[alert]]") {
        let name = name(&section, "name");
        let name = section.required("name", name, "name = \"operators\"");
        if let Some(name) = &name {
            unique(&mut seen, name.clone(), &section, "name");
        }
        let target = target(&section);
        let alert = Alert {
            name: name.unwrap_or_default(),
            target: target.unwrap_or(AlertTarget::Script { command: Vec::new() }),
            events: section.list("events", &event_words(), |value| {
                let word = value.as_str()?;
                ALERT_EVENTS.iter().find(|(name, _)| *name == word).map(|(_, event)| *event)
            }),
            services: section.list("services", "the name of a service", |value| {
                value.as_str().map(str::to_owned)
            }),
            repeat: section.duration("repeat", Duration::ZERO..=30 * DAY).unwrap_or_default(),
            digest: section.duration("digest", Duration::ZERO..=HOUR).unwrap_or_default(),
            during_maintenance: section.switch("during_maintenance").unwrap_or_default(),
        };
        section.finish();
        alerts.push(alert);
    }
    alerts
}

fn event_words() -> String {
    let words: Vec<_> = ALERT_EVENTS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    format!("one of {}", words.join(", "))
}

#[derive(Clone, Copy)]
enum TargetKind {
    Mail,
    Webhook,
    Script,
    Syslog,
}

fn target(section: &Section<'_, '_>) -> Option<AlertTarget> {
    let kind = section.word(
        "type",
        &[
            ("mail", TargetKind::Mail),
            ("webhook", TargetKind::Webhook),
            ("script", TargetKind::Script),
            ("syslog", TargetKind::Syslog),
        ],
    );
    match section.required("type", kind, "type = \"mail\"")? {
        TargetKind::Mail => mail(section),
        TargetKind::Webhook => {
            let wanted = "an http:// or https:// URL";
            let url = section.read("url", wanted, |value| {
                let url = value.as_str()?;
                let web = url.starts_with("http://") || url.starts_with("https://");
                (web && !url.contains(char::is_whitespace)).then(|| url.to_owned())
            });
            let url = section.required("url", url, "url = \"https://hooks.example/viaduct\"");
            let secret = section.text("secret");
            Some(AlertTarget::Webhook { url: url?, secret })
        }
        TargetKind::Script => {
            let command = command(section, "command");
            let command = section.required("command", command, "command = \"/usr/bin/alert\"")?;
            Some(AlertTarget::Script { command })
        }
        TargetKind::Syslog => {
            let facility = section.word("facility", FACILITIES).unwrap_or("daemon");
            Some(AlertTarget::Syslog { facility: facility.to_owned() })
        }
    }
}

fn mail(section: &Section<'_, '_>) -> Option<AlertTarget> {
    let address = |text: &str| {
        let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
        (clean && text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()))
            .then(|| text.to_owned())
    };
    let wanted = "a mail address, such as \"ops@example.org\"";
    let to = section.list("to", wanted, |value| address(value.as_str()?));
    if to.is_empty() {
        section.problem_at("to", "to is empty, should be such as to = [\"ops@example.org\"]");
    }
    let from = section.read("from", wanted, |value| address(value.as_str()?));
    let from = section.required("from", from, "from = \"lb1@example.org\"");
    let server = section.text("server");
    let server = section.required("server", server, "server = \"mail.example.org:587\"");
    let security = section.word("security", MAIL_SECURITY).unwrap_or_default();
    let login = login(section);
    Some(AlertTarget::Mail { to, from: from?, server: server?, security, login })
}

/// `user` and `password`, together or not at all.
pub(super) fn login(section: &Section<'_, '_>) -> Option<Login> {
    let user = section.any_text("user");
    let password = section.any_text("password");
    if section.has("user") && !section.has("password") {
        section.problem_at("user", "user is given without password, should come with one");
    }
    Some(Login { user: user.unwrap_or_default(), password: password? })
}

/// Alerts must name services that exist.
pub(super) fn alerts_name_services(root: &Section<'_, '_>, document: &Document) {
    for section in root.tables("alert", "[[alert]]") {
        let wanted = "the name of a service of this document";
        section.list("services", wanted, |value| document.service(value.as_str()?).map(|_| ()));
    }
}
