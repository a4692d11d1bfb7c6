//! Addresses with ports on the command line.

use super::names::Names;
use super::number::{decimal, inet_aton};
use std::net::{IpAddr, Ipv6Addr};

/// An address, and a port if one was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    pub ip: IpAddr,
    pub port: Option<u16>,
}

/// Reads `a.b.c.d[:port]`, `host[:port]`, `[v6]:port` or a bare IPv6 address. A port is a number or
/// a service name of the protocol; without a protocol, only a number.
///
/// `ipvsadm` takes the brackets off before it looks inside, and forgets what follows them when
/// there is no IPv6 address in them: `[192.0.2.1]:80` has no port.
pub(super) fn parse(text: &str, protocol: Option<&str>, names: &dyn Names) -> Option<Endpoint> {
    // A number alone is neither an address nor a port.
    if decimal(text, i64::MIN, i64::MAX).is_some() {
        return None;
    }
    let (inside, after) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            (inside, Some(after.strip_prefix(':')?))
        }
        None => (text, None),
    };
    if let Ok(v6) = inside.parse::<Ipv6Addr>() {
        let port = match after {
            Some(after) => Some(parse_port(after, protocol, names)?),
            None => None,
        };
        return Some(Endpoint { ip: v6.into(), port });
    }
    let (host, port) = match inside.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (inside, None),
    };
    let ip = inet_aton(host).or_else(|| names.address(host))?;
    let port = match port {
        Some(port) => Some(parse_port(port, protocol, names)?),
        None => None,
    };
    Some(Endpoint { ip: ip.into(), port })
}

fn parse_port(text: &str, protocol: Option<&str>, names: &dyn Names) -> Option<u16> {
    match decimal(text, 0, 65_535) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol?),
    }
}
