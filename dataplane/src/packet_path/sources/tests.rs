use super::*;
use crate::packet_path::connections::HashKeys;
use proptest::prelude::*;
use std::collections::BTreeMap;

const PLACES: usize = 4;

fn connections() -> Connections {
    Connections::new(1, 1, HashKeys([1, 2, 3, 4]))
}

fn address(number: u8) -> Address {
    Address::v4(0x0a00_0000 | u32::from(number))
}

#[test]
fn a_place_is_not_given_away_while_a_worker_may_read_it() {
    let (connections, sources) = (connections(), Sources::new(1));
    let worker = connections.owned(0);
    connections.begin_batch(&worker);
    sources.offer_interfaces([address(1)].into_iter(), &connections);
    let number = sources.find(address(1)).unwrap();
    assert!(sources.take(number, address(1)));
    sources.offer_interfaces([address(2)].into_iter(), &connections);
    sources.arrange(&connections);
    assert_eq!(sources.address(number), address(1), "a connection uses it");
    sources.give_back(number);
    for _ in 0..3 {
        let fill = sources.arrange(&connections);
        assert_eq!(fill, Fill { open: 0, missing: 1, resting: 1 });
        assert_eq!(sources.address(number), address(1), "the batch goes on");
    }
    assert!(!sources.take(number, address(1)) && sources.find(address(1)).is_none());
    connections.begin_batch(&worker);
    assert_eq!(sources.arrange(&connections), Fill { open: 1, missing: 0, resting: 0 });
    assert_eq!(sources.find(address(2)), Some(number));
    assert!(!sources.take(number, address(1)) && sources.take(number, address(2)));
}

#[test]
fn pools_come_before_interfaces_whose_addresses_nothing_uses() {
    let (connections, sources) = (connections(), Sources::new(PLACES));
    sources.offer_interfaces((0..9).map(address), &connections);
    sources.offer_pools([address(20)].into_iter(), &connections);
    sources.arrange(&connections);
    let fill = sources.arrange(&connections);
    assert_eq!(fill, Fill { open: PLACES, missing: 10 - PLACES, resting: 0 });
    assert!(sources.find(address(20)).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Pools(Vec<u8>),
    Interfaces(Vec<u8>),
    Begin(u8),
    End(u8),
    Arrange,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || proptest::collection::vec(0u8..8, 0..6);
    let step = prop_oneof![
        some().prop_map(Step::Pools),
        some().prop_map(Step::Interfaces),
        (0u8..8).prop_map(Step::Begin),
        (0u8..8).prop_map(Step::End),
        Just(Step::Arrange),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Addresses as a person would keep them: who offers which, and whose connections there are.
#[derive(Default)]
struct Model {
    pools: BTreeSet<u8>,
    interfaces: BTreeSet<u8>,
    /// The number that each connection of an address was given.
    users: BTreeMap<u8, Vec<u8>>,
}

impl Model {
    /// All is at rest: every place that can be given away is.
    fn check(&self, sources: &Sources, fill: Fill) {
        let offered: BTreeSet<u8> = self.pools.union(&self.interfaces).copied().collect();
        let pools_first = self.pools.iter().chain(self.interfaces.difference(&self.pools));
        let wanted: BTreeSet<u8> = pools_first.take(PLACES).copied().collect();
        let used: BTreeSet<u8> = self.users.keys().copied().collect();
        let open: BTreeSet<u8> = (0..8).filter(|n| sources.find(address(*n)).is_some()).collect();
        assert!(open.is_superset(&used));
        assert!(open.iter().all(|n| wanted.contains(n) || used.contains(n)), "{open:?}");
        assert_eq!(open.len(), wanted.union(&used).count().min(PLACES));
        let missing = offered.difference(&open).count();
        assert_eq!(fill, Fill { open: open.len(), missing, resting: 0 });
    }
}

proptest! {
    #[test]
    fn behaves_as_a_book_that_forgets_what_nobody_offers_or_uses(steps in steps()) {
        let (connections, sources) = (connections(), Sources::new(PLACES));
        let mut model = Model::default();
        let all = |numbers: &[u8]| numbers.iter().map(|n| address(*n)).collect::<Vec<_>>();
        for step in steps {
            match step {
                Step::Pools(numbers) => {
                    sources.offer_pools(all(&numbers).into_iter(), &connections);
                    model.pools = numbers.into_iter().collect();
                }
                Step::Interfaces(numbers) => {
                    sources.offer_interfaces(all(&numbers).into_iter(), &connections);
                    model.interfaces = numbers.into_iter().collect();
                }
                Step::Begin(n) => {
                    if let Some(number) = sources.find(address(n)) {
                        prop_assert!(sources.take(number, address(n)));
                        model.users.entry(n).or_default().push(number);
                    }
                }
                Step::End(n) => {
                    if let Some(number) = model.users.get_mut(&n).and_then(Vec::pop) {
                        sources.give_back(number);
                    }
                    model.users.retain(|_, numbers| !numbers.is_empty());
                }
                Step::Arrange => {
                    for _ in 0..2 {
                        sources.arrange(&connections);
                    }
                    model.check(&sources, sources.arrange(&connections));
                }
            }
            for (n, numbers) in &model.users {
                prop_assert!(numbers.iter().all(|number| sources.address(*number) == address(*n)));
            }
        }
    }
}
