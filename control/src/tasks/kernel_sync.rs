//! The kernel's connection sync, as `ipvsadm --start-daemon` asks for it: which daemons run follows the
//! engine, a master tells this director's connections, a backup takes in another one's.

use crate::events::Event;
use crate::inbox::Message;
use crate::ipvs::{Daemon, DaemonRole};
use crate::ipvs_sync::Record;
use crate::ipvs_sync::codec::Version;
use crate::ipvs_sync::table::{Walk, told};
use crate::ipvs_sync::task::{Backup, Master, Settings, start_backup, start_master};
use crate::record::{Kind, Severity};
use dataplane::worker::Dataplane;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two looks for connections that are worth a record. The kernel looks at each packet, but
/// gathers records for as long before it sends them.
const LOOK: Duration = Duration::from_millis(250);

/// Until a daemon that could not start is tried again: its interface may have no address yet.
const RETRY: u32 = 20;

/// What runs now.
#[derive(Default)]
struct Running {
    wanted: Vec<Daemon>,
    master: Option<(Master, Walk)>,
    backup: Option<(Backup, mpsc::Receiver<Vec<Record>>)>,
    /// Looks to go until another try.
    wait: u32,
}

/// Follows the engine until it ends.
pub(crate) async fn run(
    dataplane: Arc<Dataplane>,
    mut wanted: watch::Receiver<Vec<Daemon>>,
    inbox: mpsc::Sender<Message>,
) {
    let mut running = Running::default();
    loop {
        let records = async {
            match &mut running.backup {
                Some((_, received)) => received.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                running.change(wanted.borrow_and_update().clone());
                if !running.start(&inbox).await {
                    return;
                }
            }
            records = records => match records {
                Some(records) => take_in(&dataplane, &records),
                None => running.backup = None,
            },
            () = tokio::time::sleep(LOOK), if !running.wanted.is_empty() => {
                running.tell(&dataplane);
                if !running.start(&inbox).await {
                    return;
                }
            }
        }
    }
}

impl Running {
    /// Ends what is not wanted any more.
    fn change(&mut self, wanted: Vec<Daemon>) {
        let kept = |role| wanted.iter().any(|daemon| daemon.role == role);
        if !kept(DaemonRole::Master) {
            self.master = None;
        }
        if !kept(DaemonRole::Backup) {
            self.backup = None;
        }
        self.wanted = wanted;
        self.wait = 0;
    }

    /// Starts what is wanted and does not run. Whether the engine still listens.
    async fn start(&mut self, inbox: &mpsc::Sender<Message>) -> bool {
        if self.wait > 0 {
            self.wait -= 1;
            return true;
        }
        for daemon in &self.wanted {
            let settings = settings(daemon);
            let started = match daemon.role {
                DaemonRole::Master if self.master.is_none() => start_master(&settings)
                    .map(|master| self.master = Some((master, Walk::default()))),
                DaemonRole::Backup if self.backup.is_none() => {
                    start_backup(&settings).map(|backup| self.backup = Some(backup))
                }
                DaemonRole::Master | DaemonRole::Backup => Ok(()),
            };
            let Err(error) = started else { continue };
            self.wait = RETRY;
            let text = format!("the sync daemon on {} does not start: {error}", daemon.interface);
            let event = Event::Noticed { kind: Kind::System, severity: Severity::Error, text };
            if inbox.send(Message::Event(event)).await.is_err() {
                return false;
            }
        }
        true
    }

    fn tell(&mut self, dataplane: &Dataplane) {
        if let Some((master, walk)) = &mut self.master {
            walk.records(dataplane, dataplane::worker::now(), |record| master.send(record));
        }
    }
}

fn settings(daemon: &Daemon) -> Settings {
    Settings {
        group: daemon.group.unwrap_or(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81))),
        port: daemon.port,
        ttl: daemon.ttl,
        longest: Some(daemon.max_length),
        version: Version::V1,
        ports: 1,
        ..Settings::new(&daemon.interface, daemon.sync_id)
    }
}

/// What does not fit this director's services is left out, as it could not be forwarded anyway.
fn take_in(dataplane: &Dataplane, records: &[Record]) {
    dataplane.adopt(|adopter, now| {
        for told in records.iter().filter_map(told) {
            if let Err(why) = adopter.adopt_always(&told, now) {
                tracing::trace!(?why, ?told, "a record of the sync daemon is not taken");
            }
        }
    });
}
