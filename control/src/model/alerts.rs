//! Who is told about what.

use super::Login;
use std::time::Duration;

/// One receiver of alerts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    /// Its name: unique.
    pub name: String,
    /// How it is told.
    pub target: AlertTarget,
    /// What it is told about; empty for everything.
    pub events: Vec<AlertEvent>,
    /// The services that it is told about; empty for all.
    pub services: Vec<String>,
    /// While a condition lasts it is told again after this; 0 for never.
    pub repeat: Duration,
    /// Events within this time travel in one message.
    pub digest: Duration,
    /// Whether it hears about servers in maintenance.
    pub during_maintenance: bool,
}

/// How a receiver is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlertTarget {
    /// Mail by SMTP.
    Mail {
        /// Addresses to send to.
        to: Vec<String>,
        /// Sender's address.
        from: String,
        /// SMTP server: name or address, with a port if not the usual one.
        server: String,
        /// TLS towards the mail server.
        security: MailSecurity,
        /// Login at the server.
        login: Option<Login>,
    },
    /// JSON by HTTP POST.
    Webhook {
        /// Where: an `http` or `https` URL.
        url: String,
        /// Key of the HMAC-SHA256 signature in `X-Viaduct-Signature`.
        secret: Option<String>,
    },
    /// A program; what happened is in its arguments and environment.
    Script {
        /// Program and arguments, run without a shell.
        command: Vec<String>,
    },
    /// The system's log.
    Syslog {
        /// Facility name, `daemon` unless given.
        facility: String,
    },
}

/// TLS towards a mail server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MailSecurity {
    /// No TLS.
    Off,
    /// STARTTLS, required.
    #[default]
    StartTls,
    /// From the first byte.
    Tls,
}

/// What a receiver can be told about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AlertEvent {
    /// A real server went down.
    RealDown,
    /// A real server came up.
    RealUp,
    /// A service lost its quorum.
    ServiceDown,
    /// A service has its quorum again.
    ServiceUp,
    /// VRRP mastership changed.
    Mastership,
    /// The link to the peer was lost or came back.
    Peer,
    /// A clock drifted or was repaired.
    Clock,
    /// A certificate ends soon.
    Certificate,
    /// A configuration was committed or rolled back.
    Configuration,
    /// Something is wrong with the director itself: disk, interface, ARP problem.
    System,
}
