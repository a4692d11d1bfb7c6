//! Two directors are one: the VIP and the inside gateway move when the master dies, stops or loses a
//! cable, and when the operator says so; the backup is silent; keepalived can be either half.

use crate::prelude::director_on;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::host::written_mac;
use harness::pair::{GATEWAY, VIP, own_macs};
use harness::{Director, Host, Pair, Process, host::command, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Far more than any timer here; reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(30);

const WEB: &str = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
  [[service.real]]
  address = "10.0.0.11:80"
"#;

fn instances(director: &Director) -> Result<Vec<Value>> {
    let json: Value = serde_json::from_str(&director.viaduct(&["show", "vrrp", "--json"])?)?;
    Ok(json.as_array().context("a list")?.clone())
}

fn states(director: &Director) -> Result<Vec<String>> {
    let states = instances(director)?;
    states.iter().map(|i| Ok(i["state"].as_str().context("a state")?.to_owned())).collect()
}

/// Waits until every instance of a director is in this state.
fn until(director: &Director, state: &str) -> Result<()> {
    wait::until(&format!("all to be {state}"), LIMIT, || {
        states(director).is_ok_and(|states| states.iter().all(|s| s == state)).then_some(())
    })
    .with_context(|| director.viaduct(&["show", "vrrp"]).unwrap_or_default())
}

/// A request that has to be answered at once.
fn ask(pair: &Pair) -> Result<()> {
    let url = format!("http://{VIP}/");
    let answer = pair.client.run_ok(&["curl", "-sS", "--max-time", "5", &url])?;
    ensure!(answer.trim() == "real1", "{answer}");
    Ok(())
}

/// Who answers ARP for the VIP, as the client sees it.
fn answers(pair: &Pair) -> Result<String> {
    pair.client.run(&["ip", "neigh", "flush", "dev", "eth0"])?;
    pair.client.run_ok(&["ping", "-c2", "-i0.2", "-W2", VIP])?;
    neighbour(&pair.client, VIP)
}

/// The MAC that a host has for an address.
fn neighbour(host: &Host, address: &str) -> Result<String> {
    let table = host.run_ok(&["ip", "neigh", "show", address])?;
    let mut words = table.split_whitespace().skip_while(|word| *word != "lladdr");
    Ok(words.nth(1).with_context(|| format!("{address}: {table}"))?.to_owned())
}

struct Two {
    first: Director,
    second: Director,
    _server: Backend,
    pair: Pair,
}

fn two(name: &str) -> Result<Two> {
    two_of(Pair::new(name, 1)?, |config| config)
}

fn two_of(pair: Pair, edit: impl Fn(String) -> String) -> Result<Two> {
    let server = Backend::http(&pair.reals[0], "[::]:80")?;
    let start = |number: usize| {
        let config = edit(pair.config(number, WEB));
        director_on(&pair.directors[number], &config)
    };
    let (first, second) = (start(0)?, start(1)?);
    let two = Two { first, second, _server: server, pair };
    two.first_is_master()?;
    Ok(two)
}

impl Two {
    fn first_is_master(&self) -> Result<()> {
        until(&self.first, "master")?;
        until(&self.second, "backup")?;
        ask(&self.pair)
    }

    fn second_is_master(&self) -> Result<()> {
        until(&self.second, "master")?;
        ask(&self.pair)
    }
}

#[test]
fn mastership_moves_at_kill_stop_and_order_and_comes_back() -> Result<()> {
    let mut two = two("failover")?;
    ensure!(answers(&two.pair)? == "00:00:5e:00:01:33", "the virtual MAC answers");

    two.first.kill();
    two.second_is_master()?;
    ensure!(answers(&two.pair)? == "00:00:5e:00:01:33", "the same MAC from the other director");
    two.first.restart()?;
    two.first_is_master()?;

    two.first.shut_down()?;
    two.second_is_master()?;
    let reason = instances(&two.second)?[0]["reason"].clone();
    ensure!(
        ["the master resigned", "moves with its sync group"]
            .contains(&reason.as_str().unwrap_or("")),
        "{reason}"
    );
    two.first.restart()?;
    two.first_is_master()?;

    two.first.viaduct(&["failover"])?;
    two.second_is_master()?;
    until(&two.first, "backup")?;
    two.second.viaduct(&["failover", "outside"])?;
    two.first_is_master()?;
    let refused = two.first.run(&["failover", "nothing"])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("nothing"), "{refused:?}");

    let events: Value = serde_json::from_str(&two.second.viaduct(&["show", "events", "--json"])?)?;
    let moves = events.as_array().context("a list")?.iter();
    let moves = moves.filter(|e| e["kind"] == "mastership" && e["subject"] == "outside").count();
    ensure!(moves >= 7, "{events:#}");
    Ok(())
}

