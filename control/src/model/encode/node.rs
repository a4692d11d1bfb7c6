//! The tables about the director itself.

use super::word;
use super::writer::Writer;
use crate::model::decode::{ALERT_EVENTS, BACKENDS, MAIL_SECURITY};
use crate::model::{
    Alert, AlertTarget, AttachedBy, Interface, Login, MailSecurity, Node, Peer, TimeKeeping,
    Timeouts, Tunables,
};
use std::time::Duration;

pub(super) fn node(writer: &mut Writer, node: &Node) {
    writer.optional("[node]", 0);
    writer.some_text("name", node.name.as_ref());
    writer.unless("autoreload", node.autoreload, false);
    if let Some(connections) = node.connections {
        writer.raw("connections", connections);
    }
    if let Some(workers) = node.workers {
        writer.raw("workers", workers);
    }
}

pub(super) fn interfaces(writer: &mut Writer, interfaces: &[Interface]) {
    for interface in interfaces {
        writer.heading("[[interface]]", 0);
        writer.text("name", &interface.name);
        if interface.backend != AttachedBy::Auto {
            writer.text("backend", word(BACKENDS, &interface.backend));
        }
    }
}

pub(super) fn peer(writer: &mut Writer, peer: Option<&Peer>) {
    let Some(peer) = peer else { return };
    writer.heading("[peer]", 0);
    writer.text("address", peer.address);
    writer.text("listen", peer.listen);
    writer.unless("preempt_before_sync", peer.preempt_before_sync, false);
    writer.duration_unless("catch_up_limit", peer.catch_up_limit, Peer::CATCH_UP_LIMIT);
    writer.texts("witnesses", &peer.witnesses);
    if let Some(fence) = &peer.fence {
        writer.heading("[peer.fence]", 0);
        writer.text("agent", &fence.agent);
        writer.word_unless("action", &fence.action, "off");
        writer.texts("options", &fence.options);
        writer.duration_unless("timeout", fence.timeout, std::time::Duration::from_secs(60));
    }
}

pub(super) fn time(writer: &mut Writer, time: &TimeKeeping) {
    let default = TimeKeeping::default();
    writer.optional("[time]", 0);
    writer.texts("servers", &time.servers);
    writer.duration_unless("interval", time.interval, default.interval);
    writer.duration_unless("warn", time.warn, default.warn);
    writer.duration_unless("critical", time.critical, default.critical);
}

pub(super) fn alerts(writer: &mut Writer, alerts: &[Alert]) {
    for alert in alerts {
        writer.heading("[[alert]]", 0);
        writer.text("name", &alert.name);
        target(writer, &alert.target);
        writer.texts("events", alert.events.iter().map(|event| word(ALERT_EVENTS, event)));
        writer.texts("services", &alert.services);
        writer.duration_unless("repeat", alert.repeat, Duration::ZERO);
        writer.duration_unless("digest", alert.digest, Duration::ZERO);
        writer.unless("during_maintenance", alert.during_maintenance, false);
    }
}

fn target(writer: &mut Writer, target: &AlertTarget) {
    match target {
        AlertTarget::Mail { to, from, server, security, login: who } => {
            writer.text("type", "mail");
            writer.texts("to", to);
            writer.text("from", from);
            writer.text("server", server);
            if *security != MailSecurity::default() {
                writer.text("security", word(MAIL_SECURITY, security));
            }
            login(writer, who.as_ref());
        }
        AlertTarget::Webhook { url, secret } => {
            writer.text("type", "webhook");
            writer.text("url", url);
            writer.some_text("secret", secret.as_ref());
        }
        AlertTarget::Script { command } => {
            writer.text("type", "script");
            writer.texts("command", command);
        }
        AlertTarget::Syslog { facility } => {
            writer.text("type", "syslog");
            writer.word_unless("facility", facility, "daemon");
        }
    }
}

pub(super) fn login(writer: &mut Writer, login: Option<&Login>) {
    let Some(login) = login else { return };
    if !login.user.is_empty() {
        writer.text("user", &login.user);
    }
    writer.text("password", &login.password);
}

pub(super) fn timeouts(writer: &mut Writer, timeouts: &Timeouts) {
    let default = Timeouts::default();
    writer.optional("[timeouts]", 0);
    writer.duration_unless("tcp", timeouts.tcp, default.tcp);
    writer.duration_unless("tcp_fin", timeouts.tcp_fin, default.tcp_fin);
    writer.duration_unless("udp", timeouts.udp, default.udp);
}

pub(super) fn tunables(writer: &mut Writer, tunables: &Tunables) {
    let default = Tunables::default();
    writer.optional("[tunables]", 0);
    let mut switch = |key, value, default| writer.unless(key, value, default);
    switch("expire_nodest_conn", tunables.expire_nodest_conn, default.expire_nodest_conn);
    switch(
        "expire_quiescent_template",
        tunables.expire_quiescent_template,
        default.expire_quiescent_template,
    );
    switch("sloppy_tcp", tunables.sloppy_tcp, default.sloppy_tcp);
    switch("sloppy_sctp", tunables.sloppy_sctp, default.sloppy_sctp);
    switch("schedule_icmp", tunables.schedule_icmp, default.schedule_icmp);
    switch("nat_icmp_send", tunables.nat_icmp_send, default.nat_icmp_send);
    switch("pmtu_disc", tunables.pmtu_disc, default.pmtu_disc);
    switch("secure_tcp", tunables.secure_tcp, default.secure_tcp);
    writer.unless("conn_reuse_mode", tunables.conn_reuse_mode, default.conn_reuse_mode);
}
