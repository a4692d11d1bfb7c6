//! What two directors tell each other: connections, configuration, health and time, over one encrypted and
//! mutually authenticated link.
//!
//! `connection` and `records` are a connection and its bytes, `message` is a frame, `replica` keeps the
//! peer's table like ours, `lineage` and `revisions` keep the common configuration the same; all pure. `identity` and `pairing` are the
//! keys and how they are exchanged, `link` is TLS and framing, `table` is the packet path's
//! connections, `task` runs it all.

pub mod connection;
pub mod identity;
pub mod lineage;
pub mod link;
pub mod message;
pub mod pairing;
pub mod records;
pub mod replica;
pub mod revisions;
pub mod session;
pub mod status;
pub mod table;
pub mod task;
pub mod trust;
