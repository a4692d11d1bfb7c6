//! `[[vrrp]]` and `[[track_script]]`.

use super::{HOUR, command, interface_name, ip, name, prefix, unique};
use crate::model::section::Section;
use crate::model::{
    Document, Family, InsideAddress, TrackScript, Tracked, VrrpAuth, VrrpInstance, VrrpTrack,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn track_scripts(root: &Section<'_, '_>) -> Vec<TrackScript> {
    let mut seen = BTreeSet::new();
    let mut scripts = Vec::new();
    for section in root.tables("track_script", "[[track_script]]") {
        let name = name(&section, "name");
        let name = section.required("name", name, "name = \"haproxy\"");
        let command = command(&section, "command");
        let command = section.required("command", command, "command = \"/usr/bin/true\"");
        let script = TrackScript {
            name: name.unwrap_or_default(),
            command: command.unwrap_or_default(),
            interval: section
                .duration("interval", Duration::from_millis(100)..=HOUR)
                .unwrap_or(Duration::from_secs(1)),
            timeout: section
                .duration("timeout", Duration::from_millis(10)..=HOUR)
                .unwrap_or(Duration::from_secs(1)),
            rise: section.number("rise", 1..=1000).unwrap_or(1),
            fall: section.number("fall", 1..=1000).unwrap_or(1),
        };
        if section.has("name") {
            unique(&mut seen, script.name.clone(), &section, "name");
        }
        section.finish();
        scripts.push(script);
    }
    scripts
}

pub(super) fn instances(root: &Section<'_, '_>, document: &Document) -> Vec<VrrpInstance> {
    let mut names = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut owned = BTreeSet::new();
    let mut instances = Vec::new();
    for section in root.tables("vrrp", "[[vrrp]]") {
        if let Some(instance) = instance(&section, document) {
            unique(&mut names, instance.name.clone(), &section, "name");
            let family = instance.addresses.first().map(IpAddr::is_ipv4);
            unique(&mut ids, (instance.interface.clone(), instance.id, family), &section, "id");
            for address in &instance.addresses {
                if !owned.insert(*address) {
                    let message = format!("{address} was given before, should be in one instance");
                    section.problem_at("addresses", message);
                }
            }
            instances.push(instance);
        }
        section.finish();
    }
    instances
}

fn instance(section: &Section<'_, '_>, document: &Document) -> Option<VrrpInstance> {
    let name = name(section, "name");
    let name = section.required("name", name, "name = \"outside\"");
    let interface = interface_name(section, "interface");
    let interface = section.required("interface", interface, "interface = \"eth0\"");
    let id = section.number("id", 1..=255);
    let id = section.required("id", id, "id = 50");
    let version = section.number("version", 2..=3).unwrap_or(3);
    let addresses = addresses(section);
    let instance = VrrpInstance {
        name: name.clone().unwrap_or_default(),
        interface: interface.clone().unwrap_or_default(),
        id: id.unwrap_or(1),
        version,
        priority: section.number("priority", 1..=255).unwrap_or(100),
        advert_interval: advert_interval(section, version),
        preempt: section.switch("preempt").unwrap_or(true),
        preempt_delay: section.duration("preempt_delay", Duration::ZERO..=HOUR).unwrap_or_default(),
        source: section.read("source", "an address of the interface", ip),
        unicast_peers: section.list("unicast_peers", "the address of a peer", ip),
        addresses,
        inside_addresses: inside_addresses(section),
        group: self::name(section, "group"),
        auth: auth(section, version),
        checksum_pseudo_header: section.switch("checksum_pseudo_header").unwrap_or(true),
        track: track(section, document),
        accept: section.switch("accept").unwrap_or(true),
        virtual_mac: section.switch("virtual_mac").unwrap_or(true),
    };
    fits_together(section, &instance);
    (name.is_some() && interface.is_some() && id.is_some()).then_some(instance)
}

fn addresses(section: &Section<'_, '_>) -> Vec<IpAddr> {
    let wanted = "an address without a prefix length, such as \"192.0.2.10\"";
    let addresses = section.list("addresses", wanted, |value| {
        ip(value).filter(|address| !address.is_unspecified() && !address.is_multicast())
    });
    let elements = section.value("addresses").and_then(|value| value.get_ref().as_array());
    if elements.is_none_or(|elements| elements.is_empty()) {
        let message = "addresses is empty, should name what the instance owns, such as \
                       addresses = [\"192.0.2.10\"]";
        section.problem_at("addresses", message);
    }
    addresses
}

/// Rules that span several keys of an instance.
fn fits_together(section: &Section<'_, '_>, instance: &VrrpInstance) {
    let Some(first) = instance.addresses.first() else { return };
    let family = Family::of(first);
    if instance.addresses.iter().any(|address| Family::of(address) != family) {
        let message = "addresses are of both families, should be an instance for each";
        section.problem_at("addresses", message);
    }
    if family == Family::V6 && instance.version == 2 {
        section.problem_at("version", "version is 2, should be 3 for IPv6 addresses");
    }
    if instance.addresses.len() > 255 {
        section.problem_at("addresses", "addresses are more than 255, should be several instances");
    }
    if !instance.preempt && !instance.preempt_delay.is_zero() {
        section.doubt_at("preempt_delay", "preempt_delay has no effect with preempt = false");
    }
    if !instance.preempt && instance.priority == 255 {
        let message = "priority is 255, the owner of the addresses, which always preempts";
        section.doubt_at("priority", message);
    }
    let one_kind = instance.version == 2 || family == Family::V6;
    if section.has("checksum_pseudo_header") && one_kind {
        let message = "checksum_pseudo_header has an effect only in version 3 over IPv4";
        section.doubt_at("checksum_pseudo_header", message);
    }
    let mixed = |address: &IpAddr| Family::of(address) != family;
    if instance.unicast_peers.iter().any(mixed) {
        section.problem_at("unicast_peers", "unicast_peers should be of the addresses' family");
    }
    if instance.source.as_ref().is_some_and(mixed) {
        section.problem_at("source", "source should be of the addresses' family");
    }
}

fn advert_interval(section: &Section<'_, '_>, version: u8) -> Duration {
    let second = Duration::from_secs(1);
    if version == 2 {
        return section.seconds("advert_interval", second..=255 * second).unwrap_or(second);
    }
    let step = Duration::from_millis(10);
    let interval = section.duration("advert_interval", step..=4095 * step).unwrap_or(second);
    if !interval.as_micros().is_multiple_of(step.as_micros()) {
        let text = crate::model::format_duration(interval);
        let message = format!("advert_interval is {text}, should be in steps of 10ms");
        section.problem_at("advert_interval", message);
    }
    interval
}

fn auth(section: &Section<'_, '_>, version: u8) -> VrrpAuth {
    let wanted = "a password of 1 to 8 characters";
    let password = section.read("password", wanted, |value| {
        let text = value.as_str()?;
        (1..=8).contains(&text.len()).then(|| text.to_owned())
    });
    let hmac = section.read(
        "hmac_key",
        "a key of 32 to 64 characters, or of 64 to 128 hexadecimal digits",
        |value| {
            let text = value.as_str()?;
            let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let long = hexadecimal && text.len() % 2 == 0 && (64..=128).contains(&text.len());
            (long || (32..=64).contains(&text.len())).then(|| text.to_owned())
        },
    );
    if section.has("password") && version != 2 {
        section.problem_at("password", "password is given, should be only with version = 2");
    }
    if section.has("password") && section.has("hmac_key") {
        section.problem_at("hmac_key", "hmac_key is given beside password, should be one of them");
    }
    match (hmac, password) {
        (Some(key), _) => VrrpAuth::Hmac(key),
        (None, Some(password)) => VrrpAuth::Password(password),
        (None, None) => VrrpAuth::None,
    }
}

fn inside_addresses(section: &Section<'_, '_>) -> Vec<InsideAddress> {
    let mut inside = Vec::new();
    for table in section.tables("inside_addresses", "inside_addresses") {
        let wanted = "an address with its prefix length, such as \"10.0.0.1/24\"";
        let address = table.read("address", wanted, prefix);
        let address = table.required("address", address, "address = \"10.0.0.1/24\"");
        let interface = interface_name(&table, "interface");
        let interface = table.required("interface", interface, "interface = \"eth1\"");
        table.finish();
        if let (Some(address), Some(interface)) = (address, interface) {
            inside.push(InsideAddress { address, interface });
        }
    }
    inside
}

fn track(section: &Section<'_, '_>, document: &Document) -> Vec<VrrpTrack> {
    let mut track = Vec::new();
    for table in section.tables("track", "[[vrrp.track]]") {
        let interface = interface_name(&table, "interface").map(Tracked::Interface);
        let service = table.read("service", "the name of a service of this document", |value| {
            document.service(value.as_str()?).map(|service| Tracked::Service(service.name.clone()))
        });
        let script = table.read("script", "the name of a [[track_script]]", |value| {
            let name = value.as_str()?;
            let known = document.track_scripts.iter().any(|script| script.name == name);
            known.then(|| Tracked::Script(name.to_owned()))
        });
        let weight = table.number("weight", -253..=253).unwrap_or(0);
        let given = ["interface", "service", "script"].iter().filter(|key| table.has(key)).count();
        if given != 1 {
            table.problem("a track should have one of interface, service or script");
        }
        table.finish();
        if let Some(what) = interface.or(service).or(script) {
            track.push(VrrpTrack { what, weight });
        }
    }
    track
}
