//! Atomics and locks of the connection table. Built with `--cfg loom`, they are loom's, so that the models
//! in the tests try every order in which the production code can run.

#[cfg(loom)]
pub use loom::sync::{Mutex, atomic};
#[cfg(not(loom))]
pub use std::sync::{Mutex, atomic};

/// One turn of a loop that waits for another thread.
#[inline]
pub fn spin() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
