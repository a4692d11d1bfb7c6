//! Claim: what the rest of Viaduct tells its VRRP thread (configuration, tracking, holding back, stepping
//! down) takes effect, and nothing but what was told changes.

use anyhow::{Context, Result, ensure};
use control::vrrp::fsm::State;
use control::vrrp::instance::Instance;
use control::vrrp::packet::{Authentication, Checksum, Format};
use control::vrrp::status::{Change, InstanceStatus};
use control::vrrp::task::{VrrpHandle, spawn};
use control::vrrp::tracking::{Tracked, Weight};
use control::vrrp::{Priority, Version, Vrid};
use harness::{Host, Lab, wait};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

const LIMIT: Duration = Duration::from_secs(30);

struct Node {
    handle: VrrpHandle,
    changes: Receiver<Change>,
}

impl Node {
    fn start(host: &Host, instances: Vec<Instance>) -> Result<Self> {
        let (told, changes) = tokio::sync::mpsc::channel(64);
        Ok(Self { handle: host.enter(|| spawn(instances, told))??, changes })
    }

    fn status(&self, name: &str) -> Option<InstanceStatus> {
        self.handle.status().iter().find(|instance| instance.name == name).cloned()
    }

    fn wait_for(&self, name: &str, state: State) -> Result<InstanceStatus> {
        wait::until(&format!("{name} to become {state}"), LIMIT, || {
            self.status(name).filter(|status| status.state == state)
        })
        .with_context(|| format!("{:#?}", self.handle.status()))
    }

    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(change) = self.changes.try_recv() {
            told.push(format!("{}: {} > {}", change.instance, change.from, change.to));
        }
        told
    }
}

fn instance(name: &str, id: u8, priority: u8, addresses: &[&str]) -> Result<Instance> {
    let addresses: Result<Vec<IpAddr>, _> = addresses.iter().map(|a| a.parse()).collect();
    let id = Vrid::new(id).context("id")?;
    let interval = Duration::from_millis(100);
    let (checksum, none) = (Checksum::PseudoHeader, Authentication::None);
    let format = Format::new(Version::V3, id, interval, addresses?, checksum, none)?;
    Ok(Instance::new(name, "eth0", format, Priority::new(priority).context("priority")?))
}

fn pair(name: &str) -> Result<(Lab, Host, Host)> {
    let lab = Lab::new(name)?;
    let wire = lab.network("wire")?;
    let (one, two) = (lab.host("one")?, lab.host("two")?);
    one.attach(&wire, &["192.0.2.1/24"])?;
    two.attach(&wire, &["192.0.2.2/24"])?;
    Ok((lab, one, two))
}

#[test]
fn a_new_configuration_moves_only_what_changed() -> Result<()> {
    let (_lab, one, _) = pair("vrrpconf")?;
    let kept = instance("kept", 1, 100, &["192.0.2.10"])?;
    let gone = instance("gone", 2, 100, &["192.0.2.20"])?;
    let mut node = Node::start(&one, vec![kept, gone])?;
    node.wait_for("kept", State::Master)?;
    node.wait_for("gone", State::Master)?;
    node.told();
    let announced =
        |status: &InstanceStatus| status.counters.announcements_sent.load(Ordering::Relaxed);
    let before = wait::until("the first announcements", LIMIT, || {
        node.status("kept").as_ref().map(announced).filter(|sent| *sent == 5)
    })?;
    // Renamed, another priority, one address more, and another instance joins it in a group.
    let group = Some("lb".to_owned());
    let renamed = instance("renamed", 1, 120, &["192.0.2.10", "192.0.2.11"])?;
    let renamed = Instance { group: group.clone(), ..renamed };
    let fresh = Instance { group, ..instance("fresh", 3, 100, &["192.0.2.30"])? };
    node.handle.configure(vec![renamed, fresh])?;
    node.wait_for("fresh", State::Master)?;
    let status = node.wait_for("renamed", State::Master)?;
    ensure!(status.priority.get() == 120, "{status:#?}");
    wait::until("both addresses to be announced", LIMIT, || {
        node.status("renamed").as_ref().map(announced).filter(|sent| *sent >= before + 10)
    })?;
    let mut told = node.told();
    told.sort();
    // Under its new name the kept one is told of once more: followers know instances by name.
    let wanted = [
        "fresh: backup > master",
        "fresh: stopped > backup",
        "gone: master > stopped",
        "renamed: backup > master",
    ];
    ensure!(told == wanted, "{told:?}");
    ensure!(node.status("gone").is_none() && node.status("kept").is_none());
    // Dropping everything resigns.
    node.handle.configure(Vec::new())?;
    wait::until("no instance", LIMIT, || node.handle.status().is_empty().then_some(()))?;
    let told = node.told();
    ensure!(told.len() == 2 && told.iter().all(|t| t.ends_with("master > stopped")), "{told:?}");
    Ok(())
}

