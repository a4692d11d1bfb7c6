//! What happens to one packet.

pub mod frame;
pub mod schedule;
pub mod verdict;

pub use frame::{Frame, Offload, Segmentation};
pub use verdict::{DropReason, Verdict};
