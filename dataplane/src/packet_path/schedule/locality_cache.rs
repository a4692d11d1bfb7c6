//! Memory of destinations for lblc and lblcr, bounded and swept as in IPVS.

use super::address_hash::{fold, hash_32};
use crate::tick::{Tick, Ticks};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound::{Excluded, Included};

const BUCKET_BITS: u32 = 10;
const BUCKETS: u32 = 1 << BUCKET_BITS;
/// Beyond so many entries the sweep takes out idle ones.
const FULL: usize = 16 * BUCKETS as usize;
/// Beyond so many, new destinations are served but not remembered until the sweep made room.
const LIMIT: usize = FULL / 2 * 3;
const SWEEP_EVERY: Ticks = Ticks::from_secs(60);
/// A sweep of a full cache takes out what was idle for so long.
const IDLE: Ticks = Ticks::from_secs(6 * 60);
/// Every so many sweeps, everything is swept that was idle for a day (`lblc_expiration`).
const SWEEPS_TO_FULL: u32 = 30;
const EXPIRATION: Ticks = Ticks::from_secs(86_400);
/// Entries, and buckets, that one call looks at: packet threads wait for as long as that takes.
const STEP: usize = 64;

/// Hash bucket and destination.
type Key = (u32, IpAddr);

/// What is remembered per destination address.
#[derive(Clone, Debug)]
pub(super) struct Cache<T> {
    /// Ordered by hash bucket, so that a sweep can go on where the last one stopped.
    entries: BTreeMap<Key, Entry<T>>,
    next_sweep: Tick,
    sweep: u32,
    /// The bucket swept last.
    rover: u32,
    /// The sweep under way.
    under_way: Option<Sweep>,
}

/// Where a sweep stands.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    /// When it began.
    now: Tick,
    /// What has not been used for so long leaves.
    idle: Ticks,
    /// Buckets to go, with the one under way, which is the one after the rover.
    buckets: u32,
    /// The last entry looked at in the bucket under way.
    last: Option<Key>,
    /// Entries that have left, and after how many of them it ends with the bucket.
    gone: usize,
    goal: usize,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    last_used: Tick,
    value: T,
}

impl<T> Cache<T> {
    pub fn new(now: Tick) -> Self {
        let next_sweep = now.after(SWEEP_EVERY);
        Self { entries: BTreeMap::new(), next_sweep, sweep: 1, rover: 0, under_way: None }
    }

    /// What is known of a destination, which counts as used.
    pub fn touch(&mut self, destination: IpAddr, now: Tick) -> Option<&mut T> {
        let entry = self.entries.get_mut(&key(destination))?;
        entry.last_used = now;
        Some(&mut entry.value)
    }

    /// Remembers or replaces; nothing happens for a new destination while the cache is at its limit.
    pub fn put(&mut self, destination: IpAddr, value: T, now: Tick) {
        let key = key(destination);
        if self.entries.len() < LIMIT || self.entries.contains_key(&key) {
            self.entries.insert(key, Entry { last_used: now, value });
        }
    }

