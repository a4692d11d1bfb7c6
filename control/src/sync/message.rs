//! Frames of the peer link: a kind, a length, a body. Everything here arrives over TLS from a peer whose
//! key was pinned, and is checked all the same.
//!
//! ```text
//!  0      kind
//!  1..4   length of the body, big endian
//! ```
//! Replication bodies are fixed layouts, because there are many of them; the rest is JSON, because it is
//! rare and grows new fields.

use super::lineage::{ChangeId, Lineage};
use crate::model::{PersistentClients, SharedText};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Versions of the protocol that this node speaks. 1 is connections, roles and time.
pub const VERSIONS: RangeInclusive<u16> = 1..=2;
/// The first version that carries configuration, drains and verdicts.
pub const SHARING: u16 = 2;
/// Bytes in front of every body.
pub const HEADER: usize = 4;
/// Longest body: a configuration of many thousand services.
pub const LONGEST: usize = (1 << 24) - 1;

/// A step of replication. Epochs count snapshots; within one, steps count from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Number of the snapshot that the step belongs to.
    pub epoch: u32,
    /// Which step after its beginning.
    pub sequence: u64,
    /// Content of the step.
    pub body: Body,
}

/// What a replication step says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Everything follows; always step 0.
    Begin,
    /// Changes, as [`super::records`] writes them.
    Changes(Vec<u8>),
    /// Everything has been told; what follows are changes.
    End,
}

/// Everything that one peer can say to the other.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// First in both directions.
    Hello(Hello),
    /// Last: the sender closes the link, and why.
    Bye(Bye),
    /// Replication forwards.
    Step(Step),
    /// Replication backwards: every step up to this one is applied.
    Ack {
        /// Number of the snapshot.
        epoch: u32,
        /// The last step applied.
        sequence: u64,
    },
    /// Replication backwards: something is missing, tell everything again.
    Resync {
        /// The snapshot that is broken.
        epoch: u32,
    },
    /// Proof of life, and a question for the time.
    Ping(Ping),
    /// The answer.
    Pong(Pong),
    /// What the sender is by VRRP.
    Roles(Vec<Role>),
    /// The last change of the sender's configuration.
    Heads(Heads),
    /// Please send this revision.
    Want(Want),
    /// A revision.
    Revision(Revision),
    /// A revision is not taken.
    Declined(Declined),
    /// Health of real servers, as the sender's probes see it.
    Verdicts(Verdicts),
    /// Drain orders.
    Drains(Vec<DrainOrder>),
}

/// Who is speaking, and which versions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Smallest and largest version of the protocol.
    pub versions: (u16, u16),
    /// Name of the node.
    pub node: String,
    /// Chosen at random at each start of the process.
    pub boot: u64,
    /// Version of the program, for messages to people.
    pub program: String,
}

/// Why the link is closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bye {
    /// Reason, for people.
    pub reason: String,
}

/// Proof of life. Times are nanoseconds since 1970 by the sender's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ping {
    /// When it was sent.
    pub sent: i64,
}

/// Answer to a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pong {
    /// When the ping was sent, by the asker's clock.
    pub sent: i64,
    /// When it arrived, by the answerer's clock.
    pub received: i64,
    /// When the answer left, by the answerer's clock.
    pub answered: i64,
}

/// The last change of the common configuration, and which ones were seen before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heads {
    /// As the sender has it.
    pub lineage: Lineage,
}

/// Asks for the common part of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Want {
    /// As it is since this change.
    pub id: ChangeId,
}

/// The common part of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revision {
    /// As it is since this change.
    pub id: ChangeId,
    /// The shared configuration.
    pub part: SharedText,
}

impl Revision {
    /// Why it cannot be told, for people, when it is longer than a message may be.
    pub fn too_long(&self) -> Option<String> {
        let bytes = length(self);
        (bytes > LONGEST).then(|| {
            format!(
                "the shared configuration takes {bytes} bytes, more than the {LONGEST} that the peer \
                 link carries"
            )
        })
    }
}

/// A revision does not fit the sender's own part of the configuration; or, about a revision that was
/// asked for, it cannot be told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Declined {
    /// The change that was declined.
    pub id: ChangeId,
    /// Reason, for people.
    pub why: String,
}

/// What the sender's probes see.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdicts {
    /// Whether this is everything, so that nothing else holds any more.
    pub whole: bool,
    /// One for each real server, or for each that changed.
    pub verdicts: Vec<Verdict>,
}

