//! A lab: the switches and hosts of one scene, and their removal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;

use crate::host::Host;
use crate::namespace::{Namespace, remove_named};
use crate::netlink::Netlink;
use crate::turn::Seat;
use crate::{leftovers, privilege};

/// Hosts and networks of one scene. Dropping it removes them all.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
    hosts: Mutex<Vec<Host>>,
    networks: AtomicU32,
    // After all that it stands for.
    _seat: Seat,
}

/// What every host needs of its lab.
#[derive(Debug)]
pub(crate) struct Shared {
    prefix: String,
    pub(crate) scratch: PathBuf,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) switch: Namespace,
    pub(crate) switchboard: Netlink,
    ports: AtomicU32,
}

/// An Ethernet segment: a bridge in the lab's switch namespace.
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) bridge: String,
    name: String,
}

impl Network {
    /// The name that it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Lab {
    /// Makes an empty lab, after any test that is [`crate::turn::alone`]. `name`, of letters and
    /// digits, appears in the names of its namespaces; labs with equal names are numbered.
    ///
    /// # Errors
    /// When the process may not make namespaces; the message says what is missing.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            bail!("a lab's name has letters and digits only, not {name:?}");
        }
        let seat = Seat::take();
        privilege::check()?;
        privilege::prepare_names()?;
        leftovers::remove();
        let prefix = leftovers::own_prefix(&unique(name));
        let scratch = std::env::temp_dir().join(&prefix);
        fs::create_dir(&scratch).with_context(|| scratch.display().to_string())?;
        let shared = Self::build(prefix, scratch.clone());
        if shared.is_err() {
            let _ = fs::remove_dir_all(&scratch);
        }
        let (hosts, networks) = (Mutex::default(), AtomicU32::new(0));
        Ok(Self { shared: Arc::new(shared?), hosts, networks, _seat: seat })
    }

    fn build(prefix: String, scratch: PathBuf) -> Result<Shared> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lab-io")
            .enable_all()
            .build()?;
        let runtime = Arc::new(runtime);
        let switch = Namespace::new(&format!("{prefix}-switch"))?;
        // A switch passes frames on; it must not show them to packet filters.
        switch.enter(|| {
            for family in ["iptables", "ip6tables", "arptables"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
                let _ = fs::write(path, "0");
            }
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        })?;
        let switchboard = Netlink::open(&runtime, &switch)?;
        let ports = AtomicU32::new(0);
        Ok(Shared { prefix, scratch, runtime, switch, switchboard, ports })
    }

    /// Makes an Ethernet segment.
    ///
    /// # Errors
    /// When the kernel refuses the bridge.
    pub fn network(&self, name: &str) -> Result<Network> {
        let bridge = format!("br{}", self.networks.fetch_add(1, Ordering::Relaxed));
        self.shared.switchboard.add_bridge(&bridge)?;
        Ok(Network { bridge, name: name.to_owned() })
    }

    /// Makes a host with nothing but loopback. Its namespace is named after lab and host.
    ///
    /// # Errors
    /// When the kernel refuses the namespace, or the name is taken in this lab.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host = Host::new(Arc::clone(&self.shared), name)?;
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).push(host.clone());
        Ok(host)
    }

    /// The switch, for things other than hosts that plug into networks.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A directory that lives as long as the lab.
    pub fn scratch(&self) -> &Path {
        &self.shared.scratch
    }
}

/// The name itself for the first lab that this process gives it to, `NAME.2` for the second.
fn unique(name: &str) -> String {
    static GIVEN: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let count = given.entry(name.to_owned()).or_default();
    *count += 1;
    if *count == 1 { name.to_owned() } else { format!("{name}.{count}") }
}

impl Shared {
    pub(crate) fn namespace_name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A name for the switch's end of a new veth pair.
    pub(crate) fn next_port(&self) -> String {
        format!("p{}", self.ports.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_what_programs_said();
        }
        for host in self.hosts.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            host.remove();
        }
        // A host kept beyond its lab must not keep the lab's switch.
        remove_named(self.shared.switch.name(), None);
        let _ = fs::remove_dir_all(&self.shared.scratch);
    }
}

impl Lab {
    /// The last lines of every program's standard error: the reason of a failed test is often there.
    fn tell_what_programs_said(&self) {
        const LINES: usize = 15;
        let Ok(hosts) = fs::read_dir(&self.shared.scratch) else { return };
        let files = hosts.flatten().filter_map(|host| fs::read_dir(host.path()).ok()).flatten();
        for path in files.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "err") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            if !text.trim().is_empty() {
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(LINES)..];
                eprintln!("--- {}\n{}", path.display(), last.join("\n"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_with_equal_names_stand_side_by_side() {
        assert_eq!(
            ["twin", "twin", "other", "twin"].map(unique),
            ["twin", "twin.2", "other", "twin.3"]
        );
    }
}
