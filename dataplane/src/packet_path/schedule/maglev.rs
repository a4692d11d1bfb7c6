//! mh: Maglev hashing, a table in which every server's share survives changes to the others.

use super::address_hash::{fold, fold_real};
use super::pool::Pool;
use super::siphash::hsiphash;
use super::weights::divisor;
use super::{Flow, Loads};
use crate::table::{Family, Real, SchedulerFlags};
use std::sync::Arc;

/// Slots, the kernel's default: a prime, so that every stride visits all of them.
const SLOTS: u32 = 4093;
/// Weights over their divisor are cut to this many bits.
const TURN_BITS: u32 = 6;
const KEY_1: [u64; 2] = [2_654_435_761; 2];
const KEY_2: [u64; 2] = [2_654_446_892; 2];
const FREE: u16 = u16::MAX;

/// The lookup table: the index of a server per slot; empty when no server ever had a weight.
#[derive(Clone, Debug)]
pub(super) struct Maglev(Arc<[u16]>);

/// One server's way through the slots while the table is filled.
struct Preference {
    slot: u32,
    skip: u32,
    turns: u32,
}

impl Maglev {
    /// Places by `last_weight`, so that draining a server moves nobody else's clients.
    pub fn new(family: Family, reals: &[Real]) -> Self {
        let mut preferences = preferences(family, reals);
        if preferences.iter().all(|preference| preference.turns == 0) {
            return Self(Arc::new([]));
        }
        let mut slots = [FREE; SLOTS as usize];
        let mut free = SLOTS;
        // Every server gets at least one slot per round, so at most the first 4093 get any and the
        // index fits.
        let mut round = (0u16..FREE).zip(&mut preferences).collect::<Vec<_>>();
        'fill: loop {
            for (index, preference) in &mut round {
                for _ in 0..preference.turns {
                    preference.take(&mut slots, *index);
                    free -= 1;
                    if free == 0 {
                        break 'fill;
                    }
                }
            }
        }
        Self(Arc::from(slots))
    }

    /// The server of the client's slot. When it takes no connections: none, or with `mh-fallback`
    /// the first that does, hashing again and again.
    pub fn choose<L: Loads>(
        &self,
        pool: &Pool<'_, L>,
        flow: &Flow,
        flags: SchedulerFlags,
    ) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let port = if flags.flag_2 { flow.client_port } else { 0 };
        let client = fold(&flow.client).wrapping_add(u32::from(port));
        let slot = |offset: u32| hsiphash(client.wrapping_add(offset), KEY_1) % SLOTS;
        let server = |slot: u32| self.0.get(slot as usize).copied().map(usize::from);
        let takes_new = |&index: &usize| pool.candidate(index).is_some();
        let first = slot(0);
        if let Some(index) = server(first).filter(takes_new) {
            return Some(index);
        }
        // Without the second test a service with no server left would hash 4093 times per packet.
        if !flags.flag_1 || pool.candidates().next().is_none() {
            return None;
        }
        (0..SLOTS).filter_map(|offset| server(slot((offset + first) % SLOTS))).find(takes_new)
    }
}

impl Preference {
    /// Takes the next free slot on the way. There is one.
    fn take(&mut self, slots: &mut [u16; SLOTS as usize], index: u16) {
        while slots[self.slot as usize] != FREE {
            self.slot = (self.slot + self.skip) % SLOTS;
        }
        slots[self.slot as usize] = index;
    }
}

