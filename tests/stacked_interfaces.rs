//! Interfaces made of others: a service reached by a VLAN, with its real server behind a bond. XDP
//! sockets cannot be put on either, so the packet ring serves them, and it is said why.
//!
//! In a guest, whose kernel has the modules whatever kernel the machine itself runs.

use crate::prelude::BINARY;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::guest::{Guest, Options, STACKED_LINKS, VIADUCT, Wire};
use harness::{craft, wait};

const LIMIT: Duration = Duration::from_secs(60);

const CLIENT: ([u8; 4], u16) = ([10, 1, 0, 1], 4000);
const VIP: ([u8; 4], u16) = ([192, 0, 2, 10], 53);
const REAL: ([u8; 4], u16) = ([10, 2, 0, 1], 53);
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const REAL_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
/// VLAN 7, with IPv4 in it.
const TAGGED: &[u8] = &[0x81, 0, 0, 7, 8, 0];
const PLAIN: &[u8] = &[8, 0];

const CONFIG: &str = "[node]
workers = 2
[[interface]]
name = \"eth0\"
backend = \"xdp\"
[[interface]]
name = \"late\"
[[interface]]
name = \"v7\"
backend = \"xdp\"
[[interface]]
name = \"bond0\"
backend = \"xdp\"
[[service]]
name = \"dns\"
address = \"192.0.2.10:53\"
protocol = \"udp\"
scheduler = \"rr\"
method = \"nat\"
[[service.real]]
address = \"10.2.0.1:53\"
";

fn boot(outside: &Wire, inside: &Wire) -> Result<Guest> {
    let options = Options {
        name: "director".into(),
        nics: vec![outside.nic(), inside.nic()],
        modules: [VIADUCT, STACKED_LINKS].concat(),
        memory: 1024,
        ..Options::default()
    };
    let mut guest = Guest::boot(&options)?;
    for command in [
        "ip link set eth0 up",
        "ip link add link eth0 name v7 type vlan id 7",
        "ip link set v7 up",
        "ip link add link eth0 name late type vlan id 8",
        "ip addr add 10.1.0.254/24 dev v7",
        "ip link set bond0 type bond mode active-backup",
        "ip link set eth1 master bond0",
        "ip link set bond0 up",
        "ip addr add 10.2.0.254/24 dev bond0",
        "ip neigh add 10.1.0.1 lladdr 02:00:00:00:01:01 dev v7",
        "ip neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev bond0",
    ] {
        guest.sh(command)?;
    }
    Ok(guest)
}

/// Runs the program in the guest and returns what it says about its interfaces.
fn start(guest: &mut Guest) -> Result<String> {
    let stripped = std::env::temp_dir().join(format!("viaduct-stacked-{}", std::process::id()));
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(BINARY).status()?;
    ensure!(status.success(), "strip (package binutils) ended with {status}");
    guest.put_file("/bin/viaduct", &fs::read(&stripped)?)?;
    fs::remove_file(&stripped)?;
    for library in ["libgcc_s.so.1", "libm.so.6"] {
        let path = format!("/lib/x86_64-linux-gnu/{library}");
        if guest.run(&format!("test -e {path}"))?.code != 0 {
            guest.put_file(&path, &fs::read(Path::new(&path))?)?;
        }
    }
    guest.put_file("/run/viaduct.toml", CONFIG.as_bytes())?;
    guest.sh("chmod 755 /bin/viaduct; mkdir -p /dev/net /var/lib; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200")?;
    guest.sh("viaduct run --config /run/viaduct.toml >/run/viaduct.log 2>&1 </dev/null &")?;
    wait::until_ok("the interfaces to be attached", LIMIT, || {
        let output = guest.run("viaduct show interfaces")?;
        let shown = output.stdout + &output.stderr;
        ensure!(by_ring(&shown) == 3, "{shown}");
        Ok(shown)
    })
}

/// How many interfaces are attached by the packet ring.
fn by_ring(shown: &str) -> usize {
    let words = shown.lines().map(|line| line.split_whitespace().skip(1).take(3));
    words.filter(|words| words.clone().eq(["attached", "packet", "ring"])).count()
}

/// Sends `packet` in a frame until one with these addresses and this packet's payload arrives.
fn passes(
    (from, to_guest, own, kind): (&Wire, [u8; 6], [u8; 6], &[u8]),
    packet: &[u8],
    (to, receiver, wanted_kind): (&mut Wire, [u8; 6], &[u8]),
    wanted: &[u8],
) -> Result<()> {
    wait::until_ok("the packet to pass", LIMIT, || {
        let mut frame = [&to_guest[..], &own, kind, packet].concat();
        frame.resize(frame.len().max(60), 0);
        from.send(&frame)?;
        for _ in 0..20 {
            let Some(frame) = to.receive(Duration::from_millis(500))? else { break };
            let start = 12 + wanted_kind.len();
            let fits = frame.len() >= start + 20 && frame[..6] == receiver;
            if fits && frame[12..start] == *wanted_kind && frame[start + 12..start + 20] == *wanted
            {
                return Ok(());
            }
        }
        anyhow::bail!("it did not arrive")
    })
}

#[test]
fn a_vlan_and_a_bond_are_served_by_the_packet_ring() -> Result<()> {
    let (mut outside, mut inside) = (Wire::new()?, Wire::new()?);
    let mut guest = boot(&outside, &inside)?;
    let shown = start(&mut guest)?;
    let reasons = [
        ("v7", "not XDP sockets as configured"),
        ("bond0", "members"),
        ("eth0", "VLAN interfaces stand on it"),
    ];
    for (name, why) in reasons {
        let line = shown.lines().find(|line| line.starts_with(name)).context(name)?;
        ensure!(line.contains(why), "{line}");
    }
    // Workers cannot share an interface that is down, so it is not served at all until it is up.
    let late = shown.lines().find(|line| line.starts_with("late")).context("late")?;
    ensure!(late.contains("the interface is down"), "{late}");
    guest.sh("ip link set late up")?;
    wait::until_ok("the third interface to be attached", LIMIT, || {
        let shown = guest.run("viaduct show interfaces")?.stdout;
        ensure!(by_ring(&shown) == 4, "{shown}");
        Ok(())
    })?;
    let macs = [guest.mac(0), guest.mac(1)];
    let question = craft::udp(CLIENT.into(), VIP.into(), b"question")?;
    let addresses = [CLIENT.0, REAL.0].concat();
    let entry = (&outside, macs[0], CLIENT_MAC, TAGGED);
    passes(entry, &question, (&mut inside, REAL_MAC, PLAIN), &addresses)?;
    let answer = craft::udp(REAL.into(), CLIENT.into(), b"answer")?;
    let addresses = [VIP.0, CLIENT.0].concat();
    let entry = (&inside, macs[1], REAL_MAC, PLAIN);
    passes(entry, &answer, (&mut outside, CLIENT_MAC, TAGGED), &addresses)
}
