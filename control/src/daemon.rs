//! Starts and ends the director's threads and tasks: the store, the packet workers, the loop.

use crate::engine::{Engine, Keeper, Listening, Mail, World, clock, unix_now, with_causes};
use crate::events::{Event, HostEvent, SetupEvent};
use crate::handle::Handle;
use crate::health::task::Checker;
use crate::host::{HostError, Stack, Watch, stack};
use crate::inbox::Message;
use crate::ipvs;
use crate::record::Severity;
use crate::state::{Ports, Snapshot};
use crate::store::StoreError;
use crate::tasks::remembered::{open_store, remembered, sharing, sized};
use crate::tasks::{
    GivenFile, Mastership, Replication, alerting, checks, claims, clocks, evidence, kernel_sync,
    mastership, replication, sorry,
};
use crate::time::TimeKeeper;
use arc_swap::ArcSwap;
use dataplane::io::steer::Steering;
use dataplane::packet_path::{Capacity, Notice};
use dataplane::worker::Dataplane;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Messages that wait for the loop. Callers wait for room; notices of the packet path are dropped
/// at its own bounded channel, and said again.
const INBOX: usize = 1024;

/// Records that a listener may lag behind; one that lags more misses some and is told how many.
const LISTENERS: usize = 1024;

/// How long the parts have to end in order.
const ENDING: Duration = Duration::from_secs(10);

/// How long the last changes have to reach the other director.
const FAREWELL: Duration = Duration::from_millis(50);

/// What the engine is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state directory.
    pub state: PathBuf,
    /// The host's name, for a node that has none of its own.
    pub host: String,
    /// Sizes of the packet path, where the document does not say.
    pub capacity: Capacity,
    /// A configuration file to start with. One that was applied already, and has not been changed
    /// since, is not applied again: what was committed after it stands.
    pub file: Option<GivenFile>,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error("state: {0}")]
    Store(#[from] StoreError),
    /// The host cannot be watched.
    #[error("{0}")]
    Host(#[from] HostError),
    /// Two would take each other's packets.
    #[error(
        "another director runs on this host, or in this network namespace: it has the interface {}",
        stack::NAME
    )]
    Another,
    /// The system refuses threads, memory or sockets.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// The running engine's threads.
pub struct Running {
    handle: Handle,
    stop: CancellationToken,
    engine: JoinHandle<()>,
    store: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
    /// The number of a packet worker that has panicked.
    worker_failed: oneshot::Receiver<usize>,
    host: tokio::task::JoinHandle<Result<(), HostError>>,
    keeper: Keeper,
    dataplane: Arc<Dataplane>,
    mastership: Mastership,
}

