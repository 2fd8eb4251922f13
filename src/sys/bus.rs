//! SIGBUS on a mapped file, survived and counted.
//!
//! Storing to a file mapping can fail: a file system that has to find new space for an overwritten
//! page (btrfs, ZFS, thin volumes), an I/O error while an old page is read back. The kernel then
//! sends SIGBUS. Space is reserved and pages are made ready before the ring uses them, so this is
//! the last resort: the handler puts an anonymous page where the store failed, so that the store
//! goes on, and counts it for the file's owner, who gives the file up at the next commit.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Mappings watched at one time: three a ring (live, ready, being finished), of 128 rings at the most
/// ([`MAX_NUMBERS`](crate::rules::MAX_NUMBERS)), and then some. A table, because the handler may neither lock
/// nor allocate.
const SLOTS: usize = 512;
/// Bytes of a page, once the handler is installed.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

struct Slot {
    /// 0: free.
    start: AtomicUsize,
    end: AtomicUsize,
    replaced: AtomicU64,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        replaced: AtomicU64::new(0),
    }
}; SLOTS];
static INSTALL: Once = Once::new();

/// Watches one mapping for as long as it lives.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None`: the table is full; SIGBUS then ends the process, as it does without a handler.
    slot: Option<usize>,
}

impl Watch {
    /// Watches `[start, start + len)`. Drop the watch before the mapping goes.
    pub(super) fn new(start: usize, len: usize) -> Watch {
        INSTALL.call_once(install);
        let slot = TABLE.iter().position(|slot| {
            // The end is 0 until the range is whole, so that the handler never sees half of it.
            slot.start
                .compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if let Some(slot) = slot {
            TABLE[slot].replaced.store(0, Ordering::Relaxed);
            TABLE[slot].end.store(start + len, Ordering::Release);
        }
        Watch { slot }
    }

    /// Pages whose contents did not reach the file.
    #[inline]
    pub(super) fn replaced_pages(&self) -> u64 {
        self.slot
            .map_or(0, |slot| TABLE[slot].replaced.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            TABLE[slot].end.store(0, Ordering::Release);
            TABLE[slot].start.store(0, Ordering::Release);
        }
    }
}

fn install() {
    PAGE_BYTES.store(rustix::param::page_size(), Ordering::Relaxed);
    // SAFETY: an all-zero `sigaction` is a valid one: no flags, empty mask, default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: `action` is initialized, its handler has the signature that SA_SIGINFO asks for and
    // calls only async-signal-safe functions; the old action is not asked for.
    let failed = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    debug_assert_eq!(
        failed,
        0,
        "sigaction(SIGBUS): {}",
        io::Error::last_os_error()
    );
}

/// Async-signal-safe: atomics, mmap, sigaction; no allocation, no lock.
extern "C" fn on_bus(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler, alive until it returns.
    let info = unsafe { &*info };
    // SAFETY: for SIGBUS the address field of the siginfo is the one that is set.
    let address = unsafe { info.si_addr() } as usize;
    for slot in &TABLE {
        let (start, end) = (
            slot.start.load(Ordering::Acquire),
            slot.end.load(Ordering::Acquire),
        );
        if start != 0 && address >= start && address < end {
            let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
            let page = address & !(page_bytes - 1);
            // SAFETY: [page, page + page_bytes) lies in a mapping that a live `Watch` vouches for, which
            // only its owner uses; replacing it by zeroed memory breaks no reference's validity
            // (the bytes stay mapped, readable and writable).
            let mapped = unsafe {
                libc::mmap(
                    page as *mut libc::c_void,
                    page_bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            if mapped != libc::MAP_FAILED {
                slot.replaced.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
    // Not ours: the default action ends the process when the instruction runs again.
    // SAFETY: SIG_DFL is a valid disposition for SIGBUS.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use crate::sys::mapping::Mapping;

    #[test]
    fn a_store_behind_the_end_of_the_file_is_survived_and_counted() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mut mapping = Mapping::new(&file, 8192).unwrap();
        mapping.bytes()[4096] = 1;
        assert_eq!(mapping.replaced_pages(), 0);
        file.set_len(4096).unwrap(); // what a file system does that loses a page
        mapping.bytes()[5000] = 7;
        assert_eq!(mapping.bytes()[5000], 7);
        assert_eq!(mapping.replaced_pages(), 1);
    }
}
