#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm))] // A test names the one case it wants.

pub mod access;
pub mod alert;
pub mod compile;
pub mod daemon;
mod date;
pub mod doctor;
pub mod engine;
pub mod events;
pub mod fence;
pub mod handle;
pub mod health;
pub mod host;
pub mod inbox;
pub mod ipvs;
pub mod ipvs_sync;
pub mod model;
pub mod real_server;
pub mod record;
pub mod replay;
pub mod sorry_page;
pub mod state;
pub mod store;
pub mod sync;
pub mod tasks;
pub mod time;
pub mod view;
pub mod vrrp;
