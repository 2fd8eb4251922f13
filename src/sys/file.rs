//! What `std` and `rustix` have no safe call for: file leases, what waits in a socket.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// True if no other process has `file` open, as far as the kernel can tell.
///
/// A write lease (`fcntl(2)`, `F_SETLEASE`) is granted only then; it is given back at once. A file
/// system without leases answers an error, which is taken as "another process may".
pub fn is_open_only_here(file: &File) -> bool {
    // Whoever opens the file in between has the kernel signal the holder of the lease: SIGIO would
    // end the process, SIGURG is ignored unless a handler is installed.
    set_lease_signal(file).is_ok()
        && set_lease(file, libc::F_WRLCK).is_ok()
        && set_lease(file, libc::F_UNLCK).is_ok()
}

/// True if no process has `file` open for writing, as far as the kernel can tell; `file` itself
/// must be open for reading only. Readers are no hindrance.
pub fn is_written_by_nobody(file: &File) -> bool {
    set_lease_signal(file).is_ok()
        && set_lease(file, libc::F_RDLCK).is_ok()
        && set_lease(file, libc::F_UNLCK).is_ok()
}

/// Takes a read lease on a file that is open for reading, until the file is closed: whoever opens
/// it for writing waits so long, up to `fs.lease-break-time` seconds. So a file server keeps files
/// of its clients, and so tests keep the ring's swapper from one.
///
/// # Errors
/// `EAGAIN` if a process has it open for writing, and whatever else the file system answers.
pub fn take_read_lease(file: &File) -> io::Result<()> {
    set_lease_signal(file)?;
    set_lease(file, libc::F_RDLCK)
}

/// `F_SETSIG` (`asm-generic/fcntl.h`): with which signal a lease's holder is told.
const F_SETSIG: i32 = 10;

fn set_lease_signal(file: &File) -> io::Result<()> {
    // SAFETY: F_SETSIG takes an integer and touches no memory of ours; the descriptor is open for
    // as long as `file` is borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn set_lease(file: &File, kind: i32) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer and touches no memory of ours; the descriptor is open
    // for as long as `file` is borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Bytes that the other end of a stream socket has not read, or (TCP) its host has not acknowledged; of a
/// socket of this host up to as much memory as they take.
///
/// # Errors
/// What is no socket.
pub fn unsent_bytes(socket: &File) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (`tcp(7)`, the same number as TIOCOUTQ) stores one integer; the descriptor is open for
    // as long as `socket` is borrowed.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(usize::try_from(bytes).unwrap_or(0)),
    }
}
