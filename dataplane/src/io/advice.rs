//! Advice to the processor and the kernel about memory. It changes speed, never meaning.

#![allow(unsafe_code)]

/// Asks the processor to fetch the cache line in which `slice[index]` begins, if there is one.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching reads nothing that the program can observe and faults at no address, so
    // the index needs no check.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(
            slice.as_ptr().wrapping_add(index).cast(),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}

/// Asks the kernel to back a vector's reserved memory with huge pages, before it is touched.
/// Fewer address translations miss then; where the kernel has none, nothing changes.
pub fn huge_pages<T>(memory: &mut Vec<T>) {
    const HUGE: usize = 2 << 20;
    let spare = memory.spare_capacity_mut();
    let start = (spare.as_mut_ptr() as usize).next_multiple_of(HUGE);
    let end = (spare.as_mut_ptr() as usize + std::mem::size_of_val(spare)) / HUGE * HUGE;
    if end <= start {
        return;
    }
    // SAFETY: the range lies within this vector's own allocation, and MADV_HUGEPAGE changes
    // neither content nor protection. A refusal is as good as no advice.
    unsafe {
        libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE);
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

#[cfg(test)]
mod tests {
    use super::*;

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
        });
        thread.unwrap().join().unwrap();
    }
}
