//! The configuration file while the daemon runs: SIGHUP and `autoreload` apply it again when it has changed,
//! and say what that takes back; a bad one changes nothing and is reported; a full disk refuses changes and leaves forwarding alone.

use crate::prelude::director_on;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Host, Site, wait};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);

fn config(autoreload: bool, reals: &[u8]) -> String {
    let mut text = format!(
        "[node]\nautoreload = {autoreload}\n\n[[service]]\nname = \"web\"\n\
         address = \"192.0.2.10:80\"\nscheduler = \"rr\"\n"
    );
    for real in reals {
        text.push_str(&format!("[[service.real]]\naddress = \"10.0.0.{real}:80\"\n"));
    }
    text
}

/// Where the harness has put the file.
fn file(director: &Director) -> PathBuf {
    director.host().directory().join("viaduct/viaduct.toml")
}

fn until_listed(director: &Director, reals: &[&str]) -> Result<()> {
    wait::until_ok(&format!("{reals:?}"), LIMIT, || {
        let services = director.states()?;
        let service = services.first().context("no service")?;
        let mut listed: Vec<&str> =
            service.reals.iter().map(|real| real.address.as_str()).collect();
        listed.sort_unstable();
        ensure!(listed == reals, "{listed:?}");
        Ok(())
    })
}

fn until_said(director: &Director, words: &[&str]) -> Result<()> {
    wait::until_ok(&format!("{words:?}"), LIMIT, || {
        let events = director.viaduct(&["show", "events"])?;
        ensure!(words.iter().all(|word| events.contains(word)), "{events}");
        Ok(())
    })
}

#[test]
fn sighup_applies_the_file_again_and_a_bad_one_changes_nothing() -> Result<()> {
    let site = Site::new("sighup", 1, 0)?;
    let first = config(false, &[11]);
    let director = director_on(&site.director, &first)?;
    until_listed(&director, &["10.0.0.11:80"])?;

    fs::write(file(&director), config(false, &[11, 12]))?;
    director.daemon().signal(Signal::SIGHUP)?;
    until_listed(&director, &["10.0.0.11:80", "10.0.0.12:80"])?;

    let bad = config(false, &[11]).replace("scheduler = \"rr\"", "shceduler = \"rr\"");
    fs::write(file(&director), bad)?;
    director.daemon().signal(Signal::SIGHUP)?;
    until_said(&director, &["was not applied", "viaduct.toml:7:1", "scheduler"])?;
    until_listed(&director, &["10.0.0.11:80", "10.0.0.12:80"])?;
    let history = director.viaduct(&["history"])?;
    ensure!(history.matches("configuration file").count() == 2, "{history}");
    Ok(())
}

const ADD: [&str; 7] = ["-a", "-t", "192.0.2.10:80", "-r", "10.0.0.13:80", "-m", "-w5"];

#[test]
fn a_file_that_has_not_changed_undoes_nothing_and_a_changed_one_says_what_it_takes_back()
-> Result<()> {
    let site = Site::new("stalefile", 1, 0)?;
    let first = config(false, &[11]);
    let mut director = director_on(&site.director, &first)?;
    let with_edit = ["10.0.0.11:80", "10.0.0.13:80"];
    director.ipvsadm(&ADD)?;
    director.daemon().signal(Signal::SIGHUP)?;
    until_said(&director, &["has not changed since it was applied", "viaduct apply"])?;
    until_listed(&director, &with_edit)?;
    // Nor does one that means the same, or a restart with it.
    fs::write(file(&director), format!("# a remark\n{first}"))?;
    director.daemon().signal(Signal::SIGHUP)?;
    wait::until_ok("a second word", LIMIT, || {
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.matches("has not changed since").count() == 2, "{events}");
        Ok(())
    })?;
    director.restart()?;
    until_listed(&director, &with_edit)?;

    // A change on the old state is the truth; it says what goes, and is one command away from going back.
    fs::write(file(&director), config(false, &[11, 12]))?;
    director.daemon().signal(Signal::SIGHUP)?;
    until_listed(&director, &["10.0.0.11:80", "10.0.0.12:80"])?;
    let lost = "- service web, real server 10.0.0.13:80: weight 5";
    until_said(
        &director,
        &["takes back what was committed by other ways", lost, "viaduct rollback"],
    )?;
    director.viaduct(&["rollback"])?;
    until_listed(&director, &with_edit)?;
    director.daemon().signal(Signal::SIGHUP)?;
    wait::pause(Duration::from_secs(2));
    until_listed(&director, &with_edit)?;

    // One that brings along what there is takes nothing back.
    fs::write(file(&director), director.viaduct(&["export"])?.replace("weight = 5", "weight = 6"))?;
    director.daemon().signal(Signal::SIGHUP)?;
    wait::until_ok("the weight", LIMIT, || {
        let rules = director.ipvsadm(&["-S", "-n"])?;
        ensure!(rules.contains("10.0.0.13:80 -m -w 6"), "{rules}");
        Ok(())
    })?;
    let events = director.viaduct(&["show", "events"])?;
    ensure!(events.matches("takes back what was committed").count() == 1, "{events}");
    Ok(())
}

