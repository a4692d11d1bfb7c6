//! Two paired directors have one configuration: what is committed on either reaches the other, by file
//! or by `ipvsadm`, and is still there after a restart; what both changed apart is a conflict that an
//! operator settles; what does not fit the other one is refused there, and said on both.

use crate::prelude::director_on;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::pair::VIP;
use harness::{Director, Pair, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Far more than anything here takes; reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(60);

const WEB: &str = "[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n\
    [[service.real]]\naddress = \"10.0.0.11:80\"\n[[service.real]]\naddress = \"10.0.0.12:80\"\n";

/// Two directors with the same services.
struct Scene {
    first: Director,
    second: Director,
    pair: Pair,
}

impl Scene {
    /// Builds the scene; `services` says what each director has to begin with.
    fn new(name: &str, services: [&str; 2], reals: usize) -> Result<Self> {
        let pair = Pair::new(name, reals)?;
        let start = |number: usize| {
            let config =
                pair.config(number, &format!("{}{}", Pair::peer(number), services[number]));
            director_on(&pair.directors[number], &config)
        };
        let (first, second) = (start(0)?, start(1)?);
        let code = first.viaduct(&["pair"])?;
        second.viaduct(&["join", code.trim()])?;
        for director in [&first, &second] {
            until(director, "sync", |sync| sync["caught_up"] == true)?;
        }
        Ok(Self { first, second, pair })
    }

    /// Both have the same configuration, and know it.
    fn same(&self) -> Result<()> {
        for director in [&self.first, &self.second] {
            relation(director, "same")?;
        }
        let services = |director: &Director| -> Result<String> {
            let text = director.viaduct(&["export"])?;
            let start = text.find("[[service]]").unwrap_or(text.len());
            let end = text.find("[[vrrp]]").unwrap_or(text.len());
            Ok(text[start.min(end)..end].to_owned())
        };
        let (one, two) = (services(&self.first)?, services(&self.second)?);
        ensure!(one == two, "{one}\nand\n{two}");
        Ok(())
    }

    /// Cuts the link between the directors, or joins it.
    fn link(&self, up: bool) -> Result<()> {
        let (host, cable) = (&self.pair.directors[0], &self.pair.cables[0].link);
        if up {
            host.plug(cable)?;
        } else {
            host.unplug(cable)?;
        }
        let state = if up { "up" } else { "down" };
        for director in [&self.first, &self.second] {
            until(director, "sync", |sync| sync["state"] == state)?;
        }
        Ok(())
    }
}

fn shown(director: &Director, what: &str) -> Result<Value> {
    Ok(serde_json::from_str(&director.viaduct(&["show", what, "--json"])?)?)
}

fn until(director: &Director, what: &str, fits: impl Fn(&Value) -> bool) -> Result<()> {
    let name = director.host().name().to_owned();
    wait::until(&format!("{what} of {name}"), LIMIT, || {
        shown(director, what).is_ok_and(|value| fits(&value)).then_some(())
    })
    .with_context(|| director.viaduct(&["show", what]).unwrap_or_default())
}

fn relation(director: &Director, wanted: &str) -> Result<()> {
    until(director, "sync", |sync| sync["configuration"]["relation"] == wanted)
}

/// Waits until a director's services are these, by name.
fn until_services(director: &Director, names: &[&str]) -> Result<()> {
    until(director, "services", |services| {
        let services = services.as_array().into_iter().flatten();
        services.filter_map(|service| service["name"].as_str()).eq(names.iter().copied())
    })
}

/// Applies what a director has with some text replaced, as an operator edits a file.
fn edit(director: &Director, from: &str, to: &str) -> Result<String> {
    let text = director.viaduct(&["export"])?;
    ensure!(text.contains(from), "{from} is not in {text}");
    let file = director.host().directory().join("edited.toml");
    std::fs::write(&file, text.replacen(from, to, 1))?;
    director.viaduct(&["apply", &file.to_string_lossy()])
}

fn said(director: &Director, text: &str) -> Result<()> {
    until(director, "events", |events| {
        let events = events.as_array().into_iter().flatten();
        events.filter_map(|event| event["text"].as_str()).any(|said| said.contains(text))
    })
}

#[test]
fn what_is_committed_on_either_director_is_on_both_and_stays() -> Result<()> {
    let mut scene = Scene::new("shared", [WEB, WEB], 2)?;
    scene.same()?;
    // By file, with a VIP more.
    edit(&scene.first, "name = \"web\"\n", "name = \"shop\"\n")?;
    until_services(&scene.second, &["shop"])?;
    edit(&scene.first, &format!("\"{VIP}\""), &format!("\"{VIP}\", \"192.0.2.20\""))?;
    until(&scene.second, "vrrp", |vrrp| vrrp.to_string().contains("192.0.2.20"))?;
    scene.same()?;
    let history = scene.second.viaduct(&["history"])?;
    ensure!(history.contains(" on director1"), "{history}");
    // By ipvsadm, on the backup.
    scene
        .second
        .ipvsadm_script("-A -t 192.0.2.20:25 -s rr\n-a -t 192.0.2.20:25 -r 10.0.0.11:25 -m -w 7")?;
    wait::until("the edit to arrive", LIMIT, || {
        let listing = scene.first.ipvsadm(&["-S", "-n"]).unwrap_or_default();
        listing.contains("-a -t 192.0.2.20:25 -r 10.0.0.11:25 -m -w 7").then_some(())
    })?;
    scene.same()?;
    // Neither the own part nor the operator's file was touched, and a restart undoes nothing.
    let text = scene.second.viaduct(&["export"])?;
    ensure!(text.contains("name = \"director2\"") && text.contains("listen = \"10.8.0.252:9850\""));
    scene.second.kill();
    scene.second.restart()?;
    until(&scene.second, "sync", |sync| sync["caught_up"] == true)?;
    scene.same()?;
    ensure!(scene.second.viaduct(&["export"])? == text);
    // What is committed while the other one is down is there when it is back.
    scene.second.kill();
    scene.first.ipvsadm(&["-D", "-t", "192.0.2.20:25"])?;
    wait::until("the edit to become a revision", LIMIT, || {
        let history = scene.first.viaduct(&["history"]).ok()?;
        history.lines().last()?.contains("ipvsadm").then_some(())
    })?;
    scene.second.restart()?;
    until_services(&scene.second, &["shop"])?;
    scene.same()
}

#[test]
fn a_stale_file_undoes_nothing_on_either_director_until_it_is_changed() -> Result<()> {
    let scene = Scene::new("stale", [WEB, WEB], 2)?;
    scene.same()?;
    edit(&scene.second, "name = \"web\"\n", "name = \"shop\"\n")?;
    until_services(&scene.first, &["shop"])?;
    scene.first.daemon().signal(Signal::SIGHUP)?;
    said(&scene.first, "has not changed since it was applied")?;
    scene.same()?;
    until_services(&scene.second, &["shop"])?;
    // Changed on the old state it is the truth for both; going back is one command on either.
    let file = scene.first.host().directory().join("viaduct/viaduct.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(
        &file,
        text.replace("name = \"web\"\n", "name = \"web\"\nscheduler = \"rr\"\n"),
    )?;
    scene.first.daemon().signal(Signal::SIGHUP)?;
    until_services(&scene.second, &["web"])?;
    said(&scene.first, "- service shop")?;
    said(&scene.first, "on the other one, too")?;
    scene.same()?;
    scene.second.viaduct(&["rollback"])?;
    until_services(&scene.first, &["shop"])?;
    scene.same()
}

#[test]
fn a_revision_on_trial_travels_when_it_is_confirmed() -> Result<()> {
    let scene = Scene::new("trial", [WEB, WEB], 2)?;
    let file = scene.first.host().directory().join("tried.toml");
    std::fs::write(&file, scene.first.viaduct(&["export"])?.replace("\"web\"", "\"tried\""))?;
    scene.first.viaduct(&["apply", &file.to_string_lossy(), "--confirm-within", "60s"])?;
    until_services(&scene.first, &["tried"])?;
    // A commit of the other director would overtake it if it travelled at once.
    wait::pause(Duration::from_secs(1));
    until_services(&scene.second, &["web"])?;
    scene.first.viaduct(&["confirm"])?;
    until_services(&scene.second, &["tried"])?;
    scene.same()
}

#[test]
fn a_conflict_is_shown_and_an_operator_chooses() -> Result<()> {
    let scene = Scene::new("conflict", [WEB, WEB], 2)?;
    let (first, second) = (&scene.first, &scene.second);
    for (keeper, whose, kept) in
        [(first, "mine", "one"), (first, "theirs", "two"), (second, "mine", "two")]
    {
        scene.same()?;
        let name = shown(first, "services")?[0]["name"].as_str().unwrap_or_default().to_owned();
        let quoted = format!("name = \"{name}\"\n");
        scene.link(false)?;
        edit(first, &quoted, &format!("name = \"one-{whose}\"\n"))?;
        edit(second, &quoted, &format!("name = \"two-{whose}\"\n"))?;
        scene.link(true)?;
        for director in [first, second] {
            relation(director, "conflict")?;
            said(director, "sync keep mine|theirs")?;
            until(director, "sync", |sync| {
                let differences = sync["configuration"]["differences"].as_array();
                differences.is_some_and(|differences| differences.len() == 2)
            })?;
        }
        ensure!(shown(first, "services")?[0]["name"] == format!("one-{whose}"));
        ensure!(shown(second, "services")?[0]["name"] == format!("two-{whose}"));
        let text = first.viaduct(&["show", "sync"])?;
        for part in ["CONFLICT", "on director1", "on director2", "- service one", "+ service two"] {
            ensure!(text.contains(part), "{part} is not in\n{text}");
        }
        keeper.viaduct(&["sync", "keep", whose])?;
        scene.same()?;
        ensure!(shown(first, "services")?[0]["name"] == format!("{kept}-{whose}"));
        // The choice is a revision on both, and makes no new conflict.
        for director in [first, second] {
            wait::until_ok("the choice in the history", LIMIT, || {
                let history = director.viaduct(&["history"])?;
                let last = history.lines().last().context("a revision")?;
                ensure!(last.contains("kept ") && last.contains("instead of"), "{history}");
                Ok(())
            })?;
        }
        scene.same()?;
        let again = keeper.run(&["sync", "keep", whose])?;
        ensure!(again.status.code() == Some(1) && again.stderr.contains("not in conflict"));
    }
    Ok(())
}

#[test]
fn directors_that_were_set_up_apart_are_in_conflict_and_a_new_one_takes_over() -> Result<()> {
    let mail = WEB.replace("web", "mail");
    let scene = Scene::new("apart", [WEB, &mail], 2)?;
    relation(&scene.first, "conflict")?;
    relation(&scene.second, "conflict")?;
    until_services(&scene.second, &["mail"])?;
    drop(scene);
    let scene = Scene::new("new", [WEB, ""], 2)?;
    until_services(&scene.second, &["web"])?;
    scene.same()
}

#[test]
fn what_does_not_fit_the_other_director_is_refused_there_and_said_on_both() -> Result<()> {
    let scene = Scene::new("unfit", [WEB, WEB], 2)?;
    scene.same()?;
    // The second one's priority hangs on a service.
    let track = "[[vrrp.track]]\nservice = \"web\"\nweight = -10\n[[vrrp]]\nname = \"inside\"";
    let text = scene.second.viaduct(&["export"])?.replace("[[vrrp]]\nname = \"inside\"", track);
    let file = scene.second.host().directory().join("tracking.toml");
    std::fs::write(&file, text)?;
    scene.second.viaduct(&["apply", &file.to_string_lossy()])?;
    scene.same()?;
    edit(&scene.first, "name = \"web\"\n", "name = \"shop\"\n")?;
    said(&scene.second, "the configuration of director1 does not fit here")?;
    said(&scene.first, "director2 does not take this configuration")?;
    for (director, text) in
        [(&scene.first, "refused by the peer"), (&scene.second, "the peer's is refused here")]
    {
        let sync = director.viaduct(&["show", "sync"])?;
        ensure!(sync.contains(text) && sync.contains("service"), "{sync}");
    }
    until_services(&scene.second, &["web"])?;
    // Without the hindrance it is taken over.
    let text = scene.second.viaduct(&["export"])?;
    let start = text.find("[[vrrp.track]]").context("a track")?;
    let end = start + text[start..].find("weight = -10\n").context("its end")? + 13;
    std::fs::write(&file, format!("{}{}", &text[..start], &text[end..]))?;
    scene.second.viaduct(&["apply", &file.to_string_lossy()])?;
    until_services(&scene.second, &["shop"])?;
    scene.same()
}

const CHECKED: &str = "[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\nscheduler = \"rr\"\n\
    [service.check]\ntype = \"http\"\npath = \"/\"\ninterval = \"200ms\"\ntimeout = \"1s\"\nfall = 2\n\
    start_delay = \"8s\"\n\
    [[service.real]]\naddress = \"10.0.0.11:80\"\n[[service.real]]\naddress = \"10.0.0.12:80\"\n";

/// Who answers so many requests; each has to be answered.
fn ask(scene: &Scene, requests: usize) -> Result<Vec<String>> {
    let ask = |_| {
        let curl = ["curl", "-sS", "--max-time", "5", "http://192.0.2.10/"];
        Ok(scene.pair.client.run_ok(&curl)?.trim().to_owned())
    };
    (0..requests).map(ask).collect()
}

fn until_master(director: &Director) -> Result<()> {
    until(director, "vrrp", |vrrp| {
        vrrp.as_array().is_some_and(|all| all.iter().all(|one| one["state"] == "master"))
    })
}

fn until_real2(director: &Director, state: &str) -> Result<()> {
    until(director, "services", |services| services[0]["reals"][1]["state"] == state)
}

#[test]
fn drains_hold_on_both_directors_and_survive_the_death_of_either() -> Result<()> {
    let mut scene = Scene::new("drains", [WEB, WEB], 2)?;
    let _servers: Vec<Backend> = scene
        .pair
        .reals
        .iter()
        .map(|real| Backend::http(real, "[::]:80"))
        .collect::<Result<_>>()?;
    until_master(&scene.first)?;
    scene.same()?;
    scene.first.viaduct(&["drain", "web", "10.0.0.12", "--reason", "new disk"])?;
    until_real2(&scene.second, "drained")?;
    let health = scene.second.viaduct(&["show", "health"])?;
    ensure!(health.contains("new disk"), "{health}");
    scene.first.kill();
    until_master(&scene.second)?;
    ensure!(ask(&scene, 6)?.iter().all(|name| name == "real1"));
    // Put back while the first one is down: it learns of it when it is back.
    scene.second.viaduct(&["undrain", "web", "10.0.0.12"])?;
    scene.first.restart()?;
    until_master(&scene.first)?;
    until_real2(&scene.first, "unchecked")?;
    ensure!(ask(&scene, 6)?.iter().any(|name| name == "real2"));
    // The other way round: the backup drains, the master obeys.
    scene.second.viaduct(&["drain", "web", "10.0.0.12"])?;
    until_real2(&scene.first, "drained")?;
    ensure!(ask(&scene, 6)?.iter().all(|name| name == "real1"));
    said(&scene.first, "on director2")
}

#[test]
fn a_director_that_comes_back_gives_nothing_to_a_server_that_is_known_dead() -> Result<()> {
    let mut scene = Scene::new("verdicts", [CHECKED, CHECKED], 2)?;
    let _server = Backend::http(&scene.pair.reals[0], "[::]:80")?;
    for director in [&scene.first, &scene.second] {
        until_real2(director, "down")?;
    }
    until_master(&scene.first)?;
    scene.first.kill();
    until_master(&scene.second)?;
    ensure!(ask(&scene, 6)?.iter().all(|name| name == "real1"));
    scene.first.restart()?;
    until_master(&scene.first)?;
    // Its own checks have not begun.
    ensure!(ask(&scene, 20)?.iter().all(|name| name == "real1"));
    said(&scene.first, "down by what director2 says: 10.0.0.12:80")?;
    // The two see it differently: shown on both.
    let own = &scene.pair.directors[0];
    let rules = "table inet deaf {\nchain in { type filter hook input priority 0; \
                 ip saddr 10.0.0.11 tcp sport 80 ip daddr 10.0.0.251 drop; }\n}\n";
    own.run_with_input(harness::host::command(&["nft", "-f", "-"])?, rules)?.ok()?;
    for director in [&scene.first, &scene.second] {
        until(director, "sync", |sync| {
            sync["configuration"]["disagreements"][0]["real"] == "10.0.0.11:80"
        })?;
    }
    let sync = scene.second.viaduct(&["show", "sync"])?;
    ensure!(sync.contains("web 10.0.0.11:80 is up"), "{sync}");
    let health = scene.second.viaduct(&["show", "health"])?;
    ensure!(health.contains("down as the peer sees it"), "{health}");
    Ok(())
}
