//! The document's words for what the packet path knows by type.

use super::{Method, Protocol, Scheduler};

/// Every scheduler with its name, as IPVS spells it.
pub(super) const SCHEDULERS: &[(&str, Scheduler)] = &[
    ("none", Scheduler::None),
    ("rr", Scheduler::Rr),
    ("wrr", Scheduler::Wrr),
    ("lc", Scheduler::Lc),
    ("wlc", Scheduler::Wlc),
    ("lblc", Scheduler::Lblc),
    ("lblcr", Scheduler::Lblcr),
    ("dh", Scheduler::Dh),
    ("sh", Scheduler::Sh),
    ("sed", Scheduler::Sed),
    ("nq", Scheduler::Nq),
    ("fo", Scheduler::Fo),
    ("ovf", Scheduler::Ovf),
    ("mh", Scheduler::Mh),
    ("twos", Scheduler::Twos),
];

/// Every protocol with its name.
pub(super) const PROTOCOLS: &[(&str, Protocol)] =
    &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// The name of a scheduler, as IPVS spells it.
pub fn scheduler_name(scheduler: Scheduler) -> &'static str {
    SCHEDULERS.iter().find(|(_, s)| *s == scheduler).map_or("none", |(name, _)| name)
}

/// The scheduler with this name.
pub fn scheduler_from_name(name: &str) -> Option<Scheduler> {
    SCHEDULERS.iter().find(|(n, _)| *n == name).map(|(_, scheduler)| *scheduler)
}

/// The name of a protocol, in lower case.
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The name of a forwarding method.
pub const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Nat => "nat",
        Method::DirectRouting => "dr",
        Method::Tunnel(_) => "tun",
        Method::FullNat => "fullnat",
        Method::Local => "local",
    }
}
