//! The kernel's routes and rules, kept up to date one change at a time.

use super::Link;
use super::rules::{self, KernelRule, View};
use dataplane::table::{Prefix, Prefixes, Routing, Target};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// `RT_TABLE_MAIN`.
pub const MAIN: u32 = 254;

/// One route as the kernel tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The table that it stands in.
    pub table: u32,
    /// Destinations that the route covers.
    pub prefix: Prefix,
    /// Lower wins.
    pub metric: u32,
    /// What it leads to; ways that are dead are among them.
    pub target: Target,
}

/// Where a new route stands among those with the same destinations and metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Among {
    /// It replaces the first.
    Replaces,
    /// It is the first.
    First,
    /// It is the last.
    Last,
    /// Its ways join those that are there (IPv6).
    Joins,
}

/// One of the routes with the same destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Variant {
    metric: u32,
    /// Of its target.
    number: u32,
}

/// All routes with the same destinations; most often it is one.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Variants {
    One(Variant),
    /// By metric.
    Many(Vec<Variant>),
}

impl Variants {
    const EMPTY: Self = Self::Many(Vec::new());

    fn as_slice(&self) -> &[Variant] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Variant>)) {
        let mut all = self.as_slice().to_vec();
        change(&mut all);
        *self = if let [one] = *all { Self::One(one) } else { Self::Many(all) };
    }
}

/// Where routes stand.
type Key = (u32, Prefix);

/// Targets by number, of each family its own. Many routes share one.
#[derive(Debug)]
struct Targets {
    /// With how many routes lead there.
    all: Vec<(Owned, usize)>,
    numbers: HashMap<Owned, u32>,
    free: Vec<u32>,
}

/// Whether it is of IPv6, and the target.
type Owned = (bool, Target);

impl Default for Targets {
    fn default() -> Self {
        let all = Target::FIXED.map(|target| ((false, target), 1)).into();
        let both = [false, true].into_iter();
        let numbers =
            both.flat_map(|v6| Target::FIXED.map(|target| (v6, target)).into_iter().zip(0..));
        Self { all, numbers: numbers.collect(), free: Vec::new() }
    }
}

impl Targets {
    fn take(&mut self, prefix: &Prefix, target: &Target) -> u32 {
        let owned = (prefix.address.is_ipv6(), target.clone());
        if let Some(number) = self.numbers.get(&owned) {
            if let Some((_, uses)) = self.all.get_mut(*number as usize) {
                *uses += 1;
            }
            return *number;
        }
        let place = (owned.clone(), 1);
        let free =
            self.free.pop().and_then(|number| Some((number, self.all.get_mut(number as usize)?)));
        let number = if let Some((number, old)) = free {
            *old = place;
            number
        } else {
            self.all.push(place);
            u32::try_from(self.all.len() - 1).unwrap_or(Routing::NOTHING)
        };
        self.numbers.insert(owned, number);
        number
    }

    fn give_back(&mut self, number: u32) {
        let Some((owned, uses)) = self.all.get_mut(number as usize) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(owned);
            owned.1 = Target::Nothing;
            self.free.push(number);
        }
    }

    fn get(&self, number: u32) -> &Target {
        self.all.get(number as usize).map_or(&Target::Nothing, |((_, target), _)| target)
    }

    fn find(&self, route: &Route) -> Option<u32> {
        self.numbers.get(&(route.prefix.address.is_ipv6(), route.target.clone())).copied()
    }
}

/// All routes and rules of the host.
#[derive(Debug, Default)]
pub struct Tables {
    routes: HashMap<Key, Variants>,
    targets: Targets,
    /// What rules look into.
    views: BTreeMap<View, Prefixes>,
    /// Set by the kernel's rules, in its order.
    pub rules: Vec<KernelRule>,
    /// The host's own addresses.
    local: BTreeSet<IpAddr>,
    /// Interfaces by which nothing leaves: IPv4, IPv6.
    dead: [BTreeSet<u32>; 2],
    /// Addresses to which this daemon's own routes lead.
    led: Arc<BTreeSet<IpAddr>>,
    /// How many routes each table has.
    counts: BTreeMap<u32, usize>,
    /// The last snapshot, and whether it still holds.
    snapshot: Arc<Routing>,
    changed: bool,
}

