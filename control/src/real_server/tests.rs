use super::*;
use proptest::prelude::*;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

fn setup(method: Method) -> Setup {
    Setup { vips: vec![VIP], method }
}

fn ipip() -> Setup {
    setup(Method::Tunnel { header: Header::Ipip, over_v6: false })
}

/// A host as Debian starts it: one Ethernet device, all variables 0.
fn fresh() -> Observed {
    let mut host = Observed::default();
    host.devices.insert("lo".into(), DeviceState { up: true, ..DeviceState::default() });
    let ethernet = DeviceState { up: true, ethernet: true, addresses: Vec::new() };
    host.devices.insert("eth0".into(), ethernet);
    for device in ["all", "lo", "eth0"] {
        for name in Variable::ALL {
            host.variables.insert((device.into(), name), 0);
        }
    }
    host
}

/// Does what a need asks for.
fn meet(host: &mut Observed, need: &Need) {
    match need {
        Need::Variable { device, name } => {
            host.variables.insert(((*device).to_owned(), *name), name.wanted());
        }
        Need::Device(device) => host.devices.entry(device.name.into()).or_default().up = true,
        Need::Address { device, vip } => {
            let state = host.devices.entry((*device).into()).or_default();
            state.addresses.retain(|(address, _)| address != vip);
            state.addresses.push((*vip, alone(*vip)));
        }
    }
}

fn said(setup: &Setup, host: &Observed) -> Vec<String> {
    problems(&setup.needs().unwrap(), host).into_iter().map(|problem| problem.what).collect()
}

#[test]
fn a_fresh_host_lacks_everything_and_says_what_comes_of_it() {
    assert_eq!(
        said(&setup(Method::DirectRouting), &fresh()),
        [
            "arp_ignore is 0 on eth0, should be 1: this host answers ARP for the VIP and takes it \
             from the director",
            "arp_announce is 0 on eth0, should be 2: this host asks by ARP with the VIP as its own, \
             which takes it from the director",
            "192.0.2.10 is not on lo: packets for it are refused",
        ]
    );
    assert!(
        said(&ipip(), &fresh())
            .contains(&"there is no device tunl0: tunnelled packets are refused".to_owned())
    );
}

#[test]
fn what_each_device_says_counts_as_much_as_what_all_say() {
    let setup = setup(Method::DirectRouting);
    let mut host = fresh();
    setup.needs().unwrap().iter().for_each(|need| meet(&mut host, need));
    assert_eq!(said(&setup, &host), [""; 0]);
    for name in [Variable::ArpIgnore, Variable::ArpAnnounce] {
        host.variables.insert(("all".into(), name), 0);
        host.variables.insert(("eth0".into(), name), name.wanted());
    }
    assert_eq!(said(&setup, &host), [""; 0]);
}

#[test]
fn a_vip_in_the_wrong_place_or_with_a_subnet_is_found() {
    let setup = setup(Method::DirectRouting);
    let mut host = fresh();
    setup.needs().unwrap().iter().for_each(|need| meet(&mut host, need));
    host.devices.get_mut("eth0").unwrap().addresses.push((VIP, 24));
    assert_eq!(
        said(&setup, &host),
        [
            "192.0.2.10 is on eth0 too: this host answers for it there and takes it from the director"
        ]
    );
    host.devices.get_mut("eth0").unwrap().addresses.clear();
    host.devices.get_mut("lo").unwrap().addresses = vec![(VIP, 24)];
    let found = problems(&setup.needs().unwrap(), &host);
    assert_eq!(
        found[0].repair,
        "ip addr del 192.0.2.10/24 dev lo; ip addr add 192.0.2.10/32 dev lo"
    );
}

#[test]
fn a_strict_reverse_path_filter_is_found_wherever_it_is_set() {
    let setup = ipip();
    let mut host = fresh();
    setup.needs().unwrap().iter().for_each(|need| meet(&mut host, need));
    host.variables.insert(("all".into(), Variable::RpFilter), 1);
    assert_eq!(said(&setup, &host), [""; 0], "2 of the device is larger than 1 of all");
    host.variables.insert(("tunl0".into(), Variable::RpFilter), 0);
    assert!(said(&setup, &host)[0].starts_with("rp_filter is 1 on tunl0, should be 2"));
}

#[test]
fn what_a_tunnel_device_cannot_unwrap_is_refused() {
    let over_v6 = setup(Method::Tunnel { header: Header::Ipip, over_v6: true });
    assert!(over_v6.needs().unwrap_err().contains("needs GRE"));
    let gre = setup(Method::Tunnel { header: Header::Gre, over_v6: true });
    assert!(gre.needs().is_ok());
}

#[test]
fn scripts_say_everything_that_is_needed() {
    let text = ipip().written(Form::Shell).unwrap();
    insta::assert_snapshot!("shell", text);
    let text = setup(Method::DirectRouting).written(Form::Ifupdown).unwrap();
    insta::assert_snapshot!("ifupdown", text);
}

proptest! {
    #[test]
    fn who_has_all_that_is_needed_lacks_nothing(
        vips in proptest::collection::vec(any::<IpAddr>(), 1..5),
        tunnel in any::<bool>(), gre in any::<bool>(), over_v6 in any::<bool>(),
    ) {
        let header = if gre { Header::Gre } else { Header::Ipip };
        let method =
            if tunnel { Method::Tunnel { header, over_v6 } } else { Method::DirectRouting };
        let setup = Setup { vips, method };
        if let Ok(needs) = setup.needs() {
            let mut host = fresh();
            needs.iter().for_each(|need| meet(&mut host, need));
            prop_assert_eq!(problems(&needs, &host), vec![]);
        }
    }
}
