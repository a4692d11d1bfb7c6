//! What people do through a director: bulk data by iperf3 and a download by curl through every
//! forwarding method, and short requests by ab. Each ends by itself, and says whether it was whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::host::command;
use harness::pair::VIP;
use harness::{Finished, Host, Pair, Process, peers, wait};

use super::load::LIMIT;

/// Streams of bulk data through each forwarding method.
pub const PARALLEL: usize = 4;

/// What each of them sends, in bits per second: they shall live, not fill the machine.
const RATE: &str = "5M";

/// Bytes of a download in each second.
const DOWNLOAD: usize = 1 << 20;

/// Requests under way at a time.
pub const CONCURRENCY: u32 = 2;

/// How long ab waits when nothing moves, in seconds.
const PATIENCE: u32 = 5;

pub const SERVICES: &str = r#"
[[service]]
name = "bulk-nat"
address = "192.0.2.10:5201"
  [[service.real]]
  address = "10.0.0.11:5201"
[[service]]
name = "bulk-dr"
address = "192.0.2.10:5202"
method = "dr"
  [[service.real]]
  address = "10.0.0.13:5202"
[[service]]
name = "bulk-tun"
address = "192.0.2.10:5203"
method = "tun"
  [[service.real]]
  address = "10.0.0.14:5203"
[[service]]
name = "files-nat"
address = "192.0.2.10:8001"
  [[service.real]]
  address = "10.0.0.11:8001"
[[service]]
name = "files-dr"
address = "192.0.2.10:8002"
method = "dr"
  [[service.real]]
  address = "10.0.0.13:8002"
[[service]]
name = "files-tun"
address = "192.0.2.10:8003"
method = "tun"
  [[service.real]]
  address = "10.0.0.14:8003"
[[service]]
name = "web"
address = "192.0.2.10:80"
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
"#;

/// Real server, iperf3's port and nginx's, for each of NAT, direct routing and tunnel.
const PLACES: [(usize, u16, u16); 3] = [(0, 5201, 8001), (2, 5202, 8002), (3, 5203, 8003)];

/// The servers behind [`SERVICES`].
pub struct Servers {
    _running: Vec<Process>,
    file: PathBuf,
}

impl Servers {
    /// Starts them; a download will last `seconds`.
    pub fn start(pair: &Pair, seconds: usize) -> Result<Self> {
        let root = pair.lab().scratch().join("files");
        fs::create_dir_all(&root)?;
        let file = root.join("download");
        // No two places of it are alike, so bytes that are missing or moved show.
        let content: Vec<u8> =
            (0..(seconds * DOWNLOAD / 8) as u64).flat_map(u64::to_be_bytes).collect();
        fs::write(&file, content)?;
        let mut running = Vec::new();
        for (real, bulk, files) in PLACES {
            running.push(peers::iperf3_server(&pair.reals[real], bulk)?);
            let web = if real == 0 { "listen 80 backlog=4096;" } else { "" };
            let served = format!(
                "{web} location / {{ return 200 \"hello\\n\"; }} \
                 location = /download {{ root {}; limit_rate {DOWNLOAD}; }}",
                root.display()
            );
            running.push(peers::nginx_with(&pair.reals[real], &files.to_string(), &served)?);
        }
        running.push(peers::nginx(&pair.reals[1], "80")?);
        Ok(Self { _running: running, file })
    }
}

/// Programs on the client under way.
pub struct Programs {
    bulk: Vec<Process>,
    downloads: Vec<(Process, PathBuf)>,
    requests: JoinHandle<Result<(u64, u64)>>,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Connections that lasted all the time.
    pub opened: usize,
    /// Why some of them did not.
    pub lost: Vec<String>,
    /// Short requests that were answered.
    pub answered: u64,
    /// Short requests that failed.
    pub failed: u64,
}

