//! What the operator means: the configuration document, its validation, and its text.
//!
//! [`Document`] is the whole of it. [`Document::parse`] reads TOML and reports every problem at
//! once with its position; [`Document::to_toml`] writes the same form back in a stable order.
//! Words that a packet needs too (protocols, schedulers, methods) are [`dataplane::table`]'s own.

mod alerts;
mod check;
mod decode;
mod difference;
mod document;
mod drain;
mod encode;
mod names;
mod peer;
mod problem;
mod section;
mod service;
mod shared_part;
mod taken_back;
mod time;
mod units;
mod vrrp;

pub use alerts::{Alert, AlertEvent, AlertTarget, MailSecurity};
pub use check::{
    AgentProbe, Check, CheckPath, ConnectionsOnDown, DialogueProbe, DialogueStep, DnsProbe,
    DnsRecord, Expectation, HttpProbe, HttpVersion, LdapProbe, Login, LoginProbe, NtpProbe, OnDown,
    OnUnsent, PassiveProbe, PingProbe, Probe, QueryProbe, RadiusProbe, RedisProbe, ScriptProbe,
    SipProbe, SmtpProbe, StatusSet, Tls, TlsMode, UdpProbe,
};
pub use difference::{Change, Difference, differences};
pub use document::{AttachedBy, Document, Interface, Node, Timeouts};
pub use drain::PersistentClients;
pub use names::{method_name, protocol_name, scheduler_from_name, scheduler_name};
pub use peer::{Fence, Peer};
pub use problem::Problem;
use problem::Problems;
pub use service::{
    MAX_TIMEOUT, MAX_WEIGHT, MatchRule, Netmask, Persistence, PersistenceEngine, Quorum,
    QuorumUnit, Real, Service, Sorry, VirtualAddress,
};
pub use shared_part::{SharedDigest, SharedPart, SharedText};
pub use taken_back::{named, taken_back};
pub use time::TimeKeeping;
pub use units::{format_duration, parse_duration};
pub use vrrp::{InsideAddress, TrackScript, Tracked, VrrpAuth, VrrpInstance, VrrpTrack};

/// Words of the document that a packet needs too.
pub use dataplane::table::{
    ClientAddress, Family, GueChecksum, Method, Prefix, Protocol, Scheduler, SchedulerFlags,
    Tunables, Tunnel,
};

#[cfg(test)]
pub(crate) use tests::arbitrary;

#[cfg(test)]
mod tests;
