//! Numbers out of `ipvsadm -L`, read the way scripts in the field read them.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// A virtual service's line and the lines of its real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service<Columns> {
    /// `TCP`, `UDP`, `SCTP` or `FWM`.
    pub protocol: String,
    /// `VIP:port`, or the mark.
    pub address: String,
    /// The service's own numbers; `None` where the listing has none for services.
    pub columns: Option<Columns>,
    /// Real servers in the listing's order.
    pub reals: Vec<Real<Columns>>,
}

/// A real server's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Real<Columns> {
    /// `RIP:port`.
    pub address: String,
    /// Its numbers.
    pub columns: Columns,
}

/// Columns of `-L -n --stats --exact`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients, by the IP header.
    pub in_bytes: u64,
    /// Bytes to clients, by the IP header.
    pub out_bytes: u64,
}

/// Columns of `-L -n`; services have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `Masq`, `Route`, `Tunnel`, ...
    pub method: String,
    /// Weight.
    pub weight: u32,
    /// Connections in an active state.
    pub active: u64,
    /// All other connections.
    pub inactive: u64,
}

/// Reads a listing with `--stats --exact`.
///
/// # Errors
/// At a line that is not of this form.
pub fn statistics(text: &str) -> Result<Vec<Service<Statistics>>> {
    services(text, |words| {
        let [connections, in_packets, out_packets, in_bytes, out_bytes] = numbers(words)?;
        Ok(Statistics { connections, in_packets, out_packets, in_bytes, out_bytes })
    })
}

/// Reads a plain listing.
///
/// # Errors
/// At a line that is not of this form.
pub fn states(text: &str) -> Result<Vec<Service<State>>> {
    services(text, |words| {
        let (method, rest) = words.split_first().context("no forwarding method")?;
        let [weight, active, inactive] = numbers(rest)?;
        Ok(State { method: (*method).to_owned(), weight: u32::try_from(weight)?, active, inactive })
    })
}

fn services<Columns>(
    text: &str,
    columns: impl Fn(&[&str]) -> Result<Columns>,
) -> Result<Vec<Service<Columns>>> {
    let mut services: Vec<Service<Columns>> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            []
            | ["IP" | "Prot" | "->", "Virtual" | "LocalAddress:Port" | "RemoteAddress:Port", ..] => {
            }
            ["->", address, rest @ ..] => {
                let real = Real {
                    address: (*address).to_owned(),
                    columns: columns(rest).with_context(|| line.to_owned())?,
                };
                services.last_mut().context("a real server without a service")?.reals.push(real);
            }
            [protocol @ ("TCP" | "UDP" | "SCTP" | "FWM"), address, rest @ ..] => {
                services.push(Service {
                    protocol: (*protocol).to_owned(),
                    address: (*address).to_owned(),
                    columns: columns(rest).ok(),
                    reals: Vec::new(),
                });
            }
            _ => bail!("not a line of a listing: {line:?}"),
        }
    }
    Ok(services)
}

fn numbers<const N: usize>(words: &[&str]) -> Result<[u64; N]> {
    let numbers: Vec<u64> =
        words.iter().map(|word| u64::from_str(word)).collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|found| anyhow::anyhow!("{N} columns wanted, not {found:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_with_statistics_gives_every_number() {
        let text = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  172.25.116.175:80                  10      100      200     3000     4000
  -> 192.168.1.180:80                    5       50      100     1500     2000
UDP  [2001:db8::1]:53                    7       70        0     2100        0
";
        let services = statistics(text).unwrap();
        assert_eq!(services.len(), 2);
        assert_eq!(services[0].columns.unwrap().in_bytes, 3000);
        assert_eq!(services[0].reals[0].address, "192.168.1.180:80");
        assert_eq!(services[0].reals[0].columns.out_packets, 100);
        assert_eq!(services[1].address, "[2001:db8::1]:53");
    }

    #[test]
    fn a_plain_listing_gives_weights_and_connections() {
        let text = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.10:80 wrr persistent 300
  -> 10.0.0.11:80                 Masq    3      2          17
";
        let services = states(text).unwrap();
        let state = &services[0].reals[0].columns;
        assert_eq!((state.method.as_str(), state.weight), ("Masq", 3));
        assert_eq!((state.active, state.inactive), (2, 17));
        assert!(states("Segmentation fault").is_err());
    }
}