#[test]
fn a_cut_cable_on_either_side_moves_both_sides() -> Result<()> {
    let two = two("failcut")?;
    let cables = &two.pair.cables[0];
    for cable in [&cables.outside, &cables.inside] {
        two.pair.directors[0].unplug(cable)?;
        two.second_is_master()?;
        until(&two.first, "fault")?;
        two.pair.directors[0].plug(cable)?;
        two.first_is_master()?;
    }
    Ok(())
}

#[test]
fn a_backup_is_silent() -> Result<()> {
    let two = two("failsilent")?;
    // Told to send to the backup's own MAC, the client gets no answer of any kind.
    let backup = written_mac(two.pair.cables[1].outside.mac);
    let client = &two.pair.client;
    client.run_ok(&["ip", "neigh", "replace", VIP, "lladdr", &backup, "dev", "eth0"])?;
    let watched = harness::capture::Capture::start(client, "eth0", &format!("src host {VIP}"))?;
    let ping = client.run(&["ping", "-c2", "-i0.2", "-W1", VIP])?;
    ensure!(!ping.status.success(), "{}", ping.stdout);
    let url = format!("http://{VIP}/");
    let curl = client.run(&["curl", "-sS", "--connect-timeout", "2", &url])?;
    ensure!(curl.status.code() == Some(28), "timed out, not refused: {curl:?}");
    let answers = watched.finish()?;
    ensure!(answers.is_empty(), "{answers:?}");
    let drops: Value = serde_json::from_str(&two.second.viaduct(&["show", "drops", "--json"])?)?;
    let silent = drops.as_array().context("a list")?.iter();
    let mut silent = silent.filter(|drop| drop["reason"] == "not_master");
    let dropped = silent.next().and_then(|drop| drop["packets"].as_u64());
    ensure!(dropped >= Some(3), "{drops:#}");
    client.run_ok(&["ip", "neigh", "del", VIP, "dev", "eth0"])?;
    ask(&two.pair)
}

#[test]
fn configuration_changes_do_not_move_mastership() -> Result<()> {
    let two = two("failconfig")?;
    let file = two.pair.directors[0].directory().join("next.toml");
    let more = format!("{WEB}\n[[service]]\nname = \"other\"\naddress = \"192.0.2.11:80\"\n");
    let next =
        two.pair.config(0, &more).replace("[\"192.0.2.10\"]", "[\"192.0.2.10\", \"192.0.2.11\"]");
    std::fs::write(&file, next.replace("name = \"outside\"", "name = \"renamed\""))?;
    two.first.viaduct(&["apply", &file.to_string_lossy()])?;
    until(&two.first, "master")?;
    let names: Vec<Value> =
        instances(&two.first)?.iter().map(|instance| instance["name"].clone()).collect();
    ensure!(names == ["inside", "renamed"], "{names:?}");
    wait::until_ok("the new VIP to answer", LIMIT, || {
        two.pair.client.run_ok(&["ping", "-c1", "-W1", "192.0.2.11"]).map(drop)
    })?;
    ask(&two.pair)?;
    let became = instances(&two.first)?[0]["became_master"].clone();
    ensure!(became == 1, "never let go: {became}");
    Ok(())
}

