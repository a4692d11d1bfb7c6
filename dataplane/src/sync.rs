//! What threads of the packet path share memory by: the standard library's atomics and locks, or,
//! under `--cfg loom`, loom's, which run every order of events that the memory model allows. The
//! connection table takes its own from here, so what loom checks is what runs.

#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Mutex},
};

#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Mutex},
};
