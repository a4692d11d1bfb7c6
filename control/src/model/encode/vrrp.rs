//! `[[vrrp]]` and `[[track_script]]`.

use super::service::prefix;
use super::writer::{Writer, entry, inline};
use crate::model::{Document, TrackScript, Tracked, VrrpAuth, VrrpInstance, VrrpTrack};
use std::time::Duration;

pub(super) fn vrrp(writer: &mut Writer, document: &Document) {
    for script in &document.track_scripts {
        track_script(writer, script);
    }
    for item in &document.vrrp {
        instance(writer, item);
    }
}

fn track_script(writer: &mut Writer, script: &TrackScript) {
    let second = Duration::from_secs(1);
    writer.heading("[[track_script]]", 0);
    writer.text("name", &script.name);
    writer.texts("command", &script.command);
    writer.duration_unless("interval", script.interval, second);
    writer.duration_unless("timeout", script.timeout, second);
    writer.unless("rise", script.rise, 1);
    writer.unless("fall", script.fall, 1);
}

fn instance(writer: &mut Writer, instance: &VrrpInstance) {
    writer.heading("[[vrrp]]", 0);
    writer.text("name", &instance.name);
    writer.text("interface", &instance.interface);
    writer.raw("id", instance.id);
    writer.raw("version", instance.version);
    writer.raw("priority", instance.priority);
    writer.text("advert_interval", crate::model::format_duration(instance.advert_interval));
    writer.raw("preempt", instance.preempt);
    writer.duration_unless("preempt_delay", instance.preempt_delay, Duration::ZERO);
    writer.some_text("source", instance.source);
    writer.texts("unicast_peers", &instance.unicast_peers);
    writer.texts("addresses", &instance.addresses);
    let inside: Vec<_> = instance
        .inside_addresses
        .iter()
        .map(|inside| {
            inline(&[
                entry("address", prefix(&inside.address)),
                entry("interface", &inside.interface),
            ])
        })
        .collect();
    if !inside.is_empty() {
        writer.raw("inside_addresses", format!("[{}]", inside.join(", ")));
    }
    writer.some_text("group", instance.group.as_ref());
    match &instance.auth {
        VrrpAuth::None => {}
        VrrpAuth::Password(password) => writer.text("password", password),
        VrrpAuth::Hmac(key) => writer.text("hmac_key", key),
    }
    writer.unless("checksum_pseudo_header", instance.checksum_pseudo_header, true);
    writer.unless("accept", instance.accept, true);
    writer.unless("virtual_mac", instance.virtual_mac, true);
    for item in &instance.track {
        track(writer, item);
    }
}

fn track(writer: &mut Writer, track: &VrrpTrack) {
    writer.heading("[[vrrp.track]]", 1);
    match &track.what {
        Tracked::Interface(name) => writer.text("interface", name),
        Tracked::Service(name) => writer.text("service", name),
        Tracked::Script(name) => writer.text("script", name),
    }
    writer.unless("weight", track.weight, 0);
}
