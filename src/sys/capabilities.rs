//! Giving capabilities up, and lending one to a child.

use std::io;

use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

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

/// While it is there, a child of the calling thread has CAP_NET_ADMIN where the thread has it: a
/// program with that right on its file (`setcap`) hands it to no child by itself.
#[derive(Debug)]
pub struct Lent(bool);

/// Lends CAP_NET_ADMIN to children. Where it is not there to be lent, they have what they have.
pub fn lend() -> Lent {
    let lend = || -> io::Result<()> {
        let mut sets = capabilities(None)?;
        if !sets.permitted.contains(CapabilitySet::NET_ADMIN) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        sets.inheritable.insert(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets)?;
        Ok(configure_capability_in_ambient_set(
            CapabilitySet::NET_ADMIN,
            true,
        )?)
    };
    Lent(lend().is_ok())
}

impl Lent {
    /// Whether it is lent.
    pub fn is_lent(&self) -> bool {
        self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.0 {
            let _ = configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, false);
        }
    }
}
