//! Giving capabilities up.

use std::io;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Gives up, in the calling thread, what is needed to load and attach and for nothing after that:
/// CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN. Threads that it starts later have none
/// either.
///
/// # Errors
/// What the system says.
pub fn give_up() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    let given_up = CapabilitySet::BPF
        | CapabilitySet::PERFMON
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::SYS_ADMIN;
    for set in [
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
    ] {
        set.remove(given_up);
    }
    set_capabilities(None, sets)?;
    Ok(())
}
