//! Claim: Viaduct speaks the kernel's IPVS sync protocol. A kernel takes Viaduct's connections over, and
//! Viaduct receives a kernel's; tshark decodes what is sent.

use anyhow::{Context, Result, ensure};
use control::ipvs_sync::codec::Version;
use control::ipvs_sync::task::{Master, Settings, start_backup, start_master};
use control::ipvs_sync::{Engine, Flags, Record, Shift, Shifts};
use harness::backend::Backend;
use harness::guest::{Guest, Options};
use harness::site::Site;
use harness::{Host, Lab, host::command, wait};
use nix::sys::signal::Signal;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

const LIMIT: Duration = Duration::from_secs(60);

fn master(runtime: &Runtime, host: &Host, settings: &Settings) -> Result<Master> {
    host.enter(|| {
        let _inside = runtime.enter();
        start_master(settings)
    })?
    .with_context(|| format!("{settings:?}"))
}

fn record(client: &str, vip: &str, real: &str) -> Result<Record> {
    let (client, vip, real): (std::net::SocketAddr, std::net::SocketAddr, std::net::SocketAddr) =
        (client.parse()?, vip.parse()?, real.parse()?);
    Ok(Record {
        protocol: 6,
        flags: Flags::default(),
        state: 1,
        client: client.ip(),
        client_port: client.port(),
        vip: vip.ip(),
        virtual_port: vip.port(),
        real: real.ip(),
        real_port: real.port(),
        mark: 0,
        timeout: 900,
        shifts: None,
        engine: None,
    })
}

/// One record of every kind.
fn records() -> Result<Vec<Record>> {
    let nat = record("203.0.113.5:50000", "192.0.2.20:80", "10.0.0.11:8080")?;
    let direct = Flags(3).with(Flags::NO_OUTPUT);
    let ftp = Shift { start: 1000, delta: 7, previous: 3 };
    let template = Record {
        flags: Flags::TEMPLATE,
        timeout: 300,
        ..record("203.0.113.0:0", "192.0.2.20:443", "10.0.0.12:443")?
    };
    let call = Engine { name: b"sip".to_vec(), data: b"call@example".to_vec() };
    Ok(vec![
        nat.clone(),
        Record { flags: direct, ..record("203.0.113.6:50001", "192.0.2.20:80", "10.0.0.12:80")? },
        Record {
            flags: Flags::SEQUENCES,
            shifts: Some(Shifts { inbound: ftp, outbound: ftp }),
            ..record("203.0.113.7:50002", "192.0.2.20:21", "10.0.0.11:21")?
        },
        Record {
            protocol: 17,
            state: 0,
            ..record("203.0.113.8:53", "192.0.2.20:53", "10.0.0.11:53")?
        },
        template,
        Record {
            protocol: 17,
            state: 0,
            flags: Flags::TEMPLATE,
            engine: Some(call),
            ..record("203.0.113.0:0", "192.0.2.20:5060", "10.0.0.12:5060")?
        },
        record("[2001:db8:c::5]:50000", "[2001:db8::20]:80", "[2001:db8:a::11]:80")?,
        Record { state: 4, timeout: 120, flags: Flags::INACTIVE, client_port: 50009, ..nat },
    ])
}

fn received(records: Vec<Record>) -> Vec<Record> {
    let taken = |flags: Flags| flags.only(Flags::TAKEN_OVER).with(Flags::SYNC);
    records.into_iter().map(|r| Record { flags: taken(r.flags), ..r }).collect()
}

async fn collect(from: &mut Receiver<Vec<Record>>, count: usize) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(LIMIT, from.recv()).await;
        let got = all.len();
        let next = next.with_context(|| format!("only {got} of {count} records"))?;
        all.extend(next.context("the backup ended")?);
    }
    Ok(all)
}