#[test]
fn scripts_and_services_that_fail_move_mastership() -> Result<()> {
    let pair = Pair::new("failtrack", 1)?;
    let mut server = Backend::http(&pair.reals[0], "[::]:80")?;
    let flag = pair.directors[0].directory().join("fine");
    std::fs::write(&flag, "")?;
    let tracked = format!(
        "[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n  [service.check]\n  type = \"http\"\n  \
         path = \"/\"\n  interval = \"200ms\"\n  timeout = \"1s\"\n  fall = 1\n  [[service.real]]\n  \
         address = \"10.0.0.11:80\"\n[[track_script]]\nname = \"flag\"\n\
         command = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval = \"100ms\"\ntimeout = \"5s\"\n",
        flag.display()
    );
    let config = pair.config(0, &tracked).replace(
        "addresses = ",
        "track = [{ script = \"flag\", weight = -100 }, { service = \"web\" }]\naddresses = ",
    );
    let first = director_on(&pair.directors[0], &config)?;
    let second = director_on(&pair.directors[1], &pair.config(1, WEB))?;
    until(&first, "master")?;
    std::fs::remove_file(&flag)?;
    until(&second, "master")?;
    ensure!(instances(&first)?[1]["priority"] == 50, "the script costs 100");
    std::fs::write(&flag, "")?;
    until(&first, "master")?;
    ask(&pair)?;
    server.stop();
    until(&first, "fault")?;
    let why = instances(&first)?[1]["faults"].clone();
    ensure!(why == serde_json::json!(["service web"]), "{why}");
    until(&second, "master")?;
    server.start()?;
    until(&first, "master")?;
    ask(&pair)
}

/// Starts keepalived with one instance that is like the pair's outside one.
fn keepalived(host: &Host, priority: u8) -> Result<Process> {
    let file = |name: &str| host.directory().join(name).to_string_lossy().into_owned();
    let text = format!(
        "global_defs {{ router_id test }}\nvrrp_instance outside {{ interface eth0\n \
         virtual_router_id 51\n priority {priority}\n version 3\n advert_int 0.1\n \
         virtual_ipaddress {{ {VIP}/24 }} }}\n"
    );
    std::fs::write(file("keepalived.conf"), text)?;
    let (config, pid, vrrp) = (file("keepalived.conf"), file("k.pid"), file("kv.pid"));
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
        &vrrp,
    ])?)
}

fn has_vip(host: &Host) -> bool {
    let addresses = host.run_ok(&["ip", "-o", "address", "show"]);
    addresses.is_ok_and(|text| text.contains(&format!(" {VIP}/")))
}

#[test]
fn keepalived_can_be_either_half_and_the_vip_answers_throughout() -> Result<()> {
    beside_keepalived("failmixed", |config| config, Some("00:00:5e:00:01:33"))
}

#[test]
fn keepalived_can_be_either_half_when_both_answer_with_their_own_mac() -> Result<()> {
    beside_keepalived("failmixown", own_macs, None)
}

