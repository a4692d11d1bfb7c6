//! Keeps one link to the peer: listens, dials, pairs, and runs a session whenever there is a connection.
//!
//! Of two nodes the one with the smaller fingerprint dials and the other waits (and dials only when nobody
//! comes), so there is hardly ever a second link to choose from. A connection that arrives while one is up replaces it: the peer has restarted, or
//! has seen an end that we have not.

use super::connection::Change;
use super::identity::{Fingerprint, IdentityError};
use super::link::LinkError;
use super::message::{Hello, VERSIONS};
use super::pairing::{Code, PairingError};
use super::replica::{Limits, Receiver as Learner, Sender as Teller, Sink, Source};
use super::session::{Control, Ends, Manners, Session, greet};
use super::status::{Shared, SyncStatus, Traffic};
use super::trust::Trust;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio_rustls::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

mod dial;
mod door;

pub use dial::join;

/// Batches of changes under way to the link. When it is full the batch is dropped and a snapshot is due.
const CHANGES: usize = 1024;
/// Control messages under way; a full queue is told to who sends.
const CONTROL: usize = 256;

/// How to reach the peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where this node listens.
    pub listen: SocketAddr,
    /// Where the peer listens.
    pub peer: SocketAddr,
    /// This node's name.
    pub node: String,
    /// Version of this program, for people.
    pub program: String,
    /// Where keys are kept.
    pub directory: PathBuf,
    /// Bounds of the replica.
    pub limits: Limits,
    /// Between two pings.
    pub ping: Duration,
    /// Silence after which the peer counts as gone.
    pub silence: Duration,
}

impl Settings {
    /// Half a second between pings, two and a half of patience.
    pub fn new(listen: SocketAddr, peer: SocketAddr, node: &str, directory: PathBuf) -> Self {
        Self {
            listen,
            peer,
            node: node.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            directory,
            limits: Limits::default(),
            ping: Duration::from_millis(500),
            silence: Duration::from_millis(2500),
        }
    }
}

/// What the engine is told.
#[derive(Clone, PartialEq, Debug)]
pub enum SyncEvent {
    /// The link is up; both sides begin to tell everything.
    Up {
        /// The peer's hello.
        peer: Hello,
        /// The version that both speak.
        version: u16,
    },
    /// The link is down, or could not be made for a new reason.
    Down {
        /// In the operator's words.
        reason: String,
    },
    /// Everything that the peer had when the link came up has arrived.
    CaughtUp,
    /// The peer said something that is not about connections.
    Heard(Control),
    /// A node was paired with this one.
    Paired {
        /// Fingerprint of the peer's key.
        peer: Fingerprint,
    },
    /// Somebody tried to pair with this node in vain.
    PairingFailed {
        /// Address that the attempt came from.
        from: SocketAddr,
        /// In the operator's words.
        reason: String,
    },
}

/// Why there is no sync.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// This node's key or the peer's cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The listening address.
    #[error("cannot listen for the peer on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The peer could not be reached.
    #[error("cannot reach {address}: {source}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The other node did not want to.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// No random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// The one way to talk to the link. Dropping it says goodbye and ends it.
#[derive(Debug)]
pub struct SyncHandle {
    changes: Sender<Vec<Change>>,
    control: Sender<Control>,
    trust: Arc<Trust>,
    shared: Arc<Shared>,
    settings: Settings,
    address: SocketAddr,
    _running: DropGuard,
}

impl SyncHandle {
    /// Tells the peer what changed in the table. Never waits: when the link cannot keep up, it starts over
    /// with a snapshot later.
    pub fn record(&self, changes: Vec<Change>) {
        if self.changes.try_send(changes).is_err() {
            self.shared.note_overflow();
        }
    }

    /// Tells the peer something else. `false` when there is no room for it; while the link is down it waits
    /// in the queue, but what matters is better told after [`SyncEvent::Up`].
    pub fn say(&self, control: Control) -> bool {
        self.control.try_send(control).is_ok()
    }

    /// How the link stands.
    pub fn status(&self) -> SyncStatus {
        self.shared.status()
    }

    /// Whether there is a link.
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// Has the peer tell all connections again.
    pub fn ask_again(&self) {
        self.shared.ask_again();
    }

    /// Whether this node has everything that the peer has told, and waits for nothing more.
    pub fn is_caught_up(&self) -> bool {
        self.shared.is_caught_up()
    }

    /// Whether something was heard within the last ping and a half.
    pub fn is_fresh(&self, now: Instant) -> bool {
        let patience = self.settings.ping * 3 / 2;
        self.is_up() && now.saturating_duration_since(self.shared.heard()) < patience
    }

    /// When something was heard last.
    pub fn heard(&self) -> Instant {
        self.shared.heard()
    }

    /// Whether this node's key is the larger one: a difference that both see alike.
    pub fn wins_ties(&self) -> bool {
        self.trust.peer().is_some_and(|peer| self.fingerprint() > peer)
    }

    /// Counters of all links.
    pub fn traffic(&self) -> Arc<Traffic> {
        self.shared.traffic()
    }

