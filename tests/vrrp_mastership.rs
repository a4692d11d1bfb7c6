//! Claim: one cluster has one master, whatever is on the link: three directors that speak unicast agree on
//! it, and another cluster with the same virtual router id takes nothing from it and is reported.

use crate::prelude::director_on;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Director, Host, Lab, host::command, wait};
use serde_json::Value;

/// Far more than any timer here; reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(30);

fn instance(director: &Director) -> Result<Value> {
    let json: Value = serde_json::from_str(&director.viaduct(&["show", "vrrp", "--json"])?)?;
    Ok(json.get(0).context("no instance")?.clone())
}

fn until(director: &Director, state: &str) -> Result<Value> {
    wait::until(&format!("{} to be {state}", director.host().name()), LIMIT, || {
        instance(director).ok().filter(|instance| instance["state"] == state)
    })
    .with_context(|| director.viaduct(&["show", "vrrp", "--json"]).unwrap_or_default())
}

/// Director `last` of the subnet, with the others as unicast peers.
fn one_of_three(host: &Host, version: u8, last: u8, priority: u8) -> Result<Director> {
    let peers: Vec<String> =
        (1..=3).filter(|peer| *peer != last).map(|peer| format!("\"192.0.2.{peer}\"")).collect();
    let config = format!(
        "[[interface]]\nname = \"eth0\"\n[[vrrp]]\nname = \"outside\"\ninterface = \"eth0\"\nid = 51\n\
         version = {version}\npriority = {priority}\nadvert_interval = \"1s\"\n\
         unicast_peers = [{}]\naddresses = [\"192.0.2.50\"]\n",
        peers.join(", ")
    );
    director_on(host, &config)
}

fn three_agree(name: &str, version: u8) -> Result<()> {
    let lab = Lab::new(name)?;
    let wire = lab.network("wire")?;
    let mut directors = Vec::new();
    for (last, priority) in [(1, 200), (2, 150), (3, 100)] {
        let host = lab.host(&format!("director{last}"))?;
        host.attach(&wire, &[&format!("192.0.2.{last}/24")])?;
        directors.push(one_of_three(&host, version, last, priority)?);
    }
    until(&directors[0], "master")?;
    // The last peer of every list hears the master, and nobody refuses anything.
    for director in &directors[1..] {
        let backup = wait::until("a backup that follows the first director", LIMIT, || {
            let instance = instance(director).ok()?;
            let follows = instance["master"]["address"] == "192.0.2.1";
            (follows && instance["state"] == "backup").then_some(instance)
        })
        .with_context(|| director.viaduct(&["show", "vrrp", "--json"]).unwrap_or_default())?;
        ensure!(backup["rejected"] == serde_json::json!({}), "{backup:#}");
    }
    Ok(())
}

#[test]
fn three_directors_that_speak_unicast_have_one_master() -> Result<()> {
    three_agree("threev3", 3)?;
    three_agree("threev2", 2)
}

#[test]
fn a_foreign_cluster_with_the_same_id_takes_no_address_and_is_reported() -> Result<()> {
    let lab = Lab::new("foreign")?;
    let wire = lab.network("wire")?;
    let hosts = [("client", 100), ("director", 1), ("other", 30)].map(|(name, last)| {
        let host = lab.host(name)?;
        host.attach(&wire, &[&format!("192.0.2.{last}/24")])?;
        Ok::<_, anyhow::Error>(host)
    });
    let [client, host, other] = hosts;
    let (client, host, other) = (client?, host?, other?);
    let config = "[[interface]]\nname = \"eth0\"\n[[vrrp]]\nname = \"outside\"\ninterface = \"eth0\"\n\
                  id = 51\npriority = 150\naddresses = [\"192.0.2.50\"]\n";
    let director = director_on(&host, config)?;
    until(&director, "master")?;

    let conf = other.directory().join("keepalived.conf").to_string_lossy().into_owned();
    std::fs::write(
        &conf,
        "global_defs { vrrp_version 3 }\nvrrp_instance OTHER {\n interface eth0\n \
         virtual_router_id 51\n priority 200\n advert_int 0.3\n \
         virtual_ipaddress { 192.0.2.200/24 }\n}\n",
    )?;
    let path = |name: &str| other.directory().join(name).to_string_lossy().into_owned();
    let (pid, vrrp_pid) = (path("k.pid"), path("kv.pid"));
    let keepalived =
        ["keepalived", "-n", "-l", "-D", "-P", "-f", &conf, "-p", &pid, "-r", &vrrp_pid];
    let keepalived = other.spawn(command(&keepalived)?)?;
    let ignored = wait::until("five of its adverts to be ignored", LIMIT, || {
        let instance = instance(&director).ok()?;
        (instance["rejected"]["no address in common"].as_u64()? >= 5).then_some(instance)
    })
    .with_context(|| format!("keepalived said: {}", keepalived.stderr()))?;
    ensure!(ignored["state"] == "master", "{ignored:#}");
    client.run_ok(&["ping", "-c1", "-W2", "192.0.2.50"])?;
    let said = wait::until_ok("the event", LIMIT, || {
        let events = director.viaduct(&["show", "events"])?;
        let line = events.lines().find(|line| line.contains("same virtual router id"));
        Ok(line.context(events.clone())?.to_owned())
    })?;
    for word in ["warning", "192.0.2.30", "51", "eth0", "outside"] {
        ensure!(said.contains(word), "{word}: {said}");
    }
    Ok(())
}
