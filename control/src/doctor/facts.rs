//! What the kernel says of this host: files of /proc and /sys, and whether it takes our programs.

use crate::host::{HostError, Watch, stack};
use dataplane::io::{kernel_clock, steer::Steering};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::path::Path;

/// A host, as far as it matters for a director.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// Effective capabilities of this process, one bit each.
    pub capabilities: u64,
    /// Why the kernel does not take the steering programs, if it does not.
    pub steering_refused: Option<String>,
    /// Whether `/dev/net/tun` is there.
    pub tun: bool,
    /// Processors that this process may use.
    pub processors: usize,
    /// Files that this process may open.
    pub files: u64,
    /// Available memory in bytes.
    pub memory_free: u64,
    /// `always`, `madvise` or `never`; empty when the kernel has none.
    pub huge_pages: String,
    /// The state directory.
    pub state: String,
    /// Free bytes there, if it exists.
    pub state_free: Option<u64>,
    /// Whether a time daemon keeps the kernel's clock.
    pub synchronised: Option<bool>,
    /// Whether the kernel forwards IPv4.
    pub ip_forward: bool,
    /// Whether it sends ICMP redirects.
    pub send_redirects: bool,
    /// Names of all running programs.
    pub programs: Vec<String>,
    /// Virtual services of the kernel's IPVS, when it is loaded.
    pub kernel_services: Option<usize>,
    /// How many source ports of full NAT the kernel gives to the host's connections too.
    pub shared_ports: usize,
    /// Ethernet interfaces.
    pub interfaces: Vec<Interface>,
}

/// An Ethernet interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its driver; virtual ones have none.
    pub driver: Option<String>,
    /// Receive queues.
    pub queues: usize,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether the other end is there.
    pub carrier: bool,
    /// In Mbit/s, where the driver says.
    pub speed: Option<u64>,
    /// The reverse path filter in force: 0 off, 1 strict, 2 loose.
    pub rp_filter: u8,
}

impl Facts {
    /// Major and minor version of the kernel.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel.split(['.', '-']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Reads them.
///
/// # Errors
/// When the kernel does not list its interfaces. What else cannot be read counts as absent.
pub async fn gather(state: &Path) -> Result<Facts, HostError> {
    let picture = Watch::once().await?;
    let of_host = picture.ethernet().filter(|(_, link)| link.name != stack::NAME);
    let interfaces = of_host.map(|(_, link)| {
        let folder = Path::new("/sys/class/net").join(&link.name);
        let driver = fs::read_link(folder.join("device/driver")).ok();
        let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Interface {
            name: link.name.clone(),
            driver,
            queues: queues(&folder),
            mtu: link.mtu,
            up: link.up,
            carrier: link.carrier,
            speed: number(&folder.join("speed")).filter(|speed| *speed < 10_000_000),
            rp_filter: variable("all", "rp_filter").max(variable(&link.name, "rp_filter")),
        }
    });
    Ok(Facts {
        kernel: text("/proc/sys/kernel/osrelease"),
        capabilities: capabilities(&text("/proc/self/status")),
        steering_refused: Steering::new().err().map(|error| error.to_string()),
        tun: Path::new("/dev/net/tun").exists(),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        memory_free: field(&text("/proc/meminfo"), "MemAvailable:").unwrap_or(0) << 10,
        huge_pages: chosen(&text("/sys/kernel/mm/transparent_hugepage/enabled")),
        state: state.display().to_string(),
        state_free: free_space(state),
        synchronised: kernel_clock::read().ok().map(|clock| clock.synchronised),
        ip_forward: text("/proc/sys/net/ipv4/ip_forward") == "1",
        send_redirects: variable("all", "send_redirects") == 1,
        programs: programs(),
        kernel_services: kernel_services(),
        shared_ports: crate::host::shared_ports(),
        interfaces: interfaces.collect(),
    })
}

fn text(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn variable(device: &str, name: &str) -> u8 {
    text(&format!("/proc/sys/net/ipv4/conf/{device}/{name}")).parse().unwrap_or(0)
}

fn queues(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder.join("queues")) else { return 1 };
    let received =
        entries.flatten().filter(|one| one.file_name().as_encoded_bytes().starts_with(b"rx"));
    received.count().max(1)
}

fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// The number after a label.
fn field(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map(|(word, _)| word.to_owned()).unwrap_or_default()
}

/// Of the directory, or of the nearest one above it that exists.
fn free_space(state: &Path) -> Option<u64> {
    let there = state.ancestors().find(|path| path.is_dir())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn programs() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names =
        entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// Services stand at the left margin, their servers behind an arrow.
fn kernel_services() -> Option<usize> {
    let table = fs::read_to_string("/proc/net/ip_vs").ok()?;
    let is_service = |line: &&str| {
        ["TCP", "UDP", "SCTP", "FWM"].iter().any(|protocol| line.starts_with(protocol))
    };
    Some(table.lines().filter(is_service).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_understood() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t0000000000003000\n"), 0x3000);
        assert_eq!(field("MemTotal: 9 kB\nMemAvailable:   42 kB\n", "MemAvailable:"), Some(42));
        assert_eq!(chosen("always [madvise] never"), "madvise");
        let facts = |kernel: &str| Facts { kernel: kernel.into(), ..Facts::default() };
        assert_eq!(facts("6.1.0-28-amd64").version(), Some((6, 1)));
        assert_eq!(facts("").version(), None);
    }

    #[tokio::test]
    async fn this_host_can_be_looked_at() {
        let facts = gather(Path::new("/nonexistent/viaduct")).await.unwrap();
        assert!(facts.version().is_some() && facts.processors > 0 && facts.state_free.is_some());
        assert!(facts.programs.len() > 1 && facts.memory_free > 0);
    }
}
