//! Namespaces: leaving the caller's, entering another, and starting a program inside one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The effective user and group of the process.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: `geteuid` takes nothing, touches no memory and cannot fail (POSIX).
    let user = unsafe { libc::geteuid() };
    // SAFETY: as `geteuid` above.
    let group = unsafe { libc::getegid() };
    (user, group)
}

/// Moves the calling thread into a new, empty network namespace.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: `unshare` takes flags by value and touches no memory of ours.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves the process into a new user namespace; it must have one thread only.
pub fn unshare_user() -> io::Result<()> {
    // SAFETY: `unshare` takes flags by value and touches no memory of ours. In a process with more
    // than one thread the kernel refuses (EINVAL), so no other thread sees its rights change.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) })
}

/// Moves the calling thread, and no other, into the network namespace that `namespace` refers to.
pub fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `setns` takes a descriptor and flags by value. The borrow keeps the descriptor open,
    // and the kernel checks that it is a network namespace (EINVAL).
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Makes the program that `command` starts run inside `namespace`.
pub fn enter_network_before_exec(command: &mut Command, namespace: OwnedFd) {
    let enter = move || {
        // SAFETY: `setns` takes a descriptor and flags by value; the closure owns the descriptor,
        // and descriptors are closed at `exec`, which comes later.
        check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
    };
    // SAFETY: the closure runs between `fork` and `exec`, where only async-signal-safe work is
    // allowed: `setns` is a bare system call, and neither it nor `last_os_error` allocates or
    // locks.
    unsafe { command.pre_exec(enter) };
}

/// Has the kernel kill the program that `command` starts when the thread that started it ends.
///
/// It is the *thread* that counts: start such a program from one that lives as long as it should.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let arm = move || {
        // SAFETY: PR_SET_PDEATHSIG takes a signal number by value and touches no memory of ours.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // SAFETY: `getppid` takes nothing, touches no memory and cannot fail.
        let now = unsafe { libc::getppid() };
        // The parent may have died before the signal was armed: then nobody would send it.
        if u32::try_from(now) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure runs between `fork` and `exec`: it makes two bare system calls, and
    // builds an `io::Error` from a number, which neither allocates nor locks.
    unsafe { command.pre_exec(arm) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
