//! The program under the names of the old tools: saving, restoring, and what the daemon makes of it.

use crate::prelude::BINARY;
use anyhow::{Context, Result, ensure};
use harness::process::Finished;
use harness::{Director, Lab};
use std::os::unix::fs::symlink;
use std::path::Path;

/// A director, and a folder with the three names linked to the program.
struct Bench {
    _lab: Lab,
    director: Director,
}

impl Bench {
    fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let host = lab.host("director")?;
        host.attach(&lab.network("inside")?, &["10.0.0.1/16"])?;
        for tool in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            symlink(BINARY, host.directory().join(tool))?;
        }
        let director = Director::start(&host, Path::new(BINARY), None)?;
        Ok(Self { _lab: lab, director })
    }

    /// Runs a tool by its name.
    fn tool(&self, name: &str, arguments: &[&str], input: &str) -> Result<Finished> {
        let host = self.director.host();
        let path = host.directory().join(name);
        let path = path.to_str().context("a path that is no text")?;
        let mut command = harness::host::command(&[&[path], arguments].concat())?;
        command.env("VIADUCT_SOCKET", self.director.socket());
        host.run_with_input(command, input)
    }

    /// The numbers of the kept revisions.
    fn revisions(&self) -> Result<usize> {
        let history = self.director.viaduct(&["history", "--json"])?;
        let revisions: Vec<serde_json::Value> = serde_json::from_str(&history)?;
        Ok(revisions.len())
    }
}

/// One service with 50 real servers, twenty times.
fn thousand_lines() -> String {
    let mut lines = String::from("# saved long ago\n");
    for service in 1..=20 {
        lines.push_str(&format!("-A -t 192.0.2.{service}:80 -s wrr -p 300 -M 255.255.255.0\n"));
        for real in 1..=49 {
            let real = format!("10.0.{service}.{real}:8080");
            lines.push_str(&format!("-a -t 192.0.2.{service}:80 -r {real} -m -w {service}\n"));
        }
    }
    lines
}

#[test]
fn a_thousand_lines_restore_as_one_revision_and_save_as_they_were() -> Result<()> {
    let bench = Bench::new("ipvsscripts")?;
    bench.tool("ipvsadm", &["-A", "-t", "203.0.113.9:80"], "")?.ok()?;
    bench.director.viaduct(&["export"])?;
    let rules = thousand_lines();
    let before = bench.revisions()?;
    let restored = bench.tool("ipvsadm-restore", &[], &rules)?;
    ensure!(restored.stdout.is_empty() && restored.stderr.is_empty(), "{restored}");
    restored.ok()?;
    let after = bench.revisions()?;
    ensure!(after <= before + 1, "{before} revisions became {after}");

    let saved = bench.tool("ipvsadm-save", &["-n"], "")?.ok()?;
    let sorted = |text: &str| {
        let mut lines: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&saved), sorted(&rules));

    // What the save gave restores to the same again, and nothing but an empty list clears it.
    bench.tool("ipvsadm-restore", &[], &saved)?.ok()?;
    assert_eq!(bench.tool("ipvsadm-save", &["-n"], "")?.ok()?, saved);
    bench.tool("ipvsadm-restore", &[], "")?.ok()?;
    assert_eq!(bench.tool("ipvsadm-save", &["-n"], "")?.ok()?, "");
    Ok(())
}

#[test]
fn what_a_restore_did_outlives_the_daemon() -> Result<()> {
    let mut bench = Bench::new("ipvskept")?;
    bench.tool("ipvsadm-restore", &[], &thousand_lines())?.ok()?;
    let listed = bench.tool("ipvsadm", &["-Ln"], "")?.ok()?;
    bench.director.kill();
    let away = bench.tool("ipvsadm", &["-Ln"], "")?;
    assert_eq!(away.status.code(), Some(2));
    assert!(away.stderr.starts_with("Can't initialize ipvs: "), "{away}");
    bench.director.restart()?;
    assert_eq!(bench.tool("ipvsadm", &["-Ln"], "")?.ok()?, listed);
    Ok(())
}

#[test]
fn a_stranger_may_not_use_the_socket() -> Result<()> {
    let bench = Bench::new("ipvsstranger")?;
    let program = bench.director.host().directory().join("ipvsadm");
    let socket = format!("VIADUCT_SOCKET={}", bench.director.socket().display());
    let stranger = bench.director.host().run(&[
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "env",
        &socket,
        program.to_str().context("a path that is no text")?,
        "-Ln",
    ])?;
    assert_eq!(stranger.status.code(), Some(2), "{stranger}");
    assert!(stranger.stderr.contains("Permission denied (you must be root)"), "{stranger}");
    Ok(())
}
