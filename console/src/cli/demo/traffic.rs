//! The demonstration's clients: one for each service, asking over a new connection each time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use harness::{http, wait};

use super::site::{DemoSite, SERVICES};

/// Between two requests to one service: a modest rate.
const PACE: Duration = Duration::from_millis(40);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one service's client has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers by the name of the server.
    pub answered: BTreeMap<String, u64>,
    /// Requests without an answer.
    pub failed: u64,
}

impl Tally {
    /// Returns the number of answers from all real servers.
    pub fn total(&self) -> u64 {
        self.answered.values().sum()
    }
}

/// The running clients.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    tallies: Vec<Arc<Mutex<Tally>>>,
    clients: Vec<JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Starts to ask every service.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(site: &DemoSite) -> Result<Self> {
        let mut traffic = Self { stop: Arc::default(), tallies: Vec::new(), clients: Vec::new() };
        for service in SERVICES {
            let server: SocketAddr = format!("{}:80", service.vip).parse()?;
            let tally = Arc::<Mutex<Tally>>::default();
            let (stop, counted) = (Arc::clone(&traffic.stop), Arc::clone(&tally));
            let work = move || {
                ask(server, &stop, &counted);
                Ok(())
            };
            traffic.clients.push(site.site.client.thread(service.name, work)?);
            traffic.tallies.push(tally);
        }
        Ok(traffic)
    }

    /// What the clients have seen until now, in the order of [`SERVICES`].
    pub fn tallies(&self) -> Vec<Tally> {
        let copy = |tally: &Arc<Mutex<Tally>>| {
            tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.tallies.iter().map(copy).collect()
    }

    /// Ends the clients after the requests under way.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            if let Ok(Err(error)) = client.join() {
                eprintln!("viaduct demo: a client ended: {error:#}");
            }
        }
    }
}

fn ask(server: SocketAddr, stop: &AtomicBool, tally: &Mutex<Tally>) {
    while !stop.load(Ordering::Relaxed) {
        let answer = http::get(server, "/", PATIENCE);
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(page) if page.status == 200 => {
                    *tally.answered.entry(page.body.trim().to_owned()).or_default() += 1;
                }
                Ok(_) | Err(_) => tally.failed += 1,
            }
        }
        wait::pause(PACE);
    }
}
