//! Advice to the kernel about threads. It changes speed, never meaning.

#![allow(unsafe_code)]

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const OWN: Pid = Pid::from_raw(0);

/// Keeps the calling thread on one processor of those that it may use: the second for number 0, then
/// the next; the first is left to everything else until there are more numbers than processors. A
/// thread that is moved about lets frames overtake each other, and its next one finds cold caches.
pub fn keep_to_a_processor(number: usize) {
    let usable = usable_processors();
    let Some(own) = usable.get((number + 1) % usable.len().max(1)) else { return };
    let mut one = CpuSet::new();
    if one.set(*own).is_ok() {
        // A refusal changes nothing.
        let _ = sched_setaffinity(OWN, &one);
    }
}

/// The processors that the calling thread may run on.
fn usable_processors() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(OWN) else { return Vec::new() };
    (0..CpuSet::count()).filter(|at| allowed.is_set(*at) == Ok(true)).collect()
}

/// How the scheduler treats a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precedence {
    /// It runs before all everyday threads of its processor (`SCHED_FIFO` at the lowest priority).
    RealTime,
    /// Nothing but its niceness tells it from everyday threads.
    Nice,
    /// It is one of them.
    Everyday,
}

/// Asks the scheduler to run the calling thread before everyday ones.
///
/// Under overload the kernel's own packet thread is always ready to run. A worker of the same rank
/// on the same processor gets its turn when the ring has long been full, and throughput collapses to
/// a tenth. A worker that goes first empties the ring, and what is too much is dropped where that is
/// cheapest. The kernel keeps a share of each processor for everyday threads (`sched_rt_runtime_us`,
/// 5 % unless changed), so that the host stays reachable.
pub fn run_before_everyday_threads() -> Precedence {
    let lowest = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread; `lowest` outlives the call, which only reads it.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const lowest) } == 0 {
        return Precedence::RealTime;
    }
    // SAFETY: numbers only; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } {
        0 => Precedence::Nice,
        _ => Precedence::Everyday,
    }
}

/// Takes back what [`run_before_everyday_threads`] did.
pub fn run_among_everyday_threads() {
    let everyday = libc::sched_param { sched_priority: 0 };
    // Without this flag the kernel would ask for a capability.
    let policy = libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread; `everyday` outlives the call, which only reads it. Giving up
    // precedence is never refused.
    unsafe {
        libc::sched_setscheduler(0, policy, &raw const everyday);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_one_of_the_processors_that_it_may_use() {
        let before = usable_processors();
        for number in 0..before.len() {
            let expected = before[(number + 1) % before.len()];
            let thread = std::thread::Builder::new().spawn(move || {
                keep_to_a_processor(number);
                assert_eq!(usable_processors(), [expected]);
            });
            thread.unwrap().join().unwrap();
        }
    }

    #[test]
    fn a_thread_runs_before_everyday_ones_and_its_children_do_not() {
        let policy = || {
            // SAFETY: numbers only; 0 is the calling thread.
            unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
        };
        let thread = std::thread::Builder::new().spawn(move || {
            assert_eq!(run_before_everyday_threads(), Precedence::RealTime);
            assert_eq!(policy(), libc::SCHED_FIFO);
            let child = std::thread::Builder::new().spawn(policy).unwrap();
            assert_eq!(child.join().unwrap(), libc::SCHED_OTHER);
            run_among_everyday_threads();
            assert_eq!(policy(), libc::SCHED_OTHER);
        });
        thread.unwrap().join().unwrap();
    }
}
