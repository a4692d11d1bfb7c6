//! How lists are sorted.
//!
//! `ipvsadm` compares addresses by subtracting them as 32-bit integers, so two whose distance is
//! 2^31 or more come out the wrong way round (192.168.0.1 before 10.1.2.3). Such a comparison can
//! run in circles, and what comes out then depends on the sorting method: it is the C library's
//! merge sort.

use control::ipvs::{ServerEntry, ServiceEntry};
use control::model::VirtualAddress;
use std::net::{IpAddr, SocketAddr};

/// Sorts services, and the real servers of each.
pub(super) fn sort(services: &mut Vec<ServiceEntry>) {
    merge_sort(services, |a, b| service_difference(&a.service, &b.service));
    for service in services {
        merge_sort(&mut service.servers, server_difference);
    }
}

fn service_difference(a: &VirtualAddress, b: &VirtualAddress) -> i32 {
    let (one, other) = (service_key(a), service_key(b));
    let pairs =
        one.0.into_iter().zip(other.0).chain(words(&one.1).into_iter().zip(words(&other.1)));
    let pairs = pairs.chain([(port(&one.1), port(&other.1))]);
    first_difference(pairs)
}

/// Mark, family, protocol; then the address.
fn service_key(service: &VirtualAddress) -> ([u32; 3], SocketAddr) {
    let family = match service.family() {
        control::model::Family::V4 => libc::AF_INET,
        control::model::Family::V6 => libc::AF_INET6,
    };
    let family = family.unsigned_abs();
    match service {
        VirtualAddress::Socket { protocol, address } => {
            ([0, family, u32::from(protocol.number())], *address)
        }
        VirtualAddress::Mark { mark, .. } => {
            ([*mark, family, 0], SocketAddr::from(([0, 0, 0, 0], 0)))
        }
    }
}

fn server_difference(a: &ServerEntry, b: &ServerEntry) -> i32 {
    let pairs = words(&a.server).into_iter().zip(words(&b.server));
    first_difference(pairs.chain([(port(&a.server), port(&b.server))]))
}

fn first_difference(pairs: impl Iterator<Item = (u32, u32)>) -> i32 {
    let differences = pairs.map(|(a, b)| a.wrapping_sub(b) as i32);
    differences.into_iter().find(|difference| *difference != 0).unwrap_or(0)
}

fn words(address: &SocketAddr) -> [u32; 4] {
    match address.ip() {
        IpAddr::V4(ip) => [u32::from(ip), 0, 0, 0],
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

fn port(address: &SocketAddr) -> u32 {
    u32::from(address.port())
}

/// Halves, sorts the halves, merges them; of two that compare equal or in either order, the one
/// from the first half goes first when the difference is not positive.
fn merge_sort<T: Clone>(items: &mut Vec<T>, difference: impl Fn(&T, &T) -> i32 + Copy) {
    if items.len() < 2 {
        return;
    }
    let mut second = items.split_off(items.len() / 2);
    let mut first = std::mem::take(items);
    merge_sort(&mut first, difference);
    merge_sort(&mut second, difference);
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        let next = if difference(a, b) <= 0 { first.next() } else { second.next() };
        items.extend(next);
    }
    items.extend(first);
    items.extend(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(addresses: &[&str]) -> Vec<String> {
        let mut addresses: Vec<VirtualAddress> = addresses
            .iter()
            .map(|address| VirtualAddress::Socket {
                protocol: control::model::Protocol::Tcp,
                address: address.parse().unwrap(),
            })
            .collect();
        merge_sort(&mut addresses, service_difference);
        addresses.iter().map(|a| a.ip().map(|ip| ip.to_string()).unwrap_or_default()).collect()
    }

    #[test]
    fn addresses_far_apart_are_sorted_the_wrong_way_round() {
        assert_eq!(sorted(&["10.1.2.3:1", "192.168.0.1:1"]), ["192.168.0.1", "10.1.2.3"]);
        assert_eq!(sorted(&["200.0.0.1:1", "100.0.0.1:1"]), ["100.0.0.1", "200.0.0.1"]);
        assert_eq!(
            sorted(&["[2001:db8::1]:1", "[2001:db8:aaaa:bbbb::]:1", "10.0.0.1:1"]),
            ["10.0.0.1", "2001:db8:aaaa:bbbb::", "2001:db8::1"]
        );
    }

    #[test]
    fn marks_come_last_unless_their_highest_bit_is_set() {
        let mark = |mark, family| VirtualAddress::Mark { family, mark };
        let socket = VirtualAddress::Socket {
            protocol: control::model::Protocol::Udp,
            address: "10.0.0.1:1".parse().unwrap(),
        };
        use control::model::Family::{V4, V6};
        let mut all = vec![mark(6, V4), mark(5, V6), mark(u32::MAX, V4), mark(5, V4), socket];
        merge_sort(&mut all, service_difference);
        let wanted = [mark(u32::MAX, V4), socket, mark(5, V4), mark(5, V6), mark(6, V4)];
        assert_eq!(all, wanted);
    }
}
