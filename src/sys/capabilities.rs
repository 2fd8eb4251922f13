//! Giving capabilities up, and lending them.

use std::{env, io};

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set,
    configure_capability_in_ambient_set, set_capabilities,
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

/// Calls what starts a program, so that the program has CAP_NET_ADMIN where this process has it by its
/// file's capabilities: those are not inherited by themselves. (Root's are.)
pub fn lending<T>(start: impl FnOnce() -> T) -> T {
    let before = capabilities(None).ok().filter(|_| lends());
    let lent = before.is_some_and(|mut sets| {
        sets.inheritable |= CapabilitySet::NET_ADMIN;
        set_capabilities(None, sets).is_ok()
            && configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true).is_ok()
    });
    let started = start();
    if let Some(before) = before.filter(|_| lent) {
        let _ = configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, false);
        let _ = set_capabilities(None, before);
    }
    started
}

/// Whether there is a right that a program would not have by itself: a service's own are ambient.
fn lends() -> bool {
    let has = |sets: CapabilitySets| sets.effective.contains(CapabilitySet::NET_ADMIN);
    !rustix::process::geteuid().is_root()
        && capabilities(None).is_ok_and(has)
        && !capability_is_in_ambient_set(CapabilitySet::NET_ADMIN).unwrap_or(false)
}

/// Where programs are looked for. One that is lent a right is not looked for where the user says, who
/// has it not.
pub fn trusted_path() -> String {
    const SYSTEM: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
    match env::var("PATH") {
        Ok(path) if !lends() => format!("{path}:{SYSTEM}"),
        _ => SYSTEM.to_owned(),
    }
}
