//! What a real server needs for direct routing or tunnelling: the VIP, without answering for it on
//! the LAN, and for tunnelling a device that unwraps.
//!
//! [`Setup::needs`] lists it, [`problems`] compares it with a host and says in plain words what is
//! wrong, `script` writes it down for hosts without this program: those are pure. `host` looks at a
//! host and changes it.

mod host;
mod script;

pub use host::{HostTrouble, down, look, up};
pub use script::Form;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// What is wanted of a real server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// The virtual addresses that it serves.
    pub vips: Vec<IpAddr>,
    /// How packets reach it.
    pub method: Method,
}

/// How packets reach a real server that has the VIP itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Direct routing.
    DirectRouting,
    /// Tunnelling.
    Tunnel {
        /// The tunnel's header.
        header: Header,
        /// Whether the tunnel runs over IPv6.
        over_v6: bool,
    },
}

/// What tunnelled packets are wrapped in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
}

/// A tunnel device: the one that the kernel's module brings along, which takes packets from anybody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Device {
    /// Its name.
    pub name: &'static str,
    /// Its kind, as `ip link add type` names it.
    pub kind: &'static str,
    /// The kernel's module.
    pub module: &'static str,
}

/// One thing that a real server needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need {
    /// A tunnel device that is up.
    Device(Device),
    /// A virtual address on a device, alone in its subnet.
    Address {
        /// `lo` or a tunnel device.
        device: &'static str,
        /// The VIP.
        vip: IpAddr,
    },
    /// A kernel variable.
    Variable {
        /// Which device's, or `all`.
        device: &'static str,
        /// Its name.
        name: Variable,
    },
}

/// Kernel variables that matter, all of `net.ipv4.conf.DEVICE`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Variable {
    /// Who is answered for: 1 keeps quiet about addresses of other devices.
    ArpIgnore,
    /// Which address asks: 2 never uses an address of another device.
    ArpAnnounce,
    /// Reverse path filter: 2 accepts sources that are reachable by another device.
    RpFilter,
}

/// A host as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// Devices by name.
    pub devices: BTreeMap<String, DeviceState>,
    /// Variables that the kernel has, by device and name.
    pub variables: BTreeMap<(String, Variable), u8>,
}

/// One device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceState {
    /// Whether it is switched on.
    pub up: bool,
    /// Whether hosts on it ask for addresses by ARP.
    pub ethernet: bool,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// What, and what comes of it.
    pub what: String,
    /// The command that repairs it.
    pub repair: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  repair: {}", self.what, self.repair)
    }
}

impl Variable {
    /// Every variable that matters.
    pub const ALL: [Self; 3] = [Self::ArpIgnore, Self::ArpAnnounce, Self::RpFilter];

    /// Its name in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
        }
    }

    /// The value that a real server needs.
    pub const fn wanted(self) -> u8 {
        match self {
            Self::ArpIgnore => 1,
            Self::ArpAnnounce | Self::RpFilter => 2,
        }
    }

    const fn is_good(self, value: u8) -> bool {
        match self {
            Self::ArpIgnore => value >= 1,
            Self::ArpAnnounce => value == 2,
            Self::RpFilter => value != 1,
        }
    }
}

impl Setup {
    /// Everything that is needed, in the order in which it has to be done: a VIP that is there before
    /// ARP is quiet would be answered for.
    ///
    /// # Errors
    /// When a VIP cannot be reached in this way.
    pub fn needs(&self) -> Result<Vec<Need>, String> {
        let mut needs = Vec::new();
        if self.vips.iter().any(IpAddr::is_ipv4) {
            let of_all = |name| Need::Variable { device: "all", name };
            needs.extend([Variable::ArpIgnore, Variable::ArpAnnounce].map(of_all));
        }
        for vip in &self.vips {
            let Some(device) = self.method.device(*vip)? else {
                needs.push(Need::Address { device: "lo", vip: *vip });
                continue;
            };
            if !needs.contains(&Need::Device(device)) {
                needs.push(Need::Device(device));
                if vip.is_ipv4() {
                    needs.push(Need::Variable { device: device.name, name: Variable::RpFilter });
                }
            }
            needs.push(Need::Address { device: device.name, vip: *vip });
        }
        Ok(needs)
    }
}

impl Method {
    /// The device that unwraps packets for a VIP; none for direct routing.
    fn device(self, vip: IpAddr) -> Result<Option<Device>, String> {
        let Self::Tunnel { header, over_v6 } = self else { return Ok(None) };
        let device = |name, kind, module| Ok(Some(Device { name, kind, module }));
        match (header, over_v6, vip.is_ipv6()) {
            (Header::Ipip, false, false) => device("tunl0", "ipip", "ipip"),
            (Header::Ipip, false, true) => device("sit0", "sit", "sit"),
            (Header::Ipip, true, true) => device("ip6tnl0", "ip6tnl", "ip6_tunnel"),
            (Header::Ipip, true, false) => {
                Err(format!("{vip} over IPv6 needs GRE: ip6tnl0 unwraps IPv6 only"))
            }
            (Header::Gre, false, _) => device("gre0", "gre", "ip_gre"),
            (Header::Gre, true, _) => device("ip6gre0", "ip6gre", "ip6_gre"),
        }
    }
}