#[test]
fn a_backup_receives_what_a_master_sends_in_every_setting_and_tshark_decodes_it() -> Result<()> {
    let lab = Lab::new("ipvssync")?;
    let wire = lab.network("wire")?;
    let (one, two) = (lab.host("one")?, lab.host("two")?);
    one.attach(&wire, &["192.0.2.1/24", "fe80::1/64"])?;
    two.attach(&wire, &["192.0.2.2/24", "fe80::2/64"])?;
    let file = two.directory().join("sync.pcap").to_string_lossy().into_owned();
    let arguments =
        ["tcpdump", "-U", "--immediate-mode", "-Z", "root", "-i", "eth0", "-w", &file, "udp"];
    let mut tcpdump = two.spawn(command(&arguments)?)?;
    tcpdump.wait_for_output("listening on", LIMIT)?;
    let runtime = Runtime::new()?;
    let plain = Settings::new("eth0", 7);
    let settings = [
        plain.clone(),
        Settings { version: Version::V0, ..plain.clone() },
        Settings { group: "ff02::81".parse()?, ..plain.clone() },
        Settings { ports: 4, port: 9000, longest: Some(200), ..plain },
    ];
    for settings in settings {
        let hearing = Settings { sync_id: 0, ..settings.clone() };
        let (_backup, mut from) = two.enter(|| {
            let _inside = runtime.enter();
            start_backup(&hearing)
        })??;
        let master = master(&runtime, &one, &settings)?;
        let mut expected = received(records()?);
        if settings.version == Version::V0 {
            expected.retain(Record::is_ipv4);
            let bare = |r: Record| Record { timeout: 0, engine: None, ..r };
            expected = expected.into_iter().map(bare).collect();
        }
        for record in records()? {
            master.send(record);
        }
        let mut got = runtime.block_on(collect(&mut from, expected.len()))?;
        let order = |record: &Record| format!("{record:?}");
        got.sort_by_key(order);
        expected.sort_by_key(order);
        ensure!(got == expected, "{settings:?}: {got:#?}");
        ensure!(master.counters.errors.load(Ordering::Relaxed) == 0);
    }
    let shark = |arguments: &[&str]| -> Result<String> {
        let always =
            ["tshark", "-r", &file, "-d", "udp.port==8848,ipvs", "-d", "udp.port==9000-9003,ipvs"];
        two.run_ok(&[&always, arguments].concat())
    };
    wait::until("the capture of all four daemons", LIMIT, || {
        let ports = shark(&["-Y", "ipvs", "-T", "fields", "-e", "udp.srcport"]).ok()?;
        let ports: std::collections::BTreeSet<&str> = ports.lines().collect();
        (ports.len() >= 4).then_some(())
    })?;
    tcpdump.signal(Signal::SIGINT)?;
    tcpdump.finish(LIMIT)?;
    let bad = shark(&["-Y", "_ws.malformed or _ws.expert.severity >= 0x400000"])?;
    ensure!(bad.is_empty(), "tshark complains: {bad}");
    let read = shark(&["-Y", "ipvs", "-T", "fields", "-e", "ipvs.syncid", "-e", "ipvs.conncount"])?;
    ensure!(
        read.lines().count() >= 4 && read.lines().all(|l| l.starts_with("7\t")),
        "{read}{}",
        shark(&[])?
    );
    let addresses = shark(&["-Y", "ipvs", "-V"])?;
    for text in ["203.0.113.6", "2001:db8:c::5", "10.0.0.12"] {
        ensure!(addresses.contains(text), "{text} is missing in {addresses}");
    }
    Ok(())
}

/// A guest with the kernel's IPVS on the site's two networks.
fn kernel_director(site: &Site) -> Result<Guest> {
    let options = Options { name: "director".into(), ..Options::default() };
    let mut guest = Guest::boot_in(site.lab(), &[site.outside(), site.inside()], options)?;
    guest.sh("set -e; sysctl -w net.ipv4.ip_forward=1; ip addr add 192.0.2.253/24 dev eth0; \
         ip addr add 192.0.2.20/32 dev eth0; ip addr add 10.0.0.253/24 dev eth1; \
         ip link set eth0 up; ip link set eth1 up")?;
    Ok(guest)
}

