//! The document as a whole: what the contract promises about its text.

mod arbitrary;

mod round_trip;
