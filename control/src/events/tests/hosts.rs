//! Links, ports, neighbours, roles.

use super::*;
use crate::host::{Address, Neighbour, NeighbourState, Route, Tables};
use crate::state::Ports;
use dataplane::io::steer::SteeringRules;
use dataplane::table::{Prefix, RouteHop, Target};

fn host(links: &[(u32, &str)]) -> Arc<HostState> {
    let link = |name: &str| Link {
        name: name.into(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        controller: None,
        queues: 1,
        vlans: false,
        generation: 0,
        loopback: false,
        up: true,
        carrier: true,
        ignored_without_carrier: [false; 2],
        vrf: None,
    };
    let links = links.iter().map(|(index, name)| (*index, link(name))).collect();
    Arc::new(HostState { links, ..HostState::default() })
}

fn attached(director: &mut Director) -> Vec<(PortId, String)> {
    let found = director.others.iter().filter_map(|action| match action {
        Action::Attach { port, name, .. } => Some((*port, name.clone())),
        _ => None,
    });
    let found = found.collect();
    director.others.clear();
    found
}

fn works(port: PortId) -> Event {
    let status = PortStatus::Attached {
        backend: "packet ring".into(),
        reason: "it works".into(),
        unguarded: None,
    };
    Event::Host(HostEvent::PortOpened { port, status })
}

#[test]
fn links_are_attached_as_they_come_and_detached_as_they_go() {
    let mut director = Director::new(Some(web(&[1])));
    director.happen(Event::Host(HostEvent::Changed(host(&[(2, "eth0")]))));
    assert_eq!(attached(&mut director), [(PortId(0), "eth0".to_owned())]);
    director.happen(works(PortId(0)));
    assert_eq!(director.said(Kind::Interface).len(), 1);
    director.happen(Event::Host(HostEvent::Changed(host(&[(2, "eth0"), (3, "eth1")]))));
    assert_eq!(attached(&mut director), [(PortId(1), "eth1".to_owned())]);
    director.happen(Event::Host(HostEvent::Changed(host(&[(3, "eth1")]))));
    assert!(director.others.iter().any(|a| matches!(a, Action::Detach(PortId(0)))));
}

#[test]
fn the_link_to_the_host_s_own_stack_is_missed_aloud_when_somebody_removes_it() {
    let mut director = Director::new(Some(web(&[1])));
    director.state.stack =
        Some(crate::host::Stack { port: Ports::STACK, index: 9, mac: [2, 0, 0, 0, 0, 9] });
    director.state.ports.reserve(9);
    director.happen(Event::Host(HostEvent::PortLost { port: Ports::STACK, edition: 0 }));
    assert_eq!(director.said(Kind::Interface), Vec::<String>::new(), "an older one");
    for _ in 0..2 {
        director.happen(Event::Host(HostEvent::PortLost { port: Ports::STACK, edition: 1 }));
        assert_eq!(director.said(Kind::Interface).len(), 1, "once");
    }
    assert!(director.others.iter().any(|a| matches!(a, Action::Detach(Ports::STACK))));
    let views = crate::view::InterfaceView::all(&director.state, &director.numbers);
    assert!(views.iter().all(|view| view.name != crate::host::stack::NAME), "{views:?}");
}

#[test]
fn a_lost_port_is_tried_again() {
    let mut director = Director::new(Some(web(&[1])));
    director.happen(Event::Host(HostEvent::Changed(host(&[(2, "eth0")]))));
    director.happen(works(PortId(0)));
    director.happen(Event::Host(HostEvent::PortLost { port: PortId(0), edition: 0 }));
    let place = director.state.ports.get(PortId(0)).expect("a port");
    assert!(matches!(place.status, PortStatus::Attached { .. }), "an older one was lost");
    director.happen(Event::Host(HostEvent::PortLost { port: PortId(0), edition: 1 }));
    attached(&mut director);
    director.pass(30);
    assert_eq!(attached(&mut director).len(), 1);
    let failed = || PortStatus::Failed { reason: "no".into(), since: Duration::from_secs(30) };
    director.happen(Event::Host(HostEvent::PortOpened { port: PortId(0), status: failed() }));
    let said = director.said(Kind::Interface).len();
    director.pass(30);
    director.happen(Event::Host(HostEvent::PortOpened { port: PortId(0), status: failed() }));
    assert_eq!(director.said(Kind::Interface).len(), said + 1, "opening again is news once");
}

#[test]
fn the_kernel_is_asked_for_neighbours_that_packets_need() {
    let mut director = Director::new(Some(web(&[1])));
    director.happen(Event::Host(HostEvent::Changed(host(&[(7, "eth0")]))));
    director.happen(works(PortId(0)));
    director.others.clear();
    let address = [10, 0, 0, 1].into();
    director.happen(Event::Host(HostEvent::NeighbourNeeded { port: PortId(0), address }));
    assert!(matches!(director.others[..], [Action::Resolve { link: 7, .. }]));
    director.others.clear();
    let seen = Event::Host(HostEvent::NeighbourSeen { port: PortId(0), address, mac: [9; 6] });
    director.happen(seen.clone());
    assert!(matches!(director.others[..], [Action::PublishHops(_)]));
    director.happen(seen);
    assert_eq!(director.others.len(), 1, "no news");
    director.happen(Event::Host(HostEvent::NeighbourNeeded { port: PortId(9), address }));
    assert_eq!(director.others.len(), 1, "no such port");
}

#[test]
fn stale_neighbours_of_real_servers_are_confirmed() {
    confirms_the_real_server(Director::new(Some(web(&[1]))));
}

#[test]
fn a_backup_confirms_neighbours_too() {
    let mut director = under_vrrp();
    director.happen(role(crate::vrrp::fsm::State::Backup));
    assert_eq!(director.state.generation.table.reals().count(), 0, "it balances nothing");
    confirms_the_real_server(director);
}

fn confirms_the_real_server(mut director: Director) {
    let mut picture = HostState::clone(&host(&[(7, "eth0")]));
    let stale = Neighbour { mac: [9; 6], state: NeighbourState::Stale };
    picture.neighbours.insert((7, [10, 0, 0, 1].into()), stale);
    picture.neighbours.insert((7, [10, 0, 0, 77].into()), stale);
    let prefix = Prefix { address: [10, 0, 0, 254].into(), length: 24 };
    picture.addresses.push(Address { link: 7, prefix });
    let hops = [RouteHop { via: None, link: 7, weight: 1 }].into();
    let target = Target::Hops { hops, source: None, mtu: 0 };
    let mut tables = Tables::default();
    tables.replace([Route { table: 254, prefix, metric: 0, target }]);
    picture.routing = tables.snapshot(&picture.links);
    director.happen(Event::Host(HostEvent::Changed(Arc::new(picture))));
    director.happen(works(PortId(0)));
    director.others.clear();
    director.pass(20);
    let asked: Vec<_> = director
        .others
        .iter()
        .filter_map(|action| match action {
            Action::Resolve { address, .. } => Some(*address),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [IpAddr::from([10, 0, 0, 1])], "the one that packets go by");
}

/// A director with one instance that owns the address of its service, and an inside gateway.
fn under_vrrp() -> Director {
    let text = r#"
        [[vrrp]]
        name = "outside"
        interface = "eth0"
        id = 50
        addresses = ["192.0.2.1"]
        inside_addresses = [{ address = "10.0.0.1/24", interface = "eth1" }]
    "#;
    let vrrp = Document::parse(text, "test").expect("good").vrrp;
    Director::new(Some(Document { vrrp, ..web(&[1]) }))
}

/// The steering rules that hold.
fn steered(director: &Director) -> SteeringRules {
    let rules = director.others.iter().rev().find_map(|action| match action {
        Action::Steer(rules) => Some(rules.clone()),
        _ => None,
    });
    rules.expect("steered")
}

#[test]
fn without_the_virtual_mac_a_master_answers_with_its_own_and_listens_to_no_other() {
    use crate::vrrp::fsm::State as Standing;
    let mut director = under_vrrp();
    let mut document = Document::clone(&director.state.running);
    document.vrrp[0].virtual_mac = false;
    director.state.running = Arc::new(document);
    director.happen(Event::Host(HostEvent::Changed(host(&[(7, "eth0"), (8, "eth1")]))));
    director.happen(works(PortId(0)));
    director.happen(role(Standing::Master));
    for address in [IpAddr::from([192, 0, 2, 1]), [10, 0, 0, 1].into()] {
        assert_eq!(director.table.owned(&address).map(|owned| owned.mac), Some(None));
    }
    assert!(steered(&director).macs.is_empty());
    assert!(steered(&director).owned.contains(&[192, 0, 2, 1].into()));
    director.happen(role(Standing::Backup));
    assert!(director.table.is_silent(&[192, 0, 2, 1].into()));
}

fn role(to: crate::vrrp::fsm::State) -> Event {
    Event::RoleChanged { instance: "outside".into(), to, reason: "test".into() }
}

#[test]
fn a_backup_is_silent_and_a_master_answers_with_the_virtual_mac() {
    use crate::vrrp::fsm::State as Standing;
    let mut director = under_vrrp();
    let mac = [0, 0, 0x5e, 0, 1, 50];
    let address: IpAddr = [192, 0, 2, 1].into();
    let gateway: IpAddr = [10, 0, 0, 1].into();
    director.happen(Event::Host(HostEvent::Changed(host(&[(7, "eth0"), (8, "eth1")]))));
    director.happen(works(PortId(0)));
    let mut actions = Vec::new();
    director.state.republish(&mut actions);
    assert!(director.state.generation.table.is_silent(&address), "before VRRP says anything");
    director.happen(role(Standing::Backup));
    assert!(director.state.generation.table.is_silent(&address));
    director.happen(role(Standing::Master));
    for address in [address, gateway] {
        assert_eq!(director.table.owned(&address).map(|owned| owned.mac), Some(Some(mac)));
        assert!(!director.table.is_silent(&address));
    }
    assert_eq!(steered(&director).macs, [(7, mac), (8, mac)].into());
    director.happen(role(Standing::Fault));
    assert!(director.table.owned(&gateway).is_none() && director.table.is_silent(&address));
    assert_eq!(director.said(Kind::Mastership).len(), 3);
}

#[test]
fn an_address_that_leaves_its_instance_is_always_owned() {
    let mut director = under_vrrp();
    director.happen(role(crate::vrrp::fsm::State::Backup));
    let address: IpAddr = [192, 0, 2, 1].into();
    let mut actions = Vec::new();
    director.state.republish(&mut actions);
    assert!(director.state.generation.table.is_silent(&address));
    director.state.running = Arc::new(web(&[1]));
    director.state.republish(&mut actions);
    let owned = director.state.generation.table.owned(&address).map(|owned| owned.mac);
    assert_eq!(owned, Some(None));
}

#[test]
fn the_other_director_s_word_between_two_masterships_is_no_claim() {
    use crate::vrrp::fsm::State as Standing;
    let mut director = under_vrrp();
    let claim = || {
        Event::Setup(SetupEvent::AddressClaimed {
            address: [192, 0, 2, 1].into(),
            mac: [2, 0, 0, 0, 9, 9],
        })
    };
    let mut actions = Vec::new();
    director.state.republish(&mut actions);
    for _ in 0..3 {
        director.happen(role(Standing::Master));
        director.happen(claim());
        director.happen(role(Standing::Backup));
        director.happen(claim());
        director.pass(10);
    }
    assert_eq!(director.said(Kind::Setup), [""; 0]);
    director.happen(role(Standing::Master));
    director.happen(claim());
    director.pass(10);
    director.happen(claim());
    assert_eq!(director.said(Kind::Setup).len(), 1, "somebody else goes on");
}
