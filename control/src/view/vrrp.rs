//! VRRP instances.

use crate::model::Document;
use crate::vrrp::packet::Rejected;
use crate::vrrp::status::InstanceStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// One VRRP instance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VrrpView {
    /// Its name.
    pub name: String,
    /// Its sync group.
    pub group: Option<String>,
    /// Interface that carries its advertisements.
    pub interface: String,
    /// Virtual router id.
    pub id: u8,
    /// Protocol version.
    pub version: u8,
    /// `master`, `backup`, `fault` or `stopped`.
    pub state: String,
    /// Seconds in this state.
    pub seconds: u64,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Priority, with what tracking added.
    pub priority: u8,
    /// Whether it uses the protocol's virtual MAC, not the interface's own.
    #[serde(default)]
    pub virtual_mac: bool,
    /// The MAC that it answers with on its interface while it is master.
    #[serde(default)]
    pub mac: Option<String>,
    /// Where its adverts come from.
    pub source: Option<IpAddr>,
    /// The master that a backup hears.
    pub master: Option<HeardMaster>,
    /// Virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Inside addresses that move along.
    pub inside_addresses: Vec<IpAddr>,
    /// What keeps it in fault.
    pub faults: Vec<String>,
    /// How the peer is configured differently.
    pub differences: Vec<String>,
    /// Times that this node became its master.
    pub became_master: u64,
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Valid adverts received.
    pub adverts_received: u64,
    /// Adverts rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Gratuitous ARP and unsolicited neighbour advertisements sent.
    pub announcements_sent: u64,
    /// Packets that the kernel refused to send.
    pub send_errors: u64,
    /// How late adverts left on average, in microseconds.
    pub lateness_mean: u64,
    /// How late the latest left, in microseconds.
    pub lateness_max: u64,
}

/// The master that a backup hears.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeardMaster {
    /// Source of its adverts.
    pub address: IpAddr,
    /// Its priority; 0 while it resigns.
    pub priority: u8,
}

impl VrrpView {
    /// All instances, by name.
    pub fn all(document: &Document, statuses: &[InstanceStatus], now: Instant) -> Vec<Self> {
        statuses.iter().map(|status| Self::of(document, status, now)).collect()
    }

    fn of(document: &Document, status: &InstanceStatus, now: Instant) -> Self {
        let intent = document.vrrp.iter().find(|instance| instance.name == status.name);
        let inside = intent.iter().flat_map(|instance| &instance.inside_addresses);
        let counters = &status.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rejected = Rejected::ALL.iter().map(|why| (why.to_string(), counters.rejected(*why)));
        let differs = [
            (status.differences.addresses, "other addresses"),
            (status.differences.interval, "another advertisement interval"),
            (status.differences.checksum, "another checksum"),
        ];
        let sent = counters.jitter.count().max(1);
        let micros = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(0);
        Self {
            name: status.name.clone(),
            group: status.group.clone(),
            interface: status.interface.clone(),
            id: status.vrid.get(),
            version: status.version.number(),
            state: status.state.to_string(),
            seconds: now.saturating_duration_since(status.since).as_secs(),
            reason: status.reason.map(|reason| reason.to_string()),
            priority: status.priority.get(),
            virtual_mac: status.virtual_mac,
            mac: status.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
            source: status.source,
            master: status.master.map(|(address, priority)| HeardMaster { address, priority }),
            addresses: intent.map(|instance| instance.addresses.clone()).unwrap_or_default(),
            inside_addresses: inside.map(|inside| inside.address.address).collect(),
            faults: status.faults.clone(),
            differences: differs.iter().filter(|(is, _)| *is).map(|(_, t)| (*t).into()).collect(),
            became_master: read(&counters.became_master),
            adverts_sent: read(&counters.adverts_sent),
            adverts_received: read(&counters.adverts_received),
            rejected: rejected.filter(|(_, count)| *count > 0).collect(),
            announcements_sent: read(&counters.announcements_sent),
            send_errors: read(&counters.send_errors),
            lateness_mean: micros(counters.jitter.sum()) / sent,
            lateness_max: micros(counters.jitter.max()),
        }
    }
}
