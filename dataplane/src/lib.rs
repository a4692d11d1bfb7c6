#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm))] // A test names the one case it wants.

pub mod frame;
pub mod io;
pub mod memory;
pub mod packet_path;
pub mod sync;
pub mod table;
pub mod tick;
pub mod wire;
pub mod worker;
