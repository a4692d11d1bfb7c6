//! One question to one real server, and what the answer means.
//!
//! One file per protocol: it makes the model's description ready for use, and holds the exchange.
//! What can be wrong on the wire is judged by pure functions that take any bytes.

mod agent;
mod ber;
mod datagram;
mod dns;
mod expect;
mod ftp;
mod http;
mod imap;
mod ldap;
mod line;
mod mysql;
mod ntp;
mod ping;
mod pop;
mod postgresql;
mod radius;
mod redis;
mod scram;
mod script;
mod sip;
mod smtp;
mod stream;
mod tcp;
#[cfg(test)]
mod testing;
mod tls;
mod udp;
mod x509;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;
use tokio::time::Instant;

use crate::health::fsm::Depth;
use crate::health::outcome::{Failure, Measured, Outcome, Verdict};
use crate::model;

pub(crate) use tls::Tls;
pub use tls::TlsError;

/// Where a probe goes, where it comes from, and whom it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Address and port asked. With the VIP here, and `mark` or `device` choosing the route to one
    /// real server, the probe takes the path that clients' packets take.
    pub address: SocketAddr,
    /// Source address; the kernel's choice when absent or of the other family.
    pub source: Option<IpAddr>,
    /// Interface to leave through (SO_BINDTODEVICE).
    pub device: Option<String>,
    /// Firewall mark of the probe's packets (SO_MARK), for policy routing.
    pub mark: Option<u32>,
    /// Whether a connection to `address` begins with a PROXY protocol header, as the service's do.
    pub proxy_protocol: bool,
    /// Name of the virtual service, for scripts.
    pub service: String,
    /// The service's address, for scripts; `None` for a mark service.
    pub vip: Option<SocketAddr>,
    /// The real server's own address and port, for scripts.
    pub real: SocketAddr,
}

impl Target {
    /// The server at `address`, without further wishes.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            source: None,
            device: None,
            mark: None,
            proxy_protocol: false,
            service: String::new(),
            vip: None,
            real: address,
        }
    }
}

/// A probe ready for use: its expressions compiled, its files read. Shared by the servers of a
/// service.
pub struct Probe(Kind);

enum Kind {
    Tcp(tcp::Tcp),
    Http(Box<http::Http>),
    Dns(dns::Dns),
    Smtp(smtp::Smtp),
    Imap(imap::Imap),
    Pop(pop::Pop),
    Ftp(ftp::Ftp),
    Ldap(ldap::Ldap),
    Mysql(mysql::Mysql),
    Postgresql(postgresql::Postgresql),
    Redis(redis::Redis),
    Radius(radius::Radius),
    Sip(sip::Sip),
    Ntp(ntp::Ntp),
    Ping(ping::Ping),
    Udp(udp::Udp),
    Script(script::Script),
    Agent(agent::Agent),
}

/// Why a probe cannot be made ready.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A regular expression does not compile.
    #[error(transparent)]
    Regex(#[from] regex::Error),
    /// The request cannot be written.
    #[error("{0}")]
    Request(String),
    /// The description asks for something that is not sent over a network.
    #[error("passive checks send nothing")]
    Passive,
}

/// The result of an exchange: what the server said when all was well.
type Exchange = Result<String, Fault>;

type BoxedExchange<'a> = Pin<Box<dyn Future<Output = Exchange> + Send + 'a>>;

impl Probe {
    /// Makes a probe ready. Reads certificate files, so it may block for the time of a disk read.
    /// `node` is this director's name, for protocols that greet with one.
    ///
    /// # Errors
    /// When a file, an expression or a request is unusable, and for passive checks.
    pub fn prepare(wanted: &model::Probe, node: &str) -> Result<Self, PrepareError> {
        Ok(Self(match wanted {
            model::Probe::Tcp(wanted) => Kind::Tcp(tcp::Tcp::prepare(wanted)?),
            model::Probe::Http(wanted) => Kind::Http(Box::new(http::Http::prepare(wanted)?)),
            model::Probe::Dns(wanted) => Kind::Dns(dns::Dns::prepare(wanted)?),
            model::Probe::Smtp(wanted) => Kind::Smtp(smtp::Smtp::prepare(wanted, node)?),
            model::Probe::Imap(wanted) => Kind::Imap(imap::Imap::prepare(wanted)?),
            model::Probe::Pop(wanted) => Kind::Pop(pop::Pop::prepare(wanted)?),
            model::Probe::Ftp(wanted) => Kind::Ftp(ftp::Ftp::prepare(wanted)?),
            model::Probe::Ldap(wanted) => Kind::Ldap(ldap::Ldap::prepare(wanted)?),
            model::Probe::Mysql(wanted) => Kind::Mysql(mysql::Mysql::prepare(wanted)?),
            model::Probe::Postgresql(wanted) => {
                Kind::Postgresql(postgresql::Postgresql::prepare(wanted)?)
            }
            model::Probe::Redis(wanted) => Kind::Redis(redis::Redis::prepare(wanted)?),
            model::Probe::Radius(wanted) => Kind::Radius(radius::Radius::prepare(wanted, node)),
            model::Probe::Sip(wanted) => Kind::Sip(sip::Sip::prepare(wanted)?),
            model::Probe::Ntp(wanted) => Kind::Ntp(ntp::Ntp::prepare(wanted)),
            model::Probe::Ping(wanted) => Kind::Ping(ping::Ping::prepare(*wanted)),
            model::Probe::Udp(wanted) => Kind::Udp(udp::Udp::prepare(wanted)?),
            model::Probe::Script(wanted) => Kind::Script(script::Script::prepare(wanted, node)?),
            model::Probe::Agent(wanted) => Kind::Agent(agent::Agent::prepare(wanted)),
            model::Probe::Passive(_) => return Err(PrepareError::Passive),
        }))
    }

