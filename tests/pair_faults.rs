//! What two directors do when something between them breaks: who is master, for how long both are,
//! and that no established stream is lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::session_sync::load::{LIMIT, Load, Scene, all, shown, until};
use anyhow::{Result, ensure};
use harness::bad_cable::{Fates, Flaws};
use harness::pair::Cables;
use harness::{BadCable, Network, wait};
use nix::sys::signal::Signal;

/// How long a fault lasts.
const LASTS: Duration = Duration::from_secs(6);

/// The longest that both directors may be master while clients reach both of them.
const BOTH: Duration = Duration::from_secs(2);

/// What was seen of one fault.
struct Row {
    fault: &'static str,
    /// Master at the end of it: 1 or 2.
    master: u8,
    both: Duration,
    streams: usize,
    lost: Vec<String>,
    gap: u64,
}

/// Watches who is master for as long as the fault lasts: who is at the end, and how long both were.
fn watch(scene: &Scene) -> Result<(u8, Duration)> {
    let start = wait::clock();
    let (mut both, mut last, mut master) = (Duration::ZERO, start, 0);
    while start.elapsed() < LASTS {
        let masters = [&scene.first, &scene.second]
            .map(|director| shown(director, "vrrp").is_ok_and(|vrrp| all(&vrrp, "master")));
        let now: Instant = wait::clock();
        if masters == [true, true] {
            both += now - last;
        }
        last = now;
        master = match masters {
            [true, false] => 1,
            [false, true] => 2,
            [true, true] => 3,
            [false, false] => 0,
        };
    }
    Ok((master, both))
}

/// Lets a fault happen under load, and heal.
fn suffer(
    scene: &mut Scene,
    fault: &'static str,
    make: impl FnOnce(&mut Scene) -> Result<()>,
    heal: impl FnOnce(&mut Scene) -> Result<()>,
) -> Result<Row> {
    let load = Load::start(&scene.pair.client)?;
    wait::pause(Duration::from_millis(300));
    load.gap();
    make(scene)?;
    let (master, both) = watch(scene)?;
    load.all_alive()?;
    let gap = load.gap();
    heal(scene)?;
    scene.settled()?;
    load.all_alive()?;
    let healing = load.gap();
    let (streams, lost) = load.finish();
    println!(
        "{fault:<44} master: {master}  both for {:>4} ms  {streams} streams, {} lost, longest wait {gap} ms, then {healing} ms",
        both.as_millis(),
        lost.len()
    );
    Ok(Row { fault, master, both, streams, lost, gap })
}

fn nft(scene: &Scene, director: usize, rules: &str) -> Result<()> {
    let host = &scene.pair.directors[director];
    host.run_ok(&["nft", "flush", "ruleset"])?;
    if !rules.is_empty() {
        let table = format!("table inet faults {{\n{rules}\n}}\n");
        host.run_with_input(harness::host::command(&["nft", "-f", "-"])?, &table)?.ok()?;
    }
    Ok(())
}

/// Both directors' cables, moved to networks where nobody is: carriers stay.
fn isolate(scene: &Scene, islands: &[Network; 3], away: bool) -> Result<()> {
    let host = &scene.pair.directors[0];
    let Cables { outside, inside, link } = &scene.pair.cables[0];
    let networks = if away { islands } else { &scene.pair.networks };
    for (cable, network) in [outside, inside, link].into_iter().zip(networks) {
        host.reconnect(cable, network)?;
    }
    Ok(())
}

/// The master dies, and comes back, while the sync link has flaws.
fn die_behind(
    scene: &mut Scene,
    link: &BadCable,
    fault: &'static str,
    flaws: Flaws,
) -> Result<Row> {
    let before = link.fates();
    link.set(flaws);
    let die = |scene: &mut Scene| {
        wait::pause(Duration::from_secs(1));
        scene.first.kill();
        Ok(())
    };
    let row = suffer(scene, fault, die, |scene| scene.first.restart())?;
    let Fates { frames, lost, doubled, overtaken } = link.fates();
    let [frames, lost] = [frames - before.frames, lost - before.lost];
    let [doubled, overtaken] = [doubled - before.doubled, overtaken - before.overtaken];
    println!("    of {frames} frames {lost} lost, {doubled} doubled, {overtaken} overtaken");
    // Far from what is expected only if the cable is not in the way.
    for (share, count) in
        [(flaws.lost, lost), (flaws.doubled, doubled), (flaws.overtaken, overtaken)]
    {
        let expected = frames * share / 1000;
        ensure!((expected / 3..=expected * 3).contains(&count), "{count} of {frames}, {flaws:?}");
    }
    link.set(Flaws::default());
    Ok(row)
}

const NO_VRRP: &str = "chain in { type filter hook input priority 0; meta l4proto 112 drop; }";

/// The fault that nobody can tell from the death of the other one.
const BOTH_PATHS: &str = "adverts and sync link are lost, witnesses answer";

/// Loses adverts and the sync link, or gives both back. Clients and witnesses reach both directors.
fn both_paths(scene: &Scene, lost: bool) -> Result<()> {
    let (host, link) = (&scene.pair.directors[0], &scene.pair.cables[0].link);
    let rules = if lost { NO_VRRP } else { "" };
    nft(scene, 0, rules)?;
    nft(scene, 1, rules)?;
    if lost { host.unplug(link) } else { host.plug(link) }
}

/// On the sync link, in parts of a thousand.
const LOST: Flaws = Flaws { lost: 100, doubled: 0, overtaken: 0, delay: Duration::ZERO };
const MIXED: Flaws =
    Flaws { lost: 0, doubled: 100, overtaken: 200, delay: Duration::from_millis(20) };
const ALL: Flaws = Flaws { lost: 100, ..MIXED };

