//! The packet path as a whole: frames in, frames and verdicts out, with a fixed network around it.

#![allow(clippy::wildcard_enum_match_arm)] // Another crate's enums.

mod backup;
mod errors;
mod fast_path;
pub mod fixture;
mod methods;
mod mutation;
mod persistence;
mod strangers;
mod trouble;
mod wraps;
