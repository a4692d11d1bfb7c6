//! What the loop has to do in the world, and what callers are told.

use crate::host::stack::Routes;
use crate::model::{AttachedBy, Document, Problem};
use crate::record::Record;
use crate::state::PortStatus;
use crate::store::{Draft, Patch, RevisionInfo};
use crate::sync::session::Control;
use dataplane::io::steer::SteeringRules;
use dataplane::table::{Hops, PortId, RealId, ServiceId, ServiceTable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Names a caller that waits for an answer; 0 is nobody.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Ticket(pub u64);

/// What is to be done in the world.
#[derive(Debug)]
pub enum Action {
    /// Tell the store.
    Store(StoreCommand),
    /// Publish services.
    Publish {
        /// What packets look up.
        table: Arc<ServiceTable>,
        /// Real servers whose counters start from nothing.
        fresh_reals: Vec<RealId>,
        /// Services whose counters start from nothing.
        fresh_services: Vec<ServiceId>,
    },
    /// Publish next hops.
    PublishHops(Hops),
    /// Take these frames from the host.
    Steer(SteeringRules),
    /// Lead the host's own processes to the dataplane for exactly these addresses.
    LeadHost(Routes),
    /// Open an interface.
    Attach {
        /// As this port.
        port: PortId,
        /// Its name.
        name: String,
        /// How.
        backend: AttachedBy,
    },
    /// Close an interface.
    Detach(PortId),
    /// Have the kernel find out a neighbour's Ethernet address.
    Resolve {
        /// Interface index.
        link: u32,
        /// Who.
        address: IpAddr,
    },
    /// End the connections to a real server.
    EndConnections(RealId),
    /// Reset both ends of the connections to a real server.
    ResetConnections(RealId),
    /// Let the dataplane forget what has expired: path limits, fragments' first parts, and the
    /// destinations of lblc and lblcr that nobody asked for lately.
    ForgetDestinations,
    /// Tell the caller.
    Reply {
        /// Which one.
        ticket: Ticket,
        /// What.
        outcome: Outcome,
    },
    /// Something happened: keep it, and tell who listens.
    Record(Arc<Record>),
    /// The running document is another one: whoever lives by it is told.
    Follow(Arc<Document>),
    /// These services are below their quorum, by name: VRRP may track them.
    Quorums(BTreeSet<String>),
    /// These of the kernel's sync daemons are to run.
    SyncDaemons(Vec<crate::ipvs::Daemon>),
    /// Tell the other director.
    Say(Control),
    /// Whether nothing of the other director's configuration is under way to this one.
    Settled(bool),
    /// Leave the loop.
    Stop,
}

/// What the store's thread is told. It answers each with [`crate::events::StoreEvent::Stored`] of the same
/// version, except where it says otherwise.
#[derive(Clone, Debug)]
pub enum StoreCommand {
    /// A revision.
    Commit {
        /// Of the answer.
        version: u64,
        /// The document.
        document: Arc<Document>,
        /// Who and why.
        draft: Draft,
    },
    /// An edit of the revision that is being made.
    Append {
        /// Of the answer.
        version: u64,
        /// What changed.
        patch: Patch,
        /// Who.
        author: String,
        /// Why.
        comment: String,
    },
    /// The edits so far are a revision. Answered with version 0.
    Settle,
    /// The head revision is confirmed.
    Confirm {
        /// Of the answer.
        version: u64,
    },
    /// After a failure nothing is taken until this: what was sent before it was built on what failed.
    Resume,
    /// Remember the lineage of the common configuration. Not answered.
    Lineage(Vec<u8>),
    /// Remember a drain, or forget it. Not answered.
    Maintenance {
        /// The store's key.
        key: Vec<u8>,
        /// JSON; `None` to forget.
        value: Option<Vec<u8>>,
    },
    /// Keep a record. Not answered.
    Keep(Arc<Record>),
}

/// What a caller is told.
#[derive(Debug)]
pub enum Outcome {
    /// A revision was stored and runs.
    Committed(RevisionInfo),
    /// Done; no revision was created, because nothing differs or it is not configuration.
    Done,
    /// The head revision is confirmed.
    Confirmed(RevisionInfo),
    /// The answer to an `ipvsadm` request.
    Ipvs(crate::ipvs::Reply),
    /// Refused.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The document has problems.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// The configuration file lost all its services.
    #[error(
        "the configuration file {0} has no service any more, and services run; if that is meant, run: \
         viaduct apply {0}"
    )]
    Emptied(String),
    /// The configuration changed since the caller read it.
    #[error("the configuration has changed in the meantime: look at it and try again")]
    Conflict,
    /// Another revision is waiting for confirmation.
    #[error("revision {0} is waiting for confirmation: confirm it or roll it back first")]
    Unconfirmed(u64),
    /// No revision waits for confirmation.
    #[error("no revision waits for confirmation")]
    NothingToConfirm,
    /// The revision is not kept.
    #[error("there is no revision {0}")]
    NoRevision(u64),
    /// No such service.
    #[error("there is no service {0}")]
    NoService(String),
    /// No such real server.
    #[error("service {service} has no real server {real}")]
    NoReal {
        /// The service.
        service: String,
        /// What was asked for.
        real: String,
    },
    /// No such VRRP instance.
    #[error("there is no VRRP instance {0}")]
    NoInstance(String),
    /// Something about the other director.
    #[error("{0}")]
    Peer(String),
    /// The real server is not drained.
    #[error("{0} is not drained")]
    NotDrained(SocketAddr),
    /// A connection filter that cannot be read, or that is empty.
    #[error("invalid connection filter: {0}")]
    BadFilter(String),
    /// More services or real servers than the packet path holds.
    #[error("{0}")]
    TooLarge(String),
    /// The change could not be stored, so it was not made.
    #[error("change not saved: {0}")]
    Store(String),
    /// The daemon is shutting down or overloaded.
    #[error("the daemon is {0}")]
    Unavailable(String),
}

/// What came of opening a port, as the loop tells itself.
pub type Opened = (PortId, PortStatus);