    /// Lets `keep` look at, and change, every value.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.entries.retain(|_, entry| keep(&mut entry.value));
    }

    /// Begins a sweep once a minute, and does one small step of the one under way. Whether there is
    /// more of it to do.
    pub fn expire(&mut self, now: Tick) -> bool {
        if self.under_way.is_none() {
            if !self.next_sweep.is_due(now) {
                return false;
            }
            self.next_sweep = now.after(SWEEP_EVERY);
            self.under_way = self.due(now);
        }
        self.step();
        self.under_way.is_some()
    }

    /// The sweep that it is time for.
    fn due(&mut self, now: Tick) -> Option<Sweep> {
        let sweep = |idle, goal| Sweep { now, idle, buckets: BUCKETS, last: None, gone: 0, goal };
        if self.sweep.is_multiple_of(SWEEPS_TO_FULL) {
            self.sweep = 1;
            Some(sweep(EXPIRATION, usize::MAX))
        } else if self.entries.len() <= FULL {
            self.sweep += 1;
            None
        } else {
            // Somewhat more than the excess.
            let goal = ((self.entries.len() - FULL) * 4 / 3).min(FULL / 2);
            Some(sweep(IDLE, goal))
        }
    }

    fn step(&mut self) {
        let Some(mut sweep) = self.under_way.take() else { return };
        let mut left = STEP;
        while left > 0 {
            let bucket = (self.rover + 1) % BUCKETS;
            let looked = self.sweep_bucket(bucket, &mut sweep, left);
            if looked == left {
                break;
            }
            left -= looked + 1;
            self.rover = bucket;
            sweep.last = None;
            sweep.buckets -= 1;
            if sweep.buckets == 0 || sweep.gone >= sweep.goal {
                return;
            }
        }
        self.under_way = Some(sweep);
    }

    /// Goes on in a bucket, with `most` entries at most. How many it looked at.
    fn sweep_bucket(&mut self, bucket: u32, sweep: &mut Sweep, most: usize) -> usize {
        let first = |bucket| (bucket, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let from = sweep.last.map_or(Included(first(bucket)), Excluded);
        let rest = self.entries.range((from, Excluded(first(bucket + 1))));
        let (mut looked, mut idle) = (0, Vec::new());
        for (key, entry) in rest.take(most) {
            looked += 1;
            sweep.last = Some(*key);
            if sweep.now.since(entry.last_used) >= sweep.idle {
                idle.push(*key);
            }
        }
        for key in &idle {
            self.entries.remove(key);
        }
        sweep.gone += idle.len();
        looked
    }
}

