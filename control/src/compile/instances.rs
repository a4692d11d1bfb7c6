//! VRRP instances out of the document. Pure.

use crate::model::{Document, Tracked as Watched, VrrpAuth, VrrpInstance};
use crate::vrrp::fsm::Announcements;
use crate::vrrp::hmac::{Freshness, Keys, Mode};
use crate::vrrp::instance::Instance;
use crate::vrrp::packet::{Authentication, Checksum, Format, Reach};
use crate::vrrp::tracking::{Tracked, Weight};
use crate::vrrp::{Priority, Version, Vrid};
use std::time::Duration;

/// How often a master announces its addresses again: switches forget where a MAC was after minutes.
const REFRESH: Duration = Duration::from_secs(60);

/// How far clocks may be apart with authenticated adverts.
const HMAC_WINDOW: Duration = Duration::from_secs(30);

/// With a peer: a director that has just started, perhaps on a busy machine, knows none of the peer's
/// connections yet, and must not take a late advert for the peer's end.
const STARTUP_DELAY: Duration = Duration::from_secs(2);

/// What VRRP calls a tracked service.
pub fn service_thing(name: &str) -> String {
    format!("service {name}")
}

/// What VRRP calls a tracked script.
pub fn script_thing(name: &str) -> String {
    format!("script {name}")
}

/// The instances that a document asks for, and why some cannot be.
pub fn instances(document: &Document) -> (Vec<Instance>, Vec<String>) {
    let mut problems = Vec::new();
    let mut instances = Vec::new();
    for intent in &document.vrrp {
        match instance(intent, document.peer.is_some()) {
            Ok(instance) => instances.push(instance),
            Err(problem) => problems.push(format!("VRRP instance {}: {problem}", intent.name)),
        }
    }
    (instances, problems)
}

fn instance(intent: &VrrpInstance, has_peer: bool) -> Result<Instance, String> {
    let priority = Priority::new(intent.priority).ok_or("priority 0 is reserved for resigning")?;
    let mut instance = Instance::new(&intent.name, &intent.interface, format(intent)?, priority);
    instance.group = intent.group.clone();
    instance.keys = keys(&intent.auth)?;
    instance.reach = reach(intent);
    instance.source = intent.source;
    instance.preempt = intent.preempt;
    instance.preempt_delay = intent.preempt_delay;
    instance.accept = intent.accept;
    instance.virtual_mac = intent.virtual_mac;
    if has_peer {
        instance.startup_delay = STARTUP_DELAY;
    }
    instance.announcements = Announcements { refresh: REFRESH, ..Announcements::default() };
    let inside = intent.inside_addresses.iter();
    instance.inside =
        inside.map(|inside| (inside.address.address, inside.interface.clone())).collect();
    for track in &intent.track {
        // What nobody has looked at yet counts as good: a director that starts must not flap.
        let tracked =
            Tracked { weight: Weight::from_number(track.weight), reverse: false, up: true };
        match &track.what {
            Watched::Interface(name) => drop(instance.interfaces.insert(name.clone(), tracked)),
            Watched::Service(name) => drop(instance.things.insert(service_thing(name), tracked)),
            Watched::Script(name) => drop(instance.things.insert(script_thing(name), tracked)),
        }
    }
    Ok(instance)
}

fn format(intent: &VrrpInstance) -> Result<Format, String> {
    let version = if intent.version == 2 { Version::V2 } else { Version::V3 };
    let id = Vrid::new(intent.id).ok_or("virtual router id 0 is invalid")?;
    let checksum =
        if intent.checksum_pseudo_header { Checksum::PseudoHeader } else { Checksum::MessageOnly };
    let authentication = match &intent.auth {
        VrrpAuth::Password(password) => Authentication::password(password),
        VrrpAuth::None | VrrpAuth::Hmac(_) => Authentication::None,
    };
    let addresses = intent.addresses.clone();
    Format::new(version, id, intent.advert_interval, addresses, checksum, authentication)
        .map_err(|error| error.to_string())
}

fn reach(intent: &VrrpInstance) -> Reach {
    if intent.unicast_peers.is_empty() {
        return Reach::Multicast;
    }
    Reach::Unicast { peers: intent.unicast_peers.clone(), check_source: true, min_ttl: 0 }
}

/// The key is its own text, or bytes in hexadecimal, as keepalived has it.
fn keys(auth: &VrrpAuth) -> Result<Option<Keys>, String> {
    let VrrpAuth::Hmac(text) = auth else { return Ok(None) };
    let key = hexadecimal(text).unwrap_or_else(|| text.as_bytes().to_vec());
    Keys::new([(1, key)].into(), 1, Mode::Enforce, Freshness::Window(HMAC_WINDOW))
        .map(Some)
        .map_err(|error| error.to_string())
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if text.len() < 64 || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digits = text.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
    digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"
        [[service]]
        name = "web"
        address = "192.0.2.10:80"
        [[track_script]]
        name = "disk"
        command = ["/bin/true"]
        [[vrrp]]
        name = "outside"
        interface = "eth0"
        id = 50
        priority = 120
        advert_interval = "100ms"
        preempt_delay = "5s"
        unicast_peers = ["192.0.2.2"]
        addresses = ["192.0.2.10"]
        inside_addresses = [{ address = "10.0.0.1/24", interface = "eth1" }]
        group = "lb"
        track = [{ service = "web" }, { script = "disk", weight = -20 }, { interface = "eth1" }]
        [[vrrp]]
        name = "six"
        interface = "eth0"
        id = 50
        addresses = ["fe80::10"]
        virtual_mac = false
        hmac_key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "#;

    #[test]
    fn what_the_operator_wrote_is_what_vrrp_runs() {
        let document = Document::parse(DOCUMENT, "test").unwrap();
        let (instances, problems) = instances(&document);
        assert_eq!(problems, Vec::<String>::new());
        let [outside, six] = &instances[..] else { panic!("two instances") };
        assert_eq!((outside.priority.get(), outside.format.vrid().get()), (120, 50));
        assert_eq!(outside.format.interval(), Duration::from_millis(100));
        assert_eq!(outside.group.as_deref(), Some("lb"));
        assert!(matches!(&outside.reach, Reach::Unicast { peers, .. } if peers.len() == 1));
        assert_eq!(outside.inside, [("10.0.0.1".parse().unwrap(), "eth1".to_owned())]);
        let things: Vec<_> = outside.things.iter().map(|(name, t)| (&**name, t.weight)).collect();
        let expected = [("script disk", Weight::Priority(-20)), ("service web", Weight::Fault)];
        assert_eq!(things, expected);
        assert!(outside.interfaces.contains_key("eth1"));
        assert!(six.keys.is_some() && six.format.version() == Version::V3);
        assert_eq!(outside.mac(), Some([0, 0, 0x5e, 0, 1, 50]));
        assert_eq!(six.mac(), None, "the interface's own");
    }
}