#[test]
fn a_file_that_was_applied_by_hand_is_not_applied_again_over_later_changes() -> Result<()> {
    let site = Site::new("byhand", 1, 0)?;
    let mut director = director_on(&site.director, &config(false, &[11]))?;
    fs::write(file(&director), config(false, &[12]))?;
    director.viaduct(&["apply", &file(&director).to_string_lossy()])?;
    director.ipvsadm(&ADD)?;
    let both = ["10.0.0.12:80", "10.0.0.13:80"];
    director.daemon().signal(Signal::SIGHUP)?;
    until_said(&director, &["has not changed since it was applied"])?;
    until_listed(&director, &both)?;
    director.restart()?;
    until_listed(&director, &both)?;

    // A file that was changed while the daemon was away takes back at the start, and says so, too.
    director.shut_down()?;
    fs::write(file(&director), config(false, &[12, 14]))?;
    director.restart()?;
    until_listed(&director, &["10.0.0.12:80", "10.0.0.14:80"])?;
    until_said(&director, &["takes back what was committed by other ways", "10.0.0.13:80"])?;
    director.viaduct(&["rollback"])?;
    until_listed(&director, &both)
}

#[test]
fn autoreload_notices_a_changed_file_by_itself() -> Result<()> {
    let site = Site::new("autoreload", 1, 0)?;
    let first = config(true, &[11]);
    let director = director_on(&site.director, &first)?;
    until_listed(&director, &["10.0.0.11:80"])?;
    fs::write(file(&director), config(true, &[12, 13]))?;
    until_listed(&director, &["10.0.0.12:80", "10.0.0.13:80"])?;
    // Asked not to any more, by the file itself.
    fs::write(file(&director), config(false, &[12]))?;
    until_listed(&director, &["10.0.0.12:80"])?;
    fs::write(file(&director), config(true, &[11]))?;
    wait::pause(Duration::from_secs(5));
    until_listed(&director, &["10.0.0.12:80"])
}

