//! Asking for memory before it is needed.

/// Asks the processor to have the 128 bytes from `start` on at hand soon, whatever is there. On
/// processors but x86-64 it does nothing.
#[inline]
pub(super) fn prefetch_at(start: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in [0, 64] {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = start.wrapping_add(line);
        // SAFETY: SSE is part of x86-64. A prefetch is a hint: it neither reads nor faults,
        // whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = start;
}
