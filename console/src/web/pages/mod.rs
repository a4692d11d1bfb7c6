//! The pages: one file each, with its handler and what its template shows.

pub mod account;
pub mod events;
pub mod overview;
pub mod services;
