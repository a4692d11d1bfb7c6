//! The pages: one file each, with its handler and what its template shows.

pub mod account;
pub mod availability;
pub mod config;
pub mod connections;
pub mod events;
pub mod overview;
pub mod own;
pub mod services;
pub mod trace;
pub mod users;
