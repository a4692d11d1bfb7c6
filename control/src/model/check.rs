//! Health checks, as data: what to ask a real server and what its answers mean.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a real server is checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Check {
    /// The question, and which answers pass.
    pub probe: Probe,
    /// Between the starts of two probes, while the server is up: 10 ms or more.
    pub interval: Duration,
    /// The same while it is down; `None` for `interval`.
    pub interval_down: Option<Duration>,
    /// The same after a failure that has not yet taken the server down; `None` for `interval`.
    pub interval_retry: Option<Duration>,
    /// A probe that takes longer has failed: 1 ms or more.
    pub timeout: Duration,
    /// Consecutive successes that bring the server up: 1 or more.
    pub rise: u32,
    /// Consecutive failures that take it down: 1 or more.
    pub fall: u32,
    /// Before the first probe.
    pub start_delay: Duration,
    /// Source address of probes; `None` leaves it to the host.
    pub source: Option<IpAddr>,
    /// Address to ask instead of the real server's.
    pub address: Option<IpAddr>,
    /// Port to ask instead of the real server's.
    pub port: Option<u16>,
    /// The path that probes take.
    pub through: CheckPath,
    /// Plain connects between two full probes; 0 for always the full one.
    pub connects: u32,
    /// What happens to a server that cannot be asked.
    pub on_unsent: OnUnsent,
    /// What happens to a server that is down.
    pub on_down: OnDown,
    /// What happens to its connections.
    pub connections: ConnectionsOnDown,
    /// Time over which the weight of a server that came back grows to its full value; 0 for at once.
    pub slow_start: Duration,
}

impl Check {
    /// A check with everything but the probe at its default.
    pub const fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(2),
            interval_down: None,
            interval_retry: None,
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            start_delay: Duration::ZERO,
            source: None,
            address: None,
            port: None,
            through: CheckPath::Direct,
            connects: 0,
            on_unsent: OnUnsent::Down,
            on_down: OnDown::Quiesce,
            connections: ConnectionsOnDown::Keep,
            slow_start: Duration::ZERO,
        }
    }
}

/// The path that probes take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckPath {
    /// To the real server's own address.
    #[default]
    Direct,
    /// To the VIP on that real server, as clients' packets reach it. With direct routing alone: with NAT
    /// the real server's own address is what clients' packets are sent to, and a tunnel's far end is
    /// watched by what becomes of its connections.
    Vip,
}

/// What happens to a server that this director has no way to: no route, no source address, a local filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnUnsent {
    /// It counts as down after as many turns as failures would take.
    #[default]
    Down,
    /// What was last known of it stands.
    Keep,
}

/// What becomes of a server that is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDown {
    /// Weight 0: established connections go on.
    #[default]
    Quiesce,
    /// Taken out of the service.
    Remove,
}

/// What becomes of the connections of a server that is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConnectionsOnDown {
    /// They are left alone.
    #[default]
    Keep,
    /// Both ends are reset.
    Reset,
    /// Their next packet is scheduled anew.
    Reschedule,
}

/// What is asked of a server, and what answer is good.
#[derive(Clone, PartialEq, Debug)]
pub enum Probe {
    /// A TCP connection; with steps, a conversation over it.
    Tcp(DialogueProbe),
    /// HTTP, in clear or over TLS (`http`, `https`).
    Http(HttpProbe),
    /// A DNS query.
    Dns(DnsProbe),
    /// SMTP greeting and EHLO.
    Smtp(SmtpProbe),
    /// IMAP greeting, and login when given.
    Imap(LoginProbe),
    /// POP3 greeting, and login when given.
    Pop(LoginProbe),
    /// FTP greeting, and login when given.
    Ftp(LoginProbe),
    /// LDAP bind, and a base search when given.
    Ldap(LdapProbe),
    /// MySQL greeting; login and query when given.
    Mysql(QueryProbe),
    /// PostgreSQL start-up; login and query when given.
    Postgresql(QueryProbe),
    /// Redis PING.
    Redis(RedisProbe),
    /// RADIUS Access-Request, or Status-Server without a login.
    Radius(RadiusProbe),
    /// SIP OPTIONS.
    Sip(SipProbe),
    /// An NTP client request.
    Ntp(NtpProbe),
    /// ICMP echo.
    Ping(PingProbe),
    /// A datagram and its reply.
    Udp(UdpProbe),
    /// A program.
    Script(ScriptProbe),
    /// A number from the server that becomes its weight.
    Agent(AgentProbe),
    /// What the dataplane sees of the server's connections.
    Passive(PassiveProbe),
}