    /// Where this node listens; of use when the port was left to the system.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// This node's own key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.trust.identity().fingerprint()
    }

    /// Waits for another node to be paired, by the code that this returns, for ten minutes.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn pair(&self) -> Result<Code, SyncError> {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).map_err(|_| SyncError::Random)?;
        let code = Code::from_bits(u64::from_le_bytes(bits));
        self.trust.invite(code.clone(), clock());
        Ok(code)
    }

    /// Pairs with the configured peer by the code that it shows.
    ///
    /// # Errors
    /// When it cannot be reached, or the code is wrong; nothing changes then.
    pub async fn join(&self, code: &Code) -> Result<Fingerprint, SyncError> {
        join(&self.trust, self.settings.peer, code).await
    }
}

/// Starts to keep a link on the current tokio runtime. `table` is read for snapshots and told what the peer
/// says; it must not block.
///
/// # Errors
/// When keys cannot be read or made, or the address cannot be listened on.
pub async fn spawn<T: Source + Sink + Send + 'static>(
    settings: Settings,
    table: T,
    events: Sender<SyncEvent>,
) -> Result<SyncHandle, SyncError> {
    let trust = Arc::new(Trust::open(settings.directory.clone())?);
    let failed = |source| SyncError::Listen { address: settings.listen, source };
    let listener = tokio::net::TcpListener::bind(settings.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let shared = Arc::new(Shared::new(clock(), trust.peer().is_some()));
    let (changes, changed) = channel(CHANGES);
    let (control, controlled) = channel(CONTROL);
    let (arriving, arrived) = channel(1);
    let stop = CancellationToken::new();
    let mut boot = [0; 8];
    getrandom::fill(&mut boot).map_err(|_| SyncError::Random)?;
    let manners = Manners {
        hello: Hello {
            versions: (*VERSIONS.start(), *VERSIONS.end()),
            node: settings.node.clone(),
            boot: u64::from_le_bytes(boot),
            program: settings.program.clone(),
        },
        ping: settings.ping,
        silence: settings.silence,
    };
    let ends = Ends {
        table,
        changes: changed,
        control: controlled,
        events: events.clone(),
        teller: Teller::new(settings.limits),
        learner: Learner::new(),
        shared: Arc::clone(&shared),
    };
    let door = door::keep(listener, Arc::clone(&trust), arriving.clone(), events);
    let dialling = dial::keep(settings.peer, Arc::clone(&trust), Arc::clone(&shared), arriving);
    let keeper = keep(ends, manners, arrived, Arc::clone(&trust));
    let stopped = stop.clone();
    tokio::spawn(async move {
        let side = async { tokio::join!(door, dialling) };
        tokio::select! {
            () = keeper => {}
            _ = side => {}
            // Sessions end by themselves when the handle is gone; this ends the rest a little later.
            () = async { stopped.cancelled().await; tokio::time::sleep(GOODBYE).await } => {}
        }
    });
    let running = stop.drop_guard();
    Ok(SyncHandle { changes, control, trust, shared, settings, address, _running: running })
}

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the door and the dialler bring.
struct Arrival {
    /// A secure connection, or why there is none.
    result: Result<Box<TlsStream<TcpStream>>, LinkError>,
    /// Dropped when the connection has ended: the dialler waits for that.
    _open: Option<oneshot::Sender<()>>,
}

/// Runs sessions, one at a time.
async fn keep<T: Source + Sink>(
    mut ends: Ends<T>,
    manners: Manners,
    mut arrived: Receiver<Arrival>,
    trust: Arc<Trust>,
) {
    loop {
        let arrival = tokio::select! {
            arrival = arrived.recv() => arrival,
            changes = ends.changes.recv() => match changes {
                // Nobody to tell: the next link begins with a snapshot.
                Some(_) => continue,
                None => return,
            },
        };
        let mut next = match arrival {
            Some(arrival) => Some(arrival),
            None => return,
        };
        while let Some(arrival) = next.take() {
            let error = match arrival.result {
                Ok(stream) => {
                    let session = attend(&mut ends, &manners, *stream, &trust);
                    tokio::select! {
                        error = session => error,
                        replacement = arrived.recv() => {
                            next = replacement;
                            LinkError::Closed("the peer connected anew".to_owned())
                        }
                    }
                }
                Err(error) => error,
            };
            ends.teller.disconnected();
            ends.learner.disconnected();
            let reason = error.to_string();
            if ends.shared.set_down(reason.clone(), clock())
                && ends.events.send(SyncEvent::Down { reason }).await.is_err()
            {
                return;
            }
            if ends.changes.is_closed() {
                return;
            }
        }
    }
}

async fn attend<T: Source + Sink>(
    ends: &mut Ends<T>,
    manners: &Manners,
    mut stream: TlsStream<TcpStream>,
    trust: &Trust,
) -> LinkError {
    let identity = trust.identity_shared();
    let (peer, version) = match greet(&mut stream, &manners.hello, &identity).await {
        Ok(met) => met,
        Err(error) => return error,
    };
    // What was said to a link that is gone may not hold any more, and may be of another version.
    while ends.control.try_recv().is_ok() {}
    ends.shared.set_up(&peer, clock());
    if ends.events.send(SyncEvent::Up { peer, version }).await.is_err() {
        return LinkError::Closed("this node is stopping".to_owned());
    }
    Session::new(ends, manners).run(stream, identity).await
}

/// Monotonic time.
#[allow(clippy::disallowed_methods, reason = "the link's task is the edge that reads the clock")]
pub fn clock() -> Instant {
    Instant::now()
}

/// Nanoseconds since 1970, for comparing clocks only.
#[allow(clippy::disallowed_methods, reason = "the link's task is the edge that reads the clock")]
pub fn wall_clock() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "tests wait for one kind of event")]
mod tests;
