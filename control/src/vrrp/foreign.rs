//! Another cluster on the same link that uses a virtual router id of ours for addresses of its own.
//!
//! Its adverts are rejected, so they move no address. Operators have to know of it all the same: both
//! clusters use the virtual MAC that belongs to the id, and switches send its frames to either.

use super::packet::Rejected;
use super::status::InstanceStatus;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After this long without adverts the other cluster is gone: three times the longest interval of most
/// configurations.
const SILENCE: Duration = Duration::from_secs(30);

/// What is new about other clusters, in an operator's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A cluster was heard for the first time.
    Heard(String),
    /// It is not heard any more.
    Gone(String),
}

/// The foreign clusters that were reported, by the name of the instance that shares their id.
#[derive(Debug, Default)]
pub struct ForeignClusters {
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    adverts: u64,
    last: Option<Instant>,
}

impl ForeignClusters {
    /// Compares the instances' counters with those of the last look.
    pub fn look(&mut self, statuses: &[InstanceStatus], now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.seen.retain(|name, _| statuses.iter().any(|status| status.name == *name));
        for status in statuses {
            let adverts = status.counters.rejected(Rejected::ForeignAddresses);
            let nothing = Seen { adverts: 0, last: None };
            let seen = self.seen.entry(status.name.clone()).or_insert(nothing);
            let more = adverts > seen.adverts;
            seen.adverts = adverts;
            if more && seen.last.replace(now).is_none() {
                findings.push(Finding::Heard(heard(status)));
            } else if seen.last.is_some_and(|last| now >= last + SILENCE) {
                seen.last = None;
                findings.push(Finding::Gone(format!(
                    "no other cluster uses VRRP instance {}'s id {} on {} any longer",
                    status.name,
                    status.vrid.get(),
                    status.interface,
                )));
            }
        }
        findings
    }
}

fn heard(status: &InstanceStatus) -> String {
    let sender = status.foreign.map_or_else(|| "another router".into(), |from| from.to_string());
    format!(
        "VRRP instance {}: {sender} uses the same virtual router id {} on {} for other addresses; its \
         adverts are ignored; give one of the two clusters another id",
        status.name,
        status.vrid.get(),
        status.interface,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // an arbitrary base moment

    use super::*;
    use crate::vrrp::fsm::State;
    use crate::vrrp::packet::Differences;
    use crate::vrrp::{Priority, Version, Vrid};
    use std::sync::Arc;

    fn status(now: Instant) -> InstanceStatus {
        InstanceStatus {
            name: "outside".into(),
            group: None,
            interface: "eth0".into(),
            vrid: Vrid::new(51).unwrap(),
            version: Version::V3,
            state: State::Master,
            since: now,
            reason: None,
            priority: Priority::new(100).unwrap(),
            virtual_mac: true,
            mac: None,
            source: None,
            master: None,
            faults: Vec::new(),
            differences: Differences::default(),
            foreign: Some([10, 1, 0, 30].into()),
            counters: Arc::default(),
        }
    }

    #[test]
    fn a_foreign_cluster_is_reported_once_when_it_comes_and_once_when_it_goes() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let status = [status(start)];
        let mut clusters = ForeignClusters::default();
        assert_eq!(clusters.look(&status, start), []);
        status[0].counters.reject(Rejected::Checksum);
        assert_eq!(clusters.look(&status, after(1)), [], "a bad checksum is another matter");
        for second in 2..60 {
            status[0].counters.reject(Rejected::ForeignAddresses);
            let found = clusters.look(&status, after(second));
            assert_eq!(found.len(), usize::from(second == 2), "{found:?}");
            let text = "VRRP instance outside: 10.1.0.30 uses the same virtual router id 51 on eth0 \
                        for other addresses; its adverts are ignored; give one of the two clusters \
                        another id";
            assert!(found.iter().all(|finding| *finding == Finding::Heard(text.into())));
        }
        assert_eq!(clusters.look(&status, after(88)), [], "still within the silence");
        let gone = "no other cluster uses VRRP instance outside's id 51 on eth0 any longer";
        assert_eq!(clusters.look(&status, after(89)), [Finding::Gone(gone.into())]);
        assert_eq!(clusters.look(&status, after(90)), []);
        status[0].counters.reject(Rejected::ForeignAddresses);
        assert_eq!(clusters.look(&status, after(91)).len(), 1, "it has come back");
    }
}