/// Health of one real server of one service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The service's address, as [`crate::model::VirtualAddress::derived_name`] writes it.
    pub service: String,
    /// Address and port of the real server.
    pub real: SocketAddr,
    /// Whether it is up.
    pub up: bool,
    /// Why, for people.
    pub reason: String,
}

/// Whether one real server is drained.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DrainOrder {
    /// The service's address, as [`crate::model::VirtualAddress::derived_name`] writes it.
    pub service: String,
    /// Address and port of the real server.
    pub real: SocketAddr,
    /// Of two orders the one with the larger stamp holds.
    pub stamp: u64,
    /// Who drained it; `None` when it was put back.
    pub drain: Option<Drained>,
}

/// Who drained a real server. Times are in milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Drained {
    /// Who drained the server.
    pub author: String,
    /// The reason given.
    pub reason: String,
    /// When it was drained, in milliseconds since 1970.
    pub since: u64,
    /// When the remaining connections are ended.
    pub deadline: Option<u64>,
    /// What becomes of its persistent clients.
    #[serde(default)]
    pub persistent: PersistentClients,
}

/// What a node is for one VRRP instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Role {
    /// Name of the instance, the same on both nodes.
    pub instance: String,
    /// Whether it is master.
    pub master: bool,
    /// Its effective priority.
    pub priority: u8,
    /// Whether it uses the virtual MAC; `None` from a program that does not tell.
    #[serde(default)]
    pub virtual_mac: Option<bool>,
}

/// Why a frame is refused; the link is closed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// A kind that no version up to ours has.
    #[error("unknown kind of message: {0}")]
    Kind(u8),
    /// Longer than this kind may be.
    #[error("message of kind {0} is too long")]
    TooLong(u8),
    /// The body is not what the kind says.
    #[error("body of a message of kind {0} is malformed")]
    Body(u8),
}

const HELLO: u8 = 1;
const BYE: u8 = 2;
const BEGIN: u8 = 3;
const CHANGES: u8 = 4;
const END: u8 = 5;
const ACK: u8 = 6;
const RESYNC: u8 = 7;
const PING: u8 = 8;
const PONG: u8 = 9;
const ROLES: u8 = 15;
// From version 2 on.
const HEADS: u8 = 16;
const WANT: u8 = 17;
const REVISION: u8 = 18;
const DECLINED: u8 = 19;
const VERDICTS: u8 = 20;
const DRAINS: u8 = 21;

/// A frame's header: its kind and the length of its body. Checked before anything is reserved for it.
///
/// # Errors
/// When the kind is unknown or its body cannot be that long.
pub fn header(bytes: [u8; HEADER]) -> Result<(u8, usize), Malformed> {
    let [kind, a, b, c] = bytes;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    let longest = match kind {
        HELLO | BYE => 4096,
        BEGIN | END | ACK => 12,
        RESYNC => 4,
        PING | PONG | WANT => 256,
        CHANGES => 1 << 17,
        ROLES | DECLINED => 1 << 16,
        HEADS => 1 << 20,
        REVISION | VERDICTS | DRAINS => LONGEST,
        _ => return Err(Malformed::Kind(kind)),
    };
    if len > longest { Err(Malformed::TooLong(kind)) } else { Ok((kind, len)) }
}

