//! A virtual machine that runs Debian's kernel with its real IPVS: the reference that tests compare
//! against, and a director or real server beside the lab's namespaces.
//!
//! The machine is emulated (`qemu-system-x86_64 -accel tcg`), boots an initramfs into a shell in a
//! few seconds and takes commands over a virtio port. Its network cards are either [`Wire`]s, whose
//! frames the test itself sends and receives, or taps inside a network namespace of the lab.
//!
//! Debian packages needed: `qemu-system-x86 busybox-static ipvsadm iproute2 nftables util-linux`,
//! and `apt-get update` done once, because the kernel package is fetched with `apt-get download`
//! into `target/guest` the first time; delete that folder to take a newer kernel. [`Line`] names
//! other kernels than the machine's own release has.

mod agent;
mod boot_image;
mod cpio;
mod folder;
mod kernel;
mod machine;
mod monitor;
mod viaduct;
mod wire;

pub use agent::Output;
pub use wire::Wire;

use crate::lab::{Lab, Network};
use crate::namespace::NAMED;
use crate::turn::Seat;
use agent::Agent;
use anyhow::{Context, Result, bail};
use machine::Machine;
use monitor::Monitor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// IPVS with every scheduler and helper that Debian's kernel has. It is built without `twos`.
pub const IPVS: &[&str] = &[
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_dh",
    "ip_vs_sh",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_fo",
    "ip_vs_ovf",
    "ip_vs_mh",
    "ip_vs_ftp",
    "ip_vs_pe_sip",
];

/// Devices that unwrap every tunnel that IPVS can send: IPIP, GRE and GUE, over IPv4 and IPv6.
pub const TUNNELS: &[&str] =
    &["ipip", "ip_gre", "sit", "ip6_tunnel", "ip6_gre", "fou", "fou6", "tunnel4", "tunnel6"];

/// `nft`, for marks.
pub const NFTABLES: &[&str] = &["nf_tables"];

/// What `viaduct run` needs of this kernel: the host's end of its link, and the hooks before and
/// after the stack that kernels have as modules before 6.6.
pub const VIADUCT: &[&str] = &["tun", "sch_ingress", "cls_bpf"];

/// Interfaces without hardware.
pub const VIRTUAL_LINKS: &[&str] = &["dummy", "veth"];

/// Interfaces made of others: VLANs and bonds. Loading it makes `bond0`.
pub const STACKED_LINKS: &[&str] = &["8021q", "bonding"];

/// Which of Debian's kernels a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Line {
    /// The one that this machine's own package sources offer: Linux 6.1 on Debian 12.
    #[default]
    Installed,
    /// The newest one built for the stable release, whose virtio driver lets XDP sockets do without
    /// copies.
    Backports,
}

impl Line {
    /// Its folder in the cache.
    const fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Backports => "backports",
        }
    }
}

/// A network card of the guest, seen inside as `eth0`, `eth1` in the order given.
#[derive(Clone, Debug)]
pub enum Nic {
    /// Frames go to and come from the test itself.
    Wire(PathBuf),
    /// A tap interface of this name, made by qemu in [`Options::namespace`] and gone with it. The
    /// caller attaches it to a bridge.
    Tap(String),
}

/// How to boot a guest.
#[derive(Debug)]
pub struct Options {
    /// Names the machine in messages.
    pub name: String,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// The network namespace to run qemu in, for taps: a path such as `/run/netns/NAME` or
    /// `/proc/PID/ns/net`. `None` for the caller's own.
    pub namespace: Option<PathBuf>,
    /// The kernel.
    pub kernel: Line,
    /// Whether the kernel has to reach network cards by its interface for direct memory access, as
    /// with hardware. Its virtio driver does without copies for XDP sockets only then.
    pub dma: bool,
    /// Modules to load after boot, with all that they depend on.
    pub modules: Vec<&'static str>,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors. Taps have as many queues.
    pub processors: u32,
    /// Whether the guest's clock counts instructions, one a nanosecond, while it is not idle, and
    /// [`Guest::instructions`] tells them.
    pub counts_instructions: bool,
    /// How long booting may take before the guest counts as hung.
    pub boot_deadline: Duration,
    /// How long one command or batch may take before the guest counts as hung.
    pub deadline: Duration,
}

impl Default for Options {
    /// No network card, IPVS loaded. Deadlines are far above what a loaded machine needs: they end
    /// hangs and measure nothing.
    fn default() -> Self {
        Self {
            name: "guest".into(),
            nics: Vec::new(),
            namespace: None,
            kernel: Line::Installed,
            dma: false,
            modules: IPVS.to_vec(),
            memory: 256,
            processors: 1,
            counts_instructions: false,
            boot_deadline: Duration::from_secs(180),
            deadline: Duration::from_secs(180),
        }
    }
}

/// A running guest. Dropping it ends the machine.
#[derive(Debug)]
pub struct Guest {
    agent: Agent,
    /// For those that count instructions.
    monitor: Option<Monitor>,
    machine: Machine,
    macs: Vec<[u8; 6]>,
    _seat: Seat,
}

