use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A few bits at both ends, so that prefixes nest, touch and repeat.
fn address() -> impl Strategy<Value = IpAddr> {
    let bits = (0u128..8, 0u32..=125).prop_map(|(bits, shift)| bits << shift);
    let all = (any::<bool>(), any::<bool>(), bits);
    all.prop_map(|(v4, inverted, bits)| {
        let bits = if inverted { !bits } else { bits };
        if v4 {
            Ipv4Addr::from_bits((bits >> 96) as u32 ^ bits as u32).into()
        } else {
            Ipv6Addr::from_bits(bits).into()
        }
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0u8..=128).prop_map(|(address, length)| Prefix {
        address,
        length: if address.is_ipv4() { length % 33 } else { length },
    })
}

/// The number by looking at every prefix.
fn slow(entries: &[(Prefix, u32)], address: &IpAddr) -> u32 {
    let fitting = entries.iter().filter(|(prefix, _)| prefix.contains(address));
    // Of equal lengths the first wins; `max_by_key` would take the last.
    fitting.rev().max_by_key(|(prefix, _)| prefix.length).map_or(0, |(_, number)| *number)
}

proptest! {
    #[test]
    fn the_longest_prefix_wins(
        prefixes in proptest::collection::vec(prefix(), 0..40),
        asked in proptest::collection::vec(address(), 1..40),
    ) {
        let entries: Vec<_> = prefixes.into_iter().zip(1..).collect();
        let ranges = Ranges::new(entries.iter().copied());
        let edges = entries.iter().flat_map(|(prefix, _)| {
            let Block { first, last, .. } = Block::of(prefix, 0);
            let v4 = prefix.address.is_ipv4();
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| {
                if v4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
            })
        });
        let asked: Vec<IpAddr> = asked.into_iter().chain(edges).collect();
        for address in asked {
            // An IPv4-mapped address is IPv4 to the packet path.
            if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
                continue;
            }
            let (number, span) = ranges.find(address.into());
            prop_assert_eq!(number, slow(&entries, &address), "{}", address);
            prop_assert!(span.contains(address.into()));
            for (other, _) in &entries {
                if span.contains(other.address.into()) && other.address.is_ipv4() == address.is_ipv4() {
                    prop_assert_eq!(number, slow(&entries, &other.address), "{}", other.address);
                }
            }
        }
    }
}