/// Opens the store, starts the packet path and the loop.
///
/// # Errors
/// When the state directory, netlink or the system refuse.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let started = clock();
    let path = settings.state.clone();
    let file = settings.file;
    let file_path = file.as_ref().map(|file| file.path.clone());
    let now = unix_now();
    let opened = tokio::task::spawn_blocking(move || open_store(&path, file, now));
    let (store, found, said) = opened.await.map_err(|_| StoreError::Closed)??;
    let mut words: Vec<_> = found.warnings.iter().cloned().map(error).collect();
    words.extend(said.map(|text| (Severity::Warning, text)));
    let capacity = sized(settings.capacity, &found);
    if let shared @ 1.. = crate::host::shared_ports() {
        words.push((Severity::Warning, shared_ports(shared)));
    }
    let mut state = remembered(&store, &found, capacity, unix_now());
    state.sharing = sharing(&store, &state, settings.host.clone())?;

    let stop = CancellationToken::new();
    let (host_watch, host) = Watch::start(stop.clone()).await?;
    let (dataplane, notices) = Dataplane::start(capacity)?;
    let dataplane = Arc::new(dataplane);
    let routes = match link_to_host(&dataplane, host_watch.clone(), stop.clone()).await {
        Ok((stack, routes)) => {
            state.ports.reserve(stack.index);
            state.stack = Some(stack);
            Some(routes)
        }
        Err(why) if why.kind() == std::io::ErrorKind::ResourceBusy => {
            return Err(StartError::Another);
        }
        Err(why) => {
            words.push(error(format!(
                "no link to the host's own stack, so clients and real servers on the director \
                 itself do not work: {why}"
            )));
            None
        }
    };
    let (inbox, usual) = mpsc::channel(INBOX);
    let (express, urgent) = mpsc::channel(INBOX);
    let (fail, worker_failed) = oneshot::channel();
    forward_notices(notices, inbox.clone(), fail)?;
    let (keeper, store) = Keeper::start(store, inbox.clone())?;

    let (loopback, inner) = mpsc::unbounded_channel();
    let (listeners, _) = broadcast::channel(LISTENERS);
    let (follow, followed) = watch::channel(Arc::clone(&state.running));
    let (quorums, below_quorum) = watch::channel(BTreeSet::new());
    let (daemons, wanted_daemons) = watch::channel(Vec::new());
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::of(&state)));
    let replication = Replication::default();
    let world = World {
        dataplane: Arc::clone(&dataplane),
        steering: Steering::new().map_err(|error| with_causes(&error)),
        attachments: BTreeMap::new(),
        guards: Vec::new(),
        host: host_watch.clone(),
        routes,
        keeper: keeper.clone(),
        listeners: listeners.clone(),
        follow,
        quorums,
        daemons,
        replication: replication.clone(),
        waiting: BTreeMap::new(),
        loopback,
        listening: Listening::default(),
    };
    let node = found.document.as_ref().and_then(|document| document.node.name.clone());
    let (checker, news) = Checker::start(node.unwrap_or_else(|| settings.host.clone()));
    let (clock_keeper, notices) = TimeKeeper::start();
    let (checks, times) = (checker.clone(), clock_keeper.clone());
    tokio::spawn(checks::run(
        checks,
        times,
        news,
        followed.clone(),
        host_watch.clone(),
        inbox.clone(),
    ));
    let counters = Arc::clone(&dataplane);
    tokio::spawn(evidence::run(counters, checker.clone(), inbox.clone()));
    tokio::spawn(claims::run(Arc::clone(&dataplane), host_watch.clone()));
    tokio::spawn(sorry::run(followed.clone(), host_watch.clone(), inbox.clone()));
    let records = listeners.subscribe();
    tokio::spawn(alerting::run(settings.host.clone(), followed.clone(), records, inbox.clone()));
    let mastership = Mastership::default();
    let roles =
        mastership::run(mastership.clone(), followed.clone(), below_quorum, express.clone());
    tokio::spawn(roles);
    tokio::spawn(clocks::run(
        clock_keeper.clone(),
        replication.clone(),
        notices,
        followed.clone(),
        inbox.clone(),
    ));
    let linking = replication::run(replication::Parts {
        replication: replication.clone(),
        mastership: mastership.clone(),
        dataplane: Arc::clone(&dataplane),
        directory: settings.state.join("peer"),
        host: settings.host,
        document: followed.clone(),
        inbox: express,
    });
    tokio::spawn(linking);
    tokio::spawn(kernel_sync::run(Arc::clone(&dataplane), wanted_daemons, inbox.clone()));
    let handle = Handle {
        inbox,
        snapshot: Arc::clone(&snapshot),
        listeners,
        follow: followed,
        keeper: keeper.clone(),
        file: file_path,
        dataplane: Arc::clone(&dataplane),
        checker,
        clocks: clock_keeper,
        mastership: mastership.clone(),
        replication: replication.clone(),
    };
    let engine =
        Engine { state, world, started, snapshot, tickets: 0, ipvs_host: ipvs::Host::default() };
    let mail = Mail { urgent, usual, inner };
    let (over, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let engine = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
        runtime.block_on(engine.run(mail, host_watch, words));
        let _ = over.send(());
    })?;
    Ok(Running {
        handle,
        stop,
        engine,
        store,
        ended,
        worker_failed,
        host,
        keeper,
        dataplane,
        mastership,
    })
}

const fn error(text: String) -> (Severity, String) {
    (Severity::Error, text)
}