impl Guest {
    /// Boots a guest and returns when it takes commands and its modules are loaded.
    ///
    /// # Errors
    /// A missing package, a kernel that could not be fetched, or a guest that did not come up; the
    /// message ends with the tail of its console.
    pub fn boot(options: &Options) -> Result<Self> {
        let seat = Seat::take();
        let kernel = kernel::obtain(options.kernel)?;
        let image = boot_image::obtain(&kernel)?;
        let macs: Vec<_> = options.nics.iter().map(|_| next_mac()).collect();
        let machine = Machine::start(&kernel, &image, options, &macs)?;
        let agent = machine
            .accept_agent(options.boot_deadline)
            .and_then(|stream| Agent::greet(stream, options.boot_deadline, options.deadline));
        let agent = agent.with_context(|| machine.describe("did not boot"))?;
        let counts = options.counts_instructions;
        let monitor = counts.then(|| machine.monitor()).transpose()?;
        let mut guest = Self { agent, monitor, machine, macs, _seat: seat };
        guest.load_modules(&options.modules)?;
        Ok(guest)
    }

    /// Boots a guest as one more host of a lab, with a network card on each of `networks` in this
    /// order, after those that `options` has already. Its addresses are the caller's to set.
    ///
    /// # Errors
    /// As [`Guest::boot`], and when `/dev/net/tun` is missing.
    pub fn boot_in(lab: &Lab, networks: &[&Network], mut options: Options) -> Result<Self> {
        let shared = lab.shared();
        let ports: Vec<_> = networks.iter().map(|_| shared.next_port()).collect();
        options.nics.extend(ports.iter().cloned().map(Nic::Tap));
        options.namespace = Some(Path::new(NAMED).join(shared.switch.name()));
        let guest = Self::boot(&options)?;
        for (port, network) in ports.iter().zip(networks) {
            shared.switchboard.plug(port, &network.bridge)?;
        }
        Ok(guest)
    }

    /// Loads kernel modules and what they depend on; those already there are skipped.
    ///
    /// # Errors
    /// A module that the boot image does not have, or that the kernel refuses.
    pub fn load_modules(&mut self, modules: &[&str]) -> Result<()> {
        if modules.is_empty() {
            return Ok(());
        }
        self.sh(&format!("load-modules {}", modules.join(" "))).map(drop)
    }

    /// Runs one shell command line and returns what it printed, whatever its exit code.
    ///
    /// # Errors
    /// Only when the guest itself failed; the message ends with the tail of its console.
    pub fn run(&mut self, command: &str) -> Result<Output> {
        let mut outputs = self.run_all(&[command])?;
        outputs.pop().context("a batch of one command gave no output")
    }

    /// Runs many command lines one after the other, each in a subshell of its own, in one round
    /// trip. A command that fails does not stop those after it. Costs little more than the commands
    /// themselves, so thousands at once are fine.
    ///
    /// # Errors
    /// The guest failed, or a command line is not valid shell syntax.
    pub fn run_all<S: AsRef<str>>(&mut self, commands: &[S]) -> Result<Vec<Output>> {
        let result = self.agent.run_all(commands);
        result.with_context(|| self.machine.describe("did not run commands"))
    }

    /// Runs a shell command line that must succeed and returns its standard output.
    ///
    /// # Errors
    /// Also a non-zero exit code.
    pub fn sh(&mut self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        if output.code != 0 {
            let what = format!("`{command}` ended with {}", output.code);
            bail!("{what}: {}{}\n{}", output.stderr, output.stdout, self.machine.describe("is up"));
        }
        Ok(output.stdout)
    }

    /// Writes a file inside the guest.
    ///
    /// # Errors
    /// The path's folder is missing, or the guest failed.
    pub fn put_file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let result = self.agent.put_file(path, content);
        result.with_context(|| self.machine.describe(&format!("did not take {path}")))
    }

    /// Reads a file inside the guest, also those of `/proc`.
    ///
    /// # Errors
    /// No such file, or the guest failed.
    pub fn get_file(&mut self, path: &str) -> Result<Vec<u8>> {
        let result = self.agent.get_file(path);
        result.with_context(|| self.machine.describe(&format!("did not give {path}")))
    }

    /// The Ethernet address of a network card, in the order of [`Options::nics`].
    pub fn mac(&self, nic: usize) -> [u8; 6] {
        self.macs[nic]
    }

    /// How many instructions the guest has executed since it was switched on, its kernel's and its
    /// programs'. Nearly none while it is idle.
    ///
    /// # Errors
    /// It does not count them, or is gone.
    pub fn instructions(&mut self) -> Result<u64> {
        self.monitor.as_mut().context("a guest that does not count instructions")?.instructions()
    }

    /// What the guest's kernel last said, for failure messages.
    pub fn console_tail(&self) -> String {
        self.machine.console_tail()
    }
}

/// Locally administered addresses, different for all guests of one process and, by the process id,
/// for tests that run beside each other.
fn next_mac() -> [u8; 6] {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let [_, b, c, d] = std::process::id().to_be_bytes();
    [0x52, b ^ 0x54, c, d, high, low]
}

#[cfg(test)]
mod tests;
