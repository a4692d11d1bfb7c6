//! The job of ldirectord: three web servers behind NAT, each asked every two seconds for a page that
//! must say "good". One that stops is quiesced, with its connections left alone; one that comes back
//! serves again; while none is left the director itself answers. No request hangs meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::capture::Capture;
use harness::process::Process;
use harness::{Director, Host, Site, peers, wait};
use nix::sys::signal::Signal;

const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");
const URL: &str = "http://192.0.2.10/";
const STOPPED: &str = "10.0.0.12:80";

/// What ldirectord.cf says with `request`, `receive`, `checkinterval=2`, `checktimeout=10`,
/// `quiescent=yes` and a `fallback` on the director.
const CONFIG: &str = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
method = "nat"
sorry = "builtin"
  [service.check]
  type = "http"
  path = "/meip25/jsp.txt"
  expect_body = "good"
  interval = "2s"
  timeout = "10s"
  rise = 1
  fall = 1
  on_down = "quiesce"
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
  [[service.real]]
  address = "10.0.0.13:80"
"#;

/// How long a server may stay in use after it stopped: two intervals.
const TWO_INTERVALS: Duration = Duration::from_secs(4);

/// Bytes of a download that takes about eight seconds.
const SLOW: usize = 800_000;

/// nginx with a page of its own, the page that is checked, and a file that it hands out slowly.
struct Web {
    host: Host,
    root: PathBuf,
    nginx: Option<Process>,
}

impl Web {
    fn start(host: &Host) -> Result<Self> {
        let root = host.directory().join("www");
        fs::create_dir_all(root.join("meip25"))?;
        fs::write(root.join("slow"), vec![b's'; SLOW])?;
        let mut web = Self { host: host.clone(), root, nginx: None };
        web.set_good(true)?;
        web.serve()?;
        Ok(web)
    }

    fn serve(&mut self) -> Result<()> {
        let (name, root) = (self.host.name(), self.root.display());
        let server = format!(
            "root {root}; default_type text/plain;\n\
             location = / {{ return 200 \"{name}\\n\"; }}\n\
             location = /slow {{ limit_rate 100k; }}"
        );
        self.nginx = Some(peers::nginx_with(&self.host, "80", &server)?);
        Ok(())
    }

    /// What the checked page says.
    fn set_good(&self, good: bool) -> Result<()> {
        let text = if good { "all is good here\n" } else { "bad\n" };
        Ok(fs::write(self.root.join("meip25/jsp.txt"), text)?)
    }

    /// As `nginx -s quit`: takes nothing new and finishes what it has.
    fn quit(&self) -> Result<()> {
        self.nginx.as_ref().context("it does not run")?.signal(Signal::SIGQUIT)
    }
}

fn start(name: &str) -> Result<(Site, Vec<Web>, Director)> {
    let site = Site::new(name, 3, 0)?;
    let webs = site.reals.iter().map(Web::start).collect::<Result<Vec<Web>>>()?;
    let director = Director::start(&site.director, Path::new(BINARY), Some(CONFIG))?;
    until_only(&site, &["real1", "real2", "real3"])?;
    Ok((site, webs, director))
}

/// The answer to one request, or that it was refused. None may hang.
fn ask(site: &Site) -> Result<String> {
    let curl = ["curl", "-sS", "--max-time", "5", "-w", "%{http_code}", URL];
    let answer = site.client.run(&curl)?;
    ensure!(answer.status.code() != Some(28), "a request hung");
    Ok(if answer.status.success() { answer.stdout } else { "refused".to_owned() })
}

/// Waits until these servers, all of them and no others, answer.
fn until_only(site: &Site, servers: &[&str]) -> Result<()> {
    let wanted: Vec<String> = servers.iter().map(|name| format!("{name}\n200")).collect();
    let what = format!("only {servers:?} to answer");
    wait::until_ok(&what, Duration::from_secs(30), || {
        let answers = (0..6).map(|_| ask(site)).collect::<Result<Vec<String>>>()?;
        let right = answers.iter().all(|answer| wanted.contains(answer))
            && wanted.iter().all(|server| answers.contains(server));
        ensure!(right, "{answers:?}");
        Ok(())
    })
}

/// Waits until a server has this weight, and says how long that took.
fn until_weight(director: &Director, server: &str, weight: u32) -> Result<Duration> {
    let asked = wait::clock();
    let what = format!("weight {weight} of {server}");
    wait::until_ok(&what, Duration::from_secs(30), || {
        let found = of(director, server)?.weight;
        ensure!(found == weight, "it is {found}");
        Ok(())
    })?;
    Ok(asked.elapsed())
}

fn of(director: &Director, server: &str) -> Result<harness::listing::State> {
    let services = director.states()?;
    let service = services.into_iter().next().context("no service")?;
    let real = service.reals.into_iter().find(|real| real.address == server);
    Ok(real.context("not listed")?.columns)
}

/// Connections that were ever given to a server.
fn given(director: &Director, server: &str) -> Result<u64> {
    let services = director.statistics()?;
    let service = services.into_iter().next().context("no service")?;
    let real = service.reals.into_iter().find(|real| real.address == server);
    Ok(real.context("not listed")?.columns.connections)
}

/// Long downloads, each from another server.
fn downloads(site: &Site) -> Result<Vec<Process>> {
    let slow = format!("{URL}slow");
    let arguments =
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &slow];
    (0..3).map(|_| site.client.spawn(harness::host::command(&arguments)?)).collect()
}