#[test]
fn no_fault_between_the_directors_loses_a_stream() -> Result<()> {
    let witness = |_| "witnesses = [\"192.0.2.100\"]\n".to_owned();
    let mut scene = Scene::with("faults", witness, |config| config)?;
    let link = scene.pair.bad_link(4)?;
    scene.settled()?;
    let islands = ["island1", "island2", "island3"];
    let islands = islands.map(|name| scene.pair.lab().network(name));
    let [one, two, three] = islands;
    let islands = [one?, two?, three?];
    let cable = |scene: &mut Scene, cut: bool, which: fn(&Cables) -> &harness::Interface| {
        let (host, cable) = (&scene.pair.directors[0], which(&scene.pair.cables[0]));
        if cut { host.unplug(cable) } else { host.plug(cable) }
    };
    let rows = [
        suffer(
            &mut scene,
            "the master's outside cable is cut",
            |scene| cable(scene, true, |cables| &cables.outside),
            |scene| cable(scene, false, |cables| &cables.outside),
        )?,
        suffer(
            &mut scene,
            "the sync link is cut",
            |scene| cable(scene, true, |cables| &cables.link),
            |scene| cable(scene, false, |cables| &cables.link),
        )?,
        suffer(
            &mut scene,
            "adverts are lost, the sync link works",
            |scene| nft(scene, 0, NO_VRRP).and_then(|()| nft(scene, 1, NO_VRRP)),
            |scene| nft(scene, 0, "").and_then(|()| nft(scene, 1, "")),
        )?,
        suffer(
            &mut scene,
            "the master is cut off, carriers stay",
            |scene| isolate(scene, &islands, true),
            |scene| isolate(scene, &islands, false),
        )?,
        die_behind(&mut scene, &link, "10 % lost on the sync link, the master dies", LOST)?,
        die_behind(&mut scene, &link, "10 % doubled, 20 % overtaken there", MIXED)?,
        die_behind(&mut scene, &link, "10 % lost, 10 % doubled, 20 % overtaken", ALL)?,
        suffer(
            &mut scene,
            "the master is stopped for 5 s (SIGSTOP)",
            |scene| {
                scene.first.daemon().signal(Signal::SIGSTOP)?;
                until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
                wait::pause(Duration::from_secs(5));
                scene.first.daemon().signal(Signal::SIGCONT)
            },
            |_| Ok(()),
        )?,
        suffer(
            &mut scene,
            BOTH_PATHS,
            |scene| both_paths(scene, true),
            |scene| both_paths(scene, false),
        )?,
    ];
    let masters: Vec<u8> = rows.iter().map(|row| row.master).collect();
    ensure!(masters == [2, 1, 1, 2, 2, 2, 2, 1, 3], "{masters:?}");
    for row in &rows {
        ensure!(row.lost.is_empty(), "{}: of {} lost {:#?}", row.fault, row.streams, row.lost);
        // The one that is cut off is seen by nobody until it stands down; and nobody fences here.
        let long = row.fault.contains("cut off") || row.fault == BOTH_PATHS;
        let limit = if long { LASTS } else { BOTH };
        ensure!(row.both < limit, "{}: both for {:?}, gap {}", row.fault, row.both, row.gap);
    }
    Ok(())
}

/// Two directors of which the second one has a fence agent, and the file in which that says whether
/// the first one has power.
fn fenced(name: &str) -> Result<(Scene, PathBuf)> {
    let power = std::env::temp_dir().join(format!("viaduct-{name}-{}", std::process::id()));
    std::fs::write(&power, "on")?;
    let fence = |number: usize| match number {
        0 => String::new(),
        _ => format!(
            "[peer.fence]\nagent = \"/usr/sbin/fence_dummy\"\noptions = [\"status_file={}\"]\n",
            power.display()
        ),
    };
    Ok((Scene::with(name, fence, |config| config)?, power))
}

/// Waits until the first director has no power, and the second one says so.
fn switched_off(scene: &Scene, power: &Path) -> Result<()> {
    wait::until("the other director to be switched off", LIMIT, || {
        std::fs::read_to_string(power).is_ok_and(|text| text.trim() == "off").then_some(())
    })?;
    until(&scene.second, "events", |events| {
        let said = events.as_array().into_iter().flatten();
        said.filter_map(|event| event["text"].as_str()).any(|text| text.contains("switched off"))
    })?;
    Ok(())
}

#[test]
fn a_dead_peer_is_fenced_and_one_behind_a_cut_link_is_not() -> Result<()> {
    let (mut scene, power) = fenced("fencing")?;
    // The sync link alone is no reason.
    let link = &scene.pair.cables[0].link;
    scene.pair.directors[0].unplug(link)?;
    until(&scene.second, "sync", |sync| sync["state"] == "down")?;
    ensure!(std::fs::read_to_string(&power)?.trim() == "on");
    scene.pair.directors[0].plug(link)?;
    scene.settled()?;
    scene.first.kill();
    until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
    switched_off(&scene, &power)?;
    std::fs::remove_file(&power)?;
    Ok(())
}

#[test]
fn a_living_peer_that_is_silent_on_both_paths_is_fenced_and_no_stream_is_lost() -> Result<()> {
    let (mut scene, power) = fenced("bothpaths")?;
    let load = Load::start(&scene.pair.client)?;
    wait::pause(Duration::from_millis(300));
    both_paths(&scene, true)?;
    switched_off(&scene, &power)?;
    // fence_dummy only writes down what another agent would do.
    scene.first.kill();
    until(&scene.second, "vrrp", |vrrp| all(vrrp, "master"))?;
    load.all_alive()?;
    let (streams, lost) = load.finish();
    ensure!(lost.is_empty(), "of {streams} lost {lost:#?}");
    std::fs::remove_file(&power)?;
    Ok(())
}