impl Programs {
    /// Starts all for `seconds`.
    pub fn start(client: &Host, seconds: usize) -> Result<Self> {
        let (mut bulk, mut downloads) = (Vec::new(), Vec::new());
        let (time, parallel) = (seconds.to_string(), PARALLEL.to_string());
        for (_, port, files) in PLACES {
            let iperf3 = ["iperf3", "--client", VIP, "--port", &port.to_string()];
            let how = ["--parallel", &parallel, "--bitrate", RATE, "--time", &time, "--json"];
            bulk.push(client.spawn(command(&[&iperf3[..], &how].concat())?)?);
            let target = client.directory().join(format!("download-{files}"));
            let url = format!("http://{VIP}:{files}/download");
            let curl = ["curl", "-sS", "--fail", "-o", &target.to_string_lossy(), &url];
            downloads.push((client.spawn(command(&curl)?)?, target));
        }
        let (host, end) = (client.clone(), wait::clock() + Duration::from_secs(seconds as u64));
        let requests = std::thread::Builder::new().spawn(move || request(&host, end))?;
        Ok(Self { bulk, downloads, requests })
    }

    /// Whether bulk data and downloads are all still at work.
    pub fn at_work(&mut self) -> Result<bool> {
        let downloads = self.downloads.iter_mut().map(|(process, _)| process);
        let mut all = self.bulk.iter_mut().chain(downloads);
        all.try_fold(true, |yes, process| Ok(yes && process.status()?.is_none()))
    }

    /// Waits for the end of all, and looks what came of each.
    pub fn finish(self, servers: &Servers) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for process in self.bulk {
            // Its streams, and the connection by which its ends talk.
            outcome.opened += PARALLEL + 1;
            if let Err(error) = bulk_is_whole(&process.finish(LIMIT)?) {
                outcome.lost.extend(vec![format!("{error:#}"); PARALLEL + 1]);
            }
        }
        for (process, target) in self.downloads {
            outcome.opened += 1;
            let whole = process.finish(LIMIT)?.ok().and_then(|_| same(&target, &servers.file));
            outcome.lost.extend(whole.err().map(|error| format!("{error:#}")));
        }
        let requests = self.requests.join().map_err(|_| anyhow::anyhow!("ab's thread panicked"))?;
        (outcome.answered, outcome.failed) = requests?;
        Ok(outcome)
    }
}

/// Lets ab ask until the end: how many requests were answered, and how many failed. A connection that
/// the new master was not told of is reset when the client speaks next; one whose answer was already
/// on its way hangs, and ab ends when all of its connections do.
fn request(client: &Host, end: Instant) -> Result<(u64, u64)> {
    let url = format!("http://{VIP}/");
    let (mut answered, mut failed) = (0, 0);
    loop {
        let seconds = end.saturating_duration_since(wait::clock()).as_secs();
        if seconds == 0 {
            return Ok((answered, failed));
        }
        let time = (u32::try_from(seconds)?, PATIENCE);
        let ended = peers::ab_running(client, &url, CONCURRENCY, time)?.finish(LIMIT)?;
        if ended.stderr.contains("The timeout specified has expired") {
            let total = ended.stdout.split("Total of ").nth(1);
            let total = total.and_then(|rest| rest.split(' ').next());
            answered += total.with_context(|| ended.to_string())?.parse::<u64>()?;
            failed += u64::from(CONCURRENCY);
        } else {
            let report = peers::ab_report(&ended)?;
            (answered, failed) = (answered + report.complete, failed + report.failed);
        }
    }
}

/// No error, and every stream brought something in the last second.
fn bulk_is_whole(ended: &Finished) -> Result<()> {
    ended.clone().ok()?;
    let report: serde_json::Value = serde_json::from_str(&ended.stdout)?;
    ensure!(report.get("error").is_none(), "iperf3: {}", report["error"]);
    let streams = report["end"]["streams"].as_array().context("no streams")?;
    ensure!(streams.len() == PARALLEL, "{} streams at the end", streams.len());
    let arrived = |stream: &serde_json::Value| stream["receiver"]["bytes"].as_f64() > Some(0.0);
    ensure!(streams.iter().all(arrived), "a stream brought nothing: {streams:?}");
    Ok(())
}

fn same(arrived: &Path, sent: &Path) -> Result<()> {
    let (arrived, sent) = (fs::read(arrived)?, fs::read(sent)?);
    let place = arrived.iter().zip(&sent).position(|(a, b)| a != b);
    ensure!(
        arrived == sent,
        "{} of {} bytes arrived, different from byte {place:?} on",
        arrived.len(),
        sent.len()
    );
    Ok(())
}
