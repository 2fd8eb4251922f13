//! SIGBUS on a mapped file, survived and counted.
//!
//! Storing to a file mapping can fail: a file system that has to find new space for an overwritten
//! page (btrfs, ZFS, thin volumes), an I/O error while an old page is read back. The kernel then
//! sends SIGBUS. Space is reserved and pages are made ready before the ring uses them, so this is
//! the last resort: the handler puts an anonymous page where the store failed, so that the store
//! goes on, and counts it for the file's owner, who gives the file up at the next commit.
//!
//! A SIGBUS that a process sent (`kill -BUS`) tells of no store, and does nothing: it must not take
//! the guard away from the stores to come.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Mappings watched at one time: three a ring (live, ready, being finished), of 128 rings at the
/// most ([`MAX_NUMBERS`](crate::nft::MAX_NUMBERS)), and then some. A table, because the handler
/// may neither lock nor allocate.
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
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESTART;
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

/// The slot of the mapping that an address is in, if it is watched.
fn watched(address: usize) -> Option<&'static Slot> {
    TABLE.iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Acquire);
        // Still the same: the slot was not given to another mapping in between.
        start != 0
            && address >= start
            && address < end
            && slot.start.load(Ordering::Acquire) == start
    })
}

/// Async-signal-safe: atomics, mmap, sigaction; no allocation, no lock.
extern "C" fn on_bus(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler, alive until it returns.
    let info = unsafe { &*info };
    // What the kernel says of a fault is positive; 0 and less are for those who send signals.
    if info.si_code <= 0 {
        return;
    }
    // SAFETY: the kernel's own SIGBUS has the address.
    let address = unsafe { info.si_addr() } as usize;
    // Another page in its place helps against all but an address that is not aligned.
    let replaceable = info.si_code != libc::BUS_ADRALN;
    if let Some(slot) = watched(address).filter(|_| replaceable) {
        let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
        let page = address & !(page_bytes - 1);
        // SAFETY: [page, page + page_bytes) lies in a mapping that a live `Watch` vouches for,
        // which only its owner writes to, and nothing refers to it; zeroed memory in its place
        // stays mapped, readable and writable.
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
    } else if info.si_code == libc::BUS_MCEERR_AO {
        return; // memory that broke, elsewhere, and was not used: nothing has failed
    }
    // Not ours: the default action ends the process when the instruction runs again.
    // SAFETY: SIG_DFL is a valid disposition for SIGBUS.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
#[cfg(not(miri))] // which maps no files
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use crate::sys::mapping::Mapping;

    fn store(mapping: &mut Mapping, at: usize) {
        mapping.space(at..at + 1).unwrap().put(&[7]);
    }

    #[test]
    fn a_store_behind_the_end_of_the_file_is_survived_and_counted() {
        let page = rustix::param::page_size();
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * page as u64).unwrap();
        let mut mapping = Mapping::new(&file, 2 * page).unwrap();
        store(&mut mapping, page);
        assert_eq!(mapping.replaced_pages(), 0);
        file.set_len(page as u64).unwrap(); // what a file system does that loses a page
        // Nobody's fault, which the next store is: this one has to leave the guard in place.
        kill_process(getpid(), Signal::BUS).unwrap();
        assert_eq!(mapping.replaced_pages(), 0);
        store(&mut mapping, page + 904);
        store(&mut mapping, page + 905);
        assert_eq!(mapping.replaced_pages(), 1);
        store(&mut mapping, 0);
        assert_eq!(mapping.replaced_pages(), 1);
    }
}
