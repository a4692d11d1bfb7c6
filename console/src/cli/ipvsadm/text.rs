//! Numbers and addresses as the lists show them.

use super::draft::protocol_name;
use super::names::Names;
use control::model::{SchedulerFlags, VirtualAddress};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A counter, 9 columns wide: shortened to K, M, G or T from 100,000,000 on, unless `exact`. What is
/// wider pushes the columns after it.
pub(super) fn large(number: u64, exact: bool) -> String {
    let units = [
        (100_000_000, 1, ""),
        (1_000_000_000, 1_000, "K"),
        (100_000_000_000, 1_000_000, "M"),
        (100_000_000_000_000, 1_000_000_000, "G"),
        (u64::MAX, 1_000_000_000_000, "T"),
    ];
    if exact {
        // One blank stands before the number even where it fills the column.
        return format!(" {number:>8}");
    }
    let unit = units.into_iter().find(|(below, _, _)| number < *below);
    let (_, divisor, suffix) = unit.unwrap_or(units[4]);
    if suffix.is_empty() {
        format!("{number:>9}")
    } else {
        format!("{:>8}{suffix}", number / divisor)
    }
}

/// An IPv6 address as the C library writes it, which shows the last 32 bits of `::/96` as IPv4.
fn ipv6(address: &Ipv6Addr) -> String {
    let segments = address.segments();
    if segments[..6] == [0; 6] && segments[6] != 0 {
        return format!("::{}", Ipv4Addr::from((u128::from(*address) & 0xffff_ffff) as u32));
    }
    address.to_string()
}

/// Who writes addresses: with names, or numbers only.
pub(super) struct Endpoints<'a> {
    /// Where names come from; `None` for numbers only.
    pub names: Option<&'a dyn Names>,
}

impl Endpoints<'_> {
    /// An address with its port. Without a protocol, the port stays a number.
    pub fn show(&self, address: &SocketAddr, protocol: Option<&str>) -> String {
        let named = self.names.and_then(|names| names.host(&address.ip()));
        let host = named.unwrap_or_else(|| match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ipv6(&ip),
        });
        let port = self.names.zip(protocol);
        let port = port.and_then(|(names, protocol)| names.service(address.port(), protocol));
        let port = port.unwrap_or_else(|| address.port().to_string());
        let text =
            if address.is_ipv4() { format!("{host}:{port}") } else { format!("[{host}]:{port}") };
        cut(text, 59)
    }
}

/// The protocol by which the ports of a service and its real servers are named.
pub(super) fn port_protocol(service: &VirtualAddress) -> Option<&'static str> {
    match service {
        VirtualAddress::Socket { protocol, .. } => Some(protocol_name(*protocol)),
        VirtualAddress::Mark { .. } => None,
    }
}

/// At most so many bytes.
pub(super) fn cut(mut text: String, longest: usize) -> String {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The flags of a scheduler by its own names for them; `None` when no flag is set.
pub(super) fn flags(flags: SchedulerFlags, scheduler: &str) -> Option<String> {
    if flags == SchedulerFlags::default() {
        return None;
    }
    let names = match scheduler {
        "sh" => ["sh-fallback", "sh-port", ""],
        "mh" => ["mh-fallback", "mh-port", ""],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let set = [flags.flag_1, flags.flag_2, flags.flag_3];
    let shown = names.into_iter().zip(set).filter(|(name, set)| *set && !name.is_empty());
    Some(shown.map(|(name, _)| name).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_shortened_as_ipvsadm_does() {
        for (number, text) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(large(number, false), text);
        }
        assert_eq!(large(99_999_999, true), " 99999999");
        assert_eq!(large(100_000_000, true), " 100000000");
        assert_eq!(large(u64::MAX, true), " 18446744073709551615");
    }

    #[test]
    fn ipv6_is_written_as_the_c_library_writes_it() {
        for (address, text) in [
            ("::", "::"),
            ("::1", "::1"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::0.1.0.0", "::0.1.0.0"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
        ] {
            assert_eq!(ipv6(&address.parse().unwrap()), text);
        }
    }
}
