//! A command that is being put together option by option, from left to right.

use super::endpoint;
use super::message::Failure;
use super::names::Names;
use super::number::{decimal, inet_aton, leading};
use super::options::{Class, Given, Word};
use super::parse::timeout;
use control::ipvs::{DaemonRole, DaemonSpec, PersistenceSpec, ServerSpec, ServiceSpec};
use control::model::{Family, Method, Netmask, Protocol, SchedulerFlags, VirtualAddress};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tunnel::{TunnelDraft, TunnelKind};

/// Lifetime of a client's binding when `-p` says none, in seconds.
const USUAL_PERSISTENCE: u32 = 6 * 60;
/// What the kernel's structures hold of a scheduler's, an engine's and an interface's name.
const LONGEST_SCHEDULER: usize = 15;
const LONGEST_ENGINE: usize = 16;
const LONGEST_INTERFACE: usize = 15;
const MAX_INT: i64 = i32::MAX as i64;

/// How far a command is understood.
#[derive(Default)]
pub(super) struct Draft {
    /// The options that were given.
    pub given: Given,
    service: Option<VirtualAddress>,
    netmask: Option<Netmask>,
    scheduler: String,
    engine: String,
    flags_text: String,
    flags: SchedulerFlags,
    persistence: Option<u32>,
    server: Option<SocketAddr>,
    forwarding: Forwarding,
    tunnel: TunnelDraft,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
    daemon: DaemonDraft,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Forwarding {
    #[default]
    Gatewaying,
    Masquerading,
    Ipip,
}

#[derive(Default)]
struct DaemonDraft {
    interface: String,
    sync_id: u8,
    max_length: u16,
    group: Option<IpAddr>,
    port: u16,
    ttl: u8,
}

impl Draft {
    /// Takes one more option. `offender` is the word that it came from.
    ///
    /// # Errors
    /// It was given before, or its value is not possible.
    pub fn take(
        &mut self,
        word: Word,
        value: Option<String>,
        offender: &str,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        let text = value.as_deref().unwrap_or_default();
        match word {
            Word::Do(_) | Word::Help | Word::Version => {
                Err(Failure::fatal(format!("invalid option `{offender}'")))
            }
            Word::Sort => Ok(()),
            Word::Ipv6 => self.ipv6(),
            Word::TcpService => self.address(Protocol::Tcp, text, names),
            Word::UdpService => self.address(Protocol::Udp, text, names),
            Word::SctpService => self.address(Protocol::Sctp, text, names),
            Word::FwmarkService => self.mark(text),
            Word::Masquerading => self.forward(Forwarding::Masquerading),
            Word::Ipip => self.forward(Forwarding::Ipip),
            Word::Gatewaying => self.forward(Forwarding::Gatewaying),
            Word::One(class) => {
                self.given.add(class)?;
                self.value(class, value.as_deref(), text, names)
            }
        }
    }

    fn forward(&mut self, forwarding: Forwarding) -> Result<(), Failure> {
        self.given.add(Class::ForwardingMethod)?;
        self.forwarding = forwarding;
        Ok(())
    }

    fn address(
        &mut self,
        protocol: Protocol,
        text: &str,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        self.given.add(Class::ServiceAddress)?;
        let endpoint = endpoint::parse(text, Some(protocol_name(protocol)), names);
        let endpoint = endpoint
            .ok_or_else(|| Failure::fatal("illegal virtual server address[:port] specified"))?;
        if endpoint.ip.is_ipv6() {
            self.netmask = Some(Netmask::V6(128));
        }
        let address = SocketAddr::new(endpoint.ip, endpoint.port.unwrap_or(0));
        self.service = Some(VirtualAddress::Socket { protocol, address });
        Ok(())
    }

    fn mark(&mut self, text: &str) -> Result<(), Failure> {
        self.given.add(Class::ServiceAddress)?;
        let mark = decimal(text, 1, i64::from(u32::MAX)).and_then(|mark| u32::try_from(mark).ok());
        let mark =
            mark.ok_or_else(|| Failure::fatal(format!("invalid fwmark value `{text}' specified")))?;
        self.service = Some(VirtualAddress::Mark { family: Family::V4, mark });
        Ok(())
    }

    fn ipv6(&mut self) -> Result<(), Failure> {
        let Some(VirtualAddress::Mark { family, .. }) = &mut self.service else {
            return Err(Failure::fatal("-6 used before -f\n"));
        };
        *family = Family::V6;
        self.netmask = Some(Netmask::V6(128));
        Ok(())
    }

