//! The document as a whole: what the contract promises about its text.

pub(crate) mod arbitrary;
mod bad_files;
mod combinations;

mod round_trip;
