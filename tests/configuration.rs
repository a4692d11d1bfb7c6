//! The configuration in the daemon's hands: refused, exported, brought back, and asked what it would
//! do to packets.

use crate::prelude::{BINARY, director_on};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::capture::Capture;
use harness::{Director, Site};

const CONFIG: &str = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
  [[service.real]]
  address = "10.0.0.11:80"
"#;

fn site(name: &str) -> Result<(Site, Director)> {
    let site = Site::new(name, 2, 0)?;
    let director = director_on(&site.director, CONFIG)?;
    Ok((site, director))
}

/// A file that the director's commands can read.
fn file(director: &Director, text: &str) -> Result<PathBuf> {
    let path = director.host().directory().join("new.toml");
    fs::write(&path, text)?;
    Ok(path)
}

fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a plain path")
}

fn scheduler(director: &Director) -> Result<String> {
    let services = director.viaduct(&["show", "services", "--json"])?;
    let services: serde_json::Value = serde_json::from_str(&services)?;
    Ok(services[0]["scheduler"].as_str().unwrap_or("none at all").to_owned())
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() -> Result<()> {
    let (_site, director) = site("badfile")?;
    let bad = CONFIG.replace("scheduler", "shceduler").replace("10.0.0.11:80", "10.0.0.300:80");
    let path = file(&director, &bad)?;
    for command in ["check", "apply", "diff"] {
        let refused = director.run(&[command, word(&path)?])?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        let place = format!("{}:5:1: ", path.display());
        ensure!(refused.stderr.contains(&place), "{}", refused.stderr);
        ensure!(refused.stderr.contains("did you mean scheduler?"), "{}", refused.stderr);
        ensure!(refused.stderr.lines().count() == 2, "all at once: {}", refused.stderr);
    }
    ensure!(scheduler(&director)? == "rr");
    ensure!(director.viaduct(&["history"])?.lines().count() == 2);
    let usage = director.run(&["apply"])?;
    ensure!(usage.status.code() == Some(2), "{usage:?}");
    Ok(())
}

#[test]
fn the_export_applied_again_changes_nothing() -> Result<()> {
    let (_site, director) = site("export")?;
    director.ipvsadm_script(
        "-A -t 192.0.2.11:443 -s mh -b mh-port -p 60 -M 255.255.0.0
         -a -t 192.0.2.11:443 -r 10.0.0.12:443 -i --tun-type gue --tun-port 6080 --tun-csum -w 7
         -A -f 9 -6 -s sh",
    )?;
    let text = director.viaduct(&["export"])?;
    let path = file(&director, &text)?;
    ensure!(director.viaduct(&["diff", word(&path)?])? == "nothing to change\n");
    ensure!(director.viaduct(&["apply", word(&path)?])? == "nothing to change\n");
    ensure!(director.viaduct(&["export"])? == text);
    Ok(())
}

#[test]
fn a_backup_brings_another_director_to_the_same_state() -> Result<()> {
    let (site, director) = site("backup")?;
    director.viaduct(&["drain", "web", "10.0.0.11", "--reason", "moved"])?;
    let backup = director.host().directory().join("backup");
    director.viaduct(&["backup", word(&backup)?])?;
    let text = director.viaduct(&["export"])?;
    drop(director);
    fs::remove_dir_all(site.director.directory().join("viaduct"))?;
    let fresh = Director::start(&site.director, Path::new(BINARY), None)?;
    ensure!(fresh.viaduct(&["export"])?.is_empty());
    fresh.viaduct(&["restore", word(&backup)?])?;
    ensure!(fresh.viaduct(&["export"])? == text);
    let health = fresh.viaduct(&["show", "health"])?;
    ensure!(health.contains("drained") && health.contains("moved"), "{health}");
    let mut bytes = fs::read(&backup)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&backup, bytes)?;
    let refused = fresh.run(&["restore", word(&backup)?])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("damaged"), "{refused:?}");
    Ok(())
}

#[test]
fn explain_and_replay_say_what_the_packet_path_does() -> Result<()> {
    let (site, director) = site("explain")?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    let explained =
        director.viaduct(&["explain", "--from", "192.0.2.100:4000", "--to", "192.0.2.10:80"])?;
    ensure!(explained.contains("10.0.0.11:80"), "{explained}");
    let elsewhere =
        director.viaduct(&["explain", "--from", "192.0.2.100:4000", "--to", "192.0.2.10:81"])?;
    ensure!(elsewhere.contains("no virtual service"), "{elsewhere}");

    let folder = director.host().directory();
    let (capture, out) = (folder.join("capture-eth0-tcp.pcap"), folder.join("out.pcap"));
    let watching = Capture::start(&site.director, "eth0", "tcp")?;
    site.client.run_ok(&["curl", "-sS", "--max-time", "10", "http://192.0.2.10/"])?;
    watching.finish()?;
    let config = file(&director, CONFIG)?;
    let replayed = director.viaduct(&[
        "replay",
        word(&capture)?,
        "--config",
        word(&config)?,
        "--out",
        word(&out)?,
        "--json",
    ])?;
    let summary: serde_json::Value = serde_json::from_str(&replayed)?;
    ensure!(summary["sent"].as_u64().is_some_and(|sent| sent >= 5), "{replayed}");
    ensure!(summary["connections"] == 1, "{replayed}");
    let shown = site.client.run_ok(&["tcpdump", "-n", "-r", word(&out)?])?;
    ensure!(shown.contains("192.0.2.100") && shown.contains("> 10.0.0.11.80"), "{shown}");
    Ok(())
}
