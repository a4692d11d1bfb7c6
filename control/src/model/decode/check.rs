//! `[service.check]`: what every kind of check has.

use super::{DAY, HOUR, ip, probe};
use crate::model::section::Section;
use crate::model::{Check, CheckPath, ConnectionsOnDown, OnDown, OnUnsent, Probe};
use std::time::Duration;

pub(in crate::model) const ON_UNSENT: &[(&str, OnUnsent)] =
    &[("down", OnUnsent::Down), ("keep", OnUnsent::Keep)];

pub(in crate::model) const ON_DOWN: &[(&str, OnDown)] =
    &[("quiesce", OnDown::Quiesce), ("remove", OnDown::Remove)];

pub(in crate::model) const CONNECTIONS: &[(&str, ConnectionsOnDown)] = &[
    ("keep", ConnectionsOnDown::Keep),
    ("reset", ConnectionsOnDown::Reset),
    ("reschedule", ConnectionsOnDown::Reschedule),
];

pub(in crate::model) const THROUGH: &[(&str, CheckPath)] =
    &[("real", CheckPath::Direct), ("vip", CheckPath::Vip)];

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// `None` when the kind of check could not be read.
pub(super) fn check(section: Section<'_, '_>) -> Option<Check> {
    let probe = probe::probe(&section);
    let known = probe.is_some() || probe::kind_is_known(&section);
    let default = Check::new(Probe::Tcp(Default::default()));
    let check = Check {
        probe: probe.unwrap_or_else(|| default.probe.clone()),
        interval: section.duration("interval", SHORTEST_INTERVAL..=DAY).unwrap_or(default.interval),
        interval_down: section.duration("interval_down", SHORTEST_INTERVAL..=DAY),
        interval_retry: section.duration("interval_retry", SHORTEST_INTERVAL..=DAY),
        timeout: section.duration("timeout", SHORTEST_TIMEOUT..=HOUR).unwrap_or(default.timeout),
        rise: section.number("rise", 1..=1000).unwrap_or(default.rise),
        fall: section.number("fall", 1..=1000).unwrap_or(default.fall),
        start_delay: section.duration("start_delay", Duration::ZERO..=HOUR).unwrap_or_default(),
        source: section.read("source", "an address of this node, such as \"10.0.0.1\"", ip),
        address: section.read("address", "an address, such as \"10.0.0.11\"", ip),
        port: section.number("port", 1..=65_535),
        through: section.word("through", THROUGH).unwrap_or_default(),
        connects: section.number("connects", 0..=1000).unwrap_or_default(),
        on_unsent: section.word("on_unsent", ON_UNSENT).unwrap_or_default(),
        on_down: section.word("on_down", ON_DOWN).unwrap_or_default(),
        connections: section.word("connections", CONNECTIONS).unwrap_or_default(),
        slow_start: section.duration("slow_start", Duration::ZERO..=HOUR).unwrap_or_default(),
    };
    if known {
        section.finish();
    }
    Some(check)
}