impl Tables {
    /// Where this daemon's own routes lead.
    pub fn led(&self) -> Arc<BTreeSet<IpAddr>> {
        Arc::clone(&self.led)
    }

    /// One of this daemon's own routes came or went.
    pub fn lead(&mut self, address: IpAddr, there: bool) {
        let led = Arc::make_mut(&mut self.led);
        if there {
            led.insert(address);
        } else {
            led.remove(&address);
        }
    }

    /// Makes these all of this daemon's own.
    pub fn set_led(&mut self, led: BTreeSet<IpAddr>) {
        if *self.led != led {
            self.led = Arc::new(led);
        }
    }

    /// A route was added.
    pub fn add(&mut self, route: &Route, among: Among) {
        let known = self.targets.find(route).is_some_and(|number| self.has(route, number));
        if known && among != Among::Replaces {
            return;
        }
        let joined = self.first_like(route).filter(|_| among == Among::Joins);
        if let Some(target) = joined.and_then(|old| united(self.targets.get(old), &route.target)) {
            return self.add(&Route { target, ..*route }, Among::Replaces);
        }
        let number = self.targets.take(&route.prefix, &route.target);
        let new = Variant { metric: route.metric, number };
        let mut gone = None;
        self.change(route, |all| {
            let start = all.partition_point(|one| one.metric < new.metric);
            let end = all.partition_point(|one| one.metric <= new.metric);
            let replaces = among == Among::Replaces && start < end;
            match all.get_mut(start).filter(|_| replaces) {
                Some(old) => gone = Some(std::mem::replace(old, new).number),
                None if among == Among::First => all.insert(start, new),
                None => all.insert(end, new),
            }
        });
        gone.into_iter().for_each(|number| self.targets.give_back(number));
    }

    /// A route was removed, or some ways of an IPv6 one.
    pub fn remove(&mut self, route: &Route) {
        let exact = self.targets.find(route);
        let Some(old) =
            exact.filter(|number| self.has(route, *number)).or_else(|| self.first_like(route))
        else {
            return;
        };
        let rest = if exact == Some(old) {
            None
        } else {
            match rest(self.targets.get(old), &route.target) {
                // Another one, which went before the routes were asked for.
                Some(Target::Hops { hops, .. })
                    if hops.len() == self.targets.get(old).hops().len() =>
                {
                    return;
                }
                rest => rest.filter(|rest| !rest.hops().is_empty()),
            }
        };
        let left = rest.map(|rest| self.targets.take(&route.prefix, &rest));
        self.change(route, |all| {
            let at = all.iter().position(|one| (one.metric, one.number) == (route.metric, old));
            match (at, left) {
                (Some(at), Some(left)) => all[at].number = left,
                (Some(at), None) => drop(all.remove(at)),
                (None, _) => {}
            }
        });
        self.targets.give_back(old);
    }

    fn has(&self, route: &Route, number: u32) -> bool {
        let all = self.routes.get(&(route.table, route.prefix));
        let is = |one: &Variant| (one.metric, one.number) == (route.metric, number);
        all.is_some_and(|all| all.as_slice().iter().any(is))
    }

    /// The number of the first route with the same destinations and metric.
    fn first_like(&self, route: &Route) -> Option<u32> {
        let all = self.routes.get(&(route.table, route.prefix))?.as_slice();
        all.iter().find(|one| one.metric == route.metric).map(|one| one.number)
    }