fn all_complete(downloads: Vec<Process>) -> Result<()> {
    for download in downloads {
        let text = download.finish(Duration::from_secs(60))?.ok()?;
        ensure!(text == format!("200 {SLOW}"), "a download ended with {text}");
    }
    Ok(())
}

#[test]
fn a_server_that_says_bad_is_quiesced_and_then_stops_without_a_single_failed_request() -> Result<()>
{
    let (site, mut webs, director) = start("ldclean")?;
    let load = peers::ab_running(&site.client, URL, 4, (20, 10))?;
    let downloads = downloads(&site)?;
    webs[1].set_good(false)?;
    let took = until_weight(&director, STOPPED, 0)?;
    println!("weight 0 after {:.2} s", took.as_secs_f64());
    ensure!(took <= TWO_INTERVALS, "it took {took:?}");
    all_complete(downloads)?;
    wait::until_ok("its last connection to end", Duration::from_secs(30), || {
        let active = of(&director, STOPPED)?.active;
        ensure!(active == 0, "{active} are left");
        Ok(())
    })?;
    let before = given(&director, STOPPED)?;
    webs[1].quit()?;
    let load = peers::ab_report(&load.finish(Duration::from_secs(60))?)?;
    println!("{} requests, {} failed", load.complete, load.failed);
    ensure!(load.complete > 1000 && load.failed == 0, "{load:?}");
    ensure!(given(&director, STOPPED)? == before, "new requests went to the quiesced server");

    webs[1].nginx = None;
    webs[1].set_good(true)?;
    webs[1].serve()?;
    until_only(&site, &["real1", "real2", "real3"])
}

#[test]
fn a_server_that_just_stops_fails_only_the_requests_that_it_was_given() -> Result<()> {
    let (site, webs, director) = start("ldstop")?;
    let refusals = "src host 10.0.0.12 and tcp port 80 and tcp[tcpflags] & tcp-rst != 0";
    let capture = Capture::start(&site.reals[1], "eth0", refusals)?;
    let load = peers::ab_running(&site.client, URL, 4, (12, 10))?;
    let downloads = downloads(&site)?;
    wait::until_ok("the downloads to begin", Duration::from_secs(10), || {
        let active = of(&director, STOPPED)?.active;
        ensure!(active > 0, "none has begun");
        Ok(())
    })?;
    webs[1].quit()?;
    let took = until_weight(&director, STOPPED, 0)?;
    println!("weight 0 after {:.2} s", took.as_secs_f64());
    ensure!(took <= TWO_INTERVALS, "it took {took:?}");
    let before = given(&director, STOPPED)?;
    all_complete(downloads)?;
    let load = peers::ab_report(&load.finish(Duration::from_secs(60))?)?;
    let refused = capture.finish()?.len() as u64;
    println!("{} requests, {} failed, {refused} refused by it", load.complete, load.failed);
    ensure!(load.complete > 1000 && load.failed <= refused, "{load:?}, {refused} refused");
    ensure!(given(&director, STOPPED)? == before, "new requests went to the stopped server");
    until_only(&site, &["real1", "real3"])?;
    let health = director.viaduct(&["show", "health"])?;
    ensure!(health.contains("10.0.0.12:80  down") && health.contains("refused"), "{health}");
    Ok(())
}

#[test]
fn while_none_is_left_the_director_says_sorry_and_the_first_that_returns_serves() -> Result<()> {
    let (site, mut webs, director) = start("ldsorry")?;
    for web in &mut webs {
        web.nginx = None;
    }
    wait::until_ok("the sorry page", Duration::from_secs(30), || {
        let answer = ask(&site)?;
        ensure!(answer.contains("Service unavailable") && answer.ends_with("503"), "{answer}");
        Ok(())
    })?;
    let head = site.client.run_ok(&["curl", "-sSI", "--max-time", "5", URL])?;
    ensure!(head.to_ascii_lowercase().contains("retry-after: 30"), "{head}");
    let states = director.states()?;
    ensure!(states[0].reals.iter().filter(|real| real.columns.weight > 0).count() == 1);
    webs[2].serve()?;
    until_only(&site, &["real3"])
}

#[test]
fn a_fallback_on_loopback_says_sorry_as_well_also_over_ipv6() -> Result<()> {
    let site = Site::new("ldfallback", 1, 0)?;
    let _fallback = Backend::http(&site.director, "127.0.0.1:80")?;
    let config = r#"
[[service]]
name = "web"
address = "192.0.2.10:80"
sorry = "127.0.0.1:80"
  [service.check]
  type = "tcp"
  interval = "500ms"
  [[service.real]]
  address = "10.0.0.11:80"

[[service]]
name = "web6"
address = "[2001:db8::10]:80"
sorry = { body = "<p>back at noon</p>", retry_after = "5m" }
  [service.check]
  type = "tcp"
  interval = "500ms"
  [[service.real]]
  address = "[2001:db8:a::11]:80"
"#;
    let _director = Director::start(&site.director, Path::new(BINARY), Some(config))?;
    let curl = |url: &str| site.client.run_ok(&["curl", "-sSi", "--max-time", "5", url]);
    wait::until_ok("the fallback to answer", Duration::from_secs(30), || {
        let answer = curl("http://192.0.2.10/")?;
        ensure!(answer.ends_with("director\n"), "{answer}");
        Ok(())
    })?;
    wait::until_ok("the page to answer", Duration::from_secs(30), || {
        let answer = curl("http://[2001:db8::10]/")?;
        ensure!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 300"));
        ensure!(answer.ends_with("<p>back at noon</p>"), "{answer}");
        Ok(())
    })
}
