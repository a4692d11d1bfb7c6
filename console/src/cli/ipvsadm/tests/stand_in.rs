//! A director with the state of a file, and names that do not depend on the machine.

use super::{Director, Names, Unreachable};
use control::ipvs::{
    Connection, ConnectionPage, Counters, Daemon, DaemonRole, Engine, Errno, Info, Rates, Reply,
    Request, ServerEntry, ServiceEntry, ServiceSpec, TimeoutSpec,
};
use control::ipvs::{PersistenceSpec, ServerSpec};
use control::model::{
    Family, GueChecksum, Method, Netmask, Protocol, SchedulerFlags, Tunnel, VirtualAddress,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads a file of `tests/cases/ipvsadm`.
pub fn case(name: &str) -> String {
    let path = format!("{}/../tests/cases/ipvsadm/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A director that lists what it was given, and answers changes with `answer`.
#[derive(Default)]
pub struct StandIn {
    pub services: Vec<ServiceEntry>,
    pub daemons: Vec<Daemon>,
    pub connections: Vec<Connection>,
    /// To everything that can fail; `None` lists and lets every change pass.
    pub answer: Option<Reply>,
    /// Connections in a page; 0 for as many as asked for.
    pub page: usize,
    pub asked: Vec<Request>,
}

impl Director for StandIn {
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable> {
        self.asked.push(request.clone());
        Ok(self.reply(request))
    }
}

impl StandIn {
    /// The state in `NAME.state` and `NAME.connections`.
    pub fn load(name: &str) -> Self {
        let mut director = Self::default();
        for line in case(&format!("{name}.state")).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[0] {
                "svc" => director.services.push(service(&words[1..])),
                "dst" => {
                    let server = server(&words[1..]);
                    director.services.last_mut().unwrap().servers.push(server);
                }
                "daemon" => director.daemons.push(daemon(&words[1..])),
                other => panic!("{other}"),
            }
        }
        let connections = case(&format!("{name}.connections"));
        director.connections = connections.lines().skip(1).map(connection).collect();
        director
    }

    fn reply(&self, request: &Request) -> Reply {
        if let (Some(answer), false) = (&self.answer, matches!(request, Request::Batch(_))) {
            return answer.clone();
        }
        match request {
            Request::Batch(requests) if self.answer.is_some() && requests[0] == Request::Info => {
                self.answer.clone().unwrap()
            }
            Request::Batch(requests) => {
                Reply::Batch(requests.iter().map(|request| self.reply(request)).collect())
            }
            Request::Info => Reply::Info(Info { version: (1, 2, 1), table_size: 4096 }),
            Request::Services => Reply::Services(self.services.clone()),
            Request::Service { service } => {
                let entry = self.services.iter().find(|entry| entry.service == *service);
                let found = entry.map(|entry| Reply::Service(Box::new(entry.clone())));
                found.unwrap_or(Reply::Failed(Errno::Esrch))
            }
            Request::Timeouts => Reply::Timeouts(TimeoutSpec { tcp: 900, tcp_fin: 120, udp: 300 }),
            Request::Daemons => Reply::Daemons(self.daemons.clone()),
            Request::Connections { cursor, limit } => {
                let start = usize::try_from(*cursor).unwrap();
                let size = if self.page == 0 { *limit as usize } else { self.page };
                let end = (start + size).min(self.connections.len());
                let next = (end < self.connections.len()).then_some(end as u64);
                let connections = self.connections[start..end].to_vec();
                Reply::Connections(ConnectionPage { connections, next })
            }
            _ => Reply::Done,
        }
    }
}

fn address(family: &str, ip: &str, port: &str) -> SocketAddr {
    let ip = match family {
        "4" => IpAddr::V4(ip.parse().unwrap_or(Ipv4Addr::UNSPECIFIED)),
        _ => IpAddr::V6(ip.parse().unwrap()),
    };
    SocketAddr::new(ip, port.parse().unwrap())
}

fn statistics(words: &[&str]) -> (Counters, Rates) {
    let numbers: Vec<u64> = words.iter().map(|word| word.parse().unwrap()).collect();
    let [conns, in_pkts, out_pkts, in_bytes, out_bytes, rates @ ..] = numbers.as_slice() else {
        panic!("{words:?}");
    };
    let [cps, in_pps, out_pps, in_bps, out_bps] = *rates else { panic!("{words:?}") };
    let counters = Counters {
        conns: *conns,
        in_pkts: *in_pkts,
        out_pkts: *out_pkts,
        in_bytes: *in_bytes,
        out_bytes: *out_bytes,
    };
    (counters, Rates { cps, in_pps, out_pps, in_bps, out_bps })
}

fn service(words: &[&str]) -> ServiceEntry {
    let [family, protocol, ip, port, mark, scheduler, flags, timeout, netmask, engine, rest @ ..] =
        words
    else {
        panic!("{words:?}");
    };
    let bits = u32::from_str_radix(flags, 16).unwrap();
    let service = match mark.parse().unwrap() {
        0 => VirtualAddress::Socket {
            protocol: Protocol::from_number(protocol.parse().unwrap()).unwrap(),
            address: address(family, ip, port),
        },
        mark => {
            let family = if *family == "4" { Family::V4 } else { Family::V6 };
            VirtualAddress::Mark { family, mark }
        }
    };
    let netmask = match *family {
        "4" => Netmask::V4(netmask.parse().unwrap()),
        _ => Netmask::V6(netmask.parse().unwrap()),
    };
    let seconds = timeout.parse().unwrap();
    let spec = ServiceSpec {
        scheduler: (*scheduler).to_owned(),
        flags: SchedulerFlags {
            flag_1: bits & 8 != 0,
            flag_2: bits & 0x10 != 0,
            flag_3: bits & 0x20 != 0,
        },
        persistence: (bits & 1 != 0).then_some(PersistenceSpec { seconds, netmask }),
        engine: (*engine != "-").then(|| (*engine).to_owned()),
        one_packet: bits & 4 != 0,
    };
    let (counters, rates) = statistics(rest);
    ServiceEntry { service, spec, counters, rates, servers: Vec::new() }
}

fn server(words: &[&str]) -> ServerEntry {
    let [family, ip, port, method, weight, upper, lower, active, inactive, persistent, rest @ ..] =
        words
    else {
        panic!("{words:?}");
    };
    let [kind, tunnel_port, checksum, rest @ ..] = rest else { panic!("{words:?}") };
    let method = match *method {
        "0" => Method::Nat,
        "1" => Method::Local,
        "2" => Method::Tunnel(tunnel(kind, tunnel_port, checksum)),
        "3" => Method::DirectRouting,
        other => panic!("{other}"),
    };
    let number = |word: &str| word.parse().unwrap();
    let (counters, rates) = statistics(rest);
    let ServerSpec { weight, upper, lower, .. } =
        ServerSpec { method, weight: number(weight), upper: number(upper), lower: number(lower) };
    ServerEntry {
        server: address(family, ip, port),
        method,
        weight,
        upper,
        lower,
        active: number(active),
        inactive: number(inactive),
        persistent: number(persistent),
        counters,
        rates,
    }
}

fn tunnel(kind: &str, port: &str, checksum: &str) -> Tunnel {
    match kind {
        "0" => Tunnel::Ipip,
        "1" => {
            let checksum = match checksum {
                "0" => GueChecksum::None,
                "1" => GueChecksum::Full,
                _ => GueChecksum::Remote,
            };
            Tunnel::Gue { port: port.parse().unwrap(), checksum }
        }
        _ => Tunnel::Gre { checksum: checksum == "1" },
    }
}

fn daemon(words: &[&str]) -> Daemon {
    Daemon {
        role: if words[0] == "1" { DaemonRole::Master } else { DaemonRole::Backup },
        interface: words[1].to_owned(),
        sync_id: words[2].parse().unwrap(),
        max_length: words[3].parse().unwrap(),
        group: words[4].parse().ok(),
        port: words[5].parse().unwrap(),
        ttl: words[6].parse().unwrap(),
    }
}

/// A line of `/proc/net/ip_vs_conn`.
fn connection(line: &str) -> Connection {
    let words: Vec<&str> = line.split_whitespace().collect();
    let end = |at: usize| {
        let ip = match u32::from_str_radix(words[at], 16) {
            Ok(ip) => IpAddr::V4(Ipv4Addr::from(ip)),
            Err(_) => IpAddr::V6(words[at].parse::<Ipv6Addr>().unwrap()),
        };
        SocketAddr::new(ip, u16::from_str_radix(words[at + 1], 16).unwrap())
    };
    let engine =
        (words.len() > 9).then(|| Engine { name: words[9].to_owned(), data: words[10].to_owned() });
    Connection {
        protocol: words[0].to_owned(),
        client: end(1),
        vip: end(3),
        real: end(5),
        state: words[7].to_owned(),
        expires: words[8].parse().unwrap(),
        engine,
    }
}

/// Names from a list of `KEY=NAME`, where a key is an address or `PORT/PROTOCOL`.
#[derive(Default)]
pub struct MapNames(HashMap<String, String>);

impl MapNames {
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, name)| (key.to_owned(), name.to_owned())).collect())
    }

    /// What the machine knew on which most cases were recorded.
    pub fn usual() -> Self {
        Self::parse(
            "127.0.0.1=localhost\n80/tcp=http\n443/tcp=https\n8080/tcp=http-alt\n53/udp=domain\n\
             53/tcp=domain\n5060/udp=sip\n",
        )
    }
}

impl Names for MapNames {
    fn host(&self, address: &IpAddr) -> Option<String> {
        let key = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => address.to_string(),
        };
        self.0.get(&key).cloned()
    }

    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        self.0.iter().find_map(|(key, name)| key.parse().ok().filter(|_| name == host))
    }

    fn service(&self, port: u16, protocol: &str) -> Option<String> {
        self.0.get(&format!("{port}/{protocol}")).cloned()
    }

    fn port(&self, service: &str, protocol: &str) -> Option<u16> {
        self.0.iter().find_map(|(key, name)| {
            let (port, of) = key.split_once('/')?;
            (of == protocol && name == service).then(|| port.parse().ok())?
        })
    }
}