    /// Takes the value of an option that was not given before.
    fn value(
        &mut self,
        class: Class,
        value: Option<&str>,
        text: &str,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        match class {
            Class::Scheduler => self.scheduler = cut(text, LONGEST_SCHEDULER),
            Class::Pe => self.engine = cut(text, LONGEST_ENGINE),
            Class::SchedFlags => self.flags_text = text.to_owned(),
            Class::Persistent => {
                let seconds = value.map_or(Ok(USUAL_PERSISTENCE), |text| timeout(text, 1))?;
                self.persistence = Some(seconds);
            }
            Class::Netmask => self.netmask = Some(self.read_netmask(text, names)?),
            Class::RealServer => self.server = Some(self.read_server(text, names)?),
            Class::Weight => {
                self.weight = Some(number(text, 0, MAX_INT, "illegal weight specified")?);
            }
            Class::UThreshold => {
                self.upper = number(text, 0, MAX_INT, "illegal u_threshold specified")?;
            }
            Class::LThreshold => {
                self.lower = number(text, 0, MAX_INT, "illegal l_threshold specified")?;
            }
            Class::McastInterface => self.daemon.interface = cut(text, LONGEST_INTERFACE),
            Class::Syncid => {
                self.daemon.sync_id = number(text, 0, 255, "illegal syncid specified")?
            }
            Class::McastGroup => self.daemon.group = Some(read_group(text)?),
            Class::McastPort => {
                self.daemon.port = number(text, 1, 65_535, "illegal mcast-port specified")?;
            }
            Class::McastTtl => {
                self.daemon.ttl = number(text, 1, 255, "illegal mcast-ttl specified")?;
            }
            Class::SyncMaxlen => {
                let longest = 65_535 - 20 - 8;
                let illegal = "illegal sync-maxlen specified";
                self.daemon.max_length = number(text, 1, longest, illegal)?;
            }
            Class::TunType => {
                let kind = TunnelKind::from_name(text);
                self.tunnel.kind =
                    kind.ok_or_else(|| Failure::fatal("illegal tunnel type specified"))?;
            }
            Class::TunPort => {
                self.tunnel.port = number(text, 1, 65_535, "illegal tunnel port specified")?;
            }
            Class::Numeric
            | Class::Connection
            | Class::ServiceAddress
            | Class::ForwardingMethod
            | Class::Timeout
            | Class::Daemon
            | Class::Stats
            | Class::Rate
            | Class::Thresholds
            | Class::PersistentConn
            | Class::Nosort
            | Class::Exact
            | Class::Ops
            | Class::TunInfo
            | Class::TunNocsum
            | Class::TunCsum
            | Class::TunRemcsum => {}
        }
        Ok(())
    }

    fn family(&self) -> Family {
        self.service.as_ref().map_or(Family::V4, VirtualAddress::family)
    }

    fn read_netmask(&self, text: &str, names: &dyn Names) -> Result<Netmask, Failure> {
        match self.family() {
            Family::V4 => {
                let mask = inet_aton(text).or_else(|| names.address(text));
                let illegal = "illegal virtual server persistent mask specified";
                mask.map(Netmask::V4).ok_or_else(|| Failure::fatal(illegal))
            }
            Family::V6 => {
                let prefix = u8::try_from(leading(text)).ok().filter(|p| (1..=128).contains(p));
                let illegal = "illegal ipv6 netmask specified";
                prefix.map(Netmask::V6).ok_or_else(|| Failure::fatal(illegal))
            }
        }
    }

    /// Without a port, a real server gets the port that its service has so far.
    fn read_server(&self, text: &str, names: &dyn Names) -> Result<SocketAddr, Failure> {
        let protocol = self.service.map(|service| match service {
            VirtualAddress::Socket { protocol, .. } => protocol_name(protocol),
            VirtualAddress::Mark { .. } => "tcp",
        });
        let endpoint = endpoint::parse(text, protocol, names)
            .ok_or_else(|| Failure::fatal("illegal real server address[:port] specified"))?;
        let usual = self.service.as_ref().map_or(0, VirtualAddress::port);
        Ok(SocketAddr::new(endpoint.ip, endpoint.port.unwrap_or(usual)))
    }

    /// Reads the `-b` flags, now that the scheduler is known wherever `-s` stands.
    ///
    /// # Errors
    /// A flag that there is not, or not for this scheduler.
    pub fn settle_flags(&mut self) -> Result<(), Failure> {
        for flag in self.flags_text.split(',').filter(|flag| !flag.is_empty()) {
            let (number, scheduler) = match flag {
                "flag-1" => (1, None),
                "flag-2" => (2, None),
                "flag-3" => (3, None),
                "sh-fallback" => (1, Some("sh")),
                "sh-port" => (2, Some("sh")),
                "mh-fallback" => (1, Some("mh")),
                "mh-port" => (2, Some("mh")),
                _ => return Err(Failure::fatal(format!("invalid scheduler flag `{flag}'"))),
            };
            if scheduler.is_some_and(|scheduler| scheduler != self.scheduler) {
                return Err(Failure::fatal(format!("incompatible scheduler flag `{flag}'")));
            }
            match number {
                1 => self.flags.flag_1 = true,
                2 => self.flags.flag_2 = true,
                _ => self.flags.flag_3 = true,
            }
        }
        Ok(())
    }

