//! The packet path as a whole: frames in, frames and verdicts out, with a fixed network around it.

pub mod fixture;
mod methods;
mod mutation;
