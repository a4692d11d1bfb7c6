//! Whether this node's clock, and those of the real servers, are right.
//!
//! `sntp` reads and judges answers of time servers; `filter` picks the best of one server's answers;
//! `opinion` makes one of several servers; `drift` decides when a difference is worth a word;
//! `supervision` brings them together. Those are pure. `task` asks the servers, and the kernel whether
//! anybody disciplines its clock. Nothing here moves a clock.

pub mod drift;
pub mod filter;
pub mod opinion;
pub mod sntp;
pub mod supervision;
pub mod task;

pub use dataplane::io::kernel_clock::{self, KernelClock};
pub use drift::{Drift, Limits};
pub use supervision::{Clock, Notice, PeerView, TimeView};
pub use task::TimeKeeper;
