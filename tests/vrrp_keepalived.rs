//! Claim: Viaduct's VRRP and keepalived's form one virtual router: both versions, both families, multicast
//! and unicast, with passwords and sync groups, in both roles; tshark finds no fault in what is sent.

use anyhow::{Context, Result, ensure};
use control::vrrp::fsm::State;
use control::vrrp::instance::Instance;
use control::vrrp::packet::{Authentication, Checksum, Format, Reach};
use control::vrrp::status::{Change, InstanceStatus};
use control::vrrp::task::{VrrpHandle, spawn};
use control::vrrp::{Priority, Version, Vrid};
use harness::{Host, Interface, Lab, Network, Process, host::command, wait};
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Far more than any timer here; reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(30);

/// Viaduct's VRRP thread on a host.
struct Viaduct {
    handle: VrrpHandle,
    changes: Receiver<Change>,
}

impl Viaduct {
    fn start(host: &Host, instances: Vec<Instance>) -> Result<Self> {
        let (told, changes) = tokio::sync::mpsc::channel(64);
        let handle = host.enter(|| spawn(instances, told))??;
        Ok(Self { handle, changes })
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

    /// Everything told since the last call, as `name: from > to`.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(change) = self.changes.try_recv() {
            told.push(format!("{}: {} > {}", change.instance, change.from, change.to));
        }
        told
    }
}

/// Starts keepalived with a configuration; it logs to its output.
fn keepalived(host: &Host, config: &str) -> Result<Process> {
    let file = |name: &str| host.directory().join(name).to_string_lossy().into_owned();
    std::fs::write(file("keepalived.conf"), format!("global_defs {{ router_id test }}\n{config}"))?;
    let (config, pid, vrrp_pid) = (file("keepalived.conf"), file("k.pid"), file("kv.pid"));
    host.spawn(command(&[
        "keepalived",
        "-n",
        "-l",
        "-D",
        "-P",
        "-f",
        &config,
        "-p",
        &pid,
        "-r",
        &vrrp_pid,
    ])?)
}

fn said(keepalived: &Process) -> String {
    format!("keepalived said: {}{}", keepalived.stdout(), keepalived.stderr())
}

fn has_address(host: &Host, address: &str) -> bool {
    host.run_ok(&["ip", "-o", "address", "show"])
        .is_ok_and(|text| text.contains(&format!(" {address}/")))
}

fn wait_for_address(host: &Host, address: &str, present: bool, keepalived: &Process) -> Result<()> {
    let what = format!("{address} on keepalived's interface to be {present}");
    wait::until(&what, LIMIT, || (has_address(host, address) == present).then_some(()))
        .with_context(|| said(keepalived))
}

/// Two routers on one wire.
struct Scene {
    lab: Lab,
    wire: Network,
    viaduct: Host,
    keepalived: Host,
    cable: Interface,
}

