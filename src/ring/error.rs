//! Why a ring cannot be opened: each error names the thing, the cause and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// Why a ring cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made, read or written.
    #[error("{path}: {source}{}", remedy(source))]
    Directory {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody may write to the directory, and so put other files in the place of the ring's.
    #[error(
        "{path}: everybody may write to this directory, and so take or replace what is captured: `chmod o-w {path}`, or \
         name another one (it may be below this one) with -w DIR"
    )]
    AnybodyWrites {
        /// The directory.
        path: PathBuf,
    },
    /// Everybody may write to the directory, and nothing there has rights of its own.
    #[error(
        "{path}: everybody may write here, and this file system keeps no rights of single files (FAT, exFAT, NTFS): mount \
         it for its owner alone (`-o umask=027`), or name a directory on another with -w DIR"
    )]
    NoRights {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be given to a group.
    #[error(
        "{path}: it cannot be given to group {gid} (--group-owner): this user is not in it, or the file system keeps no \
         owners of single files (FAT, exFAT, NTFS), and the mount says whose they are (`-o gid={gid},umask=027`)"
    )]
    Group {
        /// The directory.
        path: PathBuf,
        /// The group.
        gid: u32,
    },
    /// Another process captures into this ring.
    #[error(
        "{path}: this ring belongs to a running lwnflog (process {holder}); choose another directory with -w DIR, or stop that one"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process id it holds, or "unknown".
        holder: String,
    },
    /// No thread could be started.
    #[error(
        "cannot start a thread for the ring's files: {0}; raise the limit of processes and threads (`ulimit -u`, the \
         cgroup's pids.max)"
    )]
    Thread(io::Error),
    /// The lock is another user's, of a capture of theirs that has ended.
    #[error(
        "{path}: this lock is that of uid {uid}, as are the files of a capture they have run here; hand the directory \
         over (`chown -R --from={uid} {own} {dir}`), or choose another with -w DIR", dir = .path.parent().unwrap_or(.path).display()
    )]
    LockOwner {
        /// The lock file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Who this is.
        own: u32,
    },
    /// Files would be memory, which this process may not have.
    #[error(
        "{path}: the files here are memory, and {needed} bytes of it are more than the {limit} that the cgroup of this \
         process may use: the kernel would kill it; raise the limit (memory.max), name a directory on a disk with -w \
         DIR, or ask for less with {option}"
    )]
    Memory {
        /// The directory.
        path: PathBuf,
        /// Bytes that its rings may come to need.
        needed: u64,
        /// The cgroup's limit.
        limit: u64,
        /// What says how much.
        option: &'static str,
    },
    /// The disk has not enough room.
    #[error(
        "{path}: capturing here takes {needed} bytes and {available} are free; make room, or ask for less with {option}"
    )]
    Space {
        /// What says how much.
        option: &'static str,
        /// The directory.
        path: PathBuf,
        /// Bytes that its rings may come to need beyond what they have.
        needed: u64,
        /// Bytes that are free for this user.
        available: u64,
    },
}

/// `ENOSPC` without a block too few: files themselves have run out (`statvfs(3)`, `f_favail`).
#[derive(Debug, thiserror::Error)]
#[error("no inodes are left on this file system (`df -i` shows it): remove files from it")]
struct NoInodes;

/// Names what has run out where the system says that no space is left.
pub(super) fn name_full(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::StorageFull {
        return error;
    }
    match rustix::fs::statvfs(path) {
        // Some file systems make inodes as they need them, and have none to count.
        Ok(stat) if stat.f_files != 0 && stat.f_favail == 0 => {
            io::Error::new(io::ErrorKind::StorageFull, NoInodes)
        }
        _ => error,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    if error.get_ref().is_some_and(|inner| inner.is::<NoInodes>()) {
        return "";
    }
    match error.kind() {
        io::ErrorKind::OutOfMemory => "; ask for smaller files with --file-size",
        io::ErrorKind::FileTooLarge => {
            "; raise the limit (`ulimit -f`), or ask for smaller files with --file-size"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or ask for less with --file-size or --files"
        }
        _ if error.raw_os_error() == Some(libc::EMFILE) => "; raise the limit (`ulimit -n`)",
        _ => "; choose a directory that can be written with -w DIR",
    }
}
