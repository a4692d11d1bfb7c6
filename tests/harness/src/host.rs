//! A host of the lab: a network namespace with links, addresses, routes and programs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cidr::Cidr;
use crate::lab::{Network, Shared};
use crate::namespace::{Namespace, remove_named};
use crate::netlink::Netlink;
use crate::process::{Finished, Process};

/// How long [`Host::run`] lets a program run.
pub const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A host; clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    directory: PathBuf,
    interfaces: AtomicU32,
    // Before the namespace, so that its netlink socket is closed first.
    netlink: Netlink,
    namespace: Namespace,
    lab: Arc<Shared>,
}

/// An Ethernet address as `ip` writes it.
pub fn written_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One end of a cable, inside a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`, `eth1`, ... in the order of attaching.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The switch's end of the cable, for pulling it.
    port: String,
}

impl Host {
    pub(crate) fn new(lab: Arc<Shared>, name: &str) -> Result<Self> {
        let directory = lab.scratch.join(name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        let namespace = Namespace::new(&lab.namespace_name(name))?;
        let netlink = Netlink::open(&lab.runtime, &namespace)?;
        netlink.up("lo")?;
        let interfaces = AtomicU32::new(0);
        let name = name.to_owned();
        let host = Self(Arc::new(Inner { name, directory, interfaces, netlink, namespace, lab }));
        for interface in ["all", "default"] {
            // Addresses come from the lab alone, and are usable at once.
            host.sysctl(&format!("net.ipv6.conf.{interface}.accept_dad"), "0")?;
            host.sysctl(&format!("net.ipv6.conf.{interface}.accept_ra"), "0")?;
        }
        Ok(host)
    }

    /// The name that it was made with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        self.0.namespace.name()
    }

    /// The host's scratch directory; outputs of its programs are there too.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    pub(crate) fn runtime(&self) -> &Arc<tokio::runtime::Runtime> {
        &self.0.lab.runtime
    }

    /// Plugs the host into a network; the new interface gets the addresses, given as `10.0.0.1/24`.
    ///
    /// # Errors
    /// When an address is malformed or the kernel refuses.
    pub fn attach(&self, network: &Network, addresses: &[&str]) -> Result<Interface> {
        let name = format!("eth{}", self.0.interfaces.fetch_add(1, Ordering::Relaxed));
        let port = self.0.lab.next_port();
        let lab = &self.0.lab;
        lab.switchboard
            .add_port(&network.bridge, &port, &name, &self.0.namespace)
            .with_context(|| format!("attaching {} to {}", self.name(), network.name()))?;
        for address in addresses {
            self.add_address(&name, address)?;
        }
        self.0.netlink.up(&name)?;
        let mac = self.0.netlink.mac(&name)?;
        Ok(Interface { name, mac, port })
    }

    /// Pulls the cable: both ends lose their carrier.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unplug(&self, interface: &Interface) -> Result<()> {
        self.0.lab.switchboard.down(&interface.port)
    }

    /// Puts a pulled cable back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&self, interface: &Interface) -> Result<()> {
        self.0.lab.switchboard.up(&interface.port)
    }

    /// Connects a cable to another network: both ends keep their carrier.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reconnect(&self, interface: &Interface, network: &Network) -> Result<()> {
        self.0.lab.switchboard.plug(&interface.port, &network.bridge)
    }

    /// Adds an address, as `10.0.0.1/24` or, for a single one, `10.0.0.1`.
    ///
    /// # Errors
    /// When it is malformed or there already.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        let context = || format!("{address} on {}", self.name());
        self.0.netlink.add_address(interface, address.parse()?).with_context(context)
    }

    /// Removes an address.
    ///
    /// # Errors
    /// When it is malformed or the kernel refuses.
    pub fn remove_address(&self, interface: &str, address: &str) -> Result<()> {
        self.0.netlink.del_address(interface, address.parse()?)
    }

    /// Routes `to` (a prefix, or `default` for all of the gateway's family) via a gateway.
    ///
    /// # Errors
    /// When either is malformed or the gateway is not reachable.
    pub fn route(&self, to: &str, via: &str) -> Result<()> {
        let via: IpAddr = via.parse().with_context(|| format!("gateway {via:?}"))?;
        let to = if to == "default" { Cidr::everything_like(via) } else { to.parse()? };
        self.0.netlink.add_route(to, via).with_context(|| format!("on {}", self.name()))
    }

    /// Sends what comes from `source` by another gateway than the main table's. One such gateway
    /// for each family.
    ///
    /// # Errors
    /// When either is malformed or the gateway is not reachable.
    pub fn route_from(&self, source: &str, via: &str) -> Result<()> {
        let via = via.parse().with_context(|| format!("gateway {via:?}"))?;
        self.0.netlink.add_source_route(source.parse()?, via)
    }

    /// Changes an interface's MTU, in bytes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<()> {
        self.0.netlink.set_mtu(interface, mtu)
    }

    /// Makes an interface that leads nowhere, for addresses that must not depend on a cable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_dummy(&self, name: &str) -> Result<()> {
        self.0.netlink.add_dummy(name)
    }

    /// Sets a kernel variable of this namespace, as `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// When there is no such variable or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.enter(|| fs::write(&path, value))?
            .with_context(|| format!("{name}={value} on {}", self.name()))
    }

    /// Makes the host a router for IPv4 and IPv6.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net.ipv4.ip_forward", "1")?;
        self.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Runs `work` in a thread inside the host; see [`Namespace::enter`].
    ///
    /// # Errors
    /// When the kernel refuses entry.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.0.namespace.enter(work)
    }

    /// Starts a thread that lives inside the host.
    ///
    /// # Errors
    /// When the thread cannot be started; a refused entry shows when it is joined.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let entrance = self.0.namespace.entrance()?;
        let thread = thread::Builder::new().name(name.to_owned());
        Ok(thread.spawn(move || {
            entrance.move_this_thread()?;
            work()
        })?)
    }

    /// Starts a program inside the host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        self.enter(|| Process::start(command, self.directory(), None))?
            .with_context(|| format!("on {}", self.name()))
    }

    /// Runs a program to its end, at most [`RUN_LIMIT`].
    ///
    /// # Errors
    /// When it cannot be started or does not end. A bad exit status is not an error here.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        self.run_for(arguments, RUN_LIMIT)
    }

    /// Runs a program to its end, at most `limit`.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn run_for(&self, arguments: &[&str], limit: Duration) -> Result<Finished> {
        self.spawn(command(arguments)?)?.finish(limit)
    }

    /// Runs a program to its end with `input` on its standard input.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn run_with_input(&self, command: Command, input: &str) -> Result<Finished> {
        self.enter(|| Process::start(command, self.directory(), Some(input)))??.finish(RUN_LIMIT)
    }

    /// Runs a program and gives its standard output.
    ///
    /// # Errors
    /// When it cannot be started, does not end, or ends with another status than 0.
    pub fn run_ok(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments)?.ok().with_context(|| format!("on {}", self.name()))
    }

    /// Takes the name away and kills what runs inside, though clones of the host still exist.
    pub(crate) fn remove(&self) {
        remove_named(self.namespace(), None);
    }
}

/// A command from its words; the first is the program.
///
/// # Errors
/// When there are none.
pub fn command(words: &[&str]) -> Result<Command> {
    let Some((program, arguments)) = words.split_first() else { bail!("an empty command") };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}
