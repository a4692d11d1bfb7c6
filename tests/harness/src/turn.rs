//! Whose turn it is: labs stand side by side, unless a test needs the machine to itself.
//!
//! Tests of one process run in threads. Those that only wait for something share the machine; one
//! that measures calls [`alone`] first. A thread that has a lab may always build another one, so
//! nobody waits while others wait for its lab to go.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use anyhow::{Result, ensure};

static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

#[derive(Default)]
struct Machine {
    /// Threads with labs or guests, and how many each has.
    seats: HashMap<ThreadId, usize>,
    /// The thread that has the machine to itself.
    alone: Option<ThreadId>,
    /// Threads that wait to be alone; nobody else sits down meanwhile.
    waiting: usize,
}

impl Machine {
    fn is_free_for(&self, thread: ThreadId) -> bool {
        let nobody_comes_first = self.alone.is_none() && self.waiting == 0;
        nobody_comes_first || self.alone == Some(thread) || self.seats.contains_key(&thread)
    }
}

/// Has the machine to itself until dropped. Its labs stay; others join them then.
#[derive(Debug)]
pub struct Alone(());

/// Waits until no other test has a lab or a guest, and keeps all others from building one.
///
/// # Errors
/// When this thread has a lab already: two such threads would wait for each other.
pub fn alone() -> Result<Alone> {
    let thread = thread::current().id();
    let mut machine = lock();
    let state = machine.get_or_insert_default();
    ensure!(!state.seats.contains_key(&thread), "ask to be alone before building a lab");
    ensure!(state.alone != Some(thread), "this thread is alone already");
    state.waiting += 1;
    let mut machine = wait(machine, |state| state.alone.is_none() && state.seats.is_empty());
    let state = machine.get_or_insert_default();
    state.waiting -= 1;
    state.alone = Some(thread);
    Ok(Alone(()))
}

impl Drop for Alone {
    fn drop(&mut self) {
        lock().get_or_insert_default().alone = None;
        CHANGED.notify_all();
    }
}

/// The right to use the machine beside others.
#[derive(Debug)]
pub(crate) struct Seat(ThreadId);

impl Seat {
    /// Waits for a test that is alone, and for those that want to be.
    pub(crate) fn take() -> Self {
        let thread = thread::current().id();
        let mut machine = wait(lock(), |state| state.is_free_for(thread));
        *machine.get_or_insert_default().seats.entry(thread).or_default() += 1;
        Self(thread)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut machine = lock();
        let state = machine.get_or_insert_default();
        if let Some(count) = state.seats.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                state.seats.remove(&self.0);
            }
        }
        drop(machine);
        CHANGED.notify_all();
    }
}

type Locked = MutexGuard<'static, Option<Machine>>;

fn lock() -> Locked {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(mut machine: Locked, fits: impl Fn(&Machine) -> bool) -> Locked {
    while !fits(machine.get_or_insert_default()) {
        machine = CHANGED.wait(machine).unwrap_or_else(PoisonError::into_inner);
    }
    machine
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_that_is_alone_meets_nobody_and_the_others_meet_each_other() {
        let inside = AtomicU32::new(0);
        let test = &|measures: bool| {
            let _alone = measures.then(|| alone().unwrap());
            let _lab = Seat::take();
            // A second lab while somebody may be waiting to be alone.
            thread::yield_now();
            let _another = Seat::take();
            let others = inside.fetch_add(1, Ordering::SeqCst);
            assert!(!measures || others == 0, "{others} others");
            thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for number in 0..64_u32 {
                scope.spawn(move || test(number.is_multiple_of(4)));
            }
        });
        let _lab = Seat::take();
        assert!(alone().is_err(), "its own lab would never go");
    }
}
