//! Single files of the ring: locked, renamed, removed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::ring::access::Access;
use crate::ring::error::{StoreError, name_full};

/// Takes a ring's lock.
pub(super) fn lock(path: &Path, access: Access) -> Result<File, StoreError> {
    let problem = |source| StoreError::Directory {
        source: name_full(path.parent().unwrap_or(path), source),
        path: path.to_owned(),
    };
    let mut file = access.open_lock(path).map_err(|error| {
        let own = rustix::process::geteuid().as_raw();
        match fs::symlink_metadata(path).map(|meta| meta.uid()) {
            Ok(uid) if uid != own && error.kind() == io::ErrorKind::PermissionDenied => {
                let path = path.to_owned();
                StoreError::LockOwner { path, uid, own }
            }
            _ => problem(error),
        }
    })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() {
                "unknown"
            } else {
                holder.trim()
            }
            .to_owned();
            return Err(StoreError::Locked {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(problem(error)),
    }
    let note = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", process::id())
    };
    // The lock holds without the note; on a full disk the note may not fit.
    let _ = note(&mut file);
    Ok(file)
}

/// Renames a file; what has the new name already stays, and is an error.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that does not know how.
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        done => Ok(done?),
    }
}

/// Whether `path` names this file, and not another or none.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(id(file.metadata()?) == id(there)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