impl Probe {
    /// The `type` that the document gives it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Http(http) => match http.tls {
                None => "http",
                Some(_) => "https",
            },
            Self::Dns(_) => "dns",
            Self::Smtp(_) => "smtp",
            Self::Imap(_) => "imap",
            Self::Pop(_) => "pop",
            Self::Ftp(_) => "ftp",
            Self::Ldap(_) => "ldap",
            Self::Mysql(_) => "mysql",
            Self::Postgresql(_) => "postgresql",
            Self::Redis(_) => "redis",
            Self::Radius(_) => "radius",
            Self::Sip(_) => "sip",
            Self::Ntp(_) => "ntp",
            Self::Ping(_) => "ping",
            Self::Udp(_) => "udp",
            Self::Script(_) => "script",
            Self::Agent(_) => "agent",
            Self::Passive(_) => "passive",
        }
    }
}

/// TLS of a probe.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// Server name to ask for and verify; `None` for the virtual host or the address.
    pub sni: Option<String>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// PEM file with the authorities to trust; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with the client's certificate.
    pub certificate: Option<PathBuf>,
    /// PEM file with the client's key.
    pub key: Option<PathBuf>,
    /// Warn when the server's certificate ends sooner than this; 0 for never.
    pub expiry_warning: Duration,
}

/// When a conversation turns to TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Off,
    /// From the first byte.
    Implicit(Tls),
    /// After the protocol's own STARTTLS.
    StartTls(Tls),
}

/// What a good answer contains. Nothing given: any answer is good.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expectation {
    /// A regular expression that must match somewhere.
    pub regex: Option<String>,
    /// A text that must occur exactly.
    pub text: Option<String>,
    /// The SHA-256 of the whole, in lower-case hexadecimal.
    pub digest: Option<String>,
}

/// A TCP connection, and a conversation over it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DialogueProbe {
    /// TLS from the first byte.
    pub tls: Option<Tls>,
    /// In order. None: connecting is enough.
    pub steps: Vec<DialogueStep>,
}

/// One step of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialogueStep {
    /// Text to send, as is.
    Send(String),
    /// A regular expression that what arrives must come to match.
    Expect(String),
}

/// HTTP, in clear or over TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpProbe {
    /// Present for `https`.
    pub tls: Option<Tls>,
    /// Request method.
    pub method: String,
    /// `Host` of the request; `None` for the real server's address.
    pub host: Option<String>,
    /// Path and query; begins with `/`.
    pub path: String,
    /// Further headers, in the order to send.
    pub headers: Vec<(String, String)>,
    /// Body of the request.
    pub body: Option<String>,
    /// Name and password for Basic authentication.
    pub login: Option<Login>,
    /// Protocol version.
    pub version: HttpVersion,
    /// Redirects to follow, on the same server: 0 to 10.
    pub redirects: u8,
    /// Statuses that are good.
    pub expect_status: StatusSet,
    /// What the body must contain.
    pub expect_body: Expectation,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            tls: None,
            method: "GET".into(),
            host: None,
            path: "/".into(),
            headers: Vec::new(),
            body: None,
            login: None,
            version: HttpVersion::default(),
            redirects: 0,
            expect_status: StatusSet::default(),
            expect_body: Expectation::default(),
        }
    }
}

/// Version of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; in clear with prior knowledge.
    Http2,
}

/// HTTP statuses: inclusive ranges within 100 to 599, ascending and apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    /// Whether `status` is in the set.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password; may be empty.
    pub password: String,
}

