#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm))] // A test names the one case it wants.

pub mod args;
pub mod cli;
pub mod client;
pub mod web;
