//! Asks time servers and the kernel, and takes readings of real servers' clocks from their checks.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::kernel_clock;
use super::sntp::{self, Packet, Refused, Sample, Timestamp};
use super::supervision::{Notice, Supervision, TimeView, Trouble};
use crate::compile::RealKey;
use crate::health::outcome::ClockReading;
use crate::model::{TimeKeeping, VirtualAddress};

#[cfg(test)]
mod tests;

/// Commands that may wait. Readings that find no room are dropped: others follow in ten seconds.
const COMMANDS: usize = 1024;

/// Notices that may wait for the engine; beyond that the oldest are dropped.
const NOTICES: usize = 256;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at the kernel's clock.
const KERNEL_EVERY: Duration = Duration::from_secs(16);

enum Command {
    Configure(TimeKeeping, BTreeMap<RealKey, String>),
    Real(RealKey, ClockReading),
    Peer(Option<ClockReading>),
    Look(oneshot::Sender<TimeView>),
}

/// The way to the clocks' supervision. It ends when the last handle is gone.
#[derive(Clone)]
pub struct TimeKeeper(mpsc::Sender<Command>);

impl TimeKeeper {
    /// Starts supervision on the current Tokio runtime, without servers. What people should know
    /// comes out of the receiver.
    pub fn start() -> (Self, mpsc::Receiver<Notice>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (outbox, notices) = mpsc::channel(NOTICES);
        tokio::spawn(run(inbox, outbox));
        (Self(commands), notices)
    }

    /// Takes what the operator wants, and the real servers that there are, each with the name of its
    /// service.
    pub async fn configure(&self, wanted: TimeKeeping, reals: BTreeMap<RealKey, String>) {
        let _ = self.0.send(Command::Configure(wanted, reals)).await;
    }

    /// A check has read a real server's clock. Dropped when there is no room.
    pub fn reading(&self, real: RealKey, reading: ClockReading) {
        let _ = self.0.try_send(Command::Real(real, reading));
    }

    /// The other director's clock as the link to it measured it; `None` without a link. Dropped when
    /// there is no room.
    pub fn peer_reading(&self, reading: Option<ClockReading>) {
        let _ = self.0.try_send(Command::Peer(reading));
    }

    /// The state of all clocks; `None` once supervision has ended.
    pub async fn look(&self) -> Option<TimeView> {
        let (answer, seen) = oneshot::channel();
        self.0.send(Command::Look(answer)).await.ok()?;
        seen.await.ok()
    }
}

async fn run(mut inbox: mpsc::Receiver<Command>, outbox: mpsc::Sender<Notice>) {
    let mut supervision = Supervision::new();
    let mut names: BTreeMap<RealKey, String> = BTreeMap::new();
    let mut requests: JoinSet<(String, Result<Sample, Trouble>)> = JoinSet::new();
    let mut kernel = tokio::time::interval(KERNEL_EVERY);
    kernel.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut unsent: VecDeque<Notice> = VecDeque::new();
    loop {
        let mut said = Vec::new();
        tokio::select! {
            command = inbox.recv() => match command {
                None => return,
                Some(Command::Configure(wanted, reals)) => {
                    supervision.configure(&wanted, now());
                    supervision.keep_reals(|real| reals.contains_key(real));
                    names = reals;
                }
                Some(Command::Real(real, reading)) if names.contains_key(&real) => {
                    supervision.on_real(real, reading, &mut said);
                }
                Some(Command::Real(..)) => {}
                Some(Command::Peer(reading)) => supervision.on_peer(reading, &mut said),
                Some(Command::Look(answer)) => {
                    let name = |address: &VirtualAddress| name_of(&names, address);
                    let _ = answer.send(supervision.view(now(), name));
                }
            },
            permit = outbox.reserve(), if !unsent.is_empty() => match (permit, unsent.pop_front()) {
                (Ok(permit), Some(notice)) => permit.send(notice),
                (Ok(_), None) => {}
                (Err(_), _) => return,
            },
            Some(answered) = requests.join_next() => {
                // A request that broke is asked again at the server's next turn.
                if let Ok((name, answer)) = answered {
                    supervision.on_answer(&name, answer, now(), &mut said);
                }
            }
            _ = kernel.tick() => supervision.on_kernel(kernel_clock::read().ok(), &mut said),
            () = sleep_until(supervision.next_due()) => {}
        }
        for name in supervision.take_due(now()) {
            requests.spawn(async move {
                let answer = ask(&name).await;
                (name, answer)
            });
        }
        unsent.extend(said);
        while unsent.len() > NOTICES {
            unsent.pop_front();
        }
    }
}

fn name_of(names: &BTreeMap<RealKey, String>, address: &VirtualAddress) -> String {
    let named = names.iter().find(|((service, _), _)| service == address);
    named.map_or_else(|| address.derived_name(), |(_, name)| name.clone())
}

/// Asks a server once.
async fn ask(server: &str) -> Result<Sample, Trouble> {
    tokio::time::timeout(PATIENCE, exchange(server)).await.unwrap_or(Err(Trouble::Silent))
}

async fn exchange(server: &str) -> Result<Sample, Trouble> {
    let unreachable = |error: std::io::Error| Trouble::Unreachable(error.to_string());
    let address = resolve(server).await?;
    let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await.map_err(unreachable)?;
    socket.connect(address).await.map_err(unreachable)?;
    let mut nonce = [0; 8];
    let random = rustls::crypto::ring::default_provider().secure_random.fill(&mut nonce);
    random.map_err(|_| Trouble::Unreachable("no randomness for a nonce".to_owned()))?;
    let nonce = u64::from_be_bytes(nonce);
    let (sent, started) = (Timestamp::from(wall()), Instant::now());
    socket.send(&Packet::request(nonce)).await.map_err(unreachable)?;
    let mut answer = [0; 1024];
    loop {
        let length = socket.recv(&mut answer).await.map_err(unreachable)?;
        match sntp::judge(&answer[..length], nonce, sent, started.elapsed()) {
            Ok(sample) => return Ok(sample),
            Err(Refused::NotOurs) => {}
            Err(refused) => return Err(Trouble::Refused(refused)),
        }
    }
}

/// A name or address, with a port or without.
async fn resolve(server: &str) -> Result<SocketAddr, Trouble> {
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(SocketAddr::new(ip, sntp::PORT));
    }
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let with_port = match server.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => server.to_owned(),
        Some(_) | None => format!("{server}:{}", sntp::PORT),
    };
    let found = tokio::net::lookup_host(with_port).await;
    let unknown = || Trouble::Unreachable(format!("{server} has no address"));
    found.map_err(|error| Trouble::Unreachable(error.to_string()))?.next().ok_or_else(unknown)
}

async fn sleep_until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(Instant::from_std(due)).await,
        None => std::future::pending().await,
    }
}

#[allow(clippy::disallowed_methods)] // the edge where schedules meet the clock
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[allow(clippy::disallowed_methods)] // the clock that is compared
fn wall() -> SystemTime {
    SystemTime::now()
}