fn scene(name: &str) -> Result<Scene> {
    let lab = Lab::new(name)?;
    let wire = lab.network("outside")?;
    let (viaduct, keepalived) = (lab.host("viaduct")?, lab.host("keepalived")?);
    let cable = viaduct.attach(&wire, &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"])?;
    keepalived.attach(&wire, &["192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"])?;
    Ok(Scene { lab, wire, viaduct, keepalived, cable })
}

fn format(version: Version, interval: u64, addresses: &[&str]) -> Result<Format> {
    let addresses: Result<Vec<IpAddr>, _> = addresses.iter().map(|a| a.parse()).collect();
    let id = Vrid::new(51).context("id 51")?;
    let (interval, none) = (Duration::from_millis(interval), Authentication::None);
    Ok(Format::new(version, id, interval, addresses?, Checksum::PseudoHeader, none)?)
}

fn instance(name: &str, format: Format, priority: u8) -> Result<Instance> {
    Ok(Instance::new(name, "eth0", format, Priority::new(priority).context("priority")?))
}

/// The four moves of mastership between the two programs, by priority, resignation and death.
fn both_roles(scene: &Scene, address: &str, config: &str, instance: &Instance) -> Result<()> {
    let config = |priority: u8| {
        format!(
            "vrrp_instance test {{ interface eth0\n virtual_router_id 51\n priority {priority}\n{config}\n}}"
        )
    };
    // keepalived is master; a higher Viaduct takes over, and keepalived lets go.
    let peer = keepalived(&scene.keepalived, &config(100))?;
    wait_for_address(&scene.keepalived, address, true, &peer)?;
    let higher = Instance { priority: Priority::new(150).context("150")?, ..instance.clone() };
    let mut viaduct = Viaduct::start(&scene.viaduct, vec![higher])?;
    viaduct.wait_for("test", State::Master)?;
    wait_for_address(&scene.keepalived, address, false, &peer)?;
    ensure!(viaduct.told() == ["test: stopped > backup", "test: backup > master"]);
    // Viaduct stops and says so; keepalived follows at once.
    viaduct.handle.shutdown()?;
    wait_for_address(&scene.keepalived, address, true, &peer)?;
    // A lower Viaduct stays backup under a living keepalived, and hears it.
    let lower = Instance { priority: Priority::new(50).context("50")?, ..instance.clone() };
    let viaduct = Viaduct::start(&scene.viaduct, vec![lower])?;
    let heard = wait::until("an advert of keepalived", LIMIT, || {
        viaduct.status("test").filter(|status| status.master.is_some())
    })
    .with_context(|| format!("{:#?} {}", viaduct.handle.status(), said(&peer)))?;
    ensure!(heard.state == State::Backup && heard.differences == Default::default(), "{heard:#?}");
    ensure!(heard.master.map(|(_, priority)| priority) == Some(100), "{heard:#?}");
    // keepalived resigns, then dies without a word; Viaduct is there both times.
    peer.signal(Signal::SIGTERM)?;
    let status = viaduct.wait_for("test", State::Master)?;
    ensure!(status.reason.is_some_and(|r| r.to_string() == "the master resigned"), "{status:#?}");
    peer.finish(LIMIT)?;
    let mut peer = keepalived(&scene.keepalived, &config(100))?;
    viaduct.wait_for("test", State::Backup).with_context(|| said(&peer))?;
    wait_for_address(&scene.keepalived, address, true, &peer)?;
    peer.kill();
    let status = viaduct.wait_for("test", State::Master)?;
    ensure!(status.reason.is_some_and(|r| r.to_string() == "no master heard"), "{status:#?}");
    let rejected: u64 = control::vrrp::packet::Rejected::ALL
        .iter()
        .map(|reason| status.counters.rejected(*reason))
        .sum();
    ensure!(rejected == 0, "rejected: {:?}", status.counters);
    Ok(())
}

#[test]
fn version_2_with_password() -> Result<()> {
    let scene = scene("vrrptwo")?;
    let id = Vrid::new(51).context("id 51")?;
    let vip = vec!["192.0.2.10".parse()?, "192.0.2.11".parse()?];
    let (second, password) = (Duration::from_secs(1), Authentication::password("secret"));
    let format = Format::new(Version::V2, id, second, vip, Checksum::default(), password)?;
    let config = "version 2\n advert_int 1\n authentication { auth_type PASS\n auth_pass secret\n }\n \
                  virtual_ipaddress { 192.0.2.10\n 192.0.2.11\n }";
    both_roles(&scene, "192.0.2.10", config, &instance("test", format, 1)?)
}

#[test]
fn version_3_over_ipv4() -> Result<()> {
    let scene = scene("vrrpthree")?;
    let format = format(Version::V3, 100, &["192.0.2.10"])?;
    let config = "version 3\n advert_int 0.1\n virtual_ipaddress { 192.0.2.10\n }";
    both_roles(&scene, "192.0.2.10", config, &instance("test", format, 1)?)
}

#[test]
fn version_3_without_virtual_mac() -> Result<()> {
    let scene = scene("vrrpmac")?;
    let format = format(Version::V3, 100, &["192.0.2.10"])?;
    let config = "version 3\n advert_int 0.1\n virtual_ipaddress { 192.0.2.10\n }";
    let instance = Instance { virtual_mac: false, ..instance("test", format, 1)? };
    both_roles(&scene, "192.0.2.10", config, &instance)
}

#[test]
fn version_3_over_ipv6() -> Result<()> {
    let scene = scene("vrrpsix")?;
    let format = format(Version::V3, 100, &["fe80::10", "2001:db8::10"])?;
    let config =
        "version 3\n advert_int 0.1\n virtual_ipaddress { fe80::10/64\n 2001:db8::10/64\n }";
    both_roles(&scene, "2001:db8::10", config, &instance("test", format, 1)?)
}

fn unicast(peer: &str, min_ttl: u8) -> Result<Reach> {
    Ok(Reach::Unicast { peers: vec![peer.parse()?], check_source: true, min_ttl })
}

#[test]
fn unicast_over_ipv4() -> Result<()> {
    let scene = scene("vrrpuni")?;
    let format = format(Version::V3, 100, &["192.0.2.10"])?;
    let config = "version 3\n advert_int 0.1\n unicast_src_ip 192.0.2.2\n unicast_peer { 192.0.2.1\n }\n \
                  virtual_ipaddress { 192.0.2.10\n }";
    let instance = Instance { reach: unicast("192.0.2.2", 255)?, ..instance("test", format, 1)? };
    both_roles(&scene, "192.0.2.10", config, &instance)
}

#[test]
fn unicast_over_ipv6() -> Result<()> {
    let scene = scene("vrrpunisix")?;
    let format = format(Version::V3, 100, &["fe80::10", "2001:db8::10"])?;
    let config = "version 3\n advert_int 0.1\n unicast_src_ip 2001:db8::2\n \
                  unicast_peer { 2001:db8::1\n }\n virtual_ipaddress { fe80::10/64\n 2001:db8::10/64\n }";
    // keepalived 2.2 sends unicast over IPv6 with the kernel's default hop limit, 64.
    let source = Some("2001:db8::1".parse()?);
    let instance =
        Instance { reach: unicast("2001:db8::2", 64)?, source, ..instance("test", format, 1)? };
    both_roles(&scene, "2001:db8::10", config, &instance)
}

#[test]
fn sync_groups_move_together() -> Result<()> {
    let scene = scene("vrrpsync")?;
    let inside = scene.lab.network("inside")?;
    let inner = scene.viaduct.attach(&inside, &["10.0.0.1/24"])?;
    scene.keepalived.attach(&inside, &["10.0.0.2/24"])?;
    let config = "vrrp_sync_group lb { group { outside\n inside\n } }\n\
        vrrp_instance outside { interface eth0\n virtual_router_id 51\n priority 100\n version 3\n \
        advert_int 0.1\n virtual_ipaddress { 192.0.2.10\n } }\n\
        vrrp_instance inside { interface eth1\n virtual_router_id 51\n priority 100\n version 3\n \
        advert_int 0.1\n virtual_ipaddress { 10.0.0.254\n } }";
    let peer = keepalived(&scene.keepalived, config)?;
    wait_for_address(&scene.keepalived, "10.0.0.254", true, &peer)?;
    let member = |name: &str, interface: &str, address: &str| -> Result<Instance> {
        let instance = instance(name, format(Version::V3, 100, &[address])?, 150)?;
        Ok(Instance { group: Some("lb".into()), interface: interface.into(), ..instance })
    };
    let instances =
        vec![member("outside", "eth0", "192.0.2.10")?, member("inside", "eth1", "10.0.0.254")?];
    let viaduct = Viaduct::start(&scene.viaduct, instances)?;
    let ours = || -> Result<()> {
        viaduct.wait_for("outside", State::Master)?;
        viaduct.wait_for("inside", State::Master)?;
        wait_for_address(&scene.keepalived, "192.0.2.10", false, &peer)?;
        wait_for_address(&scene.keepalived, "10.0.0.254", false, &peer)
    };
    ours()?;
    // Either cable of Viaduct cut: both instances move, and both come back.
    for (cable, other) in [(&inner, "outside"), (&scene.cable, "inside")] {
        scene.viaduct.unplug(cable)?;
        let status = viaduct.wait_for(other, State::Fault)?;
        ensure!(status.faults.is_empty(), "its own cable is whole: {status:#?}");
        wait_for_address(&scene.keepalived, "192.0.2.10", true, &peer)?;
        wait_for_address(&scene.keepalived, "10.0.0.254", true, &peer)?;
        scene.viaduct.plug(cable)?;
        ours()?;
    }
    Ok(())
}

#[test]
fn a_healed_split_leaves_one_master_that_announces_again() -> Result<()> {
    let scene = scene("vrrpsplit")?;
    let other = scene.lab.host("other")?;
    let far = scene.lab.network("far")?;
    // The split is in a switch: both keep their carrier. A host in the middle joins the halves.
    let middle = scene.lab.host("middle")?;
    let left = middle.attach(&scene.wire, &[])?;
    middle.attach(&far, &[])?;
    other.attach(&far, &["192.0.2.3/24"])?;
    for line in [
        "link add br0 type bridge",
        "link set eth0 master br0",
        "link set eth1 master br0",
        "link set br0 up",
    ] {
        let words: Vec<&str> = std::iter::once("ip").chain(line.split(' ')).collect();
        middle.run_ok(&words)?;
    }
    let format = format(Version::V3, 100, &["192.0.2.10"])?;
    let high = Viaduct::start(&scene.viaduct, vec![instance("high", format.clone(), 200)?])?;
    let low = Viaduct::start(&other, vec![instance("low", format, 100)?])?;
    let one = || -> Result<()> {
        high.wait_for("high", State::Master)?;
        low.wait_for("low", State::Backup).map(drop)
    };
    one()?;
    middle.unplug(&left)?;
    low.wait_for("low", State::Master)?;
    let announced = |status: InstanceStatus| {
        status.counters.announcements_sent.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = high.status("high").map(announced);
    middle.plug(&left)?;
    one()?;
    wait::until("announcements after the split", LIMIT, || {
        (high.status("high").map(announced) > before).then_some(())
    })?;
    let reason = low.status("low").and_then(|status| status.reason).map(|r| r.to_string());
    ensure!(reason.as_deref() == Some("192.0.2.1 is master with priority 200"), "{reason:?}");
    Ok(())
}

/// Runs every flavour as master with a capture, and lets tshark judge.
#[test]
fn tshark_decodes_every_packet_without_complaint() -> Result<()> {
    let scene = scene("vrrpshark")?;
    let file = scene.keepalived.directory().join("all.pcap").to_string_lossy().into_owned();
    let filter = "proto 112 or ip6 proto 112 or arp or icmp6";
    let arguments = ["tcpdump", "-U", "-Z", "root", "-i", "eth0", "-w", &file, filter];
    let mut tcpdump = scene.keepalived.spawn(command(&arguments)?)?;
    tcpdump.wait_for_output("listening on", LIMIT)?;
    let id = |id| Vrid::new(id).context("id");
    let second = Duration::from_secs(1);
    let v4 = |at: u8| -> Vec<IpAddr> { vec![[192, 0, 2, at].into(), [192, 0, 2, at + 1].into()] };
    let (pseudo, plain) = (Checksum::PseudoHeader, Checksum::MessageOnly);
    let (none, password) = (Authentication::None, Authentication::password("secret"));
    let formats = [
        ("v2", Format::new(Version::V2, id(1)?, second, v4(10), pseudo, none)?),
        ("v2pass", Format::new(Version::V2, id(2)?, second, v4(20), pseudo, password)?),
        ("v3", Format::new(Version::V3, id(3)?, second / 100, v4(30), pseudo, none)?),
        ("v3plain", Format::new(Version::V3, id(4)?, second / 10, v4(40), plain, none)?),
        (
            "v6",
            Format::new(Version::V3, id(6)?, second / 10, vec!["fe80::10".parse()?], pseudo, none)?,
        ),
    ];
    let owners = formats.iter().map(|(name, format)| instance(name, format.clone(), 255));
    let viaduct = Viaduct::start(&scene.viaduct, owners.collect::<Result<_>>()?)?;
    for (name, _) in &formats {
        wait::until("three adverts", LIMIT, || {
            let counters = viaduct.status(name)?.counters;
            (counters.jitter.count() >= 3).then_some(())
        })?;
    }
    viaduct.handle.shutdown()?;
    wait::until("all resignations in the capture", LIMIT, || {
        let resigned = scene.keepalived.run_ok(&["tshark", "-r", &file, "-Y", "vrrp.prio == 0"]);
        (resigned.ok()?.lines().count() == formats.len()).then_some(())
    })?;
    tcpdump.signal(Signal::SIGINT)?;
    tcpdump.finish(LIMIT)?;
    let shark = |filter: &str, fields: &[&str]| -> Result<String> {
        let mut words = vec!["tshark", "-r", &file, "-Y", filter, "-T", "fields"];
        fields.iter().for_each(|field| words.extend(["-e", field]));
        scene.keepalived.run_ok(&words)
    };
    let faulty = "_ws.malformed or (_ws.expert.severity >= 0x400000 and (vrrp or arp or icmpv6)) \
                  or vrrp.checksum.status == 0 or icmpv6.checksum.status == 0 or ip.checksum.status == 0";
    // tshark knows one checksum of version 3 over IPv4; the other dialect is bound to differ.
    let bad = shark(
        &format!("({faulty}) and not vrrp.virt_rtr_id == 4"),
        &["frame.number", "_ws.expert.message"],
    )?;
    ensure!(bad.is_empty(), "tshark complains: {bad}");
    let ids = shark("vrrp", &["eth.src", "vrrp.version", "vrrp.virt_rtr_id"])?;
    for expected in [
        "00:00:5e:00:01:01\t2\t1",
        "00:00:5e:00:01:02\t2\t2",
        "00:00:5e:00:01:03\t3\t3",
        "00:00:5e:00:01:04\t3\t4",
        "00:00:5e:00:02:06\t3\t6",
    ] {
        ensure!(ids.lines().any(|line| line == expected), "{expected} is missing in {ids}");
    }
    let arp = shark("arp.isgratuitous", &["arp.src.hw_mac", "arp.src.proto_ipv4"])?;
    ensure!(arp.contains("00:00:5e:00:01:03\t192.0.2.30"), "{arp}");
    let na = shark(
        "icmpv6.type == 136 and ipv6.dst == ff02::1",
        &["eth.src", "icmpv6.nd.na.target_address"],
    )?;
    ensure!(na.contains("00:00:5e:00:02:06\tfe80::10"), "{na}");
    Ok(())
}
