//! Names of hosts and services, as the resolver and `/etc/services` give them.

use dns_lookup::{AddrFamily, AddrInfoHints, SockType};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

/// Where names come from.
pub trait Names {
    /// The host name of an address.
    fn host(&self, address: &IpAddr) -> Option<String>;
    /// The IPv4 address of a host name.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;
    /// The name of a port, for `tcp`, `udp` or `sctp`.
    fn service(&self, port: u16, protocol: &str) -> Option<String>;
    /// The port of a service name.
    fn port(&self, service: &str, protocol: &str) -> Option<u16>;
}

/// The names that this machine knows.
#[derive(Default)]
pub struct SystemNames {
    services: OnceLock<Services>,
}

impl SystemNames {
    fn services(&self) -> &Services {
        self.services.get_or_init(|| {
            let text = std::fs::read("/etc/services").unwrap_or_default();
            Services::parse(&String::from_utf8_lossy(&text))
        })
    }
}

impl Names for SystemNames {
    fn host(&self, address: &IpAddr) -> Option<String> {
        let (name, _) =
            dns_lookup::getnameinfo(&SocketAddr::new(*address, 0), libc::NI_NAMEREQD).ok()?;
        Some(name)
    }

    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        // What looks like an address but is none must not reach a name server.
        if host.is_empty() || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        let hints = AddrInfoHints {
            address: AddrFamily::Inet.into(),
            socktype: SockType::Stream.into(),
            ..AddrInfoHints::default()
        };
        let found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).ok()?;
        found.flatten().find_map(|found| match found.sockaddr.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn service(&self, port: u16, protocol: &str) -> Option<String> {
        self.services().names.get(&(port, protocol.to_owned())).cloned()
    }

    fn port(&self, service: &str, protocol: &str) -> Option<u16> {
        self.services().ports.get(&(service.to_owned(), protocol.to_owned())).copied()
    }
}

/// The services file. Of several lines for one port or one name, the first counts.
#[derive(Debug, Default)]
struct Services {
    names: HashMap<(u16, String), String>,
    ports: HashMap<(String, String), u16>,
}

impl Services {
    fn parse(text: &str) -> Self {
        let mut services = Self::default();
        for line in text.lines() {
            services.line(line.split('#').next().unwrap_or_default());
        }
        services
    }

    /// `name port/protocol [alias ...]`.
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        let port: u16 = port.parse().ok()?;
        self.names.entry((port, protocol.to_owned())).or_insert_with(|| name.to_owned());
        for name in std::iter::once(name).chain(words) {
            self.ports.entry((name.to_owned(), protocol.to_owned())).or_insert(port);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_file_is_read_as_the_c_library_reads_it() {
        let services = Services::parse(
            "# comment\nhttp 80/tcp www # World Wide Web\nhttp\t80/udp\n\nother 80/tcp\n\
             odd\nbad port/tcp\nhttp 81/tcp\ndomain 53/udp\n",
        );
        let name = |port, protocol: &str| services.names.get(&(port, protocol.to_owned())).cloned();
        assert_eq!(name(80, "tcp").as_deref(), Some("http"));
        assert_eq!(name(53, "tcp"), None);
        assert_eq!(name(53, "udp").as_deref(), Some("domain"));
        let port = |name: &str| services.ports.get(&(name.to_owned(), "tcp".to_owned())).copied();
        assert_eq!(
            [port("http"), port("www"), port("other"), port("HTTP"), port("domain")],
            [Some(80), Some(80), Some(80), None, None]
        );
    }

    #[test]
    fn this_machine_knows_itself() {
        let names = SystemNames::default();
        assert_eq!(names.address("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(names.host(&IpAddr::V4(Ipv4Addr::LOCALHOST)).as_deref(), Some("localhost"));
        assert_eq!(names.address("256.1.1.1"), None);
        assert_eq!(names.service(80, "tcp").as_deref(), Some("http"));
        assert_eq!(names.port("domain", "udp"), Some(53));
    }
}
