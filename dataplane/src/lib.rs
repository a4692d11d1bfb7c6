//! What happens to one packet.
//!
//! `packet_path` is the pure heart: it judges frames in place. `table` is what control compiles for
//! it to look up, `wire` reads and writes headers, `io` moves frames and owns every system call,
//! `worker` turns the crank. Nothing here knows tokio, files or configuration syntax.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm))] // A test names the one case it wants.

pub mod frame;
pub mod io;
pub mod memory;
pub mod packet_path;
pub mod table;
pub mod tick;
pub mod wire;
pub mod worker;
