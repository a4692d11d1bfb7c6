//! Whether this node's clock, and those of the real servers, are right.
//!
//! `sntp` reads and judges answers of time servers; `selection` makes one opinion of several;
//! `drift` decides when a difference is worth a word. Those are pure. `kernel` asks the kernel
//! whether anybody disciplines its clock; `task` asks the servers. Nothing here moves a clock.

pub mod sntp;