/// A DNS query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsProbe {
    /// The name to ask for.
    pub query: String,
    /// The record to ask for.
    pub record: DnsRecord,
    /// Over TCP instead of UDP.
    pub tcp: bool,
    /// What one of the answers, as text, must contain. Nothing given: an answer with status
    /// NOERROR is good.
    pub expect: Expectation,
}

/// DNS record types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum DnsRecord {
    #[default]
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

/// SMTP greeting and EHLO.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmtpProbe {
    /// TLS.
    pub tls: TlsMode,
    /// Name to say in EHLO; `None` for the node's.
    pub helo: Option<String>,
    /// Login after EHLO.
    pub login: Option<Login>,
}

/// Greeting, and login when given: IMAP, POP3, FTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginProbe {
    /// TLS.
    pub tls: TlsMode,
    /// Login.
    pub login: Option<Login>,
    /// Of FTP: a file to fetch.
    pub path: Option<String>,
    /// Of FTP: what the file must contain.
    pub expect: Expectation,
}

/// LDAP bind, and a base search when given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LdapProbe {
    /// TLS.
    pub tls: TlsMode,
    /// Distinguished name and password; `None` binds anonymously.
    pub login: Option<Login>,
    /// Object to read.
    pub base: Option<String>,
    /// What its distinguished name must contain.
    pub expect: Expectation,
}

/// Database greeting; login and query when given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryProbe {
    /// TLS after the protocol's own request.
    pub tls: Option<Tls>,
    /// Login.
    pub login: Option<Login>,
    /// Database to use.
    pub database: Option<String>,
    /// Query that must return at least one row; needs a login.
    pub query: Option<String>,
    /// What the first column of the first row must contain.
    pub expect: Expectation,
}

/// Redis PING.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisProbe {
    /// TLS from the first byte.
    pub tls: Option<Tls>,
    /// Login; an empty user authenticates with the password alone.
    pub login: Option<Login>,
    /// `master` or `slave`, when INFO must say so.
    pub role: Option<String>,
}

/// A RADIUS request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RadiusProbe {
    /// Shared secret.
    pub secret: String,
    /// Access-Request with it; `None` sends Status-Server.
    pub login: Option<Login>,
}

/// SIP OPTIONS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SipProbe {
    /// Over TCP instead of UDP.
    pub tcp: bool,
    /// TLS, over TCP.
    pub tls: Option<Tls>,
    /// Who is asked: `sip:user@host`; `None` for the real server.
    pub uri: Option<String>,
    /// Statuses that are good: 200 unless given.
    pub expect_status: StatusSet,
}

/// An NTP client request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NtpProbe {
    /// A higher stratum has failed: 1 to 15.
    pub max_stratum: u8,
    /// A larger offset from this node's clock has failed; `None` for any.
    pub max_offset: Option<Duration>,
}

/// ICMP echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PingProbe {
    /// Bytes of payload: 0 to 65507.
    pub size: u16,
}

/// A datagram and its reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UdpProbe {
    /// Payload of the datagram.
    pub payload: Vec<u8>,
    /// What the reply must contain. Nothing given: no reply is good too, an ICMP error is not.
    pub expect: Expectation,
    /// Whether a reply must come.
    pub reply: bool,
}

impl UdpProbe {
    /// Whether no reply is good too, so that only an error tells that the server is down.
    pub fn listens_to_silence(&self) -> bool {
        !self.reply && self.expect == Expectation::default()
    }
}

/// A program: exit status 0 is good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptProbe {
    /// Program and arguments, run without a shell. `{vip}`, `{vport}`, `{rip}` and `{rport}` stand
    /// for the addresses.
    pub command: Vec<String>,
    /// Account to run as; `None` for the daemon's.
    pub user: Option<String>,
}

/// A number from the server that becomes its weight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentProbe {
    /// Text to send first.
    pub send: Option<String>,
}

/// What the dataplane sees of the server's connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassiveProbe {
    /// Share of new connections within an interval that may be reset or get no answer: 1 to 100.
    pub max_failed_percent: u8,
    /// New connections within an interval below which nothing is concluded.
    pub min_connections: u32,
}
