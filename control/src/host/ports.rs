//! The ports that the kernel gives to the host's own connections.

use dataplane::packet_path::RESERVED_PORTS;
use std::ops::RangeInclusive;

/// How many of full NAT's ports at the host's own addresses the kernel may also give to the host's
/// connections: two with the same ends would break each other. 0 when nothing can be read.
pub fn shared_ports() -> usize {
    let text = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let (range, reserved) = (text("ip_local_port_range"), text("ip_local_reserved_ports"));
    let Some(range) = range.ok().as_deref().and_then(local) else { return 0 };
    overlap(&range, &excluded(&reserved.unwrap_or_default()))
}

/// `32768 60999`.
fn local(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// `8080,61000-65535`.
fn excluded(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).collect()
}

fn overlap(local: &RangeInclusive<u16>, excluded: &[RangeInclusive<u16>]) -> usize {
    let given = |port: &u16| local.contains(port) && !excluded.iter().any(|no| no.contains(port));
    RESERVED_PORTS.filter(given).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_the_kernel_gives_too_are_counted_unless_reserved() {
        let of = |range, reserved| overlap(&local(range).unwrap(), &excluded(reserved));
        assert_eq!(of("32768\t60999\n", "\n"), 0);
        assert_eq!(of("1024\t65535\n", "\n"), 4_536);
        assert_eq!(of("1024 65535", "8080,61000-65534\n"), 1);
        assert_eq!(of("1024 65535", "61000-65535"), 0);
        assert_eq!(local("nonsense"), None);
    }
}