#[test]
fn tracking_moves_mastership_there_and_back() -> Result<()> {
    let (_lab, one, two) = pair("vrrptrack")?;
    let track = |weight: i16| {
        let weight = Weight::from_number(weight);
        [("service web".to_owned(), Tracked { weight, reverse: false, up: true })].into()
    };
    for (name, weight, when_down) in [("weight", -60, State::Backup), ("fault", 0, State::Fault)] {
        let high = Instance { things: track(weight), ..instance(name, 7, 150, &["192.0.2.10"])? };
        let high = Node::start(&one, vec![high])?;
        let low = Node::start(&two, vec![instance("low", 7, 100, &["192.0.2.10"])?])?;
        high.wait_for(name, State::Master)?;
        low.wait_for("low", State::Backup)?;
        high.handle.track("service web", false)?;
        let status = high.wait_for(name, when_down)?;
        low.wait_for("low", State::Master)?;
        if when_down == State::Fault {
            ensure!(status.faults == ["service web"], "{status:#?}");
        }
        high.handle.track("service web", true)?;
        high.wait_for(name, State::Master)?;
        low.wait_for("low", State::Backup)?;
    }
    Ok(())
}

#[test]
fn held_nodes_wait_inhibited_nodes_leave_and_resigned_nodes_stay_away() -> Result<()> {
    let (_lab, one, two) = pair("vrrphold")?;
    let low = Node::start(&two, vec![instance("low", 7, 100, &["192.0.2.10"])?])?;
    low.wait_for("low", State::Master)?;
    let high = Node::start(&one, Vec::new())?;
    high.handle.hold(true)?;
    high.handle.configure(vec![instance("high", 7, 150, &["192.0.2.10"])?])?;
    // It hears the lower master for longer than it would tolerate it, and stays.
    wait::until("twenty adverts", LIMIT, || {
        let heard = high.status("high")?.counters.adverts_received.load(Ordering::Relaxed);
        (heard >= 20).then_some(())
    })?;
    ensure!(high.status("high").is_some_and(|status| status.state == State::Backup));
    high.handle.hold(false)?;
    high.wait_for("high", State::Master)?;
    low.wait_for("low", State::Backup)?;
    high.handle.inhibit(Some("witnesses do not answer".to_owned()))?;
    let status = high.wait_for("high", State::Fault)?;
    ensure!(status.faults == ["witnesses do not answer"], "{status:#?}");
    low.wait_for("low", State::Master)?;
    high.handle.inhibit(None)?;
    high.wait_for("high", State::Master)?;
    high.handle.resign(Some("high".to_owned()))?;
    low.wait_for("low", State::Master)?;
    let heard = |node: &Node| {
        node.status("high").map(|s| s.counters.adverts_received.load(Ordering::Relaxed))
    };
    let since = heard(&high);
    wait::until("twenty more adverts", LIMIT, || {
        (heard(&high) >= since.map(|heard| heard + 20)).then_some(())
    })?;
    ensure!(high.status("high").is_some_and(|status| status.state == State::Backup));
    low.handle.shutdown()?;
    high.wait_for("high", State::Master)?;
    Ok(())
}

#[test]
fn an_interface_may_come_go_and_lose_its_address() -> Result<()> {
    let (_lab, one, _) = pair("vrrpiface")?;
    let instance =
        Instance { interface: "late0".to_owned(), ..instance("late", 7, 150, &["198.51.100.10"])? };
    let node = Node::start(&one, vec![instance])?;
    let fault = |text: &str| {
        wait::until(text, LIMIT, || node.status("late").filter(|status| status.faults == [text]))
            .with_context(|| format!("{:#?}", node.handle.status()))
    };
    fault("interface late0 does not exist")?;
    let ip = |line: &str| -> Result<String> {
        one.run_ok(&std::iter::once("ip").chain(line.split(' ')).collect::<Vec<_>>())
    };
    for _ in 0..2 {
        ip("link add late0 type veth peer name late1")?;
        ip("link set late1 up")?;
        fault("interface late0 is down")?;
        ip("link set late0 up")?;
        fault("interface late0 has no source address")?;
        ip("address add 198.51.100.1/24 dev late0")?;
        node.wait_for("late", State::Master)?;
        ip("address del 198.51.100.1/24 dev late0")?;
        fault("interface late0 has no source address")?;
        ip("link del late0")?;
        fault("interface late0 does not exist")?;
    }
    Ok(())
}

#[test]
fn a_master_without_the_virtual_mac_announces_another_mac_of_its_interface() -> Result<()> {
    let (_lab, one, _) = pair("vrrpother")?;
    let own = Instance { virtual_mac: false, ..instance("own", 7, 150, &["192.0.2.10"])? };
    let node = Node::start(&one, vec![own, instance("virtual", 8, 150, &["192.0.2.20"])?])?;
    node.wait_for("virtual", State::Master)?;
    node.wait_for("own", State::Master)?;
    let announced = |name: &str| {
        node.status(name).map(|status| status.counters.announcements_sent.load(Ordering::Relaxed))
    };
    wait::until("the first announcements", LIMIT, || {
        (announced("own") == Some(5) && announced("virtual") == Some(5)).then_some(())
    })?;
    let other = [2, 0, 0, 0, 0x77, 1];
    one.run_ok(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:01"])?;
    wait::until("the other MAC to be announced", LIMIT, || {
        let status = node.status("own")?;
        (status.mac == Some(other) && announced("own") >= Some(10)).then_some(())
    })?;
    let status = node.wait_for("virtual", State::Master)?;
    ensure!(status.mac == Some([0, 0, 0x5e, 0, 1, 8]), "{status:#?}");
    ensure!(announced("virtual") == Some(5), "nothing has changed for it");
    ensure!(node.status("own").is_some_and(|status| status.state == State::Master));
    Ok(())
}