    /// The service.
    ///
    /// # Errors
    /// None was given.
    pub fn service(&self) -> Result<VirtualAddress, Failure> {
        self.service
            .ok_or_else(|| Failure::fatal("illegal virtual server address[:port] specified"))
    }

    /// The real server.
    ///
    /// # Errors
    /// None was given.
    pub fn server(&self) -> Result<SocketAddr, Failure> {
        self.server.ok_or_else(|| Failure::fatal("illegal real server address[:port] specified"))
    }

    /// What `-A` and `-E` ask for.
    ///
    /// # Errors
    /// Options that do not go together.
    pub fn service_spec(self) -> Result<(VirtualAddress, ServiceSpec), Failure> {
        let service = self.service()?;
        let one_packet = self.given.has(Class::Ops);
        if let VirtualAddress::Socket { protocol, address } = service {
            if address.port() == 0 && self.persistence.is_none() {
                return Err(Failure::fatal("Zero port specified for non-persistent service"));
            }
            if one_packet && protocol != Protocol::Udp {
                let message = "One-Packet Scheduling is only for UDP virtual services";
                return Err(Failure::fatal(message));
            }
        }
        let netmask = self.netmask.unwrap_or_else(|| Netmask::host(service.family()));
        let spec = ServiceSpec {
            scheduler: if self.scheduler.is_empty() { "wlc".into() } else { self.scheduler },
            flags: self.flags,
            persistence: self.persistence.map(|seconds| PersistenceSpec { seconds, netmask }),
            engine: (!self.engine.is_empty()).then_some(self.engine),
            one_packet,
        };
        Ok((service, spec))
    }

    /// What `-a` and `-e` ask for.
    ///
    /// # Errors
    /// Options that do not go together.
    pub fn server_spec(self) -> Result<(VirtualAddress, SocketAddr, ServerSpec), Failure> {
        let service = self.service()?;
        let mut server = self.server()?;
        // Only masquerading can change the port.
        let fixed = self.forwarding != Forwarding::Masquerading;
        if let (VirtualAddress::Socket { address, .. }, true) = (service, fixed) {
            server.set_port(address.port());
        }
        let tunnelled = self.forwarding == Forwarding::Ipip;
        if service.family() != Family::of(&server.ip()) && !tunnelled {
            let message = "Different address family is allowed only for tunneling servers";
            return Err(Failure::fatal(message));
        }
        let method = match self.forwarding {
            Forwarding::Ipip => Method::Tunnel(self.tunnel.settle(self.given)?),
            Forwarding::Gatewaying | Forwarding::Masquerading
                if TunnelDraft::was_given(self.given) =>
            {
                return Err(Failure::fatal("Tunnel options conflict with forward method"));
            }
            Forwarding::Gatewaying => Method::DirectRouting,
            Forwarding::Masquerading => Method::Nat,
        };
        let weight = self.weight.unwrap_or(1);
        Ok((service, server, ServerSpec { method, weight, upper: self.upper, lower: self.lower }))
    }

    /// What `--start-daemon` asks for.
    pub fn daemon_spec(self, role: DaemonRole) -> DaemonSpec {
        let DaemonDraft { interface, sync_id, max_length, group, port, ttl } = self.daemon;
        let interface = if interface.is_empty() { "eth0".into() } else { interface };
        DaemonSpec { role, interface, sync_id, max_length, group, port, ttl }
    }
}

/// A protocol's name in the services file.
pub(super) const fn protocol_name(protocol: Protocol) -> &'static str {
    control::model::protocol_name(protocol)
}

fn number<N: TryFrom<i64>>(text: &str, least: i64, most: i64, illegal: &str) -> Result<N, Failure> {
    let number = decimal(text, least, most).and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| Failure::fatal(illegal))
}

fn read_group(text: &str) -> Result<IpAddr, Failure> {
    if let Ok(group) = text.parse::<Ipv6Addr>() {
        let multicast = group.is_multicast().then_some(IpAddr::V6(group));
        let invalid = || Failure::fatal(format!("invalid IPv6 mcast-group `{text}'"));
        return multicast.ok_or_else(invalid);
    }
    let group = text.parse().ok().filter(Ipv4Addr::is_multicast).map(IpAddr::V4);
    group.ok_or_else(|| Failure::fatal(format!("invalid IPv4 mcast-group `{text}'")))
}

/// At most so many bytes, cut where a character ends.
fn cut(text: &str, longest: usize) -> String {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