/// The prefix length of a single address.
const fn alone(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// What is wrong with a host that should meet these needs.
pub fn problems(needs: &[Need], host: &Observed) -> Vec<Problem> {
    let mut found: Vec<Problem> = needs.iter().flat_map(|need| host.lacks(need)).collect();
    for need in needs {
        if let Need::Address { device, vip } = need {
            found.extend(host.strays(device, *vip));
        }
    }
    found.dedup();
    found
}

impl Observed {
    fn lacks(&self, need: &Need) -> Vec<Problem> {
        match need {
            Need::Device(device) => self.lacks_device(*device).into_iter().collect(),
            Need::Address { device, vip } => self.lacks_address(device, *vip).into_iter().collect(),
            Need::Variable { device: "all", name } => self.answers(*name),
            Need::Variable { device, name } => self.filters(device, *name).into_iter().collect(),
        }
    }

    fn lacks_device(&self, device: Device) -> Option<Problem> {
        let Device { name, kind, module } = device;
        match self.devices.get(name) {
            None => Some(Problem {
                what: format!("there is no device {name}: tunnelled packets are refused"),
                repair: format!(
                    "modprobe {module}; ip link show {name} || ip link add {name} type {kind}"
                ),
            }),
            Some(state) if !state.up => Some(Problem {
                what: format!("{name} is down: tunnelled packets are refused"),
                repair: format!("ip link set {name} up"),
            }),
            Some(_) => None,
        }
    }

    fn lacks_address(&self, device: &str, vip: IpAddr) -> Option<Problem> {
        let length = alone(vip);
        let repair = format!("ip addr add {vip}/{length} dev {device}");
        let state = self.devices.get(device)?;
        match state.addresses.iter().find(|(address, _)| *address == vip) {
            None => Some(Problem {
                what: format!("{vip} is not on {device}: packets for it are refused"),
                repair,
            }),
            Some((_, found)) if *found != length => Some(Problem {
                what: format!(
                    "{vip} is on {device} as /{found}, should be /{length}: its whole subnet counts \
                     as this host's own"
                ),
                repair: format!("ip addr del {vip}/{found} dev {device}; {repair}"),
            }),
            Some(_) => None,
        }
    }

    /// A variable of `all` counts together with each device's own: the larger one wins.
    fn effective(&self, device: &str, name: Variable) -> Option<u8> {
        let of = |device: &str| self.variables.get(&(device.to_owned(), name)).copied();
        of("all").into_iter().chain(of(device)).max()
    }

    /// Devices on which this host speaks ARP for the VIP.
    fn answers(&self, name: Variable) -> Vec<Problem> {
        let lans = self.devices.iter().filter(|(_, state)| state.ethernet);
        let mut wrong: Vec<(&str, u8)> = Vec::new();
        for (device, _) in lans {
            if let Some(value) = self.effective(device, name).filter(|v| !name.is_good(*v)) {
                wrong.push((device, value));
            }
        }
        let Some((_, value)) = wrong.first() else { return Vec::new() };
        let devices: Vec<&str> = wrong.iter().map(|(device, _)| *device).collect();
        let devices = devices.join(", ");
        let consequence = match name {
            Variable::ArpIgnore => {
                "this host answers ARP for the VIP and takes it from the director"
            }
            Variable::ArpAnnounce => {
                "this host asks by ARP with the VIP as its own, which takes it from the director"
            }
            Variable::RpFilter => "tunnelled packets are dropped",
        };
        let (name, wanted) = (name.name(), name.wanted());
        vec![Problem {
            what: format!("{name} is {value} on {devices}, should be {wanted}: {consequence}"),
            repair: format!("sysctl -w net.ipv4.conf.all.{name}={wanted}"),
        }]
    }

    fn filters(&self, device: &str, name: Variable) -> Option<Problem> {
        let value = self.effective(device, name).filter(|value| !name.is_good(*value))?;
        let (name, wanted) = (name.name(), name.wanted());
        Some(Problem {
            what: format!(
                "{name} is {value} on {device}, should be {wanted}: the kernel drops tunnelled packets, \
                 because their senders are not reached by {device}"
            ),
            repair: format!("sysctl -w net.ipv4.conf.{device}.{name}={wanted}"),
        })
    }

    /// A VIP where it does harm.
    fn strays(&self, device: &str, vip: IpAddr) -> Vec<Problem> {
        let elsewhere = self.devices.iter().filter(|(name, state)| {
            name.as_str() != device && state.addresses.iter().any(|(address, _)| *address == vip)
        });
        let problem = |(name, state): (&String, &DeviceState)| {
            let length = state.addresses.iter().find(|(address, _)| *address == vip)?.1;
            let consequence = if state.ethernet {
                "this host answers for it there and takes it from the director"
            } else {
                "it should be in one place only"
            };
            Some(Problem {
                what: format!("{vip} is on {name} too: {consequence}"),
                repair: format!("ip addr del {vip}/{length} dev {name}"),
            })
        };
        elsewhere.filter_map(problem).collect()
    }
}