/// `virtual_mac` is what the client is to have for the VIP while Viaduct is master; without one it is
/// the director's own.
fn beside_keepalived(
    name: &str,
    edit: impl Fn(String) -> String,
    virtual_mac: Option<&str>,
) -> Result<()> {
    let pair = Pair::new(name, 1)?;
    let _server = Backend::http(&pair.reals[0], "[::]:80")?;
    let config = edit(pair.config(0, WEB));
    // keepalived knows nothing of the inside.
    let start = config.find("[[vrrp]]\nname = \"inside\"").context("inside")?;
    let end = config.find(WEB).context("web")?;
    let config = format!("{}{}", &config[..start], &config[end..]);
    pair.directors[0].add_address("eth1", &format!("{GATEWAY}/24"))?;
    let mut viaduct = director_on(&pair.directors[0], &config)?;
    until(&viaduct, "master")?;
    let peer = keepalived(&pair.directors[1], 100)?;
    let pings = pair.client.spawn(command(&["ping", "-i", "0.05", "-W1", VIP])?)?;
    let own = |director: usize| written_mac(pair.cables[director].outside.mac);
    let viaducts = virtual_mac.map_or_else(|| own(0), str::to_owned);
    // The pings never stop, so it is the announcement that tells the client.
    let learns = |mac: &str| {
        wait::until_ok(&format!("the client to have {mac}"), LIMIT, || {
            let has = neighbour(&pair.client, VIP)?;
            ensure!(has == mac, "{has}");
            Ok(())
        })
    };

    // keepalived follows while Viaduct lives, takes over when it dies, and lets go when it is back.
    wait::pause(Duration::from_secs(1));
    ensure!(!has_vip(&pair.directors[1]), "two masters");
    learns(&viaducts)?;
    viaduct.kill();
    wait::until("keepalived to take over", LIMIT, || has_vip(&pair.directors[1]).then_some(()))?;
    learns(&own(1))?;
    viaduct.restart()?;
    until(&viaduct, "master")?;
    learns(&viaducts)?;
    wait::until("keepalived to let go", LIMIT, || (!has_vip(&pair.directors[1])).then_some(()))?;
    viaduct.viaduct(&["failover"])?;
    wait::until("keepalived to take over", LIMIT, || has_vip(&pair.directors[1]).then_some(()))?;
    until(&viaduct, "backup")?;

    // keepalived stops: it resigns, and Viaduct is there. A stronger one takes over; it dies.
    peer.signal(Signal::SIGTERM)?;
    peer.finish(LIMIT)?;
    until(&viaduct, "master")?;
    let mut peer = keepalived(&pair.directors[1], 200)?;
    until(&viaduct, "backup")?;
    let heard = wait::until("an advert", LIMIT, || {
        instances(&viaduct).ok().filter(|i| i[0]["master"]["priority"] == 200)
    })?;
    ensure!(heard[0]["differences"] == serde_json::json!([]), "{heard:#?}");
    peer.kill();
    // A killed keepalived leaves the address behind; a real one dies with its machine.
    pair.directors[1].run(&["ip", "address", "del", &format!("{VIP}/24"), "dev", "eth0"])?;
    until(&viaduct, "master")?;
    ask(&pair)?;

    pings.signal(Signal::SIGINT)?;
    let report = pings.finish(LIMIT)?.stdout;
    let summary = report.lines().find(|line| line.contains("packet loss")).context("ping")?;
    println!("mastership moved six times between Viaduct and keepalived: {summary}");
    let numbers: Vec<u32> = summary.split(' ').filter_map(|word| word.parse().ok()).collect();
    let (sent, answered) = (numbers[0], numbers[1]);
    // Each silent death costs the master-down interval, 0.36 s; everything else is a moment.
    ensure!(sent - answered <= 6 * 20, "lost {} of {sent}: more than gaps", sent - answered);
    Ok(())
}

#[test]
fn the_gateway_moves_too_with_what_real_servers_ask_of_the_world() -> Result<()> {
    let mut two = two("failgateway")?;
    let real = two.pair.reals[0].clone();
    // What is no answer to a client passes through the directors' kernels, and comes back by the VIP.
    for director in &two.pair.directors {
        director.forward()?;
    }
    two.pair.client.route("10.0.0.0/24", VIP)?;
    let _world = Backend::lines(&two.pair.client, "[::]:7100")?;
    let stream = real.enter(|| TcpStream::connect("192.0.2.100:7100"))??;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut says = |text: &str| -> Result<()> {
        writeln!(&stream, "{text}")?;
        line.clear();
        reader.read_line(&mut line)?;
        ensure!(line.trim() == text, "{line:?} for {text:?}");
        ensure!(
            neighbour(&real, GATEWAY)? == "00:00:5e:00:01:34",
            "the inside instance's virtual MAC"
        );
        real.run_ok(&["ping", "-c1", "-W2", GATEWAY])?;
        real.run_ok(&["ping", "-c1", "-W2", "192.0.2.100"]).map(drop)
    };
    says("by the first")?;
    two.first.kill();
    two.second_is_master()?;
    says("by the second")?;
    two.first.restart()?;
    two.first_is_master()?;
    says("by the first again")
}

/// Some addresses that move, and where they are seen.
const MOVING: [(&str, &str); 4] =
    [("client", VIP), ("client", "2001:db8::10"), ("real", GATEWAY), ("real", "10.0.0.253")];

/// The same document with own MACs, another gateway that belongs to the outside, and an IPv6 instance.
fn own_macs_everywhere(config: String) -> String {
    let inside = "inside_addresses = [{ address = \"10.0.0.253/24\", interface = \"eth1\" }]";
    let config = config.replace("id = 51\n", &format!("id = 51\n{inside}\n"));
    let priority = if config.contains("priority = 150") { 150 } else { 100 };
    own_macs(format!(
        "{config}\n[[vrrp]]\nname = \"six\"\ninterface = \"eth0\"\nid = 53\ngroup = \"lb\"\n\
         priority = {priority}\nadvert_interval = \"100ms\"\n\
         addresses = [\"fe80::10\", \"2001:db8::10\"]\n"
    ))
}

