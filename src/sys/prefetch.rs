//! Asking for memory before it is needed.

/// Asks the processor to have 128 bytes at hand soon, `ahead` bytes behind the start of `bytes`, be they
/// part of it or not. On processors but x86-64 it does nothing.
#[inline]
pub fn prefetch(bytes: &[u8], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in [0, 64] {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = bytes.as_ptr().wrapping_add(ahead + line);
        // SAFETY: SSE is part of x86-64. A prefetch is a hint: it neither reads nor faults, whatever
        // the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, ahead);
}