    fn change(&mut self, route: &Route, change: impl FnOnce(&mut Vec<Variant>)) {
        let key = (route.table, route.prefix);
        let known = self.routes.len();
        let variants = self.routes.entry(key).or_insert(Variants::EMPTY);
        variants.change(change);
        if variants.as_slice().is_empty() {
            self.routes.remove(&key);
        }
        let count = self.counts.entry(route.table).or_default();
        *count = (*count + self.routes.len()).saturating_sub(known);
        self.refresh(&key);
    }

    /// Brings one destination's numbers in the views up to date.
    fn refresh(&mut self, (table, prefix): &Key) {
        let number = self.number(*table, prefix);
        for (view, prefixes) in self.views.iter_mut().filter(|(view, _)| view.table == *table) {
            if view.has(prefix) {
                prefixes.set(prefix, number);
            }
        }
        self.changed = true;
    }

    /// The number that counts: of the first route that leads anywhere.
    fn number(&self, table: u32, prefix: &Prefix) -> Option<u32> {
        if table == MAIN
            && *prefix == Prefix::host(prefix.address)
            && self.local.contains(&prefix.address)
        {
            return Some(Routing::LOCAL);
        }
        let all = self.routes.get(&(table, *prefix))?.as_slice();
        let dead = self.dead_for(&prefix.address);
        let lives = |one: &&Variant| match self.targets.get(one.number) {
            Target::Hops { hops, .. } => hops.iter().any(|hop| !dead.contains(&hop.link)),
            Target::Nothing | Target::Local | Target::Throw | Target::Refuse(_) => true,
        };
        all.iter().find(lives).map(|one| one.number)
    }

    const fn dead_for(&self, address: &IpAddr) -> &BTreeSet<u32> {
        let [v4, v6] = &self.dead;
        if address.is_ipv4() { v4 } else { v6 }
    }

    /// Makes these the routes, in the kernel's order.
    pub fn replace(&mut self, routes: impl IntoIterator<Item = Route>) {
        let mut fresh: HashMap<Key, Variants> = HashMap::new();
        for route in routes {
            let new = Variant {
                metric: route.metric,
                number: self.targets.take(&route.prefix, &route.target),
            };
            let key = (route.table, route.prefix);
            match fresh.get_mut(&key) {
                None => drop(fresh.insert(key, Variants::One(new))),
                Some(all) => all.change(|all| {
                    all.insert(all.partition_point(|one| one.metric <= new.metric), new);
                }),
            }
        }
        self.counts.clear();
        fresh.keys().for_each(|(table, _)| *self.counts.entry(*table).or_default() += 1);
        let old = std::mem::replace(&mut self.routes, fresh);
        let differing: Vec<Key> = old
            .iter()
            .filter(|(key, all)| self.routes.get(key) != Some(*all))
            .map(|(key, _)| *key)
            .chain(self.routes.keys().filter(|key| !old.contains_key(*key)).copied())
            .collect();
        differing.iter().for_each(|key| self.refresh(key));
        for variant in old.values().flat_map(|all| all.as_slice()) {
            self.targets.give_back(variant.number);
        }
    }

