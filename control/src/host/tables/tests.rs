use super::*;
use dataplane::table::{Flow, RouteHop};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn hops(ways: &[(&str, u32)]) -> Target {
    let hop = |(via, link): &(&str, u32)| RouteHop { via: Some(ip(via)), link: *link, weight: 1 };
    Target::Hops { hops: ways.iter().map(hop).collect(), source: None, mtu: 0 }
}

fn route(block: &str, length: u8, metric: u32, target: Target) -> Route {
    Route { table: MAIN, prefix: Prefix { address: ip(block), length }, metric, target }
}

fn link(name: &str, up: bool, carrier: bool) -> Link {
    Link {
        name: name.into(),
        generation: 0,
        mac: Some([2; 6]),
        mtu: 1500,
        queues: 1,
        vlans: false,
        controller: None,
        loopback: false,
        up,
        carrier,
        ignored_without_carrier: [true, false],
        vrf: None,
    }
}

fn links(second: (bool, bool)) -> BTreeMap<u32, Link> {
    [(2, link("eth0", true, true)), (3, link("eth1", second.0, second.1))].into()
}

fn target(tables: &mut Tables, links: &BTreeMap<u32, Link>, to: &str) -> Target {
    tables.follow(links, &[]);
    tables.snapshot(links).target(&Flow::from(ip(to))).clone()
}

#[test]
fn a_way_by_an_interface_that_is_off_or_has_lost_its_carrier_is_skipped() {
    let both = hops(&[("10.2.0.1", 2), ("10.3.0.1", 3)]);
    let mut tables = Tables::default();
    tables.replace([
        route("10.9.0.0", 24, 0, both.clone()),
        route("10.8.0.0", 24, 10, hops(&[("10.3.0.1", 3)])),
        route("10.8.0.0", 24, 20, hops(&[("10.2.0.1", 2)])),
        route("2001:db8:9::", 48, 0, hops(&[("fe80::3", 3)])),
    ]);
    let all = links((true, true));
    assert_eq!(target(&mut tables, &all, "10.9.0.7"), both);
    assert_eq!(target(&mut tables, &all, "10.8.0.7"), hops(&[("10.3.0.1", 3)]));
    for (up, carrier) in [(false, false), (true, false)] {
        let less = links((up, carrier));
        assert_eq!(target(&mut tables, &less, "10.9.0.7"), hops(&[("10.2.0.1", 2)]));
        assert_eq!(target(&mut tables, &less, "10.8.0.7"), hops(&[("10.2.0.1", 2)]), "next metric");
        let v6 = target(&mut tables, &less, "2001:db8:9::7");
        assert_eq!(v6 == Target::Nothing, !up, "IPv6 does not mind the carrier");
    }
    assert_eq!(target(&mut tables, &all, "10.9.0.7"), both, "and is back with the carrier");
}

#[test]
fn routes_are_replaced_joined_and_removed_as_told() {
    let all = links((true, true));
    let mut tables = Tables::default();
    let (one, two) = (hops(&[("fe80::1", 2)]), hops(&[("fe80::2", 3)]));
    let of = |target: &Target| route("2001:db8:9::", 48, 7, target.clone());
    for _ in 0..2 {
        tables.add(&of(&one), Among::Joins);
        tables.add(&of(&two), Among::Joins);
    }
    let both = hops(&[("fe80::1", 2), ("fe80::2", 3)]);
    assert_eq!(target(&mut tables, &all, "2001:db8:9::7"), both);
    for _ in 0..2 {
        tables.remove(&of(&one));
        assert_eq!(target(&mut tables, &all, "2001:db8:9::7"), two);
    }
    tables.add(&of(&one), Among::Replaces);
    assert_eq!(target(&mut tables, &all, "2001:db8:9::7"), one);
    tables.remove(&of(&one));
    assert_eq!(target(&mut tables, &all, "2001:db8:9::7"), Target::Nothing);
    assert_eq!(
        (tables.routes.len(), tables.targets.numbers.len()),
        (0, 12),
        "nothing is left over"
    );
}

#[test]
fn asking_for_all_routes_again_changes_what_differs() {
    let all = links((true, true));
    let (one, two) = (hops(&[("10.2.0.1", 2)]), hops(&[("10.3.0.1", 3)]));
    let mut tables = Tables::default();
    tables.replace([route("10.9.0.0", 24, 0, one.clone()), route("10.8.0.0", 24, 0, one.clone())]);
    let before = tables.snapshot(&all);
    tables.replace([route("10.9.0.0", 24, 0, one.clone()), route("10.8.0.0", 24, 0, one.clone())]);
    assert!(Arc::ptr_eq(&before, &tables.snapshot(&all)), "nothing differs");
    tables.replace([route("10.9.0.0", 24, 0, two.clone())]);
    assert_eq!(target(&mut tables, &all, "10.9.0.7"), two);
    assert_eq!(target(&mut tables, &all, "10.8.0.7"), Target::Nothing);
    assert_eq!(tables.targets.numbers.len(), 13);
}