    /// Asks `target` and waits at most `timeout` for the verdict.
    pub async fn run(&self, target: &Target, depth: Depth, timeout: Duration) -> Outcome {
        let mut attempt = Attempt {
            target,
            timeout,
            waiting_for: "connect",
            measured: Measured::default(),
            output: Vec::new(),
        };
        let started = Instant::now();
        let exchange = match depth {
            Depth::Full => self.exchange(&mut attempt),
            Depth::Connect => self.connect(&mut attempt),
        };
        let result = tokio::time::timeout(timeout, exchange).await;
        let took = started.elapsed();
        let verdict = match result {
            Ok(Ok(detail)) => Verdict::Passed(detail),
            Ok(Err(Fault::Failed(failure))) => Verdict::Failed(failure),
            Ok(Err(Fault::Unable(why))) => Verdict::Unable(why),
            Ok(Err(Fault::Unsent(why))) => Verdict::Unsent(why),
            Err(_) => Verdict::Failed(Failure::Timeout(attempt.waiting_for)),
        };
        let mut measured = attempt.measured;
        measured.output = (!attempt.output.is_empty())
            .then(|| String::from_utf8_lossy(&attempt.output).into_owned());
        Outcome { verdict, took, measured }
    }

    /// The whole exchange. Boxed, so that thousands of small probes do not each take the room of
    /// the largest.
    fn exchange<'a>(&'a self, attempt: &'a mut Attempt<'_>) -> BoxedExchange<'a> {
        match &self.0 {
            Kind::Tcp(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Http(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Dns(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Smtp(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Imap(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Pop(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Ftp(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Ldap(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Mysql(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Postgresql(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Redis(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Radius(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Sip(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Ntp(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Ping(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Udp(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Script(probe) => Box::pin(probe.exchange(attempt)),
            Kind::Agent(probe) => Box::pin(probe.exchange(attempt)),
        }
    }

    /// The cheap form between two full exchanges: a TCP connect, an echo request for what has no
    /// connection, and the same again for what has no cheap form.
    fn connect<'a>(&'a self, attempt: &'a mut Attempt<'_>) -> BoxedExchange<'a> {
        match &self.0 {
            Kind::Script(_) | Kind::Agent(_) | Kind::Ping(_) => self.exchange(attempt),
            Kind::Dns(probe) if !probe.is_tcp() => Box::pin(ping::echo(attempt)),
            Kind::Sip(probe) if !probe.is_tcp() => Box::pin(ping::echo(attempt)),
            Kind::Radius(_) | Kind::Ntp(_) | Kind::Udp(_) => Box::pin(ping::echo(attempt)),
            Kind::Tcp(_)
            | Kind::Http(_)
            | Kind::Dns(_)
            | Kind::Smtp(_)
            | Kind::Imap(_)
            | Kind::Pop(_)
            | Kind::Ftp(_)
            | Kind::Ldap(_)
            | Kind::Mysql(_)
            | Kind::Postgresql(_)
            | Kind::Redis(_)
            | Kind::Sip(_) => Box::pin(tcp::connect(attempt)),
        }
    }
}

/// How long before its end a check warns about a server's certificate; zero for never.
pub fn expiry_warning(probe: &model::Probe) -> Duration {
    use model::Probe;
    use model::TlsMode::{Implicit, Off, StartTls};
    let mode = |mode: &model::TlsMode| match mode {
        Off => Duration::ZERO,
        Implicit(tls) | StartTls(tls) => tls.expiry_warning,
    };
    let switch = |tls: &Option<model::Tls>| tls.as_ref().map(|tls| tls.expiry_warning);
    match probe {
        Probe::Tcp(probe) => switch(&probe.tls).unwrap_or_default(),
        Probe::Http(probe) => switch(&probe.tls).unwrap_or_default(),
        Probe::Smtp(probe) => mode(&probe.tls),
        Probe::Imap(probe) | Probe::Pop(probe) | Probe::Ftp(probe) => mode(&probe.tls),
        Probe::Ldap(probe) => mode(&probe.tls),
        Probe::Mysql(probe) | Probe::Postgresql(probe) => switch(&probe.tls).unwrap_or_default(),
        Probe::Redis(probe) => switch(&probe.tls).unwrap_or_default(),
        Probe::Sip(probe) => switch(&probe.tls).unwrap_or_default(),
        Probe::Dns(_)
        | Probe::Radius(_)
        | Probe::Ntp(_)
        | Probe::Ping(_)
        | Probe::Udp(_)
        | Probe::Script(_)
        | Probe::Agent(_)
        | Probe::Passive(_) => Duration::ZERO,
    }
}

/// One run of a probe: whom it asks, what it waits for, what it learned on the way.
struct Attempt<'a> {
    target: &'a Target,
    /// Time for the whole attempt, for exchanges that retransmit or wait for silence.
    timeout: Duration,
    /// What a timeout would be blamed on.
    waiting_for: &'static str,
    measured: Measured,
    /// What a script printed so far; kept when it runs out of time, too.
    output: Vec<u8>,
}

/// Why an exchange ended early.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fault {
    /// The server failed.
    Failed(Failure),
    /// This director could not ask.
    Unable(String),
    /// This director has no way to the server.
    Unsent(String),
}

impl Fault {
    /// An answer other than the one wanted.
    fn unexpected(got: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Failed(Failure::unexpected(got, expected))
    }

    /// An answer that breaks its protocol.
    fn malformed(what: impl Into<String>) -> Self {
        Self::Failed(Failure::Malformed(what.into()))
    }

    /// The connection ended while this was expected.
    fn closed(expected: &'static str) -> Self {
        Self::Failed(Failure::Closed(expected))
    }

    /// An error from preparing a socket: not the server's fault.
    fn local(error: io::Error) -> Self {
        let errno = error.raw_os_error().map(Errno::from_raw);
        // Without rights no socket can be prepared, whatever the server.
        let lacks_rights = matches!(errno, Some(Errno::EPERM | Errno::EACCES));
        match errno.and_then(no_way).filter(|_| !lacks_rights) {
            Some(cause) => Self::Unsent(format!("{cause} ({})", errno_text(&error))),
            None => Self::Unable(errno_text(&error)),
        }
    }

    /// An error from a socket in use, while `expected` was expected.
    #[allow(clippy::wildcard_enum_match_arm)] // 130 error numbers, of which these matter
    fn from_io(error: io::Error, expected: &'static str) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::closed(expected);
        }
        let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
            return Self::malformed(error.to_string());
        };
        if is_scarcity(errno) {
            return Self::Unable(errno_text(&error));
        }
        if let Some(cause) = no_way(errno) {
            return Self::Unsent(format!("{cause} ({})", errno_text(&error)));
        }
        Self::Failed(match errno {
            Errno::ECONNREFUSED => Failure::Refused,
            Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => Failure::Reset(expected),
            Errno::ETIMEDOUT => Failure::Timeout(expected),
            _ => Failure::Unreachable(errno_text(&error)),
        })
    }
}

/// Whether this director lacks something that has nothing to do with the server. To take every real
/// server out because the director ran out of file descriptors would be worse than not to know.
fn is_scarcity(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRINUSE
    )
}

/// What keeps this director's packets from the server, when it is the director's own kernel.
#[allow(clippy::wildcard_enum_match_arm)] // 130 error numbers, of which these matter
fn no_way(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EADDRNOTAVAIL => "no source address",
        Errno::ENODEV => "the interface is not there",
        Errno::EAFNOSUPPORT => "this host has no addresses of that family",
        Errno::EINVAL => "no route, or a blackhole route",
        Errno::EACCES => "no route, or a prohibit route",
        Errno::EPERM => "filtered by this host's firewall",
        _ => return None,
    })
}

/// An operating system error in its own words, in lower case, without the number.
fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = Errno::from_raw(number).desc();
            let mut letters = text.chars();
            match letters.next() {
                Some(first) => first.to_lowercase().chain(letters).collect(),
                None => error.to_string(),
            }
        }
        None => error.to_string(),
    }
}

/// The front of an answer as it may stand in a message: printable, one line, at most 60 characters.
fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let line = text.trim().lines().next().unwrap_or("").trim_end();
    let mut out: String =
        line.chars().map(|c| if c.is_control() { '?' } else { c }).take(LONGEST).collect();
    if line.chars().count() > LONGEST {
        out.push_str("...");
    }
    out
}

/// A random number, for identifiers that a stranger must not guess. Zero when the kernel has no
/// randomness to give, which fails no check.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    bytes
}