impl Message {
    /// The whole frame; `None` when the body is longer than any frame may be.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let (kind, body) = match self {
            Self::Hello(hello) => (HELLO, json(hello)?),
            Self::Bye(bye) => (BYE, json(bye)?),
            Self::Step(Step { epoch, sequence, body }) => {
                let (kind, records): (u8, &[u8]) = match body {
                    Body::Begin => (BEGIN, &[]),
                    Body::Changes(records) => (CHANGES, records),
                    Body::End => (END, &[]),
                };
                (kind, [&position(*epoch, *sequence)[..], records].concat())
            }
            Self::Ack { epoch, sequence } => (ACK, position(*epoch, *sequence).to_vec()),
            Self::Resync { epoch } => (RESYNC, epoch.to_be_bytes().to_vec()),
            Self::Ping(ping) => (PING, json(ping)?),
            Self::Pong(pong) => (PONG, json(pong)?),
            Self::Roles(roles) => (ROLES, json(roles)?),
            Self::Heads(heads) => (HEADS, json(heads)?),
            Self::Want(want) => (WANT, json(want)?),
            Self::Revision(revision) => (REVISION, json(revision)?),
            Self::Declined(declined) => (DECLINED, json(declined)?),
            Self::Verdicts(verdicts) => (VERDICTS, json(verdicts)?),
            Self::Drains(drains) => (DRAINS, json(drains)?),
        };
        let [_, a, b, c] = u32::try_from(body.len()).ok()?.to_be_bytes();
        let head = [kind, a, b, c];
        header(head).ok().filter(|(_, len)| *len == body.len())?;
        Some([&head[..], &body].concat())
    }

    /// What it is about, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Bye(_) => "bye",
            Self::Step(_) | Self::Ack { .. } | Self::Resync { .. } => "connections",
            Self::Ping(_) | Self::Pong(_) => "time",
            Self::Roles(_) => "roles",
            Self::Heads(_) => "the last change",
            Self::Want(_) | Self::Revision(_) | Self::Declined(_) => "configuration",
            Self::Verdicts(_) => "health",
            Self::Drains(_) => "drains",
        }
    }

    /// The message of this kind with this body.
    ///
    /// # Errors
    /// When the body is not one.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed::Body(kind);
        let step = |body| {
            let (epoch, sequence, rest) = take_position(body).ok_or(malformed)?;
            Ok((epoch, sequence, rest))
        };
        let bare = |body| {
            let (epoch, sequence, rest): (u32, u64, &[u8]) = step(body)?;
            if rest.is_empty() { Ok((epoch, sequence)) } else { Err(malformed) }
        };
        Ok(match kind {
            HELLO => Self::Hello(from_json(kind, body)?),
            BYE => Self::Bye(from_json(kind, body)?),
            BEGIN | END => {
                let (epoch, sequence) = bare(body)?;
                let body = if kind == BEGIN { Body::Begin } else { Body::End };
                Self::Step(Step { epoch, sequence, body })
            }
            CHANGES => {
                let (epoch, sequence, records) = step(body)?;
                Self::Step(Step { epoch, sequence, body: Body::Changes(records.to_vec()) })
            }
            ACK => {
                let (epoch, sequence) = bare(body)?;
                Self::Ack { epoch, sequence }
            }
            RESYNC => {
                let epoch = <[u8; 4]>::try_from(body).map_err(|_| malformed)?;
                Self::Resync { epoch: u32::from_be_bytes(epoch) }
            }
            PING => Self::Ping(from_json(kind, body)?),
            PONG => Self::Pong(from_json(kind, body)?),
            ROLES => Self::Roles(from_json(kind, body)?),
            HEADS => Self::Heads(from_json(kind, body)?),
            WANT => Self::Want(from_json(kind, body)?),
            REVISION => Self::Revision(from_json(kind, body)?),
            DECLINED => Self::Declined(from_json(kind, body)?),
            VERDICTS => Self::Verdicts(from_json(kind, body)?),
            DRAINS => Self::Drains(from_json(kind, body)?),
            _ => return Err(Malformed::Kind(kind)),
        })
    }
}

impl Hello {
    /// The highest version that both speak.
    ///
    /// # Errors
    /// A sentence for people, the same on both nodes but for whose is whose.
    pub fn agree(&self) -> Result<u16, String> {
        let (least, most) = self.versions;
        let highest = most.min(*VERSIONS.end());
        if highest >= least.max(*VERSIONS.start()) {
            return Ok(highest);
        }
        let (own_least, own_most) = (VERSIONS.start(), VERSIONS.end());
        Err(format!(
            "{} ({}) speaks versions {least} to {most} of the peer protocol, this node {own_least} to \
             {own_most}: upgrade the older one",
            self.node, self.program
        ))
    }
}

fn position(epoch: u32, sequence: u64) -> [u8; 12] {
    let [a, b, c, d] = epoch.to_be_bytes();
    let [e, f, g, h, i, j, k, l] = sequence.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

fn take_position(body: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (epoch, rest) = body.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    Some((u32::from_be_bytes(*epoch), u64::from_be_bytes(*sequence), rest))
}

fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok()
}

/// A text for people, cut to what has room in any message.
pub fn brief(text: &str) -> String {
    /// Characters; of at most six bytes each in JSON.
    const MOST: usize = 2000;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Bytes of a body, without making it.
fn length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What has no JSON is never sent, however short.
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

fn from_json<'a, T: Deserialize<'a>>(kind: u8, body: &'a [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|_| Malformed::Body(kind))
}

#[cfg(test)]
mod tests;
