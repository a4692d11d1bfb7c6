//! CPU that health checks cost: 5,000 real servers every 2 s, by TCP connect and by HTTP.
//!
//! The servers are another process (this program again, with an argument), so that their cost is not
//! counted. Each real server is an address of 127.0.0.0/8. Prints the CPU time used by this process
//! as a share of one core, and per probe.

#![allow(clippy::expect_used)] // A program that stops at the first surprise.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use control::compile::RealKey;
use control::health::probe::Target;
use control::health::task::{Checker, Report};
use control::health::{CheckSpec, Health};
use control::model::{Check, DialogueProbe, HttpProbe, Probe, Protocol, VirtualAddress};
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SERVERS: u16 = 5000;
const INTERVAL: Duration = Duration::from_secs(2);
const MEASURE: Duration = Duration::from_secs(10);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if std::env::args().any(|word| word == "serve") {
        runtime.block_on(serve());
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, 20_000, 20_000).expect("20,000 open files");
    let mut server = Command::new(std::env::current_exe().expect("our own path"))
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a server");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("a port");
    let port = line.trim().parse().expect("a number");
    let http = HttpProbe { path: "/health".into(), ..HttpProbe::default() };
    for (name, probe) in
        [("tcp", Probe::Tcp(DialogueProbe::default())), ("http", Probe::Http(http))]
    {
        runtime.block_on(measure(name, probe, port));
    }
    let _ = server.kill();
    let _ = server.wait();
}

/// Answers every request with a small page.
async fn serve() {
    let socket = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    println!("{}", socket.local_addr().expect("its address").port());
    while let Ok((mut stream, _)) = socket.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 1024];
            if matches!(stream.read(&mut request).await, Ok(n) if n > 0) {
                let page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngood\n";
                let _ = stream.write_all(page).await;
            }
        });
    }
}

async fn measure(name: &str, probe: Probe, port: u16) {
    let mut check = Check::new(probe);
    check.interval = INTERVAL;
    let check = Arc::new(check);
    let vip = SocketAddr::from(([192, 0, 2, 10], 80));
    let service = VirtualAddress::Socket { protocol: Protocol::Tcp, address: vip };
    let specs: BTreeMap<RealKey, CheckSpec> = (1..=SERVERS)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            let real = SocketAddr::from(([127, 9, high, low], port));
            let target = Arc::new(Target::new(real));
            ((service, real), CheckSpec { check: Arc::clone(&check), target, known: Health::Up })
        })
        .collect();
    let (checker, mut news) = Checker::start("bench".into());
    checker.replace(specs).await;
    let down = tokio::spawn(async move {
        let mut down = 0;
        while let Some(news) = news.recv().await {
            down += usize::from(matches!(news.report, Report::Changed(_)));
        }
        down
    });
    tokio::time::sleep(INTERVAL * 2).await;
    let (before, probes) = (cpu(), probes(&checker).await);
    tokio::time::sleep(MEASURE).await;
    let used = cpu() - before;
    let views = checker.look().await;
    let made = views.iter().map(|view| view.probes).sum::<u64>() - probes;
    let late = views.iter().map(|view| view.late_ms).max().unwrap_or(0);
    let slowest = views.iter().map(|view| view.took_us).max().unwrap_or(0);
    drop(checker);
    println!(
        "{name}: {made} probes in {} s, {:.1} % of a core, {:.0} us per probe; at most {late} ms late, \
         slowest probe {slowest} us, {} verdicts changed",
        MEASURE.as_secs(),
        100.0 * used / MEASURE.as_secs_f64(),
        1e6 * used / made.max(1) as f64,
        down.await.unwrap_or(0),
    );
}

async fn probes(checker: &Checker) -> u64 {
    checker.look().await.iter().map(|view| view.probes).sum()
}

/// CPU seconds that this process has used.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own usage");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}
