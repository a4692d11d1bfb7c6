//! Advice to the kernel about threads. It changes speed, never meaning.

#![allow(unsafe_code)]

/// Keeps the calling thread on one processor of those that it may use: the second for number 0, then
/// the next; the first is left to everything else until there are more numbers than processors. A
/// thread that is moved about lets frames overtake each other, and its next one finds cold caches.
pub fn keep_to_a_processor(number: usize) {
    // SAFETY: a set of zeros is the empty set; 0 is the calling thread, and the kernel writes and
    // reads no more than the size given. A refusal changes nothing.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &raw mut allowed) < 0 {
            return;
        }
        let all = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
        let usable: Vec<usize> = all.filter(|at| libc::CPU_ISSET(*at, &allowed)).collect();
        let Some(own) = usable.get((number + 1) % usable.len().max(1)) else { return };
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(*own, &mut one);
        libc::sched_setaffinity(0, size, &raw const one);
    }
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
        let allowed = || {
            // SAFETY: as in `keep_to_a_processor`.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
                (0..1024).filter(|at| libc::CPU_ISSET(*at, &set)).collect::<Vec<usize>>()
            }
        };
        let before = allowed();
        for number in 0..before.len() {
            let expected = before[(number + 1) % before.len()];
            let thread = std::thread::Builder::new().spawn(move || {
                keep_to_a_processor(number);
                assert_eq!(allowed(), [expected]);
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
