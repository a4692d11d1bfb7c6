//! What the operator touches: command line, API, web pages.

pub mod cli;