fn shared_ports(many: usize) -> String {
    format!(
        "the kernel gives {many} of full NAT's source ports to the host's own connections too, and \
         both break when they meet: sysctl -w net.ipv4.ip_local_reserved_ports=61000-65535"
    )
}

/// Makes the link to the host's own stack and hands it to the packet workers.
async fn link_to_host(
    dataplane: &Dataplane,
    host: Watch,
    stop: CancellationToken,
) -> std::io::Result<(Stack, watch::Sender<stack::Routes>)> {
    let (stack, ports, routes) = stack::open(Ports::STACK, dataplane.workers(), host, stop).await?;
    dataplane.attach(stack.port, ports);
    Ok((stack, routes))
}

/// What the packet path wants goes to the loop by a thread of its own, because its channel is one
/// of plain threads. It ends when the packet path does.
#[allow(clippy::disallowed_methods)] // named and owned here
fn forward_notices(
    notices: std::sync::mpsc::Receiver<Notice>,
    inbox: mpsc::Sender<Message>,
    failed: oneshot::Sender<usize>,
) -> std::io::Result<()> {
    let mut failed = Some(failed);
    std::thread::Builder::new().name("notices".to_owned()).spawn(move || {
        for notice in notices {
            let event = match notice {
                Notice::NeighbourNeeded { port, address } => {
                    Event::Host(HostEvent::NeighbourNeeded { port, address })
                }
                Notice::NeighbourSeen { port, address, mac } => {
                    Event::Host(HostEvent::NeighbourSeen { port, address, mac })
                }
                Notice::AddressClaimed { address, mac, .. } => {
                    Event::Setup(SetupEvent::AddressClaimed { address, mac })
                }
                Notice::SourcesMissing { many } => {
                    Event::Setup(SetupEvent::SourcesMissing { many })
                }
                Notice::PortLost { port, edition } => {
                    Event::Host(HostEvent::PortLost { port, edition })
                }
                Notice::WorkerFailed { number } => {
                    failed.take().map(|failed| failed.send(number));
                    continue;
                }
            };
            if inbox.blocking_send(Message::Event(event)).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

impl Running {
    /// What console uses.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until some part has ended unasked, and says which.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            _ = &mut self.ended => "the engine stopped".to_owned(),
            Ok(number) = &mut self.worker_failed => worker_failed(number),
            ended = &mut self.host => match ended {
                Ok(Ok(())) => "the watch over the host ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("the watch over the host ended: {error}"),
            },
        }
    }

    /// Gives mastership away for good, as the first step of ending: the other director takes over
    /// while this one still forwards what it can. `false` when that was not done in time.
    pub async fn resign(&self) -> bool {
        let mastership = self.mastership.clone();
        joined_blocking(move || mastership.stop()).await
    }

    /// Ends everything in order: mastership is resigned, nothing new is taken, interfaces are
    /// closed, packets stop, the store is flushed. `false` when a component did not stop in time.
    pub async fn stop(self) -> bool {
        let resigned = self.resign().await;
        // What changed last is on its way to it.
        tokio::time::sleep(FAREWELL).await;
        let asked = self.handle.send(Event::StopAsked).await;
        if asked.is_err() {
            tracing::error!("the engine had ended before");
        }
        let engine = joined(self.engine).await;
        self.stop.cancel();
        let dataplane = self.dataplane;
        let packets = joined_blocking(move || dataplane.stop()).await;
        self.keeper.close();
        let store = joined(self.store).await;
        resigned && engine && packets && store
    }
}

/// What is said when a packet worker has panicked. What the panic said stands before it.
fn worker_failed(number: usize) -> String {
    format!(
        "packet worker {number} has panicked, and its share of the packets is not forwarded any \
         more; this director ends, so that another one takes over or it is started anew"
    )
}

async fn joined(thread: JoinHandle<()>) -> bool {
    joined_blocking(move || {
        if thread.join().is_err() {
            tracing::error!("a thread had panicked");
        }
    })
    .await
}

async fn joined_blocking(wait: impl FnOnce() + Send + 'static) -> bool {
    let waited = tokio::task::spawn_blocking(wait);
    tokio::time::timeout(ENDING, waited).await.is_ok()
}

#[cfg(test)]
mod tests;
