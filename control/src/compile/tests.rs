use super::*;
use crate::model::{Family, Quorum};
use proptest::prelude::*;
use std::time::Duration;

fn vip(last: u8) -> VirtualAddress {
    VirtualAddress::Socket {
        protocol: table::Protocol::Tcp,
        address: SocketAddr::from(([192, 0, 2, last], 80)),
    }
}

fn rip(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn service_with(address: VirtualAddress, reals: &[u8]) -> Arc<Service> {
    let mut service = Service::new(address, Method::Nat);
    service.reals = reals.iter().map(|last| Real::new(rip(*last))).collect();
    Arc::new(service)
}

fn document(services: impl IntoIterator<Item = Arc<Service>>) -> Document {
    Document { services: services.into_iter().collect(), ..Document::default() }
}

fn id_of(generation: &Generation, address: &VirtualAddress, rip: SocketAddr) -> Option<RealId> {
    let service = generation.service(address)?;
    let real = service.reals.iter().find(|real| SocketAddr::new(real.address, real.port) == rip);
    real.map(|real| real.id)
}

fn weights(generation: &Generation, address: &VirtualAddress) -> Vec<(SocketAddr, u32)> {
    let reals = &generation.service(address).expect("compiled").reals;
    reals.iter().map(|r| (SocketAddr::new(r.address, r.port), r.weight)).collect()
}

#[test]
fn the_newest_real_server_comes_first() {
    let document = document([service_with(vip(1), &[1, 2, 3])]);
    let mut ids = Ids::default();
    let next = compile(&document, &Situation::default(), &mut ids, &Generation::default());
    assert_eq!(weights(&next, &vip(1)), [(rip(3), 1), (rip(2), 1), (rip(1), 1)]);
}

#[test]
fn a_change_touches_only_its_service() {
    let before = document((1..=9).map(|n| service_with(vip(n), &[1, 2])));
    let mut ids = Ids::default();
    let situation = Situation::default();
    let first = compile(&before, &situation, &mut ids, &Generation::default());
    let mut after = before.clone();
    after.service_at_mut(&vip(5)).expect("there").reals[1].weight = 7;
    let second = compile(&after, &situation, &mut ids, &first);
    for n in 1..=9 {
        let same = Arc::ptr_eq(
            first.service(&vip(n)).expect("compiled"),
            second.service(&vip(n)).expect("compiled"),
        );
        assert_eq!(same, n != 5, "service {n}");
    }
    assert!(second.fresh_reals.is_empty() && second.fresh_services.is_empty());
    let mut down = situation.clone();
    down.standings.insert((vip(2), rip(1)), Standing::Weight(0));
    let third = compile(&after, &down, &mut ids, &second);
    assert!(!Arc::ptr_eq(
        second.service(&vip(2)).expect("compiled"),
        third.service(&vip(2)).expect("compiled")
    ));
}

#[test]
fn a_removed_server_with_connections_gets_its_id_back() {
    let both = document([service_with(vip(1), &[1, 2])]);
    let one = document([service_with(vip(1), &[2])]);
    let mut ids = Ids::default();
    let situation = Situation::default();
    let first = compile(&both, &situation, &mut ids, &Generation::default());
    let id = id_of(&first, &vip(1), rip(1)).expect("compiled");
    let second = compile(&one, &situation, &mut ids, &first);
    assert_eq!(ids.parked().map(|(_, slot)| slot.id).collect::<Vec<_>>(), [id]);
    ids.release(|asked| asked == id);
    let other = document([service_with(vip(1), &[2, 3])]);
    let third = compile(&other, &situation, &mut ids, &second);
    assert_ne!(id_of(&third, &vip(1), rip(3)), Some(id), "taken by connections");
    let fourth = compile(&both, &situation, &mut ids, &third);
    assert_eq!(id_of(&fourth, &vip(1), rip(1)), Some(id));
    assert!(!fourth.fresh_reals.contains(&id), "its counters go on");
}

#[test]
fn an_unused_id_is_freed_and_starts_from_nothing() {
    let mut ids = Ids::default();
    let situation = Situation::default();
    let both = document([service_with(vip(1), &[1, 2])]);
    let first = compile(&both, &situation, &mut ids, &Generation::default());
    let id = id_of(&first, &vip(1), rip(1)).expect("compiled");
    let second = compile(&document([service_with(vip(1), &[2])]), &situation, &mut ids, &first);
    ids.release(|_| false);
    assert_eq!(ids.taken(), (1, 1));
    let third = compile(&document([service_with(vip(1), &[2, 3])]), &situation, &mut ids, &second);
    assert_eq!(id_of(&third, &vip(1), rip(3)), Some(id));
    assert_eq!(third.fresh_reals, [id]);
}

#[test]
fn a_service_made_anew_has_another_id_while_connections_remain() {
    let mut ids = Ids::default();
    let situation = Situation::default();
    let with = document([service_with(vip(1), &[1])]);
    let first = compile(&with, &situation, &mut ids, &Generation::default());
    let (service, real) = (ids.service_id(&vip(1)), id_of(&first, &vip(1), rip(1)));
    let second = compile(&document([]), &situation, &mut ids, &first);
    let third = compile(&with, &situation, &mut ids, &second);
    assert_ne!(ids.service_id(&vip(1)), service);
    assert_eq!(id_of(&third, &vip(1), rip(1)), real);
    assert_eq!(third.fresh_reals, real.into_iter().collect::<Vec<_>>(), "as IPVS: zeroed");
    assert_eq!(ids.taken(), (1, 1), "nothing refers to the old service any more");
}

#[test]
fn the_last_weight_above_zero_is_remembered() {
    let mut ids = Ids::default();
    let mut one = Service::new(vip(1), Method::Nat);
    one.reals.push(Real { weight: 5, ..Real::new(rip(1)) });
    let full = document([Arc::new(one.clone())]);
    one.reals[0].weight = 0;
    let drained = document([Arc::new(one)]);
    let first = compile(&full, &Situation::default(), &mut ids, &Generation::default());
    let second = compile(&drained, &Situation::default(), &mut ids, &first);
    let real = &second.service(&vip(1)).expect("compiled").reals[0];
    assert_eq!((real.weight, real.last_weight), (0, 5));
    let third = compile(&document([]), &Situation::default(), &mut ids, &second);
    let fourth = compile(&drained, &Situation::default(), &mut ids, &third);
    let real = &fourth.service(&vip(1)).expect("compiled").reals[0];
    assert_eq!((real.weight, real.last_weight), (0, 0), "not over its absence");
}

#[test]
fn the_sorry_server_serves_only_when_nobody_else_can() {
    let mut one = Service::new(vip(1), Method::DirectRouting);
    one.reals = vec![Real::new(rip(1)), Real::new(rip(2))];
    one.sorry = Some(Sorry::Server { address: "127.0.0.1:80".parse().unwrap(), method: None });
    let document = document([Arc::new(one)]);
    let mut ids = Ids::default();
    let mut situation = Situation::default();
    let first = compile(&document, &situation, &mut ids, &Generation::default());
    assert_eq!(weights(&first, &vip(1)), [(rip(2), 1), (rip(1), 1)]);

    situation.standings.insert((vip(1), rip(1)), Standing::Weight(0));
    situation.standings.insert((vip(1), rip(2)), Standing::Removed);
    let second = compile(&document, &situation, &mut ids, &first);
    let sorry = "127.0.0.1:80".parse().unwrap();
    assert_eq!(weights(&second, &vip(1)), [(sorry, 1), (rip(1), 0)]);
    assert_eq!(second.service(&vip(1)).expect("compiled").reals[0].method, Method::Local);

    situation.standings.clear();
    let third = compile(&document, &situation, &mut ids, &second);
    assert_eq!(weights(&third, &vip(1)), [(rip(2), 1), (rip(1), 1)]);
}

#[test]
fn below_quorum_the_sorry_server_has_all() {
    let mut one = Service::new(vip(1), Method::Nat);
    one.reals = vec![Real::new(rip(1))];
    one.sorry = Some(Sorry::Server { address: rip(9), method: None });
    let document = document([Arc::new(one)]);
    let situation = Situation { down: [vip(1)].into(), ..Situation::default() };
    let only = compile(&document, &situation, &mut Ids::default(), &Generation::default());
    assert_eq!(weights(&only, &vip(1)), [(rip(9), 1), (rip(1), 0)]);
    assert_eq!(only.service(&vip(1)).expect("compiled").reals[0].method, Method::Nat);
}

#[test]
fn the_director_answers_for_what_is_its_own() {
    let mut withdrawn = Service::new(vip(2), Method::Nat);
    withdrawn.quorum = Quorum { withdraw: true, ..Quorum::default() };
    let mut marked =
        Service::new(VirtualAddress::Mark { family: Family::V4, mark: 3 }, Method::Nat);
    let block = |text: &str, length| table::Prefix { address: text.parse().unwrap(), length };
    for destination in [block("192.0.2.9", 32), block("198.51.100.0", 24)] {
        marked.rules.push(MatchRule { source: None, destination, protocol: None, ports: None });
    }
    let document = document([
        service_with(vip(1), &[1]),
        Arc::new(withdrawn),
        service_with(vip(3), &[]),
        service_with(vip(4), &[]),
        Arc::new(marked),
    ]);
    let mac = [0, 0, 0x5e, 0, 1, 50];
    let address = |last| IpAddr::from([192, 0, 2, last]);
    let situation = Situation {
        down: [vip(2)].into(),
        roles: [
            (address(3), Role::Backup),
            (address(4), Role::Master { mac: Some(mac), answers_ping: false }),
        ]
        .into(),
        ..Situation::default()
    };
    let only = compile(&document, &situation, &mut Ids::default(), &Generation::default());
    let owned = |last| only.table.owned(&address(last)).map(|owned| owned.mac);
    assert_eq!(owned(1), Some(None));
    assert_eq!(owned(2), None, "withdrawn below its quorum");
    assert_eq!(owned(3), None, "another node is master");
    assert_eq!(only.table.silent_addresses().collect::<Vec<_>>(), [&address(3)]);
    assert_eq!(only.table.owned(&address(4)).map(|owned| owned.answers_ping), Some(false));
    assert_eq!(owned(4), Some(Some(mac)));
    assert_eq!(owned(9), Some(None), "named by a match rule");
    assert_eq!(only.table.marks().len(), 2);
}

#[test]
fn masks_are_those_of_the_family() {
    let of = |netmask| persistence(&Persistence { timeout: Duration::from_secs(60), netmask });
    assert_eq!(of(Netmask::V4([255, 255, 0, 0].into())).mask, 0xffff_0000);
    assert_eq!(of(Netmask::V6(128)).mask, u128::MAX);
    assert_eq!(of(Netmask::V6(64)).mask, u128::MAX << 64);
    assert_eq!(of(Netmask::V6(1)).mask, 1 << 127);
    assert_eq!(of(Netmask::V4(std::net::Ipv4Addr::BROADCAST)).timeout.as_secs(), 60);
}

/// One step of an operator's life.
#[derive(Clone, Debug)]
enum Step {
    Reals(u8, Vec<u8>),
    Gone(u8),
    Release(Vec<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8, proptest::collection::btree_set(0..5_u8, 0..4))
            .prop_map(|(n, reals)| Step::Reals(n, reals.into_iter().collect())),
        (0..3_u8).prop_map(Step::Gone),
        proptest::collection::vec(0..12_u32, 0..6).prop_map(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is added and removed: no two live or parked servers share an id, a server keeps
    /// its id as long as it is there or in use, and a shared generation equals one made from
    /// nothing but the ids.
    #[test]
    fn ids_are_unique_and_stable(steps in proptest::collection::vec(step(), 1..30)) {
        let mut document = Document::default();
        let mut ids = Ids::default();
        let mut generation = Generation::default();
        let mut held: BTreeMap<RealKey, RealId> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Reals(n, reals) => {
                    document.services.retain(|service| service.address != vip(n));
                    document.services.push(service_with(vip(n), &reals));
                }
                Step::Gone(n) => document.services.retain(|service| service.address != vip(n)),
                Step::Release(in_use) => {
                    ids.release(|id| in_use.contains(&id.0));
                    held.retain(|key, _| ids.real_id(key).is_some());
                }
            }
            generation = compile(&document, &Situation::default(), &mut ids, &generation);
            let mut seen = BTreeSet::new();
            for (service, real) in generation.table.reals() {
                prop_assert!(seen.insert(real.id), "two servers have {:?}", real.id);
                let table::ServiceKey::Address { protocol, address, port } = service.key else {
                    continue;
                };
                let address =
                    VirtualAddress::Socket { protocol, address: SocketAddr::new(address, port) };
                let key = (address, SocketAddr::new(real.address, real.port));
                if let Some(before) = held.insert(key, real.id) {
                    prop_assert_eq!(before, real.id);
                }
            }
            for parked in ids.parked().map(|(_, slot)| slot.id) {
                prop_assert!(seen.insert(parked), "{:?} is parked and in use", parked);
            }
            let wanted: usize = document.services.iter().map(|service| service.reals.len()).sum();
            prop_assert_eq!(generation.table.reals().count(), wanted);
            let anew = compile(&document, &Situation::default(), &mut ids.clone(), &Generation::default());
            prop_assert_eq!(
                format!("{:?}", anew.table.services().collect::<Vec<_>>()),
                format!("{:?}", generation.table.services().collect::<Vec<_>>())
            );
        }
    }
}