#[test]
fn a_kernel_takes_over_what_viaduct_tells() -> Result<()> {
    let site = Site::new("ipvstokernel", 2, 0)?;
    let mut guest = kernel_director(&site)?;
    guest.sh(
        "set -e; ipvsadm -A -t 192.0.2.20:80 -s rr; ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.11:8080 -m; \
         ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.12 -g; \
         ipvsadm --start-daemon backup --mcast-interface eth1 --syncid 7",
    )?;
    let runtime = Runtime::new()?;
    let master = master(&runtime, &site.director, &Settings::new("eth1", 7))?;
    for record in records()? {
        master.send(record);
    }
    let mut last = String::new();
    let table = wait::until("Viaduct's connections in the kernel", LIMIT, || {
        last = guest.sh("cat /proc/net/ip_vs_conn_sync").ok()?;
        (last.matches("SYNC").count() >= records().ok()?.len()).then(|| last.clone())
    });
    let table = table.with_context(|| format!("{last} {:?}", master.counters))?;
    // Addresses and ports are in hexadecimal: 203.0.113.5:50000 to 192.0.2.20:80 by 10.0.0.11:8080.
    for line in [
        "TCP CB007105 C350 C0000214 0050 0A00000B 1F90 ESTABLISHED SYNC",
        "TCP CB007106 C351 C0000214 0050 0A00000C 0050 ESTABLISHED SYNC",
        "TCP CB007107 C352 C0000214 0015 0A00000B 0015 ESTABLISHED SYNC",
        "UDP CB007108 0035 C0000214 0035 0A00000B 0035 UDP SYNC",
        "TCP CB007105 C359 C0000214 0050 0A00000B 1F90 FIN_WAIT SYNC",
        "TCP CB007100 0000 C0000214 01BB 0A00000C 01BB ASSURED SYNC",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let found = |l: &str| l.split_whitespace().take(words.len()).eq(words.iter().copied());
        ensure!(table.lines().any(found), "{line} is missing in\n{table}");
    }
    ensure!(table.contains("2001:0db8:000c"), "no IPv6 in\n{table}");
    // The backup counts them for its servers: one active and one inactive, and one active.
    let stats = guest.sh("ipvsadm -Ln")?;
    ensure!(stats.contains("10.0.0.11:8080               Masq    1      1          1"), "{stats}");
    Ok(())
}

#[test]
fn viaduct_receives_a_kernels_connections_and_templates() -> Result<()> {
    let site = Site::new("ipvsfromkernel", 1, 0)?;
    let mut guest = kernel_director(&site)?;
    guest.sh("set -e; ipvsadm -A -t 192.0.2.20:80 -s rr -p 360; \
         ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.11:80 -m; \
         ipvsadm --start-daemon master --mcast-interface eth1 --syncid 9")?;
    let runtime = Runtime::new()?;
    let (backup, mut from) = site.director.enter(|| {
        let _inside = runtime.enter();
        start_backup(&Settings::new("eth1", 9))
    })??;
    site.reals[0].route("192.0.2.100/32", "10.0.0.253")?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let fetch = ["curl", "-sS", "--max-time", "60", "http://192.0.2.20/"];
    ensure!(site.client.run_ok(&fetch)? == "real1\n");
    let mut seen = Vec::new();
    let both = |seen: &[Record]| {
        let template = seen.iter().any(Record::is_template);
        template && seen.iter().any(|r| !r.is_template() && r.state != 1)
    };
    while !both(&seen) {
        let more = runtime.block_on(collect(&mut from, 1));
        seen.extend(more.with_context(|| format!("{seen:#?} {:?}", backup.counters))?);
    }
    let template = seen.iter().find(|record| record.is_template()).context("template")?;
    ensure!(
        (template.client, template.client_port) == ("192.0.2.100".parse()?, 0),
        "{template:#?}"
    );
    ensure!(template.real == std::net::IpAddr::from([10, 0, 0, 11]), "{template:#?}");
    ensure!(template.timeout == 360, "{template:#?}");
    let open = seen.iter().find(|record| !record.is_template()).context("connection")?;
    ensure!((open.vip, open.virtual_port) == ("192.0.2.20".parse()?, 80), "{open:#?}");
    ensure!(open.protocol == 6 && open.real_port == 80 && open.timeout > 0, "{open:#?}");
    ensure!(backup.counters.errors.load(Ordering::Relaxed) == 0, "{:?}", backup.counters);
    Ok(())
}
