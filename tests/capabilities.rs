//! The director needs no root: three capabilities are enough, as the unit file grants them.

use crate::prelude::BINARY;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use harness::backend::Backend;
use harness::capture::Capture;
use harness::host::command;
use harness::{Host, Site, peers, wait};

const CAPABILITIES: &str = "-all,+net_admin,+net_raw,+bpf";
/// What a host's systemd grants.
const UNIT: &str = include_str!("../image/viaduct.service");
/// A user that owns nothing.
const NOBODY: &str = "65534";

/// Runs a `viaduct` command that talks to the daemon in `directory`.
fn viaduct(host: &Host, directory: &Path, words: &[&str]) -> Result<String> {
    let mut command = command(&[&[BINARY], words].concat())?;
    command.env("VIADUCT_SOCKET", directory.join("viaduct.sock"));
    host.run_with_input(command, "")?.ok()
}

#[test]
fn the_unit_file_grants_just_these() {
    assert!(UNIT.contains("\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF\n"));
    assert!(UNIT.contains("\nNoNewPrivileges=yes\n"));
}

#[test]
fn a_director_with_three_capabilities_and_no_root_balances() -> Result<()> {
    let site = Site::new("capabilities", 1, 0)?;
    let _server = Backend::http(&site.reals[0], "[::]:80")?;
    // What belongs to root, as a build directory may, is closed to the daemon.
    let directory = site.director.directory().join("daemon");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))?;
    let program = directory.join("viaduct");
    fs::copy(BINARY, &program)?;
    let mut daemon = command(&["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])?;
    daemon
        .args(["--no-new-privs", "--bounding-set", CAPABILITIES])
        .args(["--inh-caps", CAPABILITIES, "--ambient-caps", CAPABILITIES])
        .arg(&program)
        .args(["run", "--console", "off"])
        .env("VIADUCT_SOCKET", directory.join("viaduct.sock"))
        .env("VIADUCT_STATE", directory.join("state"));
    let daemon = site.director.spawn(daemon)?;
    wait::until_ok("the director to answer", Duration::from_secs(30), || {
        viaduct(&site.director, &directory, &["show", "services"])
    })?;
    for rule in ["-A -t 192.0.2.10:80 -s rr", "-a -t 192.0.2.10:80 -r 10.0.0.11:80 -m"] {
        let words: Vec<&str> = std::iter::once("ipvsadm").chain(rule.split(' ')).collect();
        viaduct(&site.director, &directory, &words)?;
    }
    // Steering works too: the host, which holds the VIP as well, refuses nothing.
    site.director.add_address("eth0", "192.0.2.10")?;
    let resets = Capture::start(&site.client, "eth0", "tcp[tcpflags] & tcp-rst != 0")?;
    let result = peers::ab(&site.client, "http://192.0.2.10/", 200, 5, Duration::from_secs(60))?;
    assert_eq!((result.complete, result.failed), (200, 0), "{}", daemon.stderr());
    assert_eq!(resets.finish()?, []);
    Ok(())
}