    /// Takes over which interfaces there are, and the host's own addresses.
    pub fn follow(&mut self, links: &BTreeMap<u32, Link>, addresses: &[super::Address]) {
        let local: BTreeSet<IpAddr> = addresses.iter().map(|own| own.prefix.address).collect();
        let before = std::mem::replace(&mut self.local, local);
        let differing: Vec<IpAddr> = before.symmetric_difference(&self.local).copied().collect();
        differing.iter().for_each(|address| self.refresh(&(MAIN, Prefix::host(*address))));
        let dead = [0, 1].map(|family| {
            let dead = links.iter().filter(|(_, link)| link.dead()[family]);
            dead.map(|(index, _)| *index).collect::<BTreeSet<u32>>()
        });
        if dead == self.dead {
            return;
        }
        let before = std::mem::replace(&mut self.dead, dead);
        let [v4, v6] = [0, 1].map(|family| {
            let changed = before[family].symmetric_difference(&self.dead[family]);
            changed.copied().collect::<BTreeSet<u32>>()
        });
        let concerned = |(key, all): &(&Key, &Variants)| {
            let changed = if key.1.address.is_ipv4() { &v4 } else { &v6 };
            let hops = |one: &Variant| self.targets.get(one.number).hops();
            all.as_slice().iter().any(|one| hops(one).iter().any(|hop| changed.contains(&hop.link)))
        };
        let keys: Vec<Key> = self.routes.iter().filter(concerned).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.refresh(key));
        self.changed = true;
    }

    /// What packets are routed by. Shares with the last one what has not changed since.
    pub fn snapshot(&mut self, links: &BTreeMap<u32, Link>) -> Arc<Routing> {
        let counts = &self.counts;
        let (rules, views) =
            rules::compile(&self.rules, links, |table| counts.get(&table).is_some_and(|n| *n > 0));
        let kept = views.iter().all(|view| self.views.contains_key(view));
        if !self.changed && kept && self.snapshot.rules == rules {
            return Arc::clone(&self.snapshot);
        }
        self.views.retain(|view, _| views.contains(view));
        for view in &views {
            if !self.views.contains_key(view) {
                let prefixes = self.prefixes(view);
                self.views.insert(*view, prefixes);
            }
        }
        let targets = self.targets.all.iter().map(|(owned, _)| self.living(owned)).collect();
        let ranges =
            views.iter().filter_map(|view| Some(Arc::new(self.views.get_mut(view)?.ranges())));
        let tables = ranges.collect();
        self.snapshot = Arc::new(Routing { tables, targets, rules });
        self.changed = false;
        Arc::clone(&self.snapshot)
    }

    fn prefixes(&self, view: &View) -> Prefixes {
        let mut prefixes = Prefixes::default();
        let of_table = self.routes.keys().filter(|(table, _)| *table == view.table);
        let own = self.local.iter().map(|address| Prefix::host(*address));
        let own = own.filter(|_| view.table == MAIN);
        for prefix in
            of_table.map(|(_, prefix)| *prefix).chain(own).filter(|prefix| view.has(prefix))
        {
            prefixes.set(&prefix, self.number(view.table, &prefix));
        }
        prefixes
    }

    /// A target without its dead ways.
    fn living(&self, (v6, target): &Owned) -> Target {
        let Target::Hops { hops, source, mtu } = target else { return target.clone() };
        let dead = &self.dead[usize::from(*v6)];
        let living = hops.iter().filter(|hop| !dead.contains(&hop.link)).copied().collect();
        Target::Hops { hops: living, source: *source, mtu: *mtu }
    }
}

/// The ways of two routes that are one to IPv6.
fn united(one: &Target, other: &Target) -> Option<Target> {
    let (Target::Hops { hops, source, mtu }, Target::Hops { hops: more, .. }) = (one, other) else {
        return None;
    };
    let mut all: Vec<_> = hops.iter().chain(more).copied().collect();
    all.sort();
    all.dedup_by_key(|hop| (hop.via, hop.link));
    Some(Target::Hops { hops: all.into(), source: *source, mtu: *mtu })
}

/// What is left of a route when some of its ways go; it may have no way then.
fn rest(of: &Target, gone: &Target) -> Option<Target> {
    let (Target::Hops { hops, source, mtu }, Target::Hops { hops: less, .. }) = (of, gone) else {
        return None;
    };
    let is_gone = |hop: &&dataplane::table::RouteHop| {
        less.iter().any(|gone| (gone.via, gone.link) == (hop.via, hop.link))
    };
    let left: Vec<_> = hops.iter().filter(|hop| !is_gone(hop)).copied().collect();
    Some(Target::Hops { hops: left.into(), source: *source, mtu: *mtu })
}

#[cfg(test)]
mod tests;