fn key(destination: IpAddr) -> Key {
    (hash_32(fold(&destination), BUCKET_BITS), destination)
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference_locality::Table;
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u32) -> Tick {
        Tick(u32::MAX - 1000).after(Ticks::from_secs(seconds))
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    fn filled(count: u32, now: Tick) -> Cache<u32> {
        let mut cache = Cache::new(at(0));
        for n in 0..count {
            cache.put(address(n), n, now);
        }
        cache
    }

    /// The seconds at which entries leave, each sweep carried out at once.
    fn expire_until(cache: &mut Cache<u32>, from: u32, until: u32) -> Vec<(u32, usize)> {
        let mut changes = vec![];
        for second in from..=until {
            let before = cache.entries.len();
            while cache.expire(at(second)) {}
            if cache.entries.len() != before {
                changes.push((second, before - cache.entries.len()));
            }
        }
        changes
    }

    #[test]
    fn remembers_at_most_one_and_a_half_times_its_size() {
        let mut cache = filled(30_000, at(0));
        assert_eq!(cache.entries.len(), 24_576);
        assert_eq!(cache.touch(address(24_575), at(1)), Some(&mut 24_575));
        assert_eq!(cache.touch(address(24_576), at(1)), None);
        cache.put(address(5), 500, at(1));
        assert_eq!(cache.touch(address(5), at(1)), Some(&mut 500), "known ones are still replaced");
    }

    #[test]
    fn a_full_cache_loses_four_thirds_of_the_excess_once_it_is_idle() {
        let mut cache = filled(FULL as u32 + 300, at(0));
        let changes = expire_until(&mut cache, 0, 600);
        // Nothing is idle for six minutes before 360 s; buckets are swept whole.
        assert_eq!(changes.len(), 1);
        let (second, gone) = changes[0];
        assert_eq!(second, 360);
        assert!((400..450).contains(&gone), "{gone}");
    }

    #[test]
    fn one_sweep_takes_out_half_of_a_cache_at_most() {
        let mut cache = filled(LIMIT as u32, at(0));
        let changes = expire_until(&mut cache, 0, 360);
        assert!(matches!(changes[..], [(360, 8192..8250)]), "{changes:?}");
    }

    #[test]
    fn a_cache_that_is_just_full_is_not_swept() {
        let mut cache = filled(FULL as u32, at(0));
        assert_eq!(expire_until(&mut cache, 0, 600), []);
    }

    #[test]
    fn the_next_sweep_goes_on_where_the_last_one_stopped() {
        let mut cache = filled(FULL as u32 + 300, at(0));
        expire_until(&mut cache, 0, 360);
        let stopped = cache.rover;
        assert!(cache.entries.keys().all(|(bucket, _)| *bucket == 0 || *bucket > stopped));
        for n in FULL as u32 + 300..FULL as u32 + 1000 {
            cache.put(address(n), n, at(361));
        }
        expire_until(&mut cache, 361, 420);
        assert!(cache.rover > stopped);
    }

    #[test]
    fn entries_in_use_survive_the_sweep() {
        let mut cache = filled(FULL as u32 + 300, at(0));
        for n in 0..FULL as u32 + 300 {
            cache.touch(address(n), at(300));
        }
        assert_eq!(expire_until(&mut cache, 0, 420), []);
    }

    #[test]
    fn a_small_cache_loses_only_what_was_idle_for_a_day() {
        let mut cache = filled(100, at(0));
        let changes = expire_until(&mut cache, 0, 90_000);
        // The first complete sweep is the 30th; from then on every 30th, the first at or after 24 h.
        assert_eq!(changes, [(86_400, 100)]);
    }

    #[test]
    fn no_step_looks_at_more_than_a_few_entries() {
        // All in one bucket, as somebody might choose them, and spread out.
        let same = (0..).map(address).filter(|address| key(*address).0 == 7).take(10_000);
        let spread = (0..LIMIT as u32).map(address);
        for addresses in [same.collect::<Vec<_>>(), spread.collect()] {
            let mut cache = Cache::new(at(0));
            addresses.iter().for_each(|address| cache.put(*address, 0, at(0)));
            cache.sweep = SWEEPS_TO_FULL;
            let (mut before, mut calls) = (cache.entries.len(), 0);
            loop {
                let more = cache.expire(at(90_000));
                let gone = before - cache.entries.len();
                assert!(gone <= STEP, "{gone} entries left with one call");
                before -= gone;
                calls += 1;
                if !more {
                    break;
                }
            }
            assert_eq!(cache.entries.len(), 0, "every entry was looked at");
            assert!(calls < 500, "{calls} calls");
        }
    }

    #[test]
    fn an_entry_used_while_a_sweep_is_under_way_stays() {
        let mut cache = filled(1000, at(0));
        cache.sweep = SWEEPS_TO_FULL;
        assert!(cache.expire(at(90_000)));
        let used = *cache.entries.keys().find(|(bucket, _)| *bucket > 500).unwrap();
        cache.touch(used.1, at(90_000));
        while cache.expire(at(90_000)) {}
        assert_eq!(cache.entries.keys().copied().collect::<Vec<_>>(), [used]);
    }

    #[test]
    fn a_late_caller_sweeps_once() {
        let mut cache = filled(10, at(0));
        cache.expire(at(3600));
        assert_eq!(cache.sweep, 2);
        assert_eq!(cache.next_sweep, at(3660));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4))]

        /// Fills of up to 25,000 destinations of both families in bursts, with sweeps in between.
        #[test]
        fn sweeps_take_out_what_the_reference_takes_out(
            seed in any::<u64>(),
            bursts in prop::collection::vec((0u32..8000, 1u32..5), 1..30),
        ) {
            let (mut cache, mut table) = (Cache::new(at(0)), Table::new());
            let (mut seconds, mut random) = (0, seed | 1);
            for (count, minutes) in bursts {
                for _ in 0..count {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let n = (random >> 48) as u32 % 30_000;
                    let address = if n.is_multiple_of(5) {
                        IpAddr::V6((u128::from(n) << 77 | 1).into())
                    } else {
                        address(n)
                    };
                    if let Some(entry) = table.get(address) {
                        entry.last_use = seconds.into();
                        cache.touch(address, at(seconds));
                    } else {
                        table.set(address, n, seconds.into());
                        cache.put(address, n, at(seconds));
                    }
                }
                for _ in 0..minutes {
                    seconds += 60;
                    table.check_expire(seconds.into());
                    while cache.expire(at(seconds)) {}
                }
                let mut expected: Vec<_> =
                    table.buckets.iter().flatten().map(|entry| entry.address).collect();
                expected.sort();
                let mut left: Vec<_> = cache.entries.keys().map(|(_, address)| *address).collect();
                left.sort();
                prop_assert!(left == expected, "{} left, not {}", left.len(), expected.len());
            }
        }
    }
}