/// Every frame that the client sees from a virtual MAC, or of ARP and neighbour discovery.
fn watch(client: &Host) -> Result<Process> {
    let filter = "arp or ether[6:4] = 0x00005e00 or icmp6[0] = 135";
    let mut tcpdump = client.spawn(command(&[
        "tcpdump",
        "-n",
        "-e",
        "-l",
        "--immediate-mode",
        "-i",
        "eth0",
        filter,
    ])?)?;
    tcpdump.wait_for_output("listening on", LIMIT)?;
    Ok(tcpdump)
}

#[test]
fn without_the_virtual_mac_the_announcement_moves_everybody_to_the_other_director() -> Result<()> {
    let pair = Pair::new("failown", 1)?;
    pair.client.add_address("eth0", "2001:db8::100/64")?;
    let virtual_frames = watch(&pair.client)?;
    let mut two = two_of(pair, own_macs_everywhere)?;
    let (client, real) = (two.pair.client.clone(), two.pair.reals[0].clone());
    let at = |place: &str| if place == "client" { &client } else { &real };
    for (place, address) in MOVING {
        at(place).run_ok(&["ping", "-c1", "-W5", address])?;
    }
    let macs = [0, 1].map(|number: usize| {
        let cables = &two.pair.cables[number];
        (written_mac(cables.outside.mac), written_mac(cables.inside.mac))
    });
    let all_have = |director: usize| {
        let (outside, inside) = &macs[director];
        wait::until_ok(&format!("all to have director {director}'s MACs"), LIMIT, || {
            for (place, address) in MOVING {
                let (has, wanted) = (
                    neighbour(at(place), address)?,
                    if place == "client" { outside } else { inside },
                );
                ensure!(has == *wanted, "{address}: {has}, should be {wanted}");
            }
            Ok(())
        })
    };
    all_have(0)?;
    let shown = two.first.viaduct(&["show", "vrrp"])?;
    ensure!(shown.contains(&format!("own {}", macs[0].0)), "{shown}");
    for interface in ["eth0", "eth1"] {
        let link = two.pair.directors[0].run_ok(&["ip", "-d", "link", "show", "dev", interface])?;
        ensure!(link.contains("promiscuity 0"), "{link}");
        let heard = two.pair.directors[0].run_ok(&["bridge", "fdb", "show", "dev", interface])?;
        ensure!(!heard.contains("00:00:5e:00"), "{heard}");
    }

    // Nobody but the other director speaks from here on, until all have learnt.
    let asked = watch(&client)?;
    two.first.kill();
    all_have(1)?;
    asked.signal(Signal::SIGINT)?;
    let asked = asked.finish(LIMIT)?.stdout;
    ensure!(
        asked.contains(&format!("Request who-has {VIP} (ff:ff:ff:ff:ff:ff) tell {VIP}")),
        "{asked}"
    );
    ensure!(!asked.contains("tell 192.0.2.100") && !asked.contains("solicitation"), "{asked}");
    two.second_is_master()?;
    real.run_ok(&["ping", "-c1", "-W5", "10.0.0.253"])?;

    two.first.restart()?;
    two.first_is_master()?;
    all_have(0)?;
    two.first.viaduct(&["failover"])?;
    two.second_is_master()?;
    all_have(1)?;
    virtual_frames.signal(Signal::SIGINT)?;
    let frames = virtual_frames.finish(LIMIT)?.stdout;
    ensure!(frames.contains(&macs[0].0) && !frames.contains("00:00:5e:00"), "{frames}");

    // Changed while it serves, the other kind is announced, and mastership stays.
    let file = two.pair.directors[1].directory().join("virtual.toml");
    let text = two.second.viaduct(&["export"])?;
    std::fs::write(&file, text.replace("virtual_mac = false\n", ""))?;
    two.second.viaduct(&["apply", &file.to_string_lossy()])?;
    wait::until("the client to have the virtual MAC", LIMIT, || {
        (neighbour(&client, VIP).ok()? == "00:00:5e:00:01:33").then_some(())
    })?;
    two.second_is_master()
}
