//! Whether a host is fit to be a director, and what would make it faster.
//!
//! `facts` reads them from the kernel; [`findings`] judges them: that is pure.

mod facts;

pub use facts::{Facts, Interface, gather};

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Good,
    /// It works, and could be better.
    Advice,
    /// Something that is probably wanted does not work.
    Warning,
    /// The director does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// How serious the finding is.
    pub grade: Grade,
    /// The observation, for people.
    pub found: String,
    /// What to do; empty when nothing.
    pub advice: String,
}

/// Capabilities that the daemon needs, by bit number, with what for.
const CAPABILITIES: [(u8, &str, &str); 2] = [
    (12, "CAP_NET_ADMIN", "interfaces, routes and packet steering"),
    (13, "CAP_NET_RAW", "packet sockets, VRRP and ping"),
];

/// Files that thousands of checks need.
const FILES: u64 = 4096;

/// Free space in which the store goes on for long, in bytes.
const SPACE: u64 = 256 << 20;

/// What programs do that this one does, too: both at once get into each other's way.
const RIVALS: [&str; 4] = ["keepalived", "ldirectord", "mon", "pulse"];

/// Judges a host.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![kernel(facts), capabilities(facts), steering(facts), host_link(facts)];
    found.extend([processors(facts), limits(facts), memory(facts), space(facts), clock(facts)]);
    found.extend(forwarding(facts));
    found.push(rivals(facts));
    found.extend(kernel_ipvs(facts));
    found.extend(source_ports(facts));
    found.extend(facts.interfaces.iter().map(interface));
    found
}

fn finding(subject: &str, grade: Grade, found: impl Into<String>, advice: &str) -> Finding {
    let (subject, advice) = (subject.to_owned(), advice.to_owned());
    Finding { subject, grade, found: found.into(), advice }
}

fn kernel(facts: &Facts) -> Finding {
    let (grade, advice) = match facts.version() {
        Some(version) if version < (5, 10) => {
            (Grade::Warning, "kernels before 5.10 are not tested; Debian 12 has 6.1")
        }
        Some(version) if version < (6, 6) => {
            (Grade::Advice, "since 6.6 steering is attached without replacing other tc filters")
        }
        Some(_) => (Grade::Good, ""),
        None => (Grade::Warning, "cannot read its version"),
    };
    finding("kernel", grade, facts.kernel.clone(), advice)
}

fn capabilities(facts: &Facts) -> Finding {
    let missing = CAPABILITIES.iter().filter(|(bit, ..)| facts.capabilities & (1 << bit) == 0);
    let missing: Vec<String> =
        missing.map(|(_, name, reason)| format!("{name} ({reason})")).collect();
    if missing.is_empty() {
        return finding("capabilities", Grade::Good, "all present", "");
    }
    let found = format!("missing: {}", missing.join(", "));
    finding("capabilities", Grade::Error, found, "run as root, or use the systemd unit")
}

fn steering(facts: &Facts) -> Finding {
    match &facts.steering_refused {
        None => finding("steering", Grade::Good, "the kernel accepts the steering programs", ""),
        Some(why) => finding(
            "steering",
            Grade::Warning,
            format!("the host would also see the director's packets: {why}"),
            "needs CAP_BPF (or CAP_SYS_ADMIN) and a kernel with BPF",
        ),
    }
}

fn host_link(facts: &Facts) -> Finding {
    if facts.tun {
        return finding("host link", Grade::Good, "/dev/net/tun exists", "");
    }
    finding(
        "host link",
        Grade::Warning,
        "no /dev/net/tun: no sorry page, and no clients or real servers on the director itself",
        "modprobe tun",
    )
}

fn processors(facts: &Facts) -> Finding {
    let found = format!("{}", facts.processors);
    if facts.processors > 1 {
        return finding("processors", Grade::Good, found, "");
    }
    finding("processors", Grade::Advice, found, "a second one keeps checks from delaying packets")
}

fn limits(facts: &Facts) -> Finding {
    let found = format!("{} open files", facts.files);
    if facts.files >= FILES {
        return finding("limits", Grade::Good, found, "");
    }
    let advice = "thousands of checks need more: ulimit -n 65536, or LimitNOFILE= in the unit";
    finding("limits", Grade::Advice, found, advice)
}

fn memory(facts: &Facts) -> Finding {
    let found = format!(
        "{} MiB free, transparent huge pages {}",
        facts.memory_free >> 20,
        facts.huge_pages
    );
    if facts.memory_free < 256 << 20 {
        let advice = "the connection table of a million entries takes about 100 MiB";
        return finding("memory", Grade::Warning, found, advice);
    }
    if facts.huge_pages == "never" {
        let advice =
            "fewer cache misses: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
        return finding("memory", Grade::Advice, found, advice);
    }
    finding("memory", Grade::Good, found, "")
}