#[test]
fn autoreload_and_sighup_never_take_half_a_file_or_an_emptied_one() -> Result<()> {
    let site = Site::new("halffile", 1, 0)?;
    let first = config(true, &[11, 12, 13]);
    let director = director_on(&site.director, &first)?;
    let all = ["10.0.0.11:80", "10.0.0.12:80", "10.0.0.13:80"];
    until_listed(&director, &all)?;

    // Nothing but a remark changes. Each pause is longer than the quiet moment after a change.
    let mut writer = fs::File::create(file(&director))?;
    for piece in format!("# a remark\n{first}").split_inclusive("[[service.real]]\n") {
        writer.write_all(piece.as_bytes())?;
        director.daemon().signal(Signal::SIGHUP)?;
        wait::pause(Duration::from_millis(2500));
        until_listed(&director, &all)?;
    }
    drop(writer);
    wait::pause(Duration::from_millis(2500));
    until_listed(&director, &all)?;
    let history = director.viaduct(&["history"])?;
    ensure!(history.matches("configuration file").count() == 1, "{history}");

    fs::write(file(&director), "")?;
    until_said(&director, &["was not applied", "has no service", "viaduct apply"])?;
    until_listed(&director, &all)?;
    // By hand it is done.
    director.viaduct(&["apply", &file(&director).to_string_lossy()])?;
    ensure!(director.states()?.is_empty());
    Ok(())
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back_also_when_the_daemon_was_killed() -> Result<()> {
    let site = Site::new("confirm", 1, 0)?;
    let mut director = director_on(&site.director, &config(false, &[11]))?;
    let other = director.host().directory().join("other.toml");
    fs::write(&other, config(false, &[12]))?;
    let other = other.to_string_lossy().into_owned();
    let differences = director.viaduct(&["diff", &other])?;
    ensure!(differences.contains("10.0.0.12:80") && differences.contains("10.0.0.11:80"));
    director.viaduct(&["apply", &other, "--confirm-within", "3s"])?;
    until_listed(&director, &["10.0.0.12:80"])?;
    until_listed(&director, &["10.0.0.11:80"])?;
    director.viaduct(&["apply", &other, "--confirm-within", "8s"])?;
    until_listed(&director, &["10.0.0.12:80"])?;
    director.kill();
    director.restart()?;
    until_listed(&director, &["10.0.0.11:80"])?;
    director.viaduct(&["apply", &other, "--confirm-within", "60s"])?;
    director.viaduct(&["confirm"])?;
    until_listed(&director, &["10.0.0.12:80"])
}

/// Gives the director's state a small disk of its own, in the host's mount namespace. The name of a
/// file there.
fn small_disk(host: &Host) -> Result<String> {
    let path = host.directory().join("viaduct/state");
    fs::create_dir_all(&path)?;
    let path = path.to_string_lossy().into_owned();
    host.run_ok(&["mount", "-t", "tmpfs", "-o", "size=24m", "viaduct-test", &path])?;
    Ok(format!("{path}/filler"))
}

#[test]
fn a_full_disk_refuses_changes_and_forwarding_goes_on() -> Result<()> {
    let site = Site::new("fulldisk", 2, 0)?;
    let _servers: Vec<Backend> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let filler = small_disk(&site.director)?;
    let mut director = director_on(&site.director, &config(false, &[11]))?;
    let curl = || site.client.run_ok(&["curl", "-sS", "--max-time", "5", "http://192.0.2.10/"]);
    wait::until_ok("the service", LIMIT, &curl)?;

    // Ends with an error when the disk is full, which is what is wanted.
    site.director.run(&["dd", "if=/dev/zero", &format!("of={filler}"), "bs=4k"])?;
    let mut port = 8000;
    wait::until_ok("a change to be refused", LIMIT, || {
        port += 1;
        let real = format!("10.0.0.12:{port}");
        let add = ["ipvsadm", "-a", "-t", "192.0.2.10:80", "-r", &real, "-m"];
        let ended = director.run(&add)?;
        let refused = !ended.status.success() && ended.stderr.contains("change not saved");
        ensure!(refused, "{ended}");
        Ok(())
    })?;
    until_said(&director, &["changes are refused"])?;
    ensure!(curl()? == "real1\n", "forwarding goes on");
    let doctor = director.run(&["doctor"])?;
    ensure!(doctor.status.code() == Some(1), "{doctor}");
    ensure!(doctor.stdout.contains("refuses changes"), "{doctor}");

    site.director.run_ok(&["rm", &filler])?;
    wait::until_ok("a change to be taken again", LIMIT, || {
        let add = ["-a", "-t", "192.0.2.10:80", "-r", "10.0.0.12:80", "-m"];
        director.ipvsadm(&add)
    })?;
    director.restart()?;
    ensure!(director.ipvsadm(&["-L", "-n"])?.contains("10.0.0.12:80"));
    Ok(())
}
