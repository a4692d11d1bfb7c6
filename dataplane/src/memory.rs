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