fn space(facts: &Facts) -> Finding {
    let Some(free) = facts.state_free else {
        let found = format!("cannot inspect {}", facts.state);
        return finding("state directory", Grade::Advice, found, "created when the daemon starts");
    };
    let found = format!("{} MiB free in {}", free >> 20, facts.state);
    if free >= SPACE {
        return finding("state directory", Grade::Good, found, "");
    }
    let advice = "when the disk is full, changes are refused; forwarding continues";
    finding("state directory", Grade::Warning, found, advice)
}

fn clock(facts: &Facts) -> Finding {
    match facts.synchronised {
        Some(true) => finding("clock", Grade::Good, "synchronised", ""),
        Some(false) => finding(
            "clock",
            Grade::Advice,
            "no time daemon disciplines it",
            "install chrony, with rtcsync",
        ),
        None => finding("clock", Grade::Advice, "unknown", ""),
    }
}

/// Balanced packets do not need the kernel's routing, but what else real servers send by the director
/// does.
fn forwarding(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    found.push(if facts.ip_forward {
        finding("ip_forward", Grade::Good, "on", "")
    } else {
        let advice = "needed only if real servers reach other networks through this director: sysctl -w \
                      net.ipv4.ip_forward=1";
        finding("ip_forward", Grade::Advice, "off", advice)
    });
    let strict = facts.interfaces.iter().filter(|one| one.rp_filter == 1);
    let strict: Vec<&str> = strict.map(|one| one.name.as_str()).collect();
    if !strict.is_empty() {
        let advice =
            "strict filtering drops replies to probes that arrive on another interface; 2 is loose";
        found.push(finding(
            "rp_filter",
            Grade::Advice,
            format!("1 on {}", strict.join(", ")),
            advice,
        ));
    }
    if facts.send_redirects && facts.ip_forward {
        let advice = "with NAT on one network, redirects lead real servers past the director: sysctl \
                      -w net.ipv4.conf.all.send_redirects=0";
        found.push(finding("send_redirects", Grade::Advice, "on", advice));
    }
    found
}

fn rivals(facts: &Facts) -> Finding {
    let running = facts.programs.iter().filter(|name| RIVALS.contains(&name.as_str()));
    let mut running: Vec<&str> = running.map(String::as_str).collect();
    running.sort_unstable();
    running.dedup();
    if running.is_empty() {
        return finding("other directors", Grade::Good, "none on this host", "");
    }
    let advice = "it drives the kernel's IPVS or VRRP; stop it before this director takes over";
    finding("other directors", Grade::Warning, running.join(", "), advice)
}

fn kernel_ipvs(facts: &Facts) -> Option<Finding> {
    let services = facts.kernel_services.filter(|services| *services > 0)?;
    let found = format!("{services} virtual services in the kernel");
    let advice =
        "take them over with ipvsadm-save | viaduct ipvsadm -R, then clear them: ipvsadm -C";
    Some(finding("kernel IPVS", Grade::Warning, found, advice))
}

fn source_ports(facts: &Facts) -> Option<Finding> {
    let many = Some(facts.shared_ports).filter(|many| *many > 0)?;
    let found = format!("{many} are also given to the host's own connections");
    let advice = "connections that meet break each other with full NAT: sysctl -w \
                  net.ipv4.ip_local_reserved_ports=61000-65535, or a source_pool";
    Some(finding("source ports", Grade::Warning, found, advice))
}

fn interface(one: &Interface) -> Finding {
    let speed = one.speed.map(|speed| format!(", {speed} Mbit/s")).unwrap_or_default();
    let found = format!(
        "{}, {} queue{}, MTU {}{speed}",
        one.driver.as_deref().unwrap_or("no driver of its own"),
        one.queues,
        if one.queues == 1 { "" } else { "s" },
        one.mtu,
    );
    let (grade, advice) = if !one.up {
        (Grade::Advice, format!("it is down: ip link set {} up", one.name))
    } else if !one.carrier {
        (Grade::Warning, "no carrier: is the cable plugged in?".to_owned())
    } else if one.queues == 1
        && one.driver.is_some()
        && one.speed.is_some_and(|speed| speed >= 10_000)
    {
        (
            Grade::Advice,
            format!("more queues use more processors: ethtool -L {} combined N", one.name),
        )
    } else {
        (Grade::Good, String::new())
    };
    finding(&format!("interface {}", one.name), grade, found, &advice)
}
