//! Whether standard output was open when the program began. Rust's runtime opens `/dev/null` in place of what
//! was closed, and what is written there would be lost without a word.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether it was not.
pub fn output_was_closed() -> bool {
    WAS_CLOSED.load(Relaxed)
}

/// Called by the C library before `main`, and so before that runtime begins. It needs nothing of either.
extern "C" fn look() {
    // SAFETY: F_GETFD takes no argument and touches no memory.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    WAS_CLOSED.store(flags == -1, Relaxed);
}

// SAFETY: what stands in this section are pointers to functions of this type, and `look` may be called at any
// time.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
