//! What the operator touches: command line, API, web pages.

pub mod args;
pub mod cli;
pub mod client;
pub mod web;