fn preferences(family: Family, reals: &[Real]) -> Vec<Preference> {
    let divisor = divisor(reals.iter().map(|real| real.last_weight));
    let greatest = reals.iter().map(|real| real.last_weight).max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(TURN_BITS);
    reals
        .iter()
        .map(|real| {
            let word = fold_real(family, &real.address).wrapping_add(u32::from(real.port));
            let turns = (real.last_weight / divisor) >> shift;
            Preference {
                slot: hsiphash(word, KEY_1) % SLOTS,
                skip: hsiphash(word, KEY_2) % (SLOTS - 1) + 1,
                turns: turns.max(u32::from(real.last_weight != 0)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flow, real};
    use super::*;
    use std::net::IpAddr;

    fn table(weights: &[u32]) -> Maglev {
        let reals: Vec<_> = (1..).zip(weights).map(|(id, weight)| real(id, *weight)).collect();
        Maglev::new(Family::V4, &reals)
    }

    fn shares(table: &Maglev, servers: u16) -> Vec<usize> {
        (0..servers).map(|n| table.0.iter().filter(|slot| **slot == n).count()).collect()
    }

    fn hash(client: [u8; 4]) -> u32 {
        hsiphash(fold(&IpAddr::from(client)), KEY_1)
    }

    /// SHA-1 of the table with one byte per slot, by which the kernel's tables were recorded.
    fn sha1(table: &Maglev) -> String {
        let mut message: Vec<u8> = table.0.iter().map(|slot| *slot as u8).collect();
        let bits = message.len() as u64 * 8;
        message.push(0x80);
        message.resize((message.len() + 8).next_multiple_of(64) - 8, 0);
        message.extend(bits.to_be_bytes());
        let mut h = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        for block in message.chunks_exact(64) {
            let mut w: Vec<u32> =
                block.chunks_exact(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
            for i in 16..80 {
                w.push((w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1));
            }
            let [mut a, mut b, mut c, mut d, mut e] = h;
            for (i, word) in w.iter().enumerate() {
                let (f, k) = match i / 20 {
                    0 => (b & c | !b & d, 0x5a82_7999u32),
                    1 => (b ^ c ^ d, 0x6ed9_eba1),
                    2 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                    _ => (b ^ c ^ d, 0xca62_c1d6),
                };
                let next =
                    [a.rotate_left(5), f, e, k, *word].into_iter().fold(0, u32::wrapping_add);
                (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
            }
            for (sum, word) in h.iter_mut().zip([a, b, c, d, e]) {
                *sum = sum.wrapping_add(word);
            }
        }
        h.iter().map(|word| format!("{word:08x}")).collect()
    }

    #[test]
    fn three_equal_servers_lie_as_in_the_kernel() {
        let reals = [real(1, 1), real(2, 1), real(3, 1)];
        let ways: Vec<_> =
            preferences(Family::V4, &reals).iter().map(|p| (p.slot, p.skip)).collect();
        assert_eq!(ways, [(3167, 700), (1231, 3544), (1631, 3453)]);
        let table = table(&[1, 1, 1]);
        assert_eq!(shares(&table, 3), [1365, 1364, 1364]);
        assert_eq!(table.0[..16], [0, 1, 1, 2, 2, 0, 1, 2, 2, 0, 0, 1, 1, 0, 0, 2]);
        assert_eq!(sha1(&table), "5acd9f2d6ff767b4a171b144222b2668a3c7d17b");
    }

    #[test]
    fn weights_lie_as_in_the_kernel() {
        let table = table(&[1, 3]);
        assert_eq!(shares(&table, 2), [1024, 3069]);
        assert_eq!(sha1(&table), "399efb9a399a374cb0d63634c968c9e4defe23cd");
    }

    #[test]
    fn clients_hash_as_in_the_kernel() {
        assert_eq!(hash([192, 168, 1, 100]), 3_244_109_048);
        assert_eq!(hash([192, 168, 1, 100]) % SLOTS, 1341);
        assert_eq!(hash([203, 0, 113, 7]), 2_825_792_533);
        assert_eq!(hash([203, 0, 113, 7]) % SLOTS, 1705);
    }

    #[test]
    fn weights_count_by_their_six_leading_bits() {
        // 65535 and 1024 are cut to 63 and 1, 1 is raised to 1.
        let table = table(&[65_535, 1024, 1]);
        let shares = shares(&table, 3);
        assert!(shares[0] >= 63 * 62 && shares[1].abs_diff(shares[2]) <= 1, "{shares:?}");
    }

    #[test]
    fn a_drained_server_keeps_its_slots_and_a_new_one_of_weight_0_has_none() {
        let before = table(&[2, 1]);
        let mut drained = [real(1, 2), real(2, 1)];
        drained[0].weight = 0;
        assert_eq!(Maglev::new(Family::V4, &drained).0, before.0);
        assert_eq!(shares(&table(&[1, 0]), 2), [4093, 0]);
        assert!(table(&[0, 0]).0.is_empty());
        assert!(table(&[]).0.is_empty());
    }

    #[test]
    fn more_servers_than_slots_fill_the_table() {
        let weights = vec![1; 70_000];
        let table = table(&weights);
        assert_eq!(table.0.len(), SLOTS as usize);
        assert!(table.0.iter().all(|slot| u32::from(*slot) < SLOTS));
    }

    #[test]
    fn ports_of_servers_and_clients_count() {
        let mut other = real(1, 1);
        other.port = 81;
        let ways = preferences(Family::V4, &[real(1, 1), other]);
        assert_ne!(ways[0].slot, ways[1].slot);
        let reals: std::sync::Arc<[_]> = (1..=20).map(|id| real(id, 1)).collect();
        let service =
            super::super::tests::service(crate::table::Scheduler::Mh, reals.iter().cloned());
        let table = Maglev::new(Family::V4, &reals);
        let idle = |_| super::super::Load::default();
        let pool = Pool::new(&service.reals, &service, &idle);
        let with = |flag_2| {
            let flags = SchedulerFlags { flag_2, ..Default::default() };
            (0..100)
                .map(|port| table.choose(&pool, &flow([10, 1, 1, 1], port), flags))
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(with(false).len(), 1);
        assert!(with(true).len() > 15);
    }
}
